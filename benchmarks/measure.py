"""Measure a command as a process: wall seconds, CPU seconds of itself and its children, peak resident memory.

The command is started by a small interpreter of its own, because Linux counts the memory of the process that forks as
the new one's peak (``ru_maxrss`` survives ``exec``): started from a program that has loaded DuckDB, even ``true`` would
seem to need 100 MB.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.settings import process_environment

_LAUNCHER = """
import json, os, sys, time
began = time.monotonic()
child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
cpu_s, exit_code = usage.ru_utime + usage.ru_stime, os.waitstatus_to_exitcode(status)
figures = [time.monotonic() - began, cpu_s, usage.ru_maxrss, exit_code]
with open(sys.argv[1], "w") as file:
    json.dump(figures, file)
"""


@dataclass(frozen=True)
class Usage:
    """What one process needed, and what it printed.

    Attributes:
        wall_s: from start to end.
        cpu_s: user and system time, of all its threads and the children it waited for.
        peak_rss_bytes: largest resident memory of it or one of its children.
        exit_code: its exit code.
        output: its standard output.
    """

    wall_s: float
    cpu_s: float
    peak_rss_bytes: int
    exit_code: int
    output: str


def run_measured(command: Sequence[str], *, env: Mapping[str, str]) -> Usage:
    """Run a command to its end; its standard error goes where ours goes.

    Raises:
        RuntimeError: it could not be started.
    """
    with tempfile.TemporaryDirectory(prefix="penstock-measure-") as folder:
        figures = Path(folder) / "figures.json"
        launcher = [sys.executable, "-IS", "-c", _LAUNCHER, str(figures)]
        output = subprocess.run([*launcher, *command], stdout=subprocess.PIPE, env=dict(env), text=True, check=False)
        if not figures.exists():
            raise RuntimeError(f"{command[0]} could not be started.")
        wall_s, cpu_s, peak, exit_code = json.loads(figures.read_text())
    return Usage(wall_s, cpu_s, peak * (1 if sys.platform == "darwin" else 1024), exit_code, output.stdout)


def cached_bytecode(folder: Path, **extra: str) -> dict[str, str]:
    """The environment with ``extra`` on top, in which Python keeps bytecode in a folder of the benchmark's own.

    As it does beside the sources where nothing forbids it; pip does it for what it installs.
    """
    environment = process_environment(PYTHONPYCACHEPREFIX=str(folder / "bytecode"), **extra)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


class StepMeter:
    """CPU seconds and peak memory of the steps of this process, one after the other.

    Peak memory of a step is known on Linux only, where the counter can be put back (``/proc/self/clear_refs``).
    """

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = {}
        self.peak_rss_bytes: dict[str, int] = {}
        self._cpu_before_s = 0.0

    def end(self, step: str) -> None:
        """Everything since the last call, or since the process began, was this step."""
        now_s = time.process_time()
        self.cpu_s[step] = self.cpu_s.get(step, 0.0) + now_s - self._cpu_before_s
        self._cpu_before_s = now_s
        self.peak_rss_bytes[step] = max(self.peak_rss_bytes.get(step, 0), _take_peak())


def _take_peak() -> int:
    """Peak resident memory since the last call in bytes; 0 where it is not known."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5")
    return int(line.split()[1]) * 1024
