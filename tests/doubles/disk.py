"""Disks that fill up: a file system of a few megabytes, and a limit on how large one file may become.

``small_disk`` mounts a tmpfs and is what a full disk is: every write beyond it fails with ENOSPC, in Python, Arrow,
DuckDB and SQLite alike. It needs the right to mount; where that is missing a test is skipped and says so.
``file_limit`` needs no right: the kernel lets no file of this process grow beyond some bytes.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_CHUNK = 1 << 16


@cache
def why_no_mount() -> str:
    """Why this process cannot mount a tmpfs; empty if it can."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            _mount(Path(folder), 64)
        except (OSError, subprocess.CalledProcessError):
            return "a file system of a few megabytes needs root and the right to mount a tmpfs"
        _unmount(Path(folder))
    return ""


def _mount(folder: Path, size_kb: int) -> None:
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k,nr_inodes=20000", "penstock-small-disk", str(folder)]
    subprocess.run(command, check=True, capture_output=True)


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


class SmallDisk:
    """A file system of a fixed size.

    Args:
        folder: where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / ".ballast"

    @property
    def free_bytes(self) -> int:
        """What can still be written."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def fill(self, *, leave_bytes: int = 0) -> None:
        """Take all room but some bytes (whole pages). Side effects: a file without meaning is written."""
        with self._ballast.open("ab") as stream:
            while (room := self.free_bytes - leave_bytes) >= 4096:
                try:
                    stream.write(b"\0" * min(room - room % 4096, _CHUNK))
                    stream.flush()
                except OSError:  # full by what somebody else has written meanwhile
                    return

    def make_room(self) -> None:
        """Give back what :meth:`fill` took."""
        self._ballast.unlink(missing_ok=True)

    def resize(self, size_kb: int) -> None:
        """Make the disk larger or smaller while it is in use."""
        command = ["mount", "-o", f"remount,size={size_kb}k", str(self.folder)]
        subprocess.run(command, check=True, capture_output=True)


@contextmanager
def small_disk(folder: Path, size_kb: int) -> Iterator[SmallDisk]:
    """A file system of so many kilobytes at ``folder``, gone when the block is left."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount(folder, size_kb)
    try:
        yield SmallDisk(folder)
    finally:
        _unmount(folder)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def file_limit(limit_bytes: int) -> Iterator[None]:
    """Within the block no file of this process may grow beyond ``limit_bytes``."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
