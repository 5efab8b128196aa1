"""What was made from replayed intervals, made again: refined where it is outdated, and one release."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lake.batches import Receipt
from lake.paths import TableId
from penstock.pipeline import Pipeline
from penstock.replay import ReplayReport


@dataclass
class Refreshed:
    """What was made again.

    Attributes:
        receipts: refined intervals, those among them that turned out to be up to date left out.
        release: id of the release; None if nothing in it would have changed.
    """

    receipts: list[Receipt] = field(default_factory=list)
    release: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {"refined": [f"{each.table} {each.key}" for each in self.receipts], "release": self.release}


def outdated(pipeline: Pipeline, report: ReplayReport) -> list[tuple[str, str]]:
    """Refined tables and intervals that were made from the intervals of a replay."""
    keys = [receipt.key for receipt in report.receipts]
    found = []
    for name, refined in pipeline.refined_tables().items():
        if report.table in refined.reference_inputs.values():
            found += [(name, receipt.key) for receipt in pipeline.lake.receipts(TableId("refined", name))]
        elif report.table in refined.inputs.values():
            found += [(name, key) for key in keys]
    return list(dict.fromkeys(found))


def refresh(pipeline: Pipeline, report: ReplayReport) -> Refreshed:
    """Refine what is outdated, build and publish one release.

    Raises:
        See ``common/errors.py``; what was published before it stays.
    """
    made = Refreshed()
    for name, key in outdated(pipeline, report):
        receipt = pipeline.refine(name, key)
        if receipt is not None and receipt.state == "published":
            made.receipts.append(receipt)
    release = pipeline.build_and_publish()
    made.release = release.id if release else None
    return made
