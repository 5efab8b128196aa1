"""Judged batches become true by a commit: one alone, or several of one table by one commit together.

::

    prepared batch: good rows, receipt and quarantined rows are written ─┐
    prepared batch                                                       ├─▶ ONE commit: each is live, or none of it
    prepared batch                                                      ─┘

A commit costs about as much as reading a small interval does, whether it changes one partition or thirty. So a run that
brings in many intervals lets finished ones wait for each other, but only ten seconds' worth of work: what waits is lost
with the process and is read again. Each keeps its own attempt, receipt and verdict, so nobody can tell afterwards how
many shared a commit.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from common.errors import CommitConflict, DiskFull, Overtaken, PenstockError, StateCorrupt
from lake.batches import Receipt, StagedBatch
from lake.catalog import LiveFile
from lake.commit import Change, change_partitions
from lake.lake import Lake
from lake.paths import attempt_of, new_attempt
from lake.verdicts import withdraw_validation

MOST_BATCHES = 32
MOST_ROWS = 500_000
"""Waiting rows after which the cost of a commit is nothing beside that of reading them."""
MOST_S = 10.0
"""Seconds of work that may wait, and seconds after which the next batch lets none wait any longer."""


@dataclass(frozen=True)
class Prepared:
    """A batch of which everything is written but the commit.

    Attributes:
        batch: with its good rows only.
        receipt: written beside the data; it becomes true by the commit.
    """

    batch: StagedBatch
    receipt: Receipt


class Together:
    """Batches of one table that wait for their common commit.

    Args:
        lake: where to.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._waiting: list[Prepared] = []
        self._attempts: set[str] = set()
        self._landed: list[Receipt] = []
        self._overtaken: list[Receipt] = []
        self._since_s = 0.0

    def add(self, prepared: Prepared) -> None:
        """Have a batch wait, or commit at once what is enough by now.

        Raises:
            See :func:`commit_prepared`.
        """
        if any(
            other.batch.table != prepared.batch.table or other.batch.key == prepared.batch.key
            for other in self._waiting
        ):
            self.commit()
        if not self._waiting:
            self._since_s = time.monotonic()
        self._waiting.append(prepared)
        self._attempts.add(prepared.receipt.attempt)
        if (
            len(self._waiting) >= MOST_BATCHES
            or sum(each.receipt.published for each in self._waiting) >= MOST_ROWS
            or sum(sum(each.receipt.seconds.values()) for each in self._waiting) >= MOST_S
            or time.monotonic() - self._since_s >= MOST_S
        ):
            self.commit()

    def holds(self, receipt: Receipt) -> bool:
        """Whether a receipt is of a batch that was added, and so will be or was among those of :meth:`take`."""
        return receipt.attempt in self._attempts

    def settle(self, tables: Collection[str]) -> None:
        """Commit what waits if it is of one of these tables: somebody is about to read them.

        Raises:
            See :func:`commit_prepared`.
        """
        if any(str(each.batch.table) in tables for each in self._waiting):
            self.commit()

    def commit(self) -> None:
        """Commit what waits.

        Raises:
            See :func:`commit_prepared`; nothing waits any more.
        """
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        batches = [(each.receipt.table, each.receipt.key) for each in waiting]
        with self._lake.work.shared("publish", waiting[0].receipt.stage, batches) as step:
            landed, overtaken = commit_prepared(self._lake, waiting)
        self._overtaken += overtaken
        took_s = step.seconds / len(waiting)
        for receipt in landed:
            receipt.seconds["publish"] = receipt.seconds.get("publish", 0.0) + took_s
        self._landed += landed

    def take_overtaken(self) -> list[Receipt]:
        """The receipts of batches that did not land and have to be read again (:func:`commit_prepared`)."""
        overtaken, self._overtaken = self._overtaken, []
        return overtaken

    def take(self) -> list[Receipt]:
        """The receipts of batches that are true now and have not been taken yet."""
        landed, self._landed = self._landed, []
        return landed


@contextmanager
def publishing_together(lake: Lake) -> Iterator[Together]:
    """Batches added in here are all committed when the block is left, also by an error: they are finished work."""
    together = Together(lake)
    try:
        yield together
    except BaseException:
        with suppress(PenstockError):  # the block's own error is the one to tell
            together.commit()
        raise
    together.commit()


