"""Commits whose content depends on what is live: planned in view of it, and planned again when another was faster.

A plan writes its files and receipts before the commit, under attempt ids of its own, so that a commit whose outcome was
unknown can still turn out to have landed. Only what is known not to be live is deleted in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from common.errors import CommitConflict, StateCorrupt
from lake.batches import Receipt
from lake.catalog import LiveFile
from lake.commit import Change, change_partitions
from lake.lake import Lake
from lake.paths import TableId


@dataclass(frozen=True)
class Plan:
    """Files and receipts that are written, and the commit that would make them true.

    Attributes:
        change: the commit.
        receipts: by partition key.
    """

    change: Change
    receipts: dict[str, Receipt] = field(default_factory=dict)


Make = Callable[[Sequence[LiveFile]], Plan | None]
"""Given all live files: the plan, or None if there is nothing to do. It leaves nothing behind when it raises."""


def commit_planned(lake: Lake, table: TableId, make: Make, *, interval: str, given: Sequence[str] = ()) -> Plan | None:
    """Commit what ``make`` plans for the files that are live at that moment.

    Args:
        lake: the lake.
        table: the table.
        make: see :data:`Make`; called again only when other files are live.
        interval: what an error names.
        given: files that were written before and that plans may use.

    Returns:
        The plan that landed; None if there was nothing to do.

    Raises:
        CommitConflict, StateCorrupt, StoreUnavailable: see :func:`lake.commit.change_partitions`.

    Side effects: one commit, or none; files and receipts of plans that are known not to be live are deleted, and so are
    those of ``given`` that the commit did not take.
    """
    plans: list[Plan] = []
    seen: list[frozenset[str]] = []

    def decide(live: Sequence[LiveFile]) -> Change | None:
        locations = frozenset(file.location for file in live)
        if not seen or seen[-1] != locations:
            try:
                plan = make(live)
            except BaseException:
                if not plans:  # of an earlier plan it is not known here whether it has landed
                    lake.delete_files(given)
                raise
            if plan is None:
                return None
            plans.append(plan)
            seen.append(locations)
        return plans[-1].change

    landed: Plan | None = None
    try:
        found = change_partitions(lake.catalog, table, decide, interval=interval)
        landed = next((plan for plan in plans if found and plan.change.attempt == found.attempt), None)
    except (CommitConflict, StateCorrupt):  # of StoreUnavailable it is not known what landed
        _withdraw(lake, table, plans, used=set())
        lake.delete_files(given)
        raise
    used = {location for files in landed.change.files.values() for location in files} if landed else set()
    # Several plans may be of one attempt: whoever was overtaken by work on other partitions plans the same again.
    _withdraw(
        lake, table, [plan for plan in plans if landed is None or plan.change.attempt != landed.change.attempt], used
    )
    lake.delete_files([location for location in given if location not in used])
    return landed


def _withdraw(lake: Lake, table: TableId, plans: Sequence[Plan], used: set[str]) -> None:
    for plan in plans:
        lake.delete_files(
            [location for files in plan.change.files.values() for location in files if location not in used]
        )
        for key, receipt in plan.receipts.items():
            lake.delete_receipt(table, key, receipt.attempt)
