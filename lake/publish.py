"""The only door into the lake: publish a staged batch as its verdict says, by one commit.

::

    verdict not PASS   -> refused: the verdict is kept for people, the files are deleted, nothing is visible
                          (unless a person answers for it: ``Verdict.accept``)
    same batch is live -> unchanged: the files are deleted
    otherwise          -> good rows, receipt and quarantined rows are written; then ONE commit makes all of it true
                          (of the partition, and of others from which newer versions take rows: ``lake/merge.py``)

Quarantined rows are committed to their own table first, but count only while the attempt they name is live; so a crash
between the two commits shows neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from common.errors import GateRefused
from common.fault_points import reach
from common.hashing import digest
from common.verdict import Verdict
from lake.batches import Receipt, StagedBatch, unaccounted
from lake.lake import Lake, checksum_of
from lake.merge import Merge
from lake.paths import engine_path, new_attempt
from lake.proof import proof_of
from lake.quarantine import commit_quarantine, quarantine_rows
from lake.schema import Column
from lake.sql import identifier, literal, parquet_relation
from lake.together import Prepared, Together, commit_prepared, overtaken_error
from lake.verdicts import keep_validation, record_refused_verdict, recorded, withdraw_validation


@dataclass(frozen=True)
class Identity:
    """What a staged batch is.

    Attributes:
        checksum: of its rows, and of those that were set apart before.
        batch_id: the id that the same work always has.
        rows: how many there are.
        staged_checksum: of its rows alone.
    """

    checksum: str
    batch_id: str
    rows: int
    staged_checksum: str = ""


def identify(lake: Lake, staged: StagedBatch) -> Identity:
    """Read a staged batch once and name its content."""
    columns, field_ids = lake.columns(staged.table)
    relation = parquet_relation([engine_path(file) for file in staged.files], columns, field_ids)
    with lake.connect(rows=staged.rows_staged) as connection:
        checksum = staged_checksum = checksum_of(connection, relation)
    rows = int(checksum.split(":", 1)[0])
    if staged.early_rejected:
        checksum = digest(checksum, sorted(staged.early_rejects.column("row").to_pylist()))
    account = [staged.rows_in, staged.deduplicated]
    objects = staged.source_state.get("objects")
    # Drift that changes no row is a change all the same: only a new receipt records it.
    drift = [staged.drift] if staged.drift else []
    batch_id = digest(str(staged.table), staged.key, checksum, account, objects, staged.code, *drift)
    return Identity(checksum, batch_id, rows, staged_checksum)


def find_same(lake: Lake, staged: StagedBatch, identity: Identity) -> Receipt | None:
    """The receipt of the live batch if it is the same work; a batch that was judged before need not be judged again.

    Side effects: then the staged files are deleted. If the same rows came of other batches than before, the live
    receipt says so from now on; else they would count as outdated for ever.
    """
    live = lake.receipt(staged.table, staged.key)
    if live is None or live.came_as != identity.batch_id:
        return None
    lake.discard(staged)
    if live.upstream != staged.upstream:
        live = replace(live, upstream=staged.upstream)
        lake.write_receipt(staged.table, live)
    return live.found_unchanged(warnings=staged.warnings)


def publish(
    lake: Lake,
    staged: StagedBatch,
    verdict: Verdict,
    *,
    identity: Identity,
    stage: str,
    run_id: str,
    seconds: dict[str, float] | None = None,
    together: Together | None = None,
) -> Receipt:
    """Publish a staged batch as its verdict says, by one commit.

    Args:
        lake: where to.
        staged: the batch.
        verdict: the gate's judgement of exactly these files.
        identity: from :func:`identify`.
        stage: ``ingest`` or ``refine``, for the receipt.
        run_id: the run, for the receipt.
        seconds: time each step took so far, for the receipt.
        together: batches it may share its commit with; its own by default. A batch that is merged by key shares none.

    Returns:
        The receipt; ``state`` is ``unchanged`` if the same batch is live already. It is true when ``together`` has
        committed.

    Raises:
        GateRefused: the verdict is not PASS, or the row account does not add up; nothing is published.
        Overtaken: another run has published the partition since the batch began to be read. A batch of ``together`` is
            then among those of :meth:`lake.together.Together.take_overtaken`.
        CommitConflict, StateCorrupt, StoreUnavailable: see :func:`lake.together.commit_prepared`.

    Side effects: the partition is replaced - or, by its merge rule, merged with what is live - or nothing is; files
    that are known not to be live are deleted.
    """
    if not verdict.publishable:
        raise _refused(lake, staged, verdict, run_id)
    published = staged
    record = recorded(verdict, staged.table, staged.key, staged.attempt)
    try:
        with lake.connect(rows=staged.rows_staged) as connection:
            published, rows = _without_rejects(connection, lake, staged, verdict, identity)
            receipt = Receipt(
                table=str(staged.table),
                key=staged.key,
                stage=stage,
                attempt=published.attempt,
                batch_id=identity.batch_id,
                run_id=run_id,
                rows_in=staged.rows_in,
                published=rows,
                quarantined=verdict.rows_rejected + staged.early_rejected,
                deduplicated=staged.deduplicated,
                checksum=identity.checksum,
                code=staged.code,
                source_state=staged.source_state,
                upstream=staged.upstream,
                verdict=record,
                published_at=lake.clock().isoformat(),
                seconds=seconds or {},
                warnings=staged.warnings,
                drift=staged.drift,
                proof=_proof(connection, lake, published, staged, identity),
            )
            if receipt.quarantined and (before := lake.receipt(staged.table, staged.key)) is not None:
                receipt = replace(receipt, repairs=before.repairs)
            _check_account(receipt, identity, staged, verdict)
            reach("lake.stage.before_receipt")
            keep_validation(lake, verdict, record)
            if receipt.quarantined and staged.merge is None:
                _commit_quarantine(connection, lake, staged, verdict, receipt)
        if staged.merge is None:
            lake.write_receipt(published.table, receipt)
            reach("lake.stage.after_receipt")
    except BaseException:  # nothing of this batch is live yet
        lake.discard(published)
        lake.discard(staged)
        withdraw_validation(lake, record)
        raise
    if staged.merge is not None:
        return _merge(lake, staged, published, verdict, receipt)
    if published.files != staged.files:
        lake.discard(staged)
    prepared = Prepared(published, receipt)
    if together is not None:
        together.add(prepared)
        return receipt
    landed, overtaken = commit_prepared(lake, [prepared])
    if overtaken:
        raise overtaken_error(receipt)
    return landed[0]


def _proof(
    connection: duckdb.DuckDBPyConnection, lake: Lake, published: StagedBatch, staged: StagedBatch, identity: Identity
) -> str:
    """How the rows of these files are recognised later; none where they will be merged with others."""
    if staged.merge is not None:
        return ""
    checksum = identity.staged_checksum
    if published.files != staged.files:
        columns, field_ids = lake.columns(published.table)
        relation = parquet_relation([engine_path(file) for file in published.files], columns, field_ids)
        checksum = checksum_of(connection, relation)
    return proof_of(published.attempt, checksum)


def _merge(lake: Lake, staged: StagedBatch, published: StagedBatch, verdict: Verdict, receipt: Receipt) -> Receipt:
    """Publish a batch that is merged by key. Rejected rows are committed by each plan, under its own attempt."""
    with lake.connect() as connection:

        def quarantine(planned: Receipt) -> None:
            _commit_quarantine(connection, lake, staged, verdict, planned)

        landed = Merge(connection, lake, published, receipt, quarantine).commit()
    if published.files != staged.files:
        lake.discard(staged)
    return landed or receipt.found_unchanged()


def _refused(lake: Lake, staged: StagedBatch, verdict: Verdict, run_id: str) -> GateRefused:
    """Keep the verdict of a refused batch where people can read it, and delete the batch."""
    lake.discard(staged)
    account = record_refused_verdict(
        lake, staged.table, staged.key, run_id, verdict, attempt=staged.attempt, rows_in=staged.rows_in
    )
    return GateRefused(
        f"The gate refused the batch: {'; '.join(verdict.reasons)}.",
        table=str(staged.table),
        interval=staged.key,
        remedy="correct the data or the suite, then run the interval again; nothing was published. "
        "Who can answer for it publishes it with --accept-refusal REASON --by NAME. "
        f"The whole verdict: {account}",
    )


def _commit_quarantine(
    connection: duckdb.DuckDBPyConnection, lake: Lake, staged: StagedBatch, verdict: Verdict, receipt: Receipt
) -> None:
    """Add this attempt's rejected rows before its data is committed (:func:`lake.quarantine.commit_quarantine`)."""
    columns, _ = lake.columns(staged.table)
    rows = quarantine_rows(
        connection,
        rejected_relation(verdict, columns) or _numbered(connection, lake, staged),
        columns,
        verdict=verdict,
        early_rejects=staged.early_rejects,
        receipt=receipt,
        quarantined_at=lake.clock(),
    )
    commit_quarantine(connection, lake, staged.table, receipt, f"({rows})")


