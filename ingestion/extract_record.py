"""What an extract has finished so far, kept in the state folder so that a rerun after a crash need not begin anew.

::

    <home>/extracts/<table>/<key>.lock    held by the process that extracts; the kernel drops it when that ends.
                                          Its content is the record at the beginning: the attempt, its plan with proof
    <home>/extracts/<table>/<key>.json    the record from the first chunk on that is written and flushed

An extract of one piece, of which a day has hundreds, thus costs one small file and not two.

The record is there only while its extract runs: it is removed before the batch is handed on, and after an error. So a
record that is found unlocked was left by a process that was killed, and its files are in no snapshot and will never
be: they may be taken over or deleted. A second run of the same interval does not get the lock and goes its own way,
without a record.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from common.errors import PenstockError
from common.files import write_atomic
from lake.lake import Lake


class ExtractRecord:
    """The record of one extract.

    Attributes:
        left: what a killed process left, None if nothing.
    """

    def __init__(self, path: Path | None, lock: int, left: dict[str, Any] | None) -> None:
        self._path = path
        self._lock = lock
        self._content: dict[str, Any] = {}
        self.left = left

    def begin(self, **content: Any) -> None:
        """Say what is about to be read; ``content`` is JSON-compatible."""
        self._content = {**content, "finished": content.get("finished", {})}
        if self._path is None:
            return
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, json.dumps(self._content).encode(), 0)
        if self.left is not None:
            self._path.unlink(missing_ok=True)

    def finish(self, part: int, **figures: Any) -> None:
        """Note that the chunk of that number is written whole and flushed."""
        self._content["finished"][str(part)] = figures
        if self._path is not None:
            write_atomic(self._path, json.dumps(self._content), mode=0o600)


@contextmanager
def extract_record(home: Path, table: str, key: str) -> Iterator[ExtractRecord]:
    """The record of an extract of one partition; it is gone when the block is left.

    Args:
        home: the state folder.
        table: the lake table.
        key: the partition key.
    """
    folder = home / "extracts" / table
    path, lock = folder / f"{key}.json", folder / f"{key}.lock"
    try:
        descriptor = _acquire(lock)
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(lock)
    if descriptor is None:
        yield ExtractRecord(None, -1, None)
        return
    try:
        try:
            yield ExtractRecord(path, descriptor, _read(path, descriptor))
        finally:
            path.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _acquire(lock: Path) -> int | None:
    """A descriptor that holds the lock; None if another process does."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if os.fstat(descriptor).st_ino == lock.stat().st_ino:
                    return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        os.close(descriptor)  # its holder removed the file between our open and our lock


def _read(path: Path, lock: int) -> dict[str, Any] | None:
    """The record, None if there is none; empty if the process was killed while it wrote the first one."""
    content = os.read(lock, os.fstat(lock).st_size)
    if not content:
        return None
    with suppress(FileNotFoundError):
        content = path.read_bytes()
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def left_records(home: Path) -> list[tuple[Path, str]]:
    """Records that killed extracts have left: the lock file, and the attempt whose files they would be continued with.

    Side effects: each record's lock is held for a moment.
    """
    found = []
    for lock in sorted((home / "extracts").glob("*/*.lock")):
        descriptor = _acquire(lock) if lock.exists() else None
        if descriptor is not None:
            content = _read(lock.with_suffix(".json"), descriptor) or {}
            os.close(descriptor)
            found.append((lock, str(content.get("attempt", ""))))
    return found


def drop_left_record(lock: Path) -> bool:
    """Forget what a killed extract has left: its interval is then read from its beginning. Whether it was there.

    Side effects: the record and its lock file are removed, unless a process holds the lock.
    """
    descriptor = _acquire(lock) if lock.exists() else None
    if descriptor is None:
        return False
    lock.with_suffix(".json").unlink(missing_ok=True)
    lock.unlink(missing_ok=True)
    os.close(descriptor)
    return True


_UNFINISHED = "tmp_"
"""What DuckDB puts before a local file's name until it is complete."""


def delete_staged(lake: Lake, files: Sequence[str]) -> None:
    """Delete staged files, finished or not."""
    for location in files:
        folder, _, name = location.rpartition("/")
        for each in (location, f"{folder}/{_UNFINISHED}{name}"):
            with suppress(OSError, PenstockError):
                lake.storage.delete(each)
