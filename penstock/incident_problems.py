"""Everything that is wrong now, read off the lake, the specs and the current release; nothing of it is remembered.

::

    ops/failures ──────────────▶ what was tried and has not worked since    source, refused, drift, failure ...
    specs, dbt meta, live days ▶ what should be there by now and is not     freshness, missing
    ops.ledger ────────────────▶ what is later than its own rhythm          freshness
    receipt of the newest day ─▶ what came, and is odd                      volume, drift
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from common.intervals import zone
from common.notify_routes import Severity
from ingestion.spec import SourceSpec, TableSpec
from lake.failures import Failure, failures
from lake.paths import WHOLE, TableId
from penstock.anomalies import LATE_LIMIT, judge_ages
from penstock.facts import FACTS
from penstock.freshness import Freshness, Promise, due_at, judge
from penstock.incident_causes import Kind, Lineage, Problem
from penstock.model_graph import model_inputs
from penstock.status import lake_tables
from transformations.dbt_contracts import ModelMeta, model_meta
from warehouse.releases import Releases

if TYPE_CHECKING:
    from penstock.pipeline import Pipeline

_KINDS: Mapping[str, Kind] = {
    "SourceSchemaError": "drift",
    "VolumeRefused": "volume",
    **dict.fromkeys(("GateRefused", "GateCrashed", "ObjectCorrupt", "EmptyBatch", "Unreconciled"), "refused"),
}
_OF_THE_SOURCE = {"SourceUnavailable", "SourceRefused", "SourceSchemaError"}
_HEALS_ITSELF = {"LeaseHeld", "CommitConflict", "Overtaken"}
_BUILD = "build"


def find_problems(pipeline: Pipeline) -> list[Problem]:
    """Everything that is wrong now.

    Raises:
        StoreUnavailable, StateCorrupt: the lake cannot be read.
    """
    standing = [failure for failure in failures(pipeline.lake) if not _worked_since(pipeline, failure)]
    failed = {(failure.table, failure.key) for failure in standing}
    found = [_of_failure(pipeline, failure) for failure in standing]
    promised = set()
    for spec, table in _tables(pipeline):
        found += _of_newest(pipeline, spec, table)
        promise = _promise(spec, table)
        if promise is not None:
            raw = str(spec.raw(table.name))
            promised.add(raw)
            published = pipeline.lake.live_attempts(spec.raw(table.name)).keys()
            found += _of_days(raw, judge(published, promise, pipeline.clock()), promise, failed, spec.source)
    found += _of_models(pipeline, failed)
    for raw, judged in judge_ages(pipeline).items():
        if raw not in promised and judged.exceeds(LATE_LIMIT):
            source = raw.removeprefix("raw.").split("__")[0]
            found.append(Problem("freshness", raw, "warning", f"Late: {judged.sentence}.", command=_drift(source)))
    return found


def unjudged(pipeline: Pipeline) -> frozenset[str]:
    """Causes that cannot be looked at from here: releases lie on the machine that builds, and a look runs anywhere."""
    if Releases(pipeline.settings.warehouse).current() is not None:
        return frozenset()
    return frozenset(f"{kind}:{fact}" for fact, _ in FACTS.values() for kind in ("freshness", "missing"))


def lineage_of(pipeline: Pipeline) -> Lineage:
    """What is made from what, by specs, refined tables and models; who answers for it."""
    parents: dict[str, frozenset[str]] = {}
    owners, commands = {}, {}
    for spec in pipeline.sources().values():
        source = f"source.{spec.source}"
        owners[source] = spec.owner
        parents[source] = frozenset()
        for table in spec.tables:
            raw = str(spec.raw(table.name))
            parents[raw] = frozenset({source})
            owners[raw] = table.owner or spec.owner
        commands[source] = _drift(spec.source)
    for name, refined in pipeline.refined_tables().items():
        parents[f"refined.{name}"] = frozenset({*refined.inputs.values(), *refined.reference_inputs.values()})
    parents |= {model: inputs | {_BUILD} for model, inputs in model_inputs().items()}
    owners |= {model: meta.owner for model, meta in model_meta().items() if meta.owner}
    return Lineage(parents, owners, commands)


# -- failures ----------------------------------------------------------------------------------------------------------


def _worked_since(pipeline: Pipeline, failure: Failure) -> bool:
    """Whether the lake shows that it works, whoever did the work; or nothing is called so any more."""
    if failure.source and failure.source not in pipeline.sources():
        return True
    if failure.table and TableId.parse(failure.table) not in lake_tables(pipeline):
        return True
    if not failure.table or failure.scope[-1] != failure.key:
        return False
    live = pipeline.lake.receipt(TableId.parse(failure.table), failure.key)
    return live is not None and datetime.fromisoformat(live.published_at) > failure.failed_at


def _of_failure(pipeline: Pipeline, failure: Failure) -> Problem:
    keys = (failure.key,) if failure.key and ".." not in failure.key and failure.key != "deletes" else ()
    node = failure.table or (f"source.{failure.source}" if failure.source else failure.scope[-1])
    kind: Kind = _KINDS.get(failure.error, "failure")
    if failure.stage == "connect":
        kind = "source"
    if failure.stage == "task":
        kind = "task"
    severity: Severity = "warning" if failure.error in _HEALS_ITSELF else "critical"
    of_source = bool(failure.table) and failure.error in _OF_THE_SOURCE
    return Problem(
        kind=kind,
        node=node,
        severity=severity,
        reason=f"{failure.error}: {failure.problem} {failure.remedy}".strip(),
        seen=(failure.failed_at,),
        intervals=keys,
        command=_again(pipeline, failure),
        source_of=f"source.{failure.source}" if of_source else "",
        unreachable=failure.error == "SourceUnavailable",
    )


def _again(pipeline: Pipeline, failure: Failure) -> str:
    """The command that does the failed work again."""
    if failure.stage == "task":
        return f"airflow tasks clear --only-failed --yes {failure.scope[-1].removeprefix('task.')}"
    if failure.stage == _BUILD:
        return "penstock build && penstock publish"
    if failure.stage == "run":
        first, _, end = failure.key.partition("..")
        return f"penstock run --from {first} --to {end}"
    if not failure.source:
        name = failure.table.removeprefix("refined.")
        return f"penstock refine --day {_day(pipeline, failure.key)} --table {name}" if name else "penstock status"
    if failure.error == "SourceSchemaError" or failure.key == "deletes":
        return _drift(failure.source)
    spec = pipeline.source(failure.source)
    if not failure.table or failure.error in _OF_THE_SOURCE:
        first, _, end = failure.key.partition("..")
        first = _day(pipeline, first, spec)
        return f"penstock run --from {first} --to {end or _next(first)} --source {failure.source}"
    table = failure.table.removeprefix(f"raw.{failure.source}__")
    return f"penstock ingest {failure.source} --day {_day(pipeline, failure.key, spec)} --table {table}"


def _day(pipeline: Pipeline, key: str, spec: SourceSpec | None = None) -> str:
    """The day of a key; of a table without days, yesterday."""
    if key and key != WHOLE:
        return key
    today = pipeline.clock().astimezone(zone(spec.time_zone if spec else "UTC")).date()
    end = spec.end_date if spec else None
    return (min(today, end or today) - timedelta(days=1)).isoformat()


def _next(day: str) -> str:
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()


def _drift(source: str) -> str:
    return f"penstock drift {source} --connect"


# -- what came, and is odd ---------------------------------------------------------------------------------------------


def _of_newest(pipeline: Pipeline, spec: SourceSpec, table: TableSpec) -> Iterator[Problem]:
    raw = spec.raw(table.name)
    live = pipeline.lake.live_attempts(raw)
    newest = max(live, default=None)
    receipt = pipeline.lake.find_receipt(raw, newest, live[newest]) if newest else None
    if receipt is None:
        return
    at, keys = (datetime.fromisoformat(receipt.published_at),), (receipt.key,)
    for warning in receipt.warnings:
        if "unusual volume" in warning:
            text = warning.partition("unusual volume: ")[2]
            command = f'penstock query --lake "select count(*) from {raw}"'
            yield Problem("volume", str(raw), "warning", f"{text}.", at, keys, command)
    for finding in receipt.drift:
        if finding["outcome"] in {"evolved", "quarantined", "ignored"}:
            severity: Severity = "info" if finding["outcome"] == "ignored" else "warning"
            words = f"{finding['words']} ({finding['outcome']})."
            yield Problem("drift", str(raw), severity, words, at, keys, _drift(spec.source))


# -- what should be there ----------------------------------------------------------------------------------------------


def _of_days(
    table: str, found: Freshness, promise: Promise, failed: set[tuple[str, str]], source: str = ""
) -> Iterator[Problem]:
    if found.overdue:
        first, last = found.overdue[0], found.overdue[-1]
        reason = f"{last} is not published, and was due at {due_at(last, promise):%Y-%m-%d %H:%M} UTC."
        seen = tuple(due_at(day, promise) for day in found.overdue)
        command = (
            f"penstock run --from {first} --to {_next(last)} --source {source}"
            if source
            else f"penstock backfill run {table} --from {first} --to {_next(last)}"
        )
        yield Problem("freshness", table, "critical", reason, seen, found.overdue, command)
    holes = tuple(day for day in found.holes if (table, day) not in failed)
    if holes:
        reason = f"{len(holes)} days between published ones are not there: {', '.join(holes[:3])}"
        reason += " ..." if len(holes) > 3 else ""
        command = f"penstock backfill run {table} --from {holes[0]} --to {_next(holes[-1])}"
        seen = tuple(due_at(day, promise) for day in holes)
        yield Problem("missing", table, "warning", f"{reason}.", seen, holes, command)


def _promise(spec: SourceSpec, table: TableSpec, max_age_s: int | None = None) -> Promise | None:
    """What a table's spec promises by day; None of a table without days or without a promise.

    Of a table that is replaced as a whole nothing is judged: a read that finds it unchanged leaves no trace.
    """
    own = table.freshness.max_age_s if table.freshness else None
    promised = max_age_s or own
    if promised is None or not table.partitioned:
        return None
    cover = table.coverage
    firsts = [day for day in (spec.start_date, cover.start if cover else None) if day]
    ends = [day for day in (spec.end_date, cover.end if cover else None) if day]
    return Promise(spec.time_zone, promised, max(firsts, default=None), min(ends, default=None))


def _of_models(pipeline: Pipeline, failed: set[tuple[str, str]]) -> Iterator[Problem]:
    """Facts whose model declares ``max_age_s``: the days that the current release holds."""
    declared: Mapping[str, ModelMeta] = model_meta()
    release = Releases(pipeline.settings.warehouse).current()
    if release is None:
        return
    by_raw = {str(spec.raw(table.name)): (spec, table) for spec, table in _tables(pipeline)}
    for name, (fact, _) in FACTS.items():
        max_age_s = declared[fact].max_age_s if fact in declared else None
        sources = [by_raw[raw] for raw in pipeline.refined(name).inputs.values() if raw in by_raw]
        if max_age_s is None or not sources:
            continue
        held: Mapping[str, Any] = release.manifest.get("inputs", {}).get(name, {}).get("attempts", {})
        promises = [promise for spec, table in sources if (promise := _promise(spec, table, max_age_s))]
        for promise in promises[:1]:
            yield from _of_days(fact, judge(held.keys(), promise, pipeline.clock()), promise, failed)


def _tables(pipeline: Pipeline) -> Iterable[tuple[SourceSpec, TableSpec]]:
    found: Sequence[tuple[SourceSpec, TableSpec]] = [
        (spec, table) for spec in pipeline.sources().values() for table in spec.tables
    ]
    return found
