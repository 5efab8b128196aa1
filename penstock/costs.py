"""What runs have used: how they tell of their work, and the account of it by table, stage, run or day.

Charges are exclusive and add up to what the process used. Where work is done for several at once it is shared out:

* a commit of several intervals: each bears an equal share, for its cost does not depend on their rows;
* dbt's models, which run one after the other: each bears the share of the time it took, and what dbt itself needs stays
  with the warehouse as a whole;
* code that is loaded when it is first needed (Great Expectations, 6 CPU s) counts for the batch that needed it first;
* everything that is no step of a batch is ``other`` of its run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from common.work import Scope, What, Work
from lake.costs import keep_costs, pending_costs

if TYPE_CHECKING:
    from common.telemetry import Tracing
    from ingestion.spec import SourceSpec, TableSpec
    from lake.lake import Lake
    from penstock.lineage_events import Parent
    from penstock.pipeline import Pipeline
    from transformations.dbt_runner import DbtResult

By = Literal["table", "stage", "run", "day"]

_SYSTEMS = {"postgresql": "postgresql", "mysql": "mysql"}
_FIGURES = ("times", "cpu_s", "wall_s", "read_bytes", "written_bytes")
_GROUPS: dict[By, tuple[str, ...]] = {
    "table": ("table_name",),
    "stage": ("stage", "step"),
    "run": ("run_id",),
    "day": ("day",),
}


def work_of(pipeline: Pipeline, parent: Parent) -> Work:
    """How a pipeline tells of what it does.

    Args:
        pipeline: whose lake the costs are kept in.
        parent: what started it.
    """
    attributes = {"penstock.lineage.job": parent.job, "penstock.lineage.run_id": parent.run_id}

    def tracing() -> Tracing:
        import penstock
        from common.telemetry import Tracing

        return Tracing(pipeline.settings.otlp_endpoint, penstock.__version__)

    made = tracing if pipeline.settings.otlp_endpoint else None
    return Work(pipeline.run_id, tracing=made, attributes=attributes, keep=lambda: _end(pipeline))


def described(spec: SourceSpec, table: TableSpec) -> dict[str, str]:
    """What OpenTelemetry calls the table that is read, where it is one of a database."""
    if spec.kind not in _SYSTEMS:
        return {}
    return {"db.system.name": _SYSTEMS[spec.kind], "db.collection.name": table.in_source}


def share_out(work: Work, models: Scope, result: DbtResult) -> None:
    """Charge a dbt run to its models, and tell of each where it is traced."""
    took = {node.name: node.seconds for node in result.nodes if node.kind == "model"}
    in_all = max(result.seconds, sum(took.values()))
    models.shares = [
        (What("warehouse", "models", f"warehouse.{name}"), seconds / in_all) for name, seconds in took.items() if in_all
    ]
    if models.span is not None and work.tracing is not None:
        for node in (each for each in result.nodes if each.began_s):
            named = {"penstock.stage": "warehouse", "penstock.dbt.status": node.status, "penstock.dbt.kind": node.kind}
            work.tracing.past(f"{node.kind} {node.name}", models.span, named, node.began_s, node.seconds)


def keep(pipeline: Pipeline) -> None:
    """Keep what a run has used since the last time; nothing if it has done nothing.

    Raises:
        StoreUnavailable: the store does not take it; then it is lost.
    """
    rows = pipeline.work.take()
    if rows:
        keep_costs(pipeline.lake, pipeline.run_id, rows)


def _end(pipeline: Pipeline) -> None:
    """What a run does at its end: keep the costs, and measure what is told of tables and releases."""
    try:
        keep(pipeline)
    finally:
        if pipeline.work.tracing is not None:
            from penstock.ages import release_age_s, table_lags

            for table, lag_s in table_lags(pipeline).items():
                pipeline.work.measure("penstock.freshness.lag", lag_s, table=table)
            if (age_s := release_age_s(pipeline)) is not None:
                pipeline.work.measure("penstock.release.age", age_s)


# -- the account -------------------------------------------------------------------------------------------------------


def account(pipeline: Pipeline, by: By, *, start: str | None = None, end: str | None = None) -> list[dict[str, Any]]:
    """What was used, grouped, the dearest first; of days the oldest first.

    Args:
        pipeline: the lake.
        by: how to group.
        start: first day on which it was measured, UTC.
        end: the day after the last one.

    Returns:
        Rows with the group's own columns, ``times``, ``cpu_s``, ``cpu_share_pct``, ``wall_s``, ``read_bytes``,
        ``written_bytes`` and ``peak_rss_bytes``.
    """
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in _rows(pipeline.lake):
        if (start is not None and row["day"] < start) or (end is not None and row["day"] >= end):
            continue
        key = tuple(row[name] for name in _GROUPS[by])
        empty = {**dict(zip(_GROUPS[by], key, strict=True)), **dict.fromkeys(_FIGURES, 0), "peak_rss_bytes": 0}
        group = groups.setdefault(key, empty)
        for name in _FIGURES:
            group[name] += row[name]
        group["peak_rss_bytes"] = max(group["peak_rss_bytes"], row["peak_rss_bytes"])
    cpu_s = sum(group["cpu_s"] for group in groups.values())
    for group in groups.values():
        group["cpu_share_pct"] = 100.0 * group["cpu_s"] / cpu_s if cpu_s else 0.0
    order: Callable[[dict[str, Any]], Any] = (lambda g: g["day"]) if by == "day" else (lambda g: -g["cpu_s"])
    return sorted(groups.values(), key=order)


def total(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The sums of an account's rows."""
    sums: dict[str, Any] = {name: sum(row[name] for row in rows) for name in _FIGURES}
    return {**sums, "peak_rss_bytes": max((row["peak_rss_bytes"] for row in rows), default=0)}


def _rows(lake: Lake) -> list[dict[str, Any]]:
    """Costs by stage, step, table, run and day: of the table, and of the files that it does not have yet."""
    from lake.ops import COSTS, ops_relation

    lake.ensure(COSTS.table, COSTS.columns, partition_by="month")
    names = ("stage", "step", "table_name", "run_id", "day")
    sums = ", ".join(f"sum({name})" for name in _FIGURES)
    query = (
        "SELECT stage, step, table_name, run_id, strftime(measured_at AT TIME ZONE 'UTC', '%Y-%m-%d') AS day, "
        f"{sums}, max(peak_rss_bytes) FROM {ops_relation(lake, COSTS)} GROUP BY ALL ORDER BY ALL"
    )
    with lake.connect() as connection:
        found = connection.execute(query).fetchall()
    columns = (*names, *_FIGURES, "peak_rss_bytes")
    rows = [dict(zip(columns, row, strict=True)) for row in found]
    return rows + [{**row, "day": row["measured_at"].strftime("%Y-%m-%d")} for row in pending_costs(lake)]
