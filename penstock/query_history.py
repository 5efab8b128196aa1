"""The servers' logs of queries, brought into ``ops.queries``.

::

    <home>/serve/queries/<day>-<id>.ndjson ─▶ lines behind what the table has of that file ─▶ ONE commit a chunk

A file only grows and its name never comes again, so how far the table has it is one number, ``log_end``, which is
written with the rows themselves: each line stands in the table once, whoever syncs, at once or after a crash, and a
server need not be asked. The lines after the last line end wait for the next sync.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lake.ops import QUERIES, append_plan, relation
from lake.plans import commit_planned

if TYPE_CHECKING:
    from lake.catalog import LiveFile
    from lake.lake import Lake
    from lake.plans import Plan
    from penstock.pipeline import Pipeline

CHUNK_BYTES = 16 << 20
"""Of logs that one commit brings in at most, in bytes: about 40,000 requests."""

_FILE = re.compile(r"(\d{4}-\d\d)-\d\d-[0-9a-f]{16}\.ndjson")


def sync_queries(pipeline: Pipeline) -> int:
    """Bring the table in step with the logs of this home; rows added. The table must be declared.

    Raises:
        CommitConflict, StateCorrupt, StoreUnavailable: the next sync goes on from there.

    Side effects: commits, or none if nothing is new.
    """
    folder = pipeline.settings.home / "serve" / "queries"
    added = 0
    while folder.is_dir():
        rows: list[dict[str, Any]] = []

        def make(live: Sequence[LiveFile], rows: list[dict[str, Any]] = rows) -> Plan | None:
            rows[:] = _missing(pipeline.lake, folder, live)
            return append_plan(pipeline.lake, QUERIES, rows, live, run_id=pipeline.run_id) if rows else None

        commit_planned(pipeline.lake, QUERIES.table, make, interval="history")
        if not rows:
            break
        added += len(rows)
    return added


def _missing(lake: Lake, folder: Path, live: Sequence[LiveFile]) -> list[dict[str, Any]]:
    logs = {path: found[1] for path in sorted(folder.iterdir()) if (found := _FILE.fullmatch(path.name))}
    known = _known(lake, [file for file in live if file.key in set(logs.values())])
    rows: list[dict[str, Any]] = []
    room = CHUNK_BYTES
    for path, month in logs.items():
        begin = known.get(path.name, 0)
        while room > 0 and path.stat().st_size > begin:
            chunk = _lines(path, begin, room)
            begin, room = begin + len(chunk), room - len(chunk)
            rows += _rows(chunk, month=month, log=path.name, log_end=begin)
            if not chunk:
                break
    return rows


def _known(lake: Lake, files: Sequence[LiveFile]) -> dict[str, int]:
    with lake.connect() as connection:
        query = f"SELECT log, max(log_end) FROM {relation(lake, QUERIES, files)} GROUP BY log"
        return dict(connection.execute(query).fetchall())


def _lines(path: Path, begin: int, room: int) -> bytes:
    """Whole lines of a file from a place on, of so many bytes at most, and one at least."""
    with path.open("rb") as file:
        file.seek(begin)
        chunk = file.read(room)
        if b"\n" not in chunk:
            chunk += file.readline()
    return chunk[: chunk.rfind(b"\n") + 1]


def _rows(chunk: bytes, *, month: str, log: str, log_end: int) -> Iterator[dict[str, Any]]:
    """Rows of whole lines; one that was cut when the disk was full is left out."""
    for line in chunk.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        moment = datetime.fromisoformat(entry.pop("at"))
        where = {"month": month, "log": log, "log_end": log_end}
        yield {**entry, **where, "asked_at": moment, "release_id": entry["release"]}
