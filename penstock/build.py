"""Build and publish a warehouse version: pin the lake, run the models, audit, seal, move the pointer.

What changed since the last release is read off two facts: the attempts whose files are live in the refined tables
now, and those in the last release's manifest. So a build covers late data, backfills and
repaired intervals alike, a build with nothing to do does nothing, and several runs that ask for one at once cost one.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import penstock
from common.errors import CommitConflict, GateRefused
from common.fault_points import reach
from common.hashing import digest
from common.interrupts import raise_if_noted
from lake.engine import open_database, prepare_statements
from lake.lake import PinnedTable
from lake.ops import OPS_TABLES, ops_relation
from lake.paths import WHOLE, TableId, new_attempt
from lake.proof import prove
from lake.schema import OPS, PARTITION_COLUMN
from lake.sql import identifier, literal
from lake.verdicts import record_refused_verdict
from penstock.costs import share_out
from penstock.doors import bring_in_step, marked_for_bi
from penstock.facts import FACTS
from penstock.lineage_told import models_made_of
from penstock.records import record
from penstock.suites import warehouse_suites
from transformations.dbt_runner import LakeTableFiles, project_digest, run_dbt
from warehouse.inspect import describe_tables
from warehouse.lease import Lease, lease
from warehouse.metrics_layer import compile_metrics
from warehouse.releases import Candidate, Release, Releases

if TYPE_CHECKING:
    from penstock.pipeline import Pipeline

_LOG = logging.getLogger(__name__)

LEASE_WAIT_S = 1800.0
"""How long a build waits for another one: longer than any build, so that queued runs need no retries."""

WAREHOUSE = ("warehouse", "warehouse", "")
"""Stage, table and interval under which the work on a release is told of."""


def pin_lake(pipeline: Pipeline) -> dict[str, PinnedTable]:
    """The refined tables as they are now."""
    pins = {}
    for name, refined in pipeline.refined_tables().items():
        table = TableId("refined", name)
        pipeline.lake.ensure(table, refined.columns, partition_by=PARTITION_COLUMN if refined.partitioned else None)
        pins[name] = pipeline.lake.pin(table)
    return pins


def changed_keys(pins: Mapping[str, PinnedTable], before: Mapping[str, Any]) -> dict[str, list[str] | None]:
    """For each refined table the partition keys whose files differ from the last release's; None means the whole.

    Args:
        pins: the tables now.
        before: ``inputs`` of the last release's manifest; empty if there is none.
    """
    changed: dict[str, list[str] | None] = {}
    for name, pin in pins.items():
        old = before.get(name, {}).get("attempts", {})
        keys = sorted(key for key in old.keys() | pin.attempts.keys() if old.get(key) != pin.attempts.get(key))
        if keys:
            changed[name] = None if keys == [WHOLE] else keys
    return changed


def models_code() -> str:
    """Digest of everything that decides how refined rows become warehouse tables."""
    return digest(penstock.__version__, project_digest())


def build(pipeline: Pipeline, *, full_refresh: bool = False) -> Candidate | None:
    """Build, audit and seal a candidate.

    Returns:
        The candidate; None if the current release already holds exactly this.

    Raises:
        LeaseHeld, BuildFailed, GateRefused: the current release is untouched, the candidate is removed.
        StateCorrupt: refined rows are not those that were published (``lake/proof.py``).
        CommitConflict: the same; somebody has taken the lease since.
    """
    with lease(pipeline.settings.warehouse, wait_s=LEASE_WAIT_S) as held, pipeline.work.batch(*WAREHOUSE):
        return _build(pipeline, held, full_refresh=full_refresh)


def _build(pipeline: Pipeline, held: Lease, *, full_refresh: bool) -> Candidate | None:
    releases = Releases(pipeline.settings.warehouse, held)
    current = releases.current()
    before: Mapping[str, Any] = current.manifest if current else {}
    pins = pin_lake(pipeline)
    code = models_code()
    anew = full_refresh or current is None or before.get("code") != code
    changed = changed_keys(pins, {} if anew else before.get("inputs", {}))
    if not changed and not anew:
        return None
    for name, keys in changed.items():
        prove(pipeline.lake, TableId("refined", name), keys)
    candidate = releases.new_candidate(from_scratch=anew)
    try:
        manifest = _fill(pipeline, candidate, pins, changed, anew=anew, before=before)
        releases.seal(candidate, {"code": code, **manifest})
    except BaseException as error:
        releases.discard(candidate)
        if isinstance(error, Exception):  # whoever has taken the lease meanwhile has removed the candidate's files
            _require_lease(held, error)
        raise
    return candidate


def _require_lease(held: Lease, error: Exception) -> None:
    """Tell of a lost lease in place of what came of it.

    Args:
        held: the lease.
        error: what came of it.

    Raises:
        CommitConflict: somebody has taken the lease since.
    """
    try:
        with held.fenced():
            pass
    except CommitConflict as lost:
        raise lost from error


def _fill(
    pipeline: Pipeline,
    candidate: Candidate,
    pins: Mapping[str, PinnedTable],
    changed: Mapping[str, list[str] | None],
    *,
    anew: bool,
    before: Mapping[str, Any],
) -> dict[str, Any]:
    lake, settings = pipeline.lake, pipeline.settings
    files = {name: LakeTableFiles(*lake.columns(TableId("refined", name)), pin.paths) for name, pin in pins.items()}
    reach("warehouse.build.before_models")
    with pipeline.work.step("models") as models:
        result = run_dbt(
            candidate.database,
            settings.home / "tmp" / "dbt",
            files,
            changed_keys=changed,
            full_refresh=anew,
            prepare_sql=prepare_statements(settings),
            threads=settings.threads,
            memory_limit_mb=settings.memory_limit_mb,
            parse_cache=settings.home / "tmp" / "dbt_parse_cache",
        )
        share_out(pipeline.work, models, result)
    if result.docs_path is not None:
        (candidate.folder / "docs").mkdir()
        shutil.copyfile(result.docs_path, candidate.folder / "docs" / "index.html")
    reach("warehouse.build.after_models")
    raise_if_noted()
    with pipeline.work.step("gate") as gate:
        verdicts = audit(pipeline, candidate)
    reach("warehouse.gate.after_judge")
    raise_if_noted()
    with pipeline.work.step("record"):
        history = copy_history(pipeline, candidate.database)
    tables = describe_tables(candidate.database, dict(FACTS.values()))
    _check_accounts(pipeline, pins, tables)
    metrics = compile_metrics(result.semantics, candidate.database)
    return {
        "built_at": pipeline.clock().isoformat(),
        "run_id": pipeline.run_id,
        "version": penstock.__version__,
        "inputs": {
            name: {"snapshot_id": pin.snapshot_id, "attempts": dict(pin.attempts)} for name, pin in sorted(pins.items())
        },
        "changed_keys": dict(changed),
        "full_refresh": anew,
        "tables": tables,
        "bi": marked_for_bi(),
        "metrics": metrics,
        "models": result.to_dict(),
        "lineage": before["lineage"]
        if not anew and before.get("lineage")
        else models_made_of(result.manifest_path, pipeline.refined_tables()),
        "verdicts": verdicts,
        "history": history,
        "seconds": {"models": round(models.seconds, 3), "gate": round(gate.seconds, 3)},
    }


def _check_accounts(pipeline: Pipeline, pins: Mapping[str, PinnedTable], tables: Sequence[Mapping[str, Any]]) -> None:
    """Every refined row of every interval must stand in its fact table, once: a gate that cannot be switched off.

    Raises:
        GateRefused: naming the first interval that differs.
    """
    counted = {table["name"]: table["rows_by_key"] for table in tables}
    for name, (fact, _) in FACTS.items():
        for receipt in pipeline.lake.receipts(TableId("refined", name)):
            rows = counted.get(fact, {}).get(receipt.key, 0)
            if pins[name].attempts.get(receipt.key) == receipt.attempt and rows != receipt.published:
                raise GateRefused(
                    f"{fact} holds {rows} rows where the lake has {receipt.published}.",
                    table=fact,
                    interval=receipt.key,
                    remedy="build again with --full-refresh; if it stays so, a model drops or doubles rows",
                )


def copy_history(pipeline: Pipeline, database: Path) -> dict[str, int]:
    """Bring ``ops.*`` of the lake in step and copy them into a candidate; rows by table.

    They are copied whole: a table that is written once a batch stays small, and a release needs no lake to be read. Of
    queries only the newest, and not what was asked: a release is read by more people than the lake.
    """
    record(pipeline)
    counts = {}
    with closing(open_database(pipeline.settings)) as connection:
        connection.execute(f"ATTACH {literal(str(database))} AS warehouse")
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS warehouse.{OPS}")
        for ops in OPS_TABLES:
            name = f"warehouse.{OPS}.{identifier(ops.table.name)}"
            chosen = f"{ops_relation(pipeline.lake, ops)} WHERE {ops.copied}"
            ordered = f"SELECT * EXCLUDE ({', '.join(ops.withheld)}) FROM {chosen} ORDER BY ALL"
            row = connection.execute(f"CREATE OR REPLACE TABLE {name} AS {ordered}").fetchone()
            counts[str(ops.table)] = int(row[0]) if row else 0
            connection.execute(f"COMMENT ON TABLE {name} IS {literal(ops.description)}")
            for column in (each for each in ops.columns if each.name not in ops.withheld):
                comment = f"{name}.{identifier(column.name)} IS {literal(column.description)}"
                connection.execute(f"COMMENT ON COLUMN {comment}")
    return counts


def audit(pipeline: Pipeline, candidate: Candidate) -> dict[str, Any]:
    """Have the gate judge a candidate's tables.

    Returns:
        Each table's verdict, for the manifest; ``validation`` is the file in the candidate's folder that holds Great
        Expectations' own result.

    Raises:
        GateRefused: naming each table that failed and why.
        GateCrashed: a suite is missing, or the gate could not run.

    Side effects: the results are written into the candidate's folder; refused verdicts beside those of lake tables.
    """
    suites = warehouse_suites(pipeline.settings)
    verdicts = pipeline.gate.audit_database(suites, candidate.database)
    for table, verdict in verdicts.items():
        pipeline.work.judged(f"warehouse.{table}", verdict)
    refused = {table: verdict for table, verdict in verdicts.items() if not verdict.passed}
    if refused:
        accounts = [
            record_refused_verdict(
                pipeline.lake,
                TableId("warehouse", table),
                candidate.id,
                pipeline.run_id,
                verdict,
                attempt=new_attempt(),
                rows_in=verdict.rows_checked,
            )
            for table, verdict in refused.items()
        ]
        reasons = "; ".join(f"{table}: {', '.join(verdict.reasons)}" for table, verdict in refused.items())
        raise GateRefused(
            f"The gate refused the candidate warehouse: {reasons}.",
            table=", ".join(refused),
            remedy="correct the models or the suite and build again; the current release is untouched. "
            f"The whole verdicts: {', '.join(accounts)}",
        )
    (candidate.folder / "validations").mkdir()
    recorded = {}
    for table, verdict in verdicts.items():
        reference = f"validations/{table}.json"
        (candidate.folder / reference).write_text(verdict.validation_json)
        recorded[table] = {**verdict.to_dict(), "validation": reference}
    return recorded


def publish(pipeline: Pipeline, candidate_id: str | None = None) -> Release:
    """Publish a sealed candidate (the newest by default) and retire the oldest releases.

    Raises:
        UnknownName: there is no such candidate.
        CommitConflict: another release was published since the candidate was begun.
        LeaseHeld: another build is at work.
    """
    with lease(pipeline.settings.warehouse, wait_s=LEASE_WAIT_S) as held, pipeline.work.batch(*WAREHOUSE):
        releases = Releases(pipeline.settings.warehouse, held)
        return _publish(pipeline, releases, releases.candidate(candidate_id), held)


def build_and_publish(pipeline: Pipeline, *, full_refresh: bool = False) -> Release | None:
    """Build and publish under one lease, so that nobody can build on the same parent in between.

    Returns:
        The new release; None if there was nothing to do.
    """
    with lease(pipeline.settings.warehouse, wait_s=LEASE_WAIT_S) as held, pipeline.work.batch(*WAREHOUSE):
        candidate = _build(pipeline, held, full_refresh=full_refresh)
        if candidate is None:
            return None
        return _publish(pipeline, Releases(pipeline.settings.warehouse, held), candidate, held)


def _publish(pipeline: Pipeline, releases: Releases, candidate: Candidate, held: Lease) -> Release:
    with pipeline.work.step("publish"):
        release = releases.publish(candidate)
        with suppress(CommitConflict):  # it is published; who has the lease now retires the oldest
            releases.retain(pipeline.settings.keep_releases)
        bring_in_step(pipeline.settings, release, held)
    _LOG.info("release %s is current", release.id)
    pipeline.teller.released(release)
    return release