def commit_prepared(lake: Lake, batches: Sequence[Prepared]) -> tuple[list[Receipt], list[Receipt]]:
    """Make batches of one table, each of another partition, true by one commit.

    Returns:
        Receipts in the same order, ``unchanged`` where the same work had landed already; and those of batches that did
        not land, because another run has published their partition since they began to be read.

    Raises:
        CommitConflict, StateCorrupt, StoreUnavailable: see :func:`lake.commit.change_partitions`. If a file of one of
            several batches is missing, the others land.

    Side effects: files and receipts of batches that are known not to be live are deleted.
    """
    first = batches[0].batch
    changes: dict[str, Sequence[Prepared]] = {}
    overtaken: list[Prepared] = []

    def decide(live: Sequence[LiveFile]) -> Change | None:
        wanted = [each for each in batches if not _is_done(lake, each, live)]
        overtaken[:] = [each for each in wanted if lake.is_overtaken(each.batch, each.receipt.run_id, live)]
        wanted = [each for each in wanted if each not in overtaken]
        if not wanted:
            return None
        attempt = wanted[0].receipt.attempt
        if changes.get(attempt, wanted) != wanted:
            attempt = new_attempt()  # one id for each set, so that an outcome read back says what landed
        changes[attempt] = wanted
        return Change(attempt, {each.batch.key: each.batch.files for each in wanted}, _summary(wanted))

    try:
        interval = first.key if len(batches) == 1 else f"{first.key} and {len(batches) - 1} others"
        landed = change_partitions(
            lake.catalog, first.table, decide, interval=interval, attempts=[batches[0].receipt.attempt]
        )
    except (CommitConflict, DiskFull, StateCorrupt) as error:  # it did not land; of StoreUnavailable that is not known
        if isinstance(error, StateCorrupt) and len(batches) > 1:
            return _one_by_one(lake, batches)
        for each in batches:
            _withdraw(lake, each)
        raise
    live = changes.get(landed.attempt, batches) if landed else ()
    late = [each for each in overtaken if each not in live]
    for each in batches:
        if each not in live:
            _withdraw(lake, each)
    done = [each.receipt if each in live else each.receipt.found_unchanged() for each in batches if each not in late]
    return done, [each.receipt for each in late]


def _one_by_one(lake: Lake, batches: Sequence[Prepared]) -> tuple[list[Receipt], list[Receipt]]:
    receipts: list[Receipt] = []
    overtaken: list[Receipt] = []
    failure: StateCorrupt | None = None
    for each in batches:
        try:
            landed, late = commit_prepared(lake, [each])
        except StateCorrupt as error:
            failure = failure or error
        else:
            receipts += landed
            overtaken += late
    if failure is not None:
        raise failure
    return receipts, overtaken


def overtaken_error(receipt: Receipt) -> Overtaken:
    """What is told of a batch that did not land because another run published its partition."""
    return Overtaken(
        "Another run has published the interval since this one began to read it.",
        table=receipt.table,
        interval=receipt.key,
        remedy="run the interval again: it is read anew",
    )


def _is_done(lake: Lake, prepared: Prepared, live: Sequence[LiveFile]) -> bool:
    """Whether the same work is live in the batch's partition."""
    batch = prepared.batch
    attempts = {attempt for file in live if file.key == batch.key and (attempt := attempt_of(file.location))}
    found = (lake.find_receipt(batch.table, batch.key, attempt) for attempt in attempts)
    return any(other is not None and other.came_as == prepared.receipt.batch_id for other in found)


def _summary(batches: Sequence[Prepared]) -> dict[str, str]:
    receipts = [each.receipt for each in batches]
    named = {
        "batch_id": [r.batch_id for r in receipts],
        "partition_key": [r.key for r in receipts],
        "attempts": [r.attempt for r in receipts],
    }
    summary = {f"penstock.{name}": ",".join(values) for name, values in named.items()}
    summary["penstock.run_id"] = receipts[0].run_id
    for figure in ("rows_in", "published", "quarantined", "deduplicated"):
        summary[f"penstock.{figure}"] = str(sum(getattr(receipt, figure) for receipt in receipts))
    if summary["penstock.quarantined"] != "0":
        summary["penstock.quarantine"] = str(batches[0].batch.table.quarantine)
    return summary


def _withdraw(lake: Lake, prepared: Prepared) -> None:
    lake.discard(prepared.batch)
    withdraw_validation(lake, prepared.receipt.verdict)
    lake.delete_receipt(prepared.batch.table, prepared.batch.key, prepared.receipt.attempt)
    withdraw_validation(lake, prepared.receipt.verdict)
