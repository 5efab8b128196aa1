"""One builder per warehouse: a file lock that dies with its process, and a fencing number that only grows.

The lock keeps two builders apart; the number keeps a builder out that was paused and comes back: a release is published
only if its number is greater than every number published before.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import LeaseHeld, StateCorrupt
from common.files import write_atomic

_POLL_S = 0.2


@contextmanager
def lease(warehouse: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the warehouse's lease.

    Args:
        warehouse: the warehouse folder.
        wait_s: how long to wait for another holder, in s.

    Raises:
        LeaseHeld: somebody else holds it.

    Side effects: the kernel releases the lock when this process ends, however it ends.
    """
    warehouse.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_s
    descriptor = os.open(warehouse / "lease.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while not _locked(descriptor):
            if time.monotonic() >= deadline:
                raise LeaseHeld(
                    f"Another process is building or publishing {warehouse}.",
                    remedy="wait until it is done; 'penstock status' shows the current release",
                )
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def next_fence(warehouse: Path) -> int:
    """The next fencing number; the caller holds the lease.

    It is above every release there is, even if the file that counts was lost. Side effects: the number is used up.
    """
    path = warehouse / "fence"
    try:
        number = int(path.read_text()) + 1
    except FileNotFoundError:
        number = 1
    except ValueError:
        raise StateCorrupt(
            f"{path} does not hold a number.", remedy="write the highest release number into it"
        ) from None
    used = (int(path.name[1:]) for path in (warehouse / "releases").glob("r[0-9]*") if path.name[1:].isdecimal())
    number = max(number, max(used, default=0) + 1)
    write_atomic(path, f"{number}\n")
    return number
