"""A local disk that is full, told as what it is, whoever noticed it.

Python, Arrow, Polars, DuckDB and SQLite each say it in their own words and classes, some of them as an error that seems
worth a retry. It is none: nothing changes until somebody makes room. DuckDB's spilling stops at nine tenths of what was
free when it began, which it calls a limit of its own.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import DiskFull, PenstockError

_NUMBERS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_WORDS = re.compile(
    r"No space left on device|database or disk is full|File too large|Disk quota exceeded|max_temp_directory_size"
)
_QUOTED = re.compile(r"""["'](/[^"']+)["']""")


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one that led to it, says that a disk has no room."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, DiskFull) or (isinstance(seen, OSError) and seen.errno in _NUMBERS):
            return True
        if not isinstance(seen, PenstockError) and _WORDS.search(str(seen)):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def disk_full(error: BaseException, path: Path, *, needed_bytes: int | None = None) -> DiskFull:
    """The error to raise in the place of one that says that a disk has no room.

    Args:
        error: that error; the file that it names is told.
        path: what was written, or the folder, if it names none.
        needed_bytes: how much was to be written, where that is known.
    """
    if isinstance(error, DiskFull):
        return error
    named = _QUOTED.search(str(error))
    if isinstance(error, OSError) and isinstance(error.filename, str):
        path = Path(error.filename)
    elif named is not None:
        path = Path(named[1])
    free = _free_bytes(path)
    needed = str(needed_bytes) if needed_bytes is not None else f"more than {free}"
    return DiskFull(
        f"The disk of {path} is full: {needed} bytes are needed, {free} are free.",
        remedy="make room there, then run the same command again; what was published is as it was",
    )


def _free_bytes(path: Path) -> int:
    for each in (path, *path.parents):
        try:
            found = os.statvfs(each)
        except OSError:
            continue
        return found.f_bavail * found.f_frsize
    return 0


@contextmanager
def telling_full_disk(path: Path) -> Iterator[None]:
    """An error of this block that says that a disk has no room leaves it as :class:`DiskFull`.

    Args:
        path: where most of what the block writes goes.
    """
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise disk_full(error, path) from error
