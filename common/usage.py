"""What this process has used so far: processor, time, bytes, memory. One look costs 4 microseconds.

``look at a boundary -> difference to the look before -> charged to whatever was being done`` (``common/work.py``)

CPU is user and system time of all threads and of children that have ended. Bytes are those that the process's own read
and write calls moved, page cache included, as Linux counts them (``/proc/self/io``); what comes through a socket's
``recv`` is not among them. Other systems do not count, and their figures are zero.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from typing import NamedTuple

_RSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024
COUNTS_BYTES = sys.platform == "linux"
"""Whether the system tells how many bytes a process reads and writes."""

_counters: tuple[int, int] | None = None
"""This process's id and its open ``/proc/self/io``: after a fork the parent's file would tell of the parent."""


class Usage(NamedTuple):
    """What was used, since the process began or between two looks.

    Attributes:
        cpu_s: user and system time of the process and of children it waited for, in s.
        wall_s: time that passed, in s.
        read_bytes, written_bytes: moved by read and write calls.
        peak_rss_bytes: largest resident memory of the process, or of one of those children, up to now.
    """

    cpu_s: float = 0.0
    wall_s: float = 0.0
    read_bytes: int = 0
    written_bytes: int = 0
    peak_rss_bytes: int = 0

    def since(self, before: Usage) -> Usage:
        """What was used from ``before`` to this look; the peak stays a peak."""
        return Usage(
            self.cpu_s - before.cpu_s,
            self.wall_s - before.wall_s,
            self.read_bytes - before.read_bytes,
            self.written_bytes - before.written_bytes,
            self.peak_rss_bytes,
        )

    def plus(self, other: Usage, share: float = 1.0) -> Usage:
        """The sum with a share of another; of two peaks the higher one."""
        return Usage(
            self.cpu_s + share * other.cpu_s,
            self.wall_s + share * other.wall_s,
            self.read_bytes + round(share * other.read_bytes),
            self.written_bytes + round(share * other.written_bytes),
            max(self.peak_rss_bytes, other.peak_rss_bytes),
        )


NOTHING = Usage()


def look() -> Usage:
    """What this process has used since it began; ``wall_s`` is a clock that only differences are read from."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, children.ru_maxrss)
    return Usage(
        time.process_time() + children.ru_utime + children.ru_stime,
        time.perf_counter(),
        *_moved_bytes(),
        peak * _RSS_UNIT_BYTES,
    )


def _moved_bytes() -> tuple[int, int]:
    global _counters  # noqa: PLW0603 - a file kept open, like the counters behind it one for each process
    if not COUNTS_BYTES:
        return 0, 0
    own = os.getpid()
    try:
        if _counters is None or _counters[0] != own:
            _counters = (own, os.open("/proc/self/io", os.O_RDONLY))
        fields = os.pread(_counters[1], 256, 0).split(None, 4)
    except OSError:  # a system that hides it
        return 0, 0
    return int(fields[1]), int(fields[3])