def rejected_relation(verdict: Verdict, columns: Sequence[Column]) -> str:
    """A relation over the rejected rows as the gate has kept them, if it has; else empty.

    Args:
        verdict: of the gate's last audit.
        columns: the table's.
    """
    if not verdict.rejected_rows or not Path(verdict.rejected_rows).exists():
        return ""
    typed = ", ".join(f"CAST({identifier(c.name)} AS {c.duckdb}) AS {identifier(c.name)}" for c in columns)
    return f"(SELECT file_row_number, {typed} FROM read_parquet({literal(verdict.rejected_rows)}))"


def _without_rejects(
    connection: duckdb.DuckDBPyConnection, lake: Lake, staged: StagedBatch, verdict: Verdict, identity: Identity
) -> tuple[StagedBatch, int]:
    """The batch with only its good rows, and their number: the staged files themselves if nothing was rejected."""
    if not verdict.rows_rejected:
        return staged, identity.rows
    attempt = new_attempt()
    location = lake.staging_location(staged.table, staged.key, attempt)
    connection.register("rejected", verdict.rejects.select(["row_number"]))
    try:
        rows = lake.write(
            connection,
            f"SELECT staged.* FROM {_numbered(connection, lake, staged)} AS staged "
            "ANTI JOIN rejected ON staged.file_row_number = rejected.row_number",
            staged.table,
            location,
        )
    except BaseException:
        lake.storage.delete(location)
        raise
    finally:
        connection.unregister("rejected")
    return replace(staged, attempt=attempt, files=(location,)), rows


def _numbered(connection: duckdb.DuckDBPyConnection, lake: Lake, staged: StagedBatch) -> str:
    """The staged rows; ``file_row_number`` runs on over all files in their order, as in a verdict's rejects."""
    columns, field_ids = lake.columns(staged.table)
    parts, before = [], 0
    for file in staged.files:
        relation = parquet_relation([engine_path(file)], columns, field_ids, row_number=True)
        parts.append(f"SELECT * REPLACE (file_row_number + {before} AS file_row_number) FROM {relation}")
        if len(staged.files) > 1:
            before += _count(connection, f"SELECT count(*) FROM {relation}")
    return f"({' UNION ALL '.join(parts)})"


def _count(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


def _check_account(receipt: Receipt, identity: Identity, staged: StagedBatch, verdict: Verdict) -> None:
    if identity.rows != staged.rows_staged:
        raise unaccounted(receipt, f"{identity.rows} rows are staged, {staged.rows_staged} were announced")
    if verdict.rows_checked != identity.rows:
        raise unaccounted(receipt, f"{identity.rows} rows are staged, the gate read {verdict.rows_checked}")
    if not receipt.balanced:
        raise unaccounted(receipt)
