"""``ops.incidents``: read it, and change it by one commit that whoever is overtaken plans again.

::

    live rows ──▶ change(rows) ──▶ months that differ are written anew ──▶ ONE commit, or none

Two runs that meet the same broken source at the same time both want to open an incident of it. Iceberg lets one of them
commit; the other is asked again, in view of what the first wrote, and finds it open. So there is no lock, and no
machine that must be the one that knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from common.fault_points import reach
from lake.catalog import LiveFile
from lake.commit import Change
from lake.lake import Lake
from lake.ops import INCIDENTS, Row, relation
from lake.paths import new_attempt
from lake.plans import Plan, commit_planned
from lake.schema import arrow_schema

Rows = list[dict[str, Any]]


def incident_rows(lake: Lake) -> Rows:
    """All rows, the oldest incident first; none where nobody has looked yet."""
    if not lake.exists(INCIDENTS.table):
        return []
    lake.ensure(INCIDENTS.table, INCIDENTS.columns, partition_by="month")
    return _read(lake, lake.live(INCIDENTS.table))


def change_incidents(lake: Lake, change: Callable[[Rows], Sequence[Row]], *, run_id: str) -> Rows:
    """Change rows and add others.

    Args:
        lake: the lake.
        change: given all rows, all rows as they should be; called again when another writer was faster. A row stays in
            its month.
        run_id: the run, for the snapshot.

    Returns:
        The rows as they are now.

    Raises:
        CommitConflict, StateCorrupt, StoreUnavailable: see :func:`lake.commit.change_partitions`.

    Side effects: one commit, or none if nothing is to be changed; the table is made if it is not there.
    """
    lake.ensure(INCIDENTS.table, INCIDENTS.columns, partition_by="month")
    now: Rows = []

    def make(live: Sequence[LiveFile]) -> Plan | None:
        nonlocal now
        before = _read(lake, live)
        now = [dict(row) for row in change([dict(row) for row in before])]
        months = {str(row["month"]) for row in (*before, *now)}
        differ = [month for month in sorted(months) if _of(month, before) != _of(month, now)]
        return _plan(lake, {month: _of(month, now) for month in differ}, run_id) if differ else None

    commit_planned(lake, INCIDENTS.table, make, interval="incidents")
    return now


def _of(month: str, rows: Rows) -> Rows:
    return [row for row in rows if row["month"] == month]


def _read(lake: Lake, live: Sequence[LiveFile]) -> Rows:
    with lake.connect() as connection:
        found = connection.execute(f"SELECT * FROM {relation(lake, INCIDENTS, live)} ORDER BY incident_id")
        names = [column[0] for column in found.description or ()]
        return [
            {
                name: value.astimezone(UTC) if isinstance(value, datetime) else value
                for name, value in zip(names, row, strict=True)
            }
            for row in found.fetchall()
        ]


def _plan(lake: Lake, months: dict[str, Rows], run_id: str) -> Plan:
    import pyarrow as pa

    attempt = new_attempt()
    files: dict[str, tuple[str, ...]] = {}
    try:
        with lake.connect() as connection:
            for month, rows in months.items():
                location = lake.staging_location(INCIDENTS.table, month, attempt)
                files[month] = (location,)
                connection.register("came", pa.Table.from_pylist(rows, schema=arrow_schema(INCIDENTS.columns)))
                lake.write(connection, "SELECT * FROM came", INCIDENTS.table, location)
        reach("lake.incidents.before_commit")
    except BaseException:
        lake.delete_files([location for locations in files.values() for location in locations])
        raise
    return Plan(Change(attempt, files, {"penstock.run_id": run_id}))
