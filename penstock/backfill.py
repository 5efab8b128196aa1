"""What a backfill will do: a wish, looked at in the light of the lake.

::

    targets ──> raw and refined tables ──> states of their intervals ──> wanted days ──> spans of each source
                        └──────────────> models made from them          receipts ──> rows and time expected

The same plan is previewed, run by Airflow (``backfill_airflow.py``) and run in this process (``backfill_local.py``).
It is derived anew whenever it is asked for, so a backfill that was interrupted has nothing to read up on: what the
interrupted one published is not wanted any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from common.errors import UnknownName
from ingestion.spec import SourceSpec, TableSpec
from lake.batches import Receipt
from lake.paths import WHOLE, TableId
from penstock.backfill_plan import WANTED, Span, Wish, spans
from penstock.interval_state import HOLES, TableIntervals, interval_states
from penstock.model_graph import model_inputs, models_from, refined_inputs
from penstock.pipeline import Pipeline
from warehouse.releases import Releases


@dataclass(frozen=True)
class TablePlan:
    """What is wanted of one table.

    Attributes:
        table: full name, ``raw.<source>__<table>`` or ``refined.<table>``.
        keys: wanted partition keys.
        states: how many of them are in which state now.
        rows_expected: by the mean of the table's published intervals; None if it has none.
        work_s_expected: time of its work, in s, by the same mean.
    """

    table: str
    keys: tuple[str, ...]
    states: Mapping[str, int]
    rows_expected: int | None
    work_s_expected: float | None


@dataclass(frozen=True)
class Plan:
    """What a backfill will do.

    Attributes:
        wish: what was asked for.
        sources: source -> its spans, in the order of work.
        ingest: raw tables with something to ingest.
        refine: refined tables with something to refine, those made from what is ingested included.
        models: models of the warehouse that are made from them.
        build_s_expected: time of the release, in s, by the current one; None if there is none.
    """

    wish: Wish
    sources: Mapping[str, tuple[Span, ...]]
    ingest: tuple[TablePlan, ...]
    refine: tuple[TablePlan, ...]
    models: tuple[str, ...]
    build_s_expected: float | None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.ingest and not self.refine

    def days(self, source: str) -> list[str]:
        """Days of a source that run, in the order of work."""
        return [key for span in self.sources.get(source, ()) for key in span.keys]

    @property
    def work_s_expected(self) -> float | None:
        """Time of all work, one thing after another, in s; None if a table has no history."""
        parts = [*(each.work_s_expected for each in (*self.ingest, *self.refine)), self.build_s_expected]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {
            "wish": self.wish.to_dict(),
            "sources": {source: [span.to_dict() for span in found] for source, found in self.sources.items()},
            "ingest": [{**asdict(each), "keys": list(each.keys)} for each in self.ingest],
            "refine": [{**asdict(each), "keys": list(each.keys)} for each in self.refine],
            "models": list(self.models),
            "releases": 0 if self.is_empty else 1,
            "work_s_expected": self.work_s_expected,
        }


def plan_backfill(pipeline: Pipeline, wish: Wish) -> Plan:
    """What a backfill will do, as the lake is now.

    Args:
        pipeline: lake, specs and releases.
        wish: what is asked for.

    Raises:
        UnknownName: a target is neither a source nor a table nor a model.
        IntervalError: malformed days, or days that are not over.
    """
    raw, refined = _targets(pipeline, wish.targets)
    names = [*(str(spec.raw(table.name)) for spec, table in raw), *(f"refined.{name}" for name in refined)]
    found = interval_states(pipeline, names, start=wish.start, end=wish.end)
    by_name = {each.table: each for each in found}
    wanted = {name: _wanted(wish, by_name[name]) for name in names}
    sources = {}
    for source in dict.fromkeys(spec.source for spec, _ in raw):
        spec = pipeline.source(source)
        tables = [table for each, table in raw if each.source == source]
        made = _source(pipeline, spec, tables, wanted, wish)
        if made:
            sources[source] = tuple(made)
    ingest = [
        _table(pipeline, str(spec.raw(table.name)), wanted[str(spec.raw(table.name))], by_name)
        for spec, table in raw
        if wanted[str(spec.raw(table.name))]
    ]
    refine = [
        _table(pipeline, f"refined.{name}", keys, by_name)
        for name in refined
        if (keys := _refined_keys(pipeline, name, wanted))
    ]
    release = Releases(pipeline.settings.warehouse).current()
    seconds = release.manifest.get("seconds") if release else None
    return Plan(
        wish,
        sources,
        tuple(ingest),
        tuple(refine),
        tuple(models_from(each.table for each in refine)),
        sum(seconds.values()) if seconds else None,
    )


def _targets(pipeline: Pipeline, targets: Iterable[str]) -> tuple[list[tuple[SourceSpec, TableSpec]], list[str]]:
    """Raw tables to look at, whole ones first, and the refined tables that are made from them."""
    tables = [(spec, table) for spec in pipeline.sources().values() for table in spec.tables]
    refined = pipeline.refined_tables()
    chosen: set[str] = set()
    for target in targets:
        names = {
            str(spec.raw(table.name))
            for spec, table in tables
            if target in {spec.source, table.name, f"{spec.source}.{table.name}", str(spec.raw(table.name))}
        }
        made = [target] if target in refined or target.removeprefix("refined.") in refined else refined_inputs(target)
        for name in made:
            table = refined[name.removeprefix("refined.")]
            names |= {*table.inputs.values(), *table.reference_inputs.values()}
        if not names:
            known = [*pipeline.sources(), *(str(spec.raw(table.name)) for spec, table in tables)]
            known += [*(f"refined.{name}" for name in refined), *model_inputs()]
            raise UnknownName(
                f"{target!r} is neither a source nor a table nor a model.", remedy=f"use one of {', '.join(known)}"
            )
        chosen |= names
    sources = {spec.source for spec, table in tables if str(spec.raw(table.name)) in chosen}
    # Rules of a source's tables look rows up in its whole tables: those go along where they were never published.
    chosen |= {
        str(spec.raw(table.name))
        for spec, table in tables
        if spec.source in sources and not table.partitioned and not pipeline.lake.live(spec.raw(table.name))
    }
    raw = [each for each in tables if str(each[0].raw(each[1].name)) in chosen]
    downstream = [
        name for name, table in refined.items() if chosen & {*table.inputs.values(), *table.reference_inputs.values()}
    ]
    return sorted(raw, key=lambda each: each[1].partitioned), sorted(downstream, key=lambda n: refined[n].partitioned)


def _wanted(wish: Wish, found: TableIntervals) -> list[str]:
    return found.keys(*WANTED[wish.mode])


def _source(
    pipeline: Pipeline, spec: SourceSpec, tables: list[TableSpec], wanted: dict[str, list[str]], wish: Wish
) -> list[Span]:
    """Spans of one source; days that its spec says it never had are taken out of ``wanted``."""
    days: dict[str, list[str]] = {}
    whole = []
    for table in tables:
        name = str(spec.raw(table.name))
        if not table.partitioned:
            whole += [table.name] if wanted[name] else []
            continue
        first, end = (day.isoformat() if day else None for day in (spec.start_date, spec.end_date))
        wanted[name] = [k for k in wanted[name] if (first is None or k >= first) and (end is None or k < end)]
        for key in wanted[name]:
            days.setdefault(key, []).append(table.name)
        if wanted[name]:
            pipeline.refuse_future(spec.source, table.name, wanted[name][-1])
    otherwise = _last_day(spec, wish)
    return spans(days, whole=whole, otherwise=otherwise, newest_first=wish.newest_first)


def _last_day(spec: SourceSpec, wish: Wish) -> str:
    """The last day of the wish that the source has; a whole table that comes alone runs for it."""
    held = [key for key in wish.days if spec.end_date is None or key < spec.end_date.isoformat()]
    return (held or wish.days)[-1]


def _refined_keys(pipeline: Pipeline, name: str, wanted: Mapping[str, list[str]]) -> list[str]:
    """Keys of a refined table that are wanted themselves, or whose raw rows are."""
    table = pipeline.refined(name)
    if not table.partitioned:
        raw = {*table.inputs.values(), *table.reference_inputs.values()}
        return [WHOLE] if wanted[f"refined.{name}"] or any(wanted.get(each) for each in raw) else []
    keys = {key for raw in table.inputs.values() for key in wanted.get(raw, ())}
    there = [pipeline.lake.live_attempts(TableId.parse(raw)).keys() for raw in table.inputs.values()]
    return sorted(keys | {key for key in wanted[f"refined.{name}"] if all(key in live for live in there)})


def _table(pipeline: Pipeline, name: str, keys: list[str], by_name: Mapping[str, TableIntervals]) -> TablePlan:
    states = {each.key: each.state for each in by_name[name].intervals}
    counted: dict[str, int] = {}
    for key in keys:
        state = states.get(key, "missing")
        counted[state] = counted.get(state, 0) + 1
    past: list[Receipt] = list(pipeline.lake.receipts(TableId.parse(name)))
    rows = round(fmean(each.published for each in past) * len(keys)) if past else None
    seconds = fmean(sum(each.seconds.values()) for each in past) * len(keys) if past else None
    return TablePlan(name, tuple(keys), counted, rows, seconds)


def refine_work(pipeline: Pipeline, refine: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """The one refine pass of a backfill: table -> keys, whole tables first.

    Args:
        pipeline: the stages.
        refine: refined table -> its planned keys. Those that an ingested batch has rewritten elsewhere are added.
    """
    found = {}
    for name in sorted(refine, key=lambda each: pipeline.refined(each).partitioned):
        planned = set(refine[name])
        found[name] = sorted(planned | set(pipeline.rewritten_keys(name, planned)))
    return found


def summarize(pipeline: Pipeline, plan: Mapping[str, Any], release: str | None) -> dict[str, Any]:
    """How a backfill ended, as the lake tells it.

    Args:
        pipeline: the stages.
        plan: the plan that was run (:meth:`Plan.to_dict`).
        release: the release that was published.
    """
    wish = Wish.from_dict(plan["wish"])
    planned = {each["table"]: set(each["keys"]) for each in (*plan["ingest"], *plan["refine"])}
    found = interval_states(pipeline, planned, start=wish.start, end=wish.end) if planned else []
    tables, open_intervals = [], []
    for table in found:
        of = [each for each in table.intervals if each.key in planned[table.table]]
        bad = [each for each in of if each.state in HOLES]
        live = [each for each in of if each.published_at]
        tables.append(
            {
                "table": table.table,
                "intervals": len(of),
                "published": len(of) - len(bad),
                "not_done": len(bad),
                "rows": sum(each.rows for each in live),
            }
        )
        open_intervals += [
            {"table": table.table, "interval": each.key, "state": each.state, "reason": each.reason} for each in bad
        ]
    return {"wish": wish.to_dict(), "tables": tables, "not_done": open_intervals, "release": release}
