"""One backup or restore of a state folder at a time, however it ends; and what tells the folder from every other."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import LeaseHeld


@contextmanager
def alone(home: Path) -> Iterator[str]:
    """The only backup or restore of a home, until the block is left or the process ends.

    Yields:
        What tells the home from every other.

    Raises:
        LeaseHeld: another one is at work.
    """
    home.mkdir(parents=True, exist_ok=True)
    path = home / "backup.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LeaseHeld(
                f"Another backup or restore of {home} is at work.", remedy="wait until it is done"
            ) from None
        owner = os.pread(descriptor, 64, 0).decode("ascii", "replace")
        if not owner:
            owner = uuid.uuid4().hex
            os.pwrite(descriptor, owner.encode(), 0)
            os.fsync(descriptor)
        yield owner
    finally:
        os.close(descriptor)
