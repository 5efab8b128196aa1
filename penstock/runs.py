"""Runs as the lake remembers them: which tables each worked on, what became of the rows, what it took.

::

    ops.ledger  rows of batches, by run and table ─┐
    ops.costs   CPU and wall time, by run          ├─▶ one record per run, the newest first
    ops/failures  what still fails, by run         ┘

A run stands here once it was recorded, which every run does at its end; what is at work now, its scheduler knows.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from lake.failures import failures
from lake.ops import COSTS, LEDGER, OpsTable, ops_relation

if TYPE_CHECKING:
    from lake.lake import Lake
    from penstock.pipeline import Pipeline

_FIGURES = ("rows_in", "published", "quarantined", "rejected", "deduplicated")


def runs(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Every run that was recorded, JSON-compatible.

    ``state`` is ``failed`` while something that the run could not do still fails, ``refused`` if a gate refused a
    batch of it, else ``published``. ``rows_in`` is the sum of the four figures after it, over all tables, so a row
    counts once for each stage it passed. ``cpu_s`` and ``wall_s`` are null for a run that left no account.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    found: dict[str, dict[str, Any]] = {}
    for row in _tables(pipeline):
        run = found.setdefault(row.pop("run_id"), _empty())
        run["started_at"] = min(filter(None, (run["started_at"], row["started_at"])))
        run["ended_at"] = max(filter(None, (run["ended_at"], row["ended_at"])))
        run["release_id"] = row.pop("release_id") or run["release_id"]
        run["tables"].append({**row, **{name: row[name].isoformat() for name in ("started_at", "ended_at")}})
    for failure in failures(pipeline.lake):
        run = found.setdefault(failure.run_id, _empty())
        run["started_at"] = run["started_at"] or failure.failed_at
        run["ended_at"] = max(filter(None, (run["ended_at"], failure.failed_at)))
        told = {name: getattr(failure, name) for name in ("stage", "source", "table", "key", "error", "problem")}
        run["failures"].append({**told, "remedy": failure.remedy, "failed_at": failure.failed_at.isoformat()})
    used = _used(pipeline)
    ordered = sorted(found.items(), key=lambda each: (each[1]["ended_at"], each[0]), reverse=True)
    return [_told(run_id, run, used.get(run_id)) for run_id, run in ordered]


def _empty() -> dict[str, Any]:
    return {"started_at": None, "ended_at": None, "release_id": None, "tables": [], "failures": []}


def _told(run_id: str, run: dict[str, Any], used: tuple[float, float] | None) -> dict[str, Any]:
    figures = {name: sum(each[name] for each in run["tables"]) for name in ("batches", "refused", *_FIGURES)}
    state = "failed" if run["failures"] else "refused" if figures["refused"] else "published"
    times = {name: _iso(run[name]) for name in ("started_at", "ended_at")}
    cpu_s, wall_s = used or (None, None)
    return {"id": run_id, "state": state, **run, **times, **figures, "cpu_s": cpu_s, "wall_s": wall_s}


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _tables(pipeline: Pipeline) -> list[dict[str, Any]]:
    """One row per run and table; the times are instants in UTC."""
    if not _is_there(pipeline.lake, LEDGER):
        return []
    sums = ", ".join(f"sum({name})::BIGINT AS {name}" for name in _FIGURES)
    query = (
        "SELECT run_id, stage, table_name AS table, count(*) AS batches, "
        f"count(*) FILTER (outcome = 'refused') AS refused, {sums}, "
        "min(published_at - to_microseconds((1e6 * seconds)::BIGINT)) AS started_at, max(published_at) AS ended_at, "
        "max(release_id) AS release_id, list(DISTINCT reason ORDER BY reason) FILTER (outcome = 'refused') AS reasons "
        f"FROM {ops_relation(pipeline.lake, LEDGER)} GROUP BY ALL ORDER BY run_id, ended_at, stage, 3"
    )
    with pipeline.lake.connect() as connection:
        result = connection.execute(query)
        names = [each[0] for each in result.description]
        rows = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    return [{**row, "reasons": [reason for reason in row["reasons"] or () if reason]} for row in rows]


def _used(pipeline: Pipeline) -> dict[str, tuple[float, float]]:
    if not _is_there(pipeline.lake, COSTS):
        return {}
    query = f"SELECT run_id, sum(cpu_s), sum(wall_s) FROM {ops_relation(pipeline.lake, COSTS)} GROUP BY 1"
    with pipeline.lake.connect() as connection:
        return {
            run_id: (round(cpu_s, 3), round(wall_s, 3))
            for run_id, cpu_s, wall_s in connection.execute(query).fetchall()
        }


def _is_there(lake: Lake, ops: OpsTable) -> bool:
    """Whether a table can be read; one that was never written is not made for it."""
    found = lake.exists(ops.table)
    if found:
        lake.ensure(ops.table, ops.columns, partition_by="month")
    return found
