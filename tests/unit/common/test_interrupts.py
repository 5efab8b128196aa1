"""A request to stop is not lost when what it interrupts takes it for an error of its own and goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
GOES_ON = """
import os, signal, sys
from common import interrupts
import penstock.cli as cli

@cli.app.command()
def stubborn() -> None:
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        print("went on")
    interrupts.raise_if_noted()
    print("published")

sys.argv = ["penstock", "stubborn"]
cli.main()
"""


def test_a_request_to_stop_that_was_swallowed_stops_the_process_at_the_end_of_the_step() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", GOES_ON], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (answer.returncode, answer.stdout) == (130, "went on\n")
    assert answer.stderr == "penstock: interrupted; what was published stays, run the command again to go on\n"
