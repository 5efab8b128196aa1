"""Rows that stay although the object they were read from has vanished: the live ones, and those in quarantine.

With ``on_vanished: keep`` a batch replaces its interval like any other, so what is to stay has to be in it: live rows
as they are, rows in quarantine as they wait, each with the object and line it came from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow as pa

from lake.batches import EARLY_REJECTS_SCHEMA
from lake.lake import Lake
from lake.paths import TableId
from lake.quarantine import quarantined


def kept_rows(connection: duckdb.DuckDBPyConnection, lake: Lake, raw: TableId, key: str, objects: Sequence[str]) -> str:
    """The query of an interval's live rows that came from these objects, or from members of them.

    Side effects: registers ``kept_objects`` on the connection.
    """
    connection.register("kept_objects", pa.table({"name": pa.array(objects, pa.string())}))
    return (
        f"SELECT * FROM {lake.relation(raw, [key])} AS live WHERE EXISTS (SELECT 1 FROM kept_objects "
        "WHERE live.object_key = name OR starts_with(live.object_key, name || '!/'))"
    )


def kept_rejects(lake: Lake, raw: TableId, key: str, objects: Sequence[str]) -> pa.Table:
    """The interval's rows in quarantine that came from these objects, as early rejects of the next batch."""
    found = []
    for waiting in quarantined(lake, raw, key).to_pylist():
        position = _position(waiting)
        if any(position.startswith((f"{name} line ", f"{name}!/")) for name in objects):
            found.append(
                {
                    "rule": waiting["rules"],
                    "reason": waiting["reason"] or "",
                    "position": position,
                    "row": waiting["row"],
                }
            )
    return pa.Table.from_pylist(found, schema=EARLY_REJECTS_SCHEMA)


def _position(waiting: dict[str, Any]) -> str:
    """Object and line of a row; one that a gate rejected has them among its columns."""
    row = json.loads(waiting["row"])
    if isinstance(row, dict) and "object_key" in row and "object_line" in row:
        return f"{row['object_key']} line {row['object_line']}"
    return str(waiting["position"])
