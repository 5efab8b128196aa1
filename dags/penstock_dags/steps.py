"""The only calls from the DAGs into the pipeline. Tasks hand over references and receipts (small JSON), never rows.

Everything heavy is imported here, inside the functions, when a task runs: parsing a DAG stays cheap, and where the
executor has loaded those modules before it forked (``executor.py``) the import costs nothing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from common.errors import CommitConflict, DataRejected, PenstockError, UnknownName
from dags.penstock_dags.accounted import accounted
from dags.penstock_dags.lineage_ids import provider_namespace, task_parent

if TYPE_CHECKING:
    from ingestion.reader import SourceReader
    from lake.batches import Receipt
    from penstock.lineage_events import Parent
    from penstock.pipeline import Pipeline
    from warehouse.releases import Release

_COUNTS = ("published", "quarantined", "deduplicated")

log = logging.getLogger(__name__)


def give_way() -> None:
    """Let the processes of live runs go first on this machine; a pool bounds how many run, not who gets the processor.

    Side effects: the rest of this task's process, which ends with the task, has a lower priority.
    """
    os.nice(10)


@accounted
def ingest(
    source: str, table: str, key: str, *, connection: str, late: bool = False, held: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Load one table of one source for one partition key; its receipt, and which snapshot of the source was read.

    With ``late``, earlier keys that are published and may still change by the spec's late window are read again too;
    those that did not change cost one read and no commit. With ``held``, a snapshot that another task holds is read.

    Keys are compared for deletions in a snapshot of their own, which must be newer than what the lake holds.
    """
    from penstock.held_snapshot import HeldSnapshot, moment_of_reader

    pipeline, shared = pipeline_for({connection}), HeldSnapshot.from_dict(held) if held else None
    with _refusals_recorded(pipeline), pipeline.reading(source, key, held=shared) as reader:
        moment = moment_of_reader(reader)
        receipt = pipeline.ingest(source, table, key, reader=reader)
        for earlier in pipeline.late_keys(source, table, key) if late else ():
            again = pipeline.ingest(source, table, earlier, reader=reader)
            log.info("late rows: %s of %s is %s", earlier, again.table, again.state)
        if late:
            _take_in_late_rows(pipeline, source, table, key, reader)
        _reconcile_source(pipeline, source, table, receipt, reader)
    if late and pipeline.source(source).table(table).rewrites_others:
        _reconcile_deletes(pipeline, source, table)
    pipeline.sync_history(source, table)
    for warning in receipt.warnings:
        log.warning("%s %s: %s", receipt.table, key, warning)
    if not moment:
        return _reference(receipt)
    if receipt.state == "published":  # perhaps anew: another run was faster
        moment = receipt.source_state.get("snapshot", moment)
    log.info("%s %s: read at snapshot %s of %s", receipt.table, key, moment, source)
    return {**_reference(receipt), "snapshot": moment}


@contextmanager
def _refusals_recorded(pipeline: Pipeline) -> Iterator[None]:
    """A refused batch ends its run, so that no build comes behind it to record what was judged."""
    try:
        yield
    except DataRejected:
        _record(pipeline)
        raise


def _record(pipeline: Pipeline) -> None:
    from penstock.records import record

    record(pipeline)


def _write_pages(pipeline: Pipeline) -> None:
    from penstock.quality_pages import try_to_write_pages

    notices: list[str] = []
    log.info("quality pages: %s", try_to_write_pages(pipeline, notices))
    for notice in notices:
        log.warning("%s", notice)


def _take_in_late_rows(pipeline: Pipeline, source: str, table: str, key: str, reader: SourceReader) -> None:
    """Count rows that came later than the late window and, where the spec says so, read their days again."""
    found = pipeline.late_rows(source, table, reader, [key])
    for warning in found.warnings:
        log.warning("%s", warning)
    if pipeline.source(source).table(table).late.beyond == "reopen":
        for day in found.beyond:
            log.info("reopened: %s is %s", day, pipeline.ingest(source, table, day, reader=reader).state)


def _reconcile_source(pipeline: Pipeline, source: str, table: str, receipt: Receipt, reader: SourceReader) -> None:
    """Compare the interval with its source, in the snapshot it was read in; a difference fails the task."""
    from penstock.reconcile import require_equal, with_source

    if receipt.state == "outside coverage":
        return
    spec = pipeline.source(source)
    described = spec.table(table)
    seen = frozenset({receipt.attempt})
    with pipeline.failures.noting("reconcile", source=source, table=spec.raw(table), key=receipt.key):
        lines = with_source(pipeline, spec, described, [receipt.key], reader, columns=described.partitioned, seen=seen)
        for line in lines:
            found = "equal" if line.is_equal else "DIFFERENT"
            log.info("reconciled: %s and %s, %s: %s", line.left, line.right, line.interval, found)
        require_equal(lines)


def _reconcile_deletes(pipeline: Pipeline, source: str, table: str) -> None:
    if pipeline.source(source).table(table).keeps_deleted:
        found = pipeline.reconcile_deletes(source, table)
        for warning in found.warnings:
            log.warning("%s: %s", found.table, warning)
        log.info("deletes: %d rows of %s marked", found.marked, found.table)


def changes_refined(receipts: Sequence[Mapping[str, Any]], key: str | None) -> bool:
    """Whether a refined table that is made from one of the raw tables that changed has the key already."""
    from lake.paths import TableId

    raw = {receipt["table"] for receipt in receipts if receipt["state"] == "published"}
    if key is None or not raw:
        return False
    pipeline = pipeline_for(set())
    return any(
        key in pipeline.lake.live_attempts(TableId("refined", name), key)
        for name, table in pipeline.refined_tables().items()
        if raw & set(table.inputs.values())
    )


