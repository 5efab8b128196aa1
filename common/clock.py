"""The time, from one place: what is compared with, or written beside, the time of another host is taken here.

A fault test steps this process's clock (``common/fault_points.py``) and proves that nothing rests on it: what came
later is told by version numbers and by the source's cursor. Durations are measured by ``time.monotonic``, which does
not step.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

_stepped_s = 0.0


def utc_now() -> datetime:
    """The time now, in UTC."""
    return datetime.now(UTC) + timedelta(seconds=_stepped_s)


def unix_s() -> float:
    """The time now, in s since 1970."""
    return time.time() + _stepped_s


def step(seconds: float) -> None:
    """Set this process's clock forward, or back if negative, by so many s. For fault tests."""
    global _stepped_s  # noqa: PLW0603 - a process has one clock
    _stepped_s += seconds
