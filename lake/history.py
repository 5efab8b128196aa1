"""Every version of each row, with the time for which it held: derived from a raw table, and made good by the next run.

::

    raw partitions whose attempt is not the history's ─┐               ┌▶ current versions, by raw partition ─┐
                                                       ├─ join by key ─┤                                      ├▶ ONE
    their current versions in the history ─────────────┘               └▶ ended versions, by month ───────────┘  commit

Current versions lie in a partition for each raw partition, in files that carry the raw batch's attempt in their names.
So which raw batches the history has taken in is read off its live files: a crash between the two commits, or a history
that is asked for later, needs no repair but the next sync. Ended versions are added by the month in which they ended
and never rewritten.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from common.errors import StateCorrupt
from common.fault_points import reach
from lake.catalog import LiveFile
from lake.commit import Change
from lake.lake import Lake
from lake.paths import WHOLE, TableId, attempt_of, data_location, engine_path, new_attempt
from lake.plans import Plan, commit_planned
from lake.schema import DELETED_COLUMN, PARTITION_COLUMN, Column
from lake.sql import identifier, literal, parquet_relation

ENDED = "ended-"
"""Partition keys of ended versions begin so; the month follows."""


@dataclass(frozen=True)
class History:
    """What a history is kept of.

    Attributes:
        raw: the raw table, declared to the lake.
        table: the history's own table.
        columns: the raw table's columns that are kept, all but the partition and the mark of deletion.
        all_columns: columns of the history, ``part`` first.
        keys: columns that name one row.
        version_column: a ``timestamptz`` column that says when a version began; None: it began when it was first seen.
        moves: whether a key may pass from one raw partition to another; if not, it is a row of its partition.
    """

    raw: TableId
    table: TableId
    columns: tuple[str, ...]
    all_columns: tuple[Column, ...]
    keys: tuple[str, ...]
    version_column: str | None
    moves: bool


@dataclass(frozen=True)
class Synced:
    """What a sync changed: raw partitions taken in, versions that ended, rows that are current in them."""

    partitions: int
    ended: int
    current: int


def sync_history(lake: Lake, history: History, *, run_id: str) -> Synced:
    """Take in what has changed in the raw table since the history was last in step with it.

    Raises:
        StateCorrupt: the key does not name one row.
        CommitConflict, StoreUnavailable: see :func:`lake.commit.change_partitions`.

    Side effects: one commit, or none if the history is in step.
    """
    lake.ensure(history.table, history.all_columns, partition_by="part")
    figures = Synced(0, 0, 0)
    if not behind(lake, history):
        return figures
    with lake.connect() as connection:

        def make(live: Sequence[LiveFile]) -> Plan | None:
            nonlocal figures
            plan, figures = _plan(connection, lake, history, live, run_id)
            return plan

        landed = commit_planned(lake, history.table, make, interval="history")
    return figures if landed else Synced(0, 0, 0)


def behind(lake: Lake, history: History) -> list[str]:
    """Raw partitions that the history has not taken in as they are now."""
    return _changed(lake.live_attempts(history.raw), lake.live(history.table))


def _changed(raw: dict[str, str], live: Sequence[LiveFile]) -> list[str]:
    taken = {file.key: attempt_of(file.location) for file in live if not file.key.startswith(ENDED)}
    return sorted(key for key, attempt in raw.items() if taken.get(key) != attempt)


def _plan(
    connection: duckdb.DuckDBPyConnection, lake: Lake, history: History, live: Sequence[LiveFile], run_id: str
) -> tuple[Plan | None, Synced]:
    pinned = lake.pin(history.raw)
    changed = _changed(dict(pinned.attempts), live)
    if not changed:
        return None, Synced(0, 0, 0)
    raw_paths = [path for key in changed for path in pinned.paths.get(key, ())]
    _compare(connection, lake, history, raw_paths, [file for file in live if file.key in changed and file.rows])
    files: dict[str, tuple[str, ...]] = {}
    attempt = new_attempt()
    current = ended = 0
    try:
        for key in changed:
            location = _location(lake, history.table, key, pinned.attempts[key])
            files[key] = (location,)
            current += lake.write(
                connection, f"SELECT * FROM next WHERE part = {literal(key)}", history.table, location
            )
        months = [row[0] for row in connection.execute("SELECT DISTINCT part FROM ended ORDER BY 1").fetchall()]
        for month in months:
            location = _location(lake, history.table, month, attempt)
            files[month] = (location,)
            query = f"SELECT * FROM ended WHERE part = {literal(month)}"
            ended += lake.write(connection, query, history.table, location)
        reach("lake.history.before_commit")
    except BaseException:
        lake.delete_files([location for locations in files.values() for location in locations])
        raise
    kept = frozenset(file.location for file in live if file.key.startswith(ENDED))
    summary = {"penstock.run_id": run_id, "penstock.raw_snapshot": str(pinned.snapshot_id)}
    return Plan(Change(attempt, files, summary, kept)), Synced(len(changed), ended, current)


def _location(lake: Lake, table: TableId, key: str, attempt: str) -> str:
    """A new file's location. Two syncs may write the same attempt at once, so its number is drawn."""
    location = data_location(lake.settings.lake_uri, table, key, attempt, random.getrandbits(48))
    lake.storage.prepare_folder(location)
    return location


