"""One builder per warehouse: a lease that ends, and a fencing number that says who may still publish.

::

    take:     fence 7 ─ expires in 120 s ─ renewed every 40 s by a thread of the holder
    holder dies          its lock on lease.7.held is free      ─> the next one takes fence 8 at once
    holder is stopped    the lock is held, the lease expires   ─> the next one takes fence 8
    the stopped one wakes and publishes: its fence is 7, the lease's is 8 ─> refused

The lease keeps two builders apart while both behave. The number needs nobody's behaviour, and no clock: whoever moves
the pointer holds ``lease.lock`` and its number is the newest, or it does not move it. That lock is held for moments; a
process that is stopped within one makes the others wait, which is right: its move may still happen.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.clock import unix_s
from common.errors import CommitConflict, LeaseHeld, StateCorrupt
from common.files import write_atomic

LEASE_S = 120.0
"""How long a holder that shows no sign of life keeps others waiting, in s."""

_POLL_S = 0.2


@dataclass(frozen=True)
class Lease:
    """A lease that was taken.

    Attributes:
        warehouse: the warehouse folder.
        fence: its number; every later lease of this warehouse has a greater one.
    """

    warehouse: Path
    fence: int

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """A moment in which nobody can take the lease, entered only by who still has it.

        Raises:
            CommitConflict: somebody has taken the lease since.
        """
        with _moment(self.warehouse, wait_s=None):
            newest = _read(self.warehouse).get("fence")
            if newest != self.fence:
                raise CommitConflict(
                    f"This process lost its lease on {self.warehouse}: it has fence {self.fence}, and {newest} was "
                    "given since. It changes nothing.",
                    remedy="build again: 'penstock build'",
                )
            yield


@contextmanager
def lease(warehouse: Path, *, wait_s: float = 0.0, lease_s: float = LEASE_S) -> Iterator[Lease]:
    """Hold the warehouse's lease.

    Args:
        warehouse: the warehouse folder.
        wait_s: how long to wait for another holder, in s.
        lease_s: how long it lasts without a sign of life, in s.

    Raises:
        LeaseHeld: somebody else holds it.
        StateCorrupt: the lease's file is damaged.

    Side effects: a thread renews it; it ends with this block, or with this process however that ends.
    """
    warehouse.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_s
    while (taken := _take(warehouse, lease_s)) is None:
        if time.monotonic() >= deadline:
            raise LeaseHeld(
                f"Another process is building or publishing {warehouse}.",
                remedy="wait until it is done; 'penstock status' shows the current release",
            )
        time.sleep(_POLL_S)
    held, descriptor = taken
    done = threading.Event()
    renewing = threading.Thread(target=_renew, args=(held, lease_s, done), name="lease", daemon=True)
    renewing.start()
    try:
        yield held
    finally:
        done.set()
        renewing.join()
        os.close(descriptor)
        _held_path(warehouse, held.fence).unlink(missing_ok=True)


def newest_fence(warehouse: Path) -> int:
    """The number of the lease that was given last; 0 before the first.

    Raises:
        StateCorrupt: the lease's file is damaged.
    """
    return int(_read(warehouse).get("fence", 0))


def is_held(warehouse: Path) -> bool:
    """Whether a process that lives holds the lease; nothing is changed by asking.

    Raises:
        StateCorrupt: the lease's file is damaged.
    """
    found = _read(warehouse)
    return bool(found) and is_locked(_held_path(warehouse, found["fence"]))


def _take(warehouse: Path, lease_s: float) -> tuple[Lease, int] | None:
    """A new lease and the descriptor that shows its holder is alive; None while somebody holds one."""
    with contextlib.suppress(LeaseHeld), _moment(warehouse, wait_s=0.0):
        before = _read(warehouse)
        if before and before["expires_at"] > unix_s() and is_locked(_held_path(warehouse, before["fence"])):
            return None
        fence = before.get("fence", 0) + 1
        descriptor = os.open(_held_path(warehouse, fence), os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _write(warehouse, fence, lease_s)
        if before:
            _held_path(warehouse, before["fence"]).unlink(missing_ok=True)
        return Lease(warehouse, fence), descriptor
    return None


def _renew(held: Lease, lease_s: float, done: threading.Event) -> None:
    while not done.wait(lease_s / 3):
        try:
            with held.fenced():
                _write(held.warehouse, held.fence, lease_s)
        except (CommitConflict, StateCorrupt, OSError):
            return  # lost: whoever moves the pointer next will be told


@contextmanager
def _moment(warehouse: Path, *, wait_s: float | None) -> Iterator[None]:
    """The short lock under which the lease and the pointer change; ``wait_s`` None waits as long as it takes."""
    deadline = None if wait_s is None else time.monotonic() + wait_s
    descriptor = os.open(warehouse / "lease.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while not _locked(descriptor):
            if deadline is not None and time.monotonic() >= deadline:
                raise LeaseHeld(f"Another process is changing {warehouse}.", remedy="try again")
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(path: Path) -> bool:
    """Whether a live process, running or stopped, has locked a file."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _locked(descriptor)
    finally:
        os.close(descriptor)


def _held_path(warehouse: Path, fence: int) -> Path:
    return warehouse / f"lease.{fence}.held"


def _read(warehouse: Path) -> dict[str, Any]:
    path = warehouse / "lease.json"
    try:
        found = json.loads(path.read_text())
        return {"fence": int(found["fence"]), "expires_at": float(found["expires_at"])}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        raise StateCorrupt(
            f"{path} is no lease.", remedy='write {"fence": <a number above all before>, "expires_at": 0} into it'
        ) from None


def _write(warehouse: Path, fence: int, lease_s: float) -> None:
    write_atomic(warehouse / "lease.json", json.dumps({"fence": fence, "expires_at": unix_s() + lease_s}))


def next_fence(warehouse: Path) -> int:
    """The next number of a release; the caller holds the lease.

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


def identity(warehouse: Path) -> str:
    """What tells this warehouse from every other, also from one that was begun anew in its place.

    Side effects: drawn and written down at the first call, which the holder of the lease makes.
    """
    path = warehouse / "identity"
    with contextlib.suppress(FileNotFoundError):
        return path.read_text("utf-8").strip()
    write_atomic(path, uuid.uuid4().hex[:16] + "\n")
    return path.read_text("utf-8").strip()
