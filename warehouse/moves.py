"""When the pointer of a warehouse folder named which release: ``<warehouse>/moves.jsonl``, one line for each move.

The newest move is not in the file: the pointer itself says it, by the release it names and the time it was made. It is
written down when the next move takes its place, before that one is made. So no crash can part the two.
"""

from __future__ import annotations

import errno
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from warehouse.shelf import Move

FILE = "moves.jsonl"


def pointer_move(warehouse: Path) -> Move | None:
    """The move that made the pointer what it is; None before the first."""
    pointer = warehouse / "current"
    try:
        made_at = datetime.fromtimestamp(pointer.lstat().st_mtime, tz=UTC)
        return Move(made_at, pointer.readlink().name)
    except FileNotFoundError:
        return None


def remember(warehouse: Path) -> None:
    """Write down the move that is about to be replaced; once, however often it is tried. The caller holds the lease."""
    move = pointer_move(warehouse)
    if move is None or move in recorded(warehouse)[-1:]:
        return
    line = json.dumps({"at": move.at.isoformat(), "release": move.release}) + "\n"
    path = warehouse / FILE
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size_bytes = path.stat().st_size
        torn = size_bytes > 0 and not path.read_bytes().endswith(b"\n")
        whole = ("\n" * torn + line).encode()
        if os.write(descriptor, whole) < len(whole):  # what a disk does that fills up in the middle: no error
            os.ftruncate(descriptor, size_bytes)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def recorded(warehouse: Path) -> list[Move]:
    """The moves that were written down, oldest first. A line that a power cut has torn is none."""
    try:
        lines = (warehouse / FILE).read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            move = json.loads(line)
            found.append(Move(datetime.fromisoformat(move["at"]), str(move["release"])))
        except (ValueError, KeyError, TypeError):
            continue
    return found
