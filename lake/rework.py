"""A live partition made anew with rows that waited in quarantine: some published, some discarded, by one commit.

::

    live rows + repaired rows ─▶ files of a new attempt ─┐
    rows that stay in quarantine ────────────────────────┼─▶ ONE commit, while the partition is what it was
    receipt + record of who did what, and why ───────────┘

The same rows came in as before, so the account moves rows from *quarantined* to *published* and nothing else; what the
source looked like, and under which id the batch came, stays, so that reading an unchanged source again changes nothing.

Exactly once: whatever is planned holds for the attempt that was live then. If another one is live at the commit - a
second replay, a run - nothing is committed and the caller looks again. A record counts while a live receipt names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from common.errors import CommitConflict, StateCorrupt
from common.fault_points import reach
from common.hashing import digest
from lake.batches import Receipt
from lake.catalog import LiveFile
from lake.commit import Change
from lake.lake import Lake
from lake.paths import TableId, repair_location
from lake.plans import Plan, commit_planned
from lake.quarantine import commit_quarantine

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Repair:
    """What was decided of one quarantined row.

    Attributes:
        row_id: the row.
        action: ``replay`` or ``discard``.
        rules: the rules it had broken.
        values: text of each column as it was repaired; None if the row was taken as it was, or discarded.
    """

    row_id: str
    action: str
    rules: str
    values: dict[str, str | None] | None = None


@dataclass(frozen=True)
class Record:
    """Who decided what of a partition's quarantined rows, when and why; kept under ``ops/repairs``."""

    table: str
    key: str
    attempt: str
    base_attempt: str
    run_id: str
    by: str
    reason: str
    at: str
    rows: tuple[Repair, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {**self.__dict__, "rows": [dict(row.__dict__) for row in self.rows]}


@dataclass(frozen=True)
class Rework:
    """A partition's next attempt.

    Attributes:
        table: the lake table.
        base: receipt of the attempt that is live and that this was planned for.
        seen: locations that must still be live: the partition's files; with ``alone`` all of the table's.
        attempt: id of the new attempt.
        files: its files: all rows that shall live.
        rows: how many rows those are.
        staying: the rows that stay in quarantine, as ``QUARANTINE_COLUMNS``.
        dropped, dropped_marked: live rows that repaired rows take the place of, because they are the same or were
            marked as deleted; and how many of them were marked.
        verdict: the gate's verdict of ``files``; empty where no row was added.
        repairs: what was decided.
        by, reason: who, and why.
        alone: rows may move between partitions, so a key that came elsewhere meanwhile matters too.
    """

    table: TableId
    base: Receipt
    seen: frozenset[str]
    attempt: str
    files: tuple[str, ...]
    rows: int
    staying: pa.Table
    verdict: dict[str, Any]
    repairs: tuple[Repair, ...]
    by: str
    reason: str
    dropped: int = 0
    dropped_marked: int = 0
    alone: bool = False
    seconds: dict[str, float] = field(default_factory=dict)


def publish_rework(lake: Lake, work: Rework, *, run_id: str) -> Receipt:
    """Commit a partition's next attempt.

    Raises:
        GateRefused: the row account does not add up.
        CommitConflict: the partition is not what it was any more; or other writers kept winning.
        StateCorrupt, StoreUnavailable: see :func:`lake.commit.change_partitions`.

    Side effects: one commit that makes rows, receipt, quarantine and record true; or none of it, and the files are
    deleted.
    """
    table, key = work.table, work.base.key
    receipt = _receipt(lake, work, run_id)
    location = repair_location(lake.settings.lake_uri, table, key, work.attempt)
    record = Record(
        str(table),
        key,
        work.attempt,
        work.base.attempt,
        run_id,
        work.by,
        work.reason,
        receipt.published_at,
        work.repairs,
    )
    try:
        reach("lake.rework.before_receipt")
        lake.write_receipt(table, receipt)
        lake.storage.write_json(location, record.to_dict())
        if receipt.quarantined:
            with lake.connect() as connection:
                connection.register("staying", work.staying)
                commit_quarantine(connection, lake, table, receipt, "staying")
    except BaseException:
        lake.delete_files([*work.files, location])
        lake.delete_receipt(table, key, work.attempt)
        raise
    summary = {
        "penstock.batch_id": receipt.batch_id,
        "penstock.partition_key": key,
        "penstock.run_id": run_id,
        "penstock.published": str(receipt.published),
        "penstock.quarantined": str(receipt.quarantined),
        "penstock.replayed": str(receipt.replayed),
    }

    def make(live: Sequence[LiveFile]) -> Plan | None:
        if frozenset(file.location for file in live if work.alone or file.key == key) != work.seen:
            raise CommitConflict("Another run has published the interval meanwhile.", table=str(table), interval=key)
        reach("lake.rework.before_commit")
        return Plan(Change(work.attempt, {key: work.files}, summary), {key: receipt})

    try:
        commit_planned(lake, table, make, interval=key, given=work.files)
    except (CommitConflict, StateCorrupt):  # it did not land; of StoreUnavailable that is not known
        lake.delete_files([location])
        lake.delete_receipt(table, key, work.attempt)
        raise
    return receipt


def _receipt(lake: Lake, work: Rework, run_id: str) -> Receipt:
    base, replayed = work.base, sum(repair.action == "replay" for repair in work.repairs)
    changed = digest(base.batch_id, *sorted((repair.row_id, repair.values) for repair in work.repairs))
    return replace(
        base,
        attempt=work.attempt,
        batch_id=changed if replayed else base.batch_id,  # the same rows live: what was made of them holds
        staged_id=base.came_as,
        run_id=run_id,
        rows_in=base.rows_in - work.dropped,
        published=work.rows,
        quarantined=work.staying.num_rows,
        replayed=min(base.replayed + replayed, work.rows),
        discarded=work.staying.num_rows - work.staying.column("discarded_at").null_count,
        deleted=base.deleted - work.dropped_marked,
        state="published",
        verdict=work.verdict or base.verdict,
        published_at=lake.clock().isoformat(),
        seconds=work.seconds,
        touched=(),
        proof="",
        repairs=(*base.repairs, work.attempt),
    )


def records(lake: Lake, table: TableId, receipt: Receipt) -> list[Record]:
    """The records that a live receipt names, oldest first.

    Raises:
        StateCorrupt: one of them is lost.
    """
    found = []
    for attempt in receipt.repairs:
        fields = lake.storage.read_json(repair_location(lake.settings.lake_uri, table, receipt.key, attempt))
        try:
            found.append(Record(**{**fields, "rows": tuple(Repair(**row) for row in fields["rows"])}))
        except (TypeError, KeyError):
            raise StateCorrupt(f"The record of repair {attempt} cannot be read.", table=str(table)) from None
    return found
