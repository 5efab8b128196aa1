"""Releases from object storage on the local disk: each fetched once, checked, and kept while there is room.

::

    <cache>/r000012-3f9c.../warehouse.duckdb     whole and checked, or not there
    <cache>/.3f9c....partial.<random>            being fetched, by one process

A folder gets its name by one rename when its file is complete, so any number of processes may fetch the same release
at once; a lock lets them wait for the first instead, for a while. A release that is put out of the cache stays readable
for who has it open.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import StoreUnavailable
from common.files import remove_folder, sync_folder
from lake.object_files import FileFacts
from warehouse.releases import DATABASE

_WAIT_S = 300.0
"""How long one process waits for another that fetches the same release before it fetches it itself."""
_ABANDONED_S = 86_400.0
"""Age after which what a fetch has left behind is nobody's any more."""


class ReleaseCache:
    """A folder of fetched releases.

    Args:
        folder: where; shared by all processes of a machine.
        limit_bytes: how much may lie there; the release that is asked for always may.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder, self._limit_bytes = folder, limit_bytes

    def fetch(self, release_id: str, facts: FileFacts, download: Callable[[Path], None]) -> Path:
        """The path of a release's file.

        Args:
            release_id: the release.
            facts: of its file; another file of that id is another entry.
            download: writes the file to a path, or raises.

        Raises:
            StoreUnavailable: there is no room on the disk; and what ``download`` raises.

        Side effects: the least recently used releases beyond the limit are removed.
        """
        entry = self.folder / f"{release_id}-{facts.sha256[:16]}"
        path = entry / DATABASE
        if not _is_whole(path, facts):
            self.folder.mkdir(parents=True, exist_ok=True)
            with _waiting(self.folder / f".{facts.sha256[:16]}.lock"):
                if not _is_whole(path, facts):
                    self._add(entry, facts, download)
        with contextlib.suppress(FileNotFoundError):
            os.utime(entry)
        self._evict(entry)
        return path

    def _add(self, entry: Path, facts: FileFacts, download: Callable[[Path], None]) -> None:
        if entry.exists():
            remove_folder(entry)  # cut short by something that is not ours
        partial = self.folder / f".{facts.sha256[:16]}.partial.{uuid.uuid4().hex}"
        partial.mkdir()
        try:
            download(partial / DATABASE)
            (partial / DATABASE).chmod(0o444)
            sync_folder(partial)
            with contextlib.suppress(FileExistsError, OSError):
                partial.rename(entry)  # fails where another process was faster, with the same file
            sync_folder(self.folder)
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise StoreUnavailable(
                f"A release cannot be kept in {self.folder}: {error.strerror}.",
                remedy="make room there, or lower PENSTOCK_RELEASE_CACHE_MB",
            ) from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _evict(self, kept: Path) -> None:
        entries = []
        for entry in self.folder.glob("r*-*"):
            with contextlib.suppress(FileNotFoundError):
                entries.append((entry.stat().st_mtime, (entry / DATABASE).stat().st_size, entry))
        held_bytes = sum(size for _, size, _ in entries)
        for _, size, entry in sorted(entries):
            if held_bytes <= self._limit_bytes:
                break
            if entry != kept:
                with contextlib.suppress(FileNotFoundError):  # another process was faster
                    remove_folder(entry)
                held_bytes -= size
        for left in self.folder.glob(".*"):
            with contextlib.suppress(FileNotFoundError):
                if left.is_dir() and left.stat().st_mtime < time.time() - _ABANDONED_S:
                    shutil.rmtree(left, ignore_errors=True)


def _is_whole(path: Path, facts: FileFacts) -> bool:
    try:
        return path.stat().st_size == facts.size_bytes
    except FileNotFoundError:
        return False


@contextmanager
def _waiting(lock: Path) -> Iterator[None]:
    """Wait for who holds the lock, but not for ever: a process that was stopped must not keep all others waiting."""
    deadline = time.monotonic() + _WAIT_S
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)