@accounted
def refine(key: str) -> list[dict[str, Any]]:
    """Refine every table for one partition key, and earlier keys whose raw rows changed late; the receipts.

    One table's failure does not keep the others from being published: all are tried, then the first error is raised
    with the others as notes, one that cannot heal before one that may.
    """
    from lake.paths import WHOLE, TableId
    from penstock.reconcile import in_lake, require_equal
    from transformations.refine import REFINED

    pipeline, receipts, errors = pipeline_for(set()), [], []
    for table, refined in REFINED.items():
        try:
            for each in [*pipeline.stale_keys(table, key), key]:
                receipt = pipeline.refine(table, each)
                if receipt is not None:
                    receipts.append(_reference(receipt))
            own = key if refined.partitioned else WHOLE
            with pipeline.failures.noting("reconcile", table=TableId("refined", table), key=own):
                require_equal(in_lake(pipeline, table, [own], columns=refined.partitioned))
        except PenstockError as error:
            log.error("refining %s for %s failed: %s", table, key, error)  # noqa: TRY400 - raised below
            errors.append(error)
    if errors:
        _record(pipeline)
        first, *others = sorted(errors, key=lambda error: error.retryable)
        for other in others:
            first.add_note(f"also: {other}")
        raise first
    return receipts


@accounted
def build() -> str | None:
    """Build a candidate from everything that changed since the last release; its id, or None: nothing changed."""
    candidate = pipeline_for(set()).build()
    if candidate is None:
        return None
    for model in _models(candidate.manifest):
        log.info("%(name)s: %(status)s, %(rows)s rows, %(seconds).2f s", model)
    return candidate.id


@accounted
def publish(candidate_id: str) -> dict[str, Any]:
    """Make a candidate the current release; a reference to the release.

    A candidate may be gone or outdated: another run has built since, or this is a second attempt after the first was
    killed behind the pointer's move. Whatever is still missing from the current release is then built and published
    here; if nothing is, somebody has done this run's work, and that is success.
    """
    pipeline = pipeline_for(set())
    release: Release | None
    try:
        release = pipeline.publish(candidate_id)
    except (CommitConflict, UnknownName) as error:
        log.warning("candidate %s cannot be published any more (%s): building what is missing", candidate_id, error)
        release = pipeline.build_and_publish()
    _record(pipeline)
    _write_pages(pipeline)
    _reconcile_release(pipeline)
    if release is None:
        return {"candidate": candidate_id, "release": None, "models": []}
    return {"candidate": candidate_id, "release": release.id, "models": _models(release.manifest)}


def watch(dag_id: str, run_id: str, states: Mapping[str, str]) -> None:
    """Bring incidents in step at the end of a run; it fails nothing.

    Args:
        dag_id: the DAG.
        run_id: its run.
        states: by task, with its map index, the state it ended in. One that failed and left no word in the lake was
            killed, ran out of memory or of time.
    """
    from penstock.incidents import note_deaths, try_to_sync

    pipeline = pipeline_for(set())
    note_deaths(pipeline, dag_id, run_id, [task for task, state in states.items() if state == "failed"])
    for notice in try_to_sync(pipeline):
        log.warning("%s", notice)


def check_incidents() -> None:
    """Look now, whether anything runs or not: what never came is noticed, what waited for the morning is told."""
    from penstock.incidents import sync

    pipeline = pipeline_for(set())
    _record(pipeline)
    found = sync(pipeline)
    log.info(
        "opened %s, resolved %s, %d open, %d messages", found.opened, found.resolved, len(found.open), found.messages
    )
    for each in found.undelivered:
        log.warning("not delivered: %s", each)


def _models(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What became of each model of a build: its status, rows and seconds."""
    nodes = manifest.get("models", {}).get("nodes", ())
    return [
        {name: node[name] for name in ("name", "status", "rows", "seconds")}
        for node in nodes
        if node["kind"] == "model"
    ]


def _reconcile_release(pipeline: Pipeline) -> None:
    """Compare some intervals of the release with the lake; a difference fails the task."""
    from lake.paths import TableId
    from penstock.facts import FACTS
    from penstock.reconcile import SAMPLE, in_lake, require_equal, sampled

    for name in FACTS:
        refined = TableId("refined", name)
        keys = list(pipeline.lake.live_attempts(refined))
        with pipeline.failures.noting("reconcile", table=refined):
            require_equal(in_lake(pipeline, name, sampled(keys, SAMPLE, pipeline.run_id)))


def _reference(receipt: Receipt) -> dict[str, Any]:
    """The part of a receipt that travels between tasks: which batch it was and its row account."""
    names = ("table", "stage", "key", "batch_id", "state", "rows_in", *_COUNTS)
    return {name: getattr(receipt, name) for name in names}


def pipeline_for(connections: set[str]) -> Pipeline:
    """A pipeline with the settings of this process and, of these connections, those that Airflow knows."""
    from common.settings import Settings
    from dags.penstock_dags.connections import airflow_connections
    from penstock.pipeline import Pipeline

    settings = Settings.load()
    if "://" in settings.lake_uri:
        connections = connections | {settings.lake_connection}
    found = airflow_connections(connections)
    return Pipeline(Settings.load(connections=found) if found else settings, parent=_this_task())


def _this_task() -> Parent:
    """This task of Airflow, under its own names, as what lineage events call their parent."""
    from airflow.sdk import get_current_context

    context = get_current_context()
    return task_parent(context["ti"], context["dag_run"], provider_namespace())
