"""A wall clock that can be set while a process runs: an hour ahead, back in the middle of a commit, onto a leap day.

::

    test ── offset ──▶ file of eight bytes ◀── mapped ── clock.c in the process (LD_PRELOAD)

Every reader of the wall clock in that process sees it: Python, DuckDB, SQLite, Arrow. Files get their times from the
kernel and keep the host's own, as on a machine whose clock differs from its store's. The C compiler of the machine
builds it once; where there is none, a test is skipped and says so.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

_SOURCE = Path(__file__).with_name("clock.c")


def why_no_clock() -> str:
    """Why no such clock can be made; empty if it can."""
    return "" if shutil.which("cc") else "a clock that can be set needs a C compiler (cc)"


class SetClock:
    """The wall clock of the processes that are started with :attr:`environment`.

    Args:
        folder: where its two files are written.

    Side effects: the library is compiled.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        library = folder / "clock.so"
        self._offset = folder / "offset"
        self.set(timedelta())
        command = ["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(_SOURCE)]
        subprocess.run(command, check=True, capture_output=True)
        self.environment = {"LD_PRELOAD": str(library), "PENSTOCK_TEST_CLOCK": str(self._offset)}

    def set(self, offset: timedelta) -> None:
        """From now on the clock is the host's and this offset, also in processes that run."""
        content = struct.pack("=q", round(offset / timedelta(microseconds=1)) * 1000)
        with self._offset.open("r+b" if self._offset.exists() else "wb") as stream:
            stream.write(content)  # in place: processes have the file mapped

    def set_to(self, moment: datetime) -> None:
        """From now on the clock goes on from ``moment``."""
        self.set(moment - datetime.now(UTC))
