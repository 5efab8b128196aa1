"""Rows that waited in quarantine, judged again and published where they belong; or discarded, with a reason.

::

    live rows of the interval ─┐
                               ├─▶ the interval's suite ─▶ those that pass are published with the live rows,
    chosen rows, as repaired ──┘                           the others stay, with their new reasons: ONE commit

The interval is judged whole, so uniqueness and rules on the batch hold. Where a repaired row breaks one together with a
live row, the live row stays and the repaired one waits on. What was repaired is recorded (``lake/rework.py``): when the
source brings exactly the same row again and the gate rejects it again, its repair is applied again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from common.errors import GateRefused
from lake.batches import Receipt
from lake.lake import Lake
from lake.paths import TableId, repair_folder
from lake.quarantine import Chosen, quarantined
from lake.rework import records
from penstock.repair_rows import Texts
from penstock.replay_interval import Decisions, Outcome, decide, declare

if TYPE_CHECKING:
    from penstock.pipeline import Pipeline


_LOG = logging.getLogger(__name__)


@dataclass
class ReplayReport:
    """What a replay or a discard did.

    Attributes:
        table: the lake table.
        outcomes: one per row that was asked for.
        receipts: of the intervals that were changed.
    """

    table: str
    outcomes: list[Outcome] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)

    def add(self, decided: tuple[Receipt | None, list[Outcome]]) -> None:
        """Take what was done to one interval into the report."""
        receipt, outcomes = decided
        self.outcomes += outcomes
        self.receipts += [receipt] if receipt else []

    def count(self, outcome: str) -> int:
        """Rows with that outcome."""
        return sum(each.outcome == outcome for each in self.outcomes)

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        names = ("key", "attempt", "rows_in", "published", "quarantined", "discarded", "replayed", "deduplicated")
        return {
            "table": self.table,
            "rows": [asdict(outcome) for outcome in self.outcomes],
            "intervals": [{name: getattr(receipt, name) for name in names} for receipt in self.receipts],
        }


def replay(
    pipeline: Pipeline,
    table: TableId,
    chosen: Chosen,
    *,
    repaired: Mapping[str, Texts] | None = None,
    by: str,
    reason: str = "",
) -> ReplayReport:
    """Judge waiting rows again and publish those that pass.

    Args:
        pipeline: the stages.
        table: a raw or refined table.
        chosen: which rows.
        repaired: the rows' new values by id: only these rows are tried. None: all chosen ones, as they came.
        by: who repaired them.
        reason: why they are right now.

    Raises:
        GateRefused: the live rows themselves break the suite that is there now, or the account does not add up.
        CommitConflict: other runs kept changing the interval.
        See ``common/errors.py``; whatever it is, the lake is as it was.

    Side effects: one commit per interval in which a row passed or got other reasons.
    """
    declare(pipeline, table)
    report = ReplayReport(str(table))
    if repaired is None and table.namespace == "refined":
        _refine_again(pipeline, table, chosen, report)
    ids = None if repaired is None else list(repaired)
    found = quarantined(pipeline.lake, table, chosen=replace(chosen, ids=ids) if ids is not None else chosen)
    by_key: dict[str, dict[str, Texts | None]] = {}
    for row in found.select(["row_id", "partition_key"]).to_pylist():
        values = None if repaired is None else repaired[row["row_id"]]
        by_key.setdefault(row["partition_key"], {})[row["row_id"]] = values
    for key, rows in by_key.items():
        report.add(decide(pipeline, table, key, Decisions(rows, frozenset(), by, reason)))
    seen = {outcome.row_id for outcome in report.outcomes}
    gone = "it was replayed or discarded already, or the interval has been published anew"
    report.outcomes += [Outcome(row, "", "not waiting", reason=gone) for row in ids or () if row not in seen]
    return report


def discard(pipeline: Pipeline, table: TableId, chosen: Chosen, *, by: str, reason: str) -> ReplayReport:
    """Say of waiting rows that nobody needs them. They stay readable and no longer wait.

    Raises:
        See :func:`replay`.

    Side effects: one commit per interval.
    """
    declare(pipeline, table)
    report = ReplayReport(str(table))
    by_key: dict[str, set[str]] = {}
    for row in quarantined(pipeline.lake, table, chosen=chosen).select(["row_id", "partition_key"]).to_pylist():
        by_key.setdefault(row["partition_key"], set()).add(row["row_id"])
    for key, ids in by_key.items():
        report.add(decide(pipeline, table, key, Decisions({}, frozenset(ids), by, reason)))
    return report


def reapply(pipeline: Pipeline, table: TableId, receipt: Receipt) -> Receipt:
    """Apply recorded repairs to rows that came again exactly as they were; the receipt that is live then.

    Where the gate refuses that, the rows wait on and the receipt says so in a warning.

    Raises:
        CommitConflict, StateCorrupt, StoreUnavailable: see :func:`lake.rework.publish_rework`.
    """
    if not (receipt.repairs and receipt.waiting):
        return receipt
    last = {row.row_id: (row, record) for record in records(pipeline.lake, table, receipt) for row in record.rows}
    waiting = quarantined(pipeline.lake, table, receipt.key, chosen=Chosen(ids=list(last)))
    again = [last[row["row_id"]] for row in waiting.to_pylist()]
    if not again:
        return receipt
    decisions = Decisions(
        {row.row_id: row.values for row, _ in again if row.action == "replay"},
        frozenset(row.row_id for row, _ in again if row.action == "discard"),
        ", ".join(sorted({record.by for _, record in again})),
        "again: " + "; ".join(sorted({record.reason.removeprefix("again: ") for _, record in again})),
    )
    try:
        return decide(pipeline, table, receipt.key, decisions)[0] or receipt
    except GateRefused as error:  # the batch itself is published: its repairs wait for somebody to look
        warning = f"recorded repairs could not be applied again: {error}"
        _LOG.warning("%s %s: %s", table, receipt.key, warning)
        return replace(receipt, warnings=(*receipt.warnings, warning))


def history(lake: Lake, table: TableId) -> list[dict[str, Any]]:
    """Every record of repairs, oldest first; ``in_force`` if the interval's live batch knows of it."""
    known = {attempt: n for receipt in lake.receipts(table) for n, attempt in enumerate(receipt.repairs)}
    folder = repair_folder(lake.settings.lake_uri, table)
    found = [lake.storage.read_json(location) for location in lake.storage.list_files(folder)]
    found.sort(key=lambda record: (str(record["at"]), known.get(record["attempt"], -1)))
    names = ("table", "key", "at", "by", "reason", "run_id", "rows")
    return [
        {name: record[name] for name in names}
        | {
            "replayed": sum(row["action"] == "replay" for row in record["rows"]),
            "discarded": sum(row["action"] == "discard" for row in record["rows"]),
            "in_force": record["attempt"] in known,
        }
        for record in found
    ]


def _refine_again(pipeline: Pipeline, table: TableId, chosen: Chosen, report: ReplayReport) -> None:
    """Refine the intervals of waiting rows again: a changed refiner or suite may let them pass."""
    found: dict[str, set[str]] = {}
    for row in quarantined(pipeline.lake, table, chosen=chosen).to_pylist():
        found.setdefault(row["partition_key"], set()).add(row["row_id"])
    for key, before in sorted(found.items()):
        receipt = pipeline.refine(table.name, key)
        if receipt is None or receipt.state != "published":
            continue
        report.receipts.append(receipt)
        still = {row["row_id"] for row in quarantined(pipeline.lake, table, key).to_pylist()}
        report.outcomes += [
            Outcome(row, key, "published", reason="refined again by another function or suite")
            for row in sorted(before - still)
        ]
