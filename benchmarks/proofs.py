"""What it costs a run that rows are proven before another stage works with them (``lake/proof.py``).

``make bench-proofs``. One ``penstock run`` of the demo's days in a process of its own, with a clock of CPU around each
proof: where a receipt gets one of its own because rows were rejected, and where refining and building compare it. What
identifies a batch anyway is no part of it. Exits with 1 if proofs take more than :data:`LIMIT` of the run.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.year import open_pipeline, scratch_home

LIMIT = 0.10
"""Of a run's CPU."""


def main() -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="start", default="2013-01-01", help="first day")
    parser.add_argument("--to", dest="end", default="2013-02-01", help="day after the last one")
    parser.add_argument("--worker", metavar="DIR", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    days = ["--from", arguments.start, "--to", arguments.end]
    if arguments.worker:
        print(json.dumps(run(Path(arguments.worker), arguments.start, arguments.end)))
        return 0
    with scratch_home(None) as home:
        command = [sys.executable, "-m", "benchmarks.proofs", "--worker", str(home), *days]
        found = json.loads(
            subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1]
        )
    print(f"{arguments.start} to {arguments.end}: {found['cpu_s']:.1f} s of CPU")
    for place, cpu_s in found["proofs_cpu_s"].items():
        print(f"  {place:<10} {cpu_s:6.2f} s  {100 * cpu_s / found['cpu_s']:5.1f} %  {found['calls'][place]:>6} calls")
    share = sum(found["proofs_cpu_s"].values()) / found["cpu_s"]
    print(f"  {'together':<10} {100 * share:.1f} %; limit {100 * LIMIT:.0f} %")
    return int(share > LIMIT)


def run(home: Path, start: str, end: str) -> dict[str, Any]:
    """A run in this process; CPU seconds of all of it, of its proofs by place, and how many there were."""
    from lake import publish
    from penstock import build
    from penstock.run import run as run_days
    from transformations.refine import stage

    cpu_s: dict[str, float] = {}
    calls: Counter[str] = Counter()

    def clocked(place: str, proof: Callable[..., Any]) -> Callable[..., Any]:
        cpu_s[place] = 0.0

        @functools.wraps(proof)
        def timed(*arguments: Any, **options: Any) -> Any:
            began_s = time.process_time()
            try:
                return proof(*arguments, **options)
            finally:
                cpu_s[place] += time.process_time() - began_s
                calls[place] += 1

        return timed

    for place, module, name in (("publish", publish, "_proof"), ("refine", stage, "prove"), ("build", build, "prove")):
        setattr(module, name, clocked(place, getattr(module, name)))
    run_days(open_pipeline(home), start, end)
    return {"cpu_s": time.process_time(), "proofs_cpu_s": cpu_s, "calls": calls}


if __name__ == "__main__":
    sys.exit(main())
