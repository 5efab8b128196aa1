"""What killed builds and publishes leave in the warehouse folder, and when it may go.

A build removes most of it when it begins (``warehouse/releases.py``); here it is found without one, and named. While a
build holds the lease nothing counts as left over. A sealed candidate that can still be published never does: between
``penstock build`` and ``penstock publish`` nobody holds the lease.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common.errors import StateCorrupt
from warehouse.lease import Lease, is_held, is_locked, newest_fence
from warehouse.releases import MARKER, Releases

_ID = re.compile(r"r(\d{6,})")
_HELD = re.compile(r"lease\.(\d+)\.held")


@dataclass(frozen=True)
class Leftover:
    """Something nobody needs.

    Attributes:
        path: the file or folder.
        size_bytes: of all in it.
        why: what it is, in words.
    """

    path: Path
    size_bytes: int
    why: str


def left_over(warehouse: Path, held: Lease | None = None) -> list[Leftover]:
    """What nobody needs; nothing while another process builds or publishes.

    Args:
        warehouse: the warehouse folder.
        held: the caller's own lease, if it has one.
    """
    if held is None and is_held(warehouse):
        return []
    return [Leftover(path, _size_bytes(path), why) for path, why in _found(warehouse, held)]


def remove_left_over(warehouse: Path, held: Lease) -> list[Leftover]:
    """Remove what nobody needs, under the lease. What was removed."""
    with held.fenced():
        found = left_over(warehouse, held)
        for each in found:
            if each.path.is_dir() and not each.path.is_symlink():
                shutil.rmtree(each.path, ignore_errors=True)
            else:
                each.path.unlink(missing_ok=True)
    return found


def _found(warehouse: Path, held: Lease | None) -> Iterator[tuple[Path, str]]:
    releases = Releases(warehouse)
    current = releases.current_id()
    published = [path for path in _folders(warehouse / "releases") if (path / MARKER).exists() or path.name == current]
    newest = max((_number(path) for path in published), default=0)
    for path in _folders(warehouse / "candidates"):
        try:
            parent = releases.candidate(path.name).parent if (path / "manifest.json").exists() else None
            sealed = (path / "manifest.json").exists()
        except StateCorrupt:
            parent, sealed = None, False
        if not sealed:
            yield path, "a candidate whose build died before it was sealed"
        elif parent != current or _number(path) <= newest:
            yield path, "a candidate that can no longer be published: another release came before it"
    for path in _folders(warehouse / "releases"):
        if path not in published:
            yield path, "a folder whose publisher died before the pointer moved"
    if (warehouse / "releases").is_dir():
        yield from ((path, "a release that was half removed") for path in (warehouse / "releases").glob(".r*"))
    yield from ((path, "a pointer that was never put in place") for path in warehouse.glob(".current.*"))
    newest_lease = newest_fence(warehouse)
    for path in warehouse.glob("lease.*.held"):
        named = _HELD.fullmatch(path.name)
        # Of a higher number: somebody is taking it, and to ask whether it is locked would keep them from it.
        if named is None or int(named[1]) > newest_lease or (held is not None and int(named[1]) == held.fence):
            continue
        if not is_locked(path):
            yield path, "the lock of a process that died while it held the lease"


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _ID.fullmatch(path.name)) if folder.is_dir() else []


def _number(path: Path) -> int:
    return int(path.name[1:])


def _size_bytes(path: Path) -> int:
    paths = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(each.lstat().st_size for each in paths if not each.is_dir())