def _compare(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    history: History,
    raw_paths: Sequence[str],
    open_files: Sequence[LiveFile],
) -> None:
    """Make ``next``, the current versions of the changed partitions, and ``ended``, those that were and are not now.

    Raises:
        StateCorrupt: the key does not name one row.
    """
    columns, field_ids = lake.columns(history.raw)
    marks = any(column.name == DELETED_COLUMN for column in columns)
    part = f"{PARTITION_COLUMN}::VARCHAR" if columns[0].name == PARTITION_COLUMN else literal(WHOLE)
    mark = identifier(DELETED_COLUMN) if marks else "NULL::TIMESTAMPTZ"
    names = [identifier(name) for name in history.columns]
    raw = parquet_relation(raw_paths, columns, field_ids)
    connection.execute(f"CREATE OR REPLACE TEMP VIEW came AS SELECT {part} AS part, {mark} AS gone_at, * FROM {raw}")
    known, known_ids = lake.columns(history.table)
    paths = [engine_path(file.location) for file in open_files]
    connection.execute(f"CREATE OR REPLACE TEMP VIEW held AS SELECT * FROM {parquet_relation(paths, known, known_ids)}")
    by = [*(identifier(name) for name in history.keys), *([] if history.moves else ["part"])]
    on = " AND ".join(f"came.{name} = held.{name}" for name in by)
    same = " AND ".join(f"came.{name} IS NOT DISTINCT FROM held.{name}" for name in names)
    now = f"TIMESTAMPTZ {literal(lake.clock().isoformat())}"
    version = f"came.{identifier(history.version_column)}" if history.version_column else "NULL::TIMESTAMPTZ"
    begins = (
        f"CASE WHEN held.valid_from IS NULL THEN coalesce({version}, {now}) WHEN {same} THEN held.valid_from "
        f"WHEN {version} > held.valid_from THEN {version} ELSE greatest({now}, held.valid_from) END"
    )
    listed = ", ".join(f"came.{name}" for name in names)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE next AS SELECT came.part, {begins} AS valid_from, "
        f"NULL::TIMESTAMPTZ AS valid_to, false AS is_deleted, {listed} "
        f"FROM came LEFT JOIN held ON {on} WHERE came.gone_at IS NULL"
    )
    ends = f"CASE WHEN came.part IS NULL THEN {now} WHEN came.gone_at IS NULL THEN {begins} ELSE came.gone_at END"
    kept = ", ".join(f"held.{name}" for name in names)
    month = f"{literal(ENDED)} || strftime(valid_to AT TIME ZONE 'UTC', '%Y-%m')"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE ended AS SELECT {month} AS part, * FROM ("
        f"SELECT held.valid_from, greatest({ends}, held.valid_from) AS valid_to, "
        f"(came.part IS NULL OR came.gone_at IS NOT NULL) AS is_deleted, {kept} FROM held LEFT JOIN came ON {on} "
        f"WHERE came.part IS NULL OR came.gone_at IS NOT NULL OR NOT ({same}))"
    )
    rows = connection.execute(
        "SELECT (SELECT count(*) FROM next), (SELECT count(*) FROM came WHERE gone_at IS NULL)"
    ).fetchone() or (0, 0)
    if rows[0] != rows[1]:
        raise StateCorrupt(
            f"The key {', '.join(history.keys)} does not name one row: {rows[1]} rows make {rows[0]} versions.",
            table=str(history.raw),
            remedy="give its suite a critical rule that the key is unique, and run the intervals again",
        )
