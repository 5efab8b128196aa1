"""Laws of batches that share a commit: each is published as if alone, and no crash or rival shows half of one."""

from __future__ import annotations

import time
from sqlite3 import OperationalError
from typing import Any

import pytest

from common.errors import SourceUnavailable, StateCorrupt
from lake import commit as commits
from lake import together as togethers
from lake.quarantine import quarantined
from lake.remembering import unavailable
from lake.together import Together, publishing_together
from penstock.records import _landed
from tests.integration.lake.lakes import TABLE, Bench, publish_staged

DAYS = ("2013-01-01", "2013-01-02", "2013-01-03")
ROWS = {day: [(number, "a"), (-number, "rejected")] for number, day in enumerate(DAYS, start=1)}
GOOD = {day: rows[:1] for day, rows in ROWS.items()}


def add_all(bench: Bench, together: Together) -> None:
    """Have one batch for each day wait; one row of each is rejected."""
    for day, rows in ROWS.items():
        receipt = publish_staged(bench.lake, bench.stage(rows, day), [1], together=together)
        assert together.holds(receipt)


def by_day(bench: Bench) -> dict[str, list[tuple[int, str | None]]]:
    lake = bench.open()
    return {day: bench.rows(day, lake) for day in DAYS}


def test_batches_that_share_a_commit_are_live_by_one_snapshot_each_with_its_own_receipt(bench: Bench) -> None:
    together = Together(bench.lake)
    add_all(bench, together)
    assert (bench.open().live(TABLE), together.take()) == ([], [])
    together.commit()
    receipts = together.take()
    assert by_day(bench) == GOOD
    lake = bench.open()
    assert {r.attempt for r in lake.receipts(TABLE)} == {r.attempt for r in receipts}
    assert [(r.key, r.state, r.rows_in, r.published, r.quarantined) for r in receipts] == [
        (day, "published", 2, 1, 1) for day in DAYS
    ]
    assert quarantined(lake, TABLE).num_rows == 3
    (snapshot,) = lake.load(TABLE).metadata.snapshots
    assert snapshot.summary is not None
    assert snapshot.summary["penstock.partition_key"] == ",".join(DAYS)
    assert snapshot.summary["penstock.published"] == "3"
    assert snapshot.summary["penstock.attempts"] == ",".join(receipt.attempt for receipt in receipts)
    assert publish_staged(lake, bench.stage(ROWS[DAYS[1]], DAYS[1], lake=lake), [1]).state == "unchanged"


def test_a_batch_that_another_writer_published_meanwhile_is_unchanged_and_the_others_land(
    local: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = commits._commit
    together = Together(local.lake)
    add_all(local, together)

    def overtaken(table: Any, *arguments: Any) -> int:
        monkeypatch.setattr(commits, "_commit", real)
        publish_staged(other := local.open(), local.stage(ROWS[DAYS[0]], DAYS[0], lake=other), [1])
        return real(table, *arguments)

    monkeypatch.setattr(commits, "_commit", overtaken)
    together.commit()
    assert [receipt.state for receipt in together.take()] == ["unchanged", "published", "published"]
    assert by_day(local) == GOOD
    assert len(local.data_files()) == len(local.receipt_files()) == 3
    assert quarantined(local.open(), TABLE).num_rows == 3


@pytest.mark.parametrize("lands", [True, False])
def test_a_shared_commit_whose_outcome_is_unknown_is_read_back_and_lands_once(
    local: Bench, monkeypatch: pytest.MonkeyPatch, lands: bool
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    real, calls = commits._commit, []
    together = Together(local.lake)
    add_all(local, together)

    def uncertain(*arguments: Any) -> int:
        calls.append(1)
        if len(calls) > 1:
            return real(*arguments)
        if lands:
            real(*arguments)
        raise unavailable(OperationalError("disk I/O error"))

    monkeypatch.setattr(commits, "_commit", uncertain)
    together.commit()
    assert len(calls) == (1 if lands else 2)
    assert [receipt.state for receipt in together.take()] == ["published"] * 3
    assert len(local.open().load(TABLE).metadata.snapshots) == 1
    assert by_day(local) == GOOD


def test_a_batch_whose_file_is_gone_fails_alone(local: Bench) -> None:
    together = Together(local.lake)
    add_all(local, together)
    (lost,) = [path for path in local.data_files() if DAYS[1] in path]
    local.lake.storage.delete(lost)
    with pytest.raises(StateCorrupt, match="missing"):
        together.commit()
    assert by_day(local) == {**GOOD, DAYS[1]: []}
    assert len(local.receipt_files()) == 2
    assert quarantined(local.open(), TABLE).num_rows == 2


def test_what_waits_is_committed_when_there_is_enough_or_the_partition_comes_again(
    local: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(togethers, "MOST_BATCHES", 3)
    together = Together(local.lake)
    add_all(local, together)
    assert len(together.take()) == 3
    add = local.stage([(7, "x")], DAYS[0])
    publish_staged(local.lake, add, together=together)
    assert by_day(local) == GOOD
    publish_staged(local.lake, local.stage([(8, "y")], DAYS[0]), together=together)
    assert by_day(local)[DAYS[0]] == [(7, "x")]
    together.commit()
    assert by_day(local)[DAYS[0]] == [(8, "y")]
    assert [receipt.key for receipt in together.take()] == [DAYS[0]] * 2


def test_the_ledger_finds_a_batch_that_shared_a_commit_although_it_was_replaced_since(local: Bench) -> None:
    together = Together(local.lake)
    add_all(local, together)
    together.commit()
    expected = {receipt.attempt: receipt.key for receipt in together.take()}
    newer = local.publish([(9, "newer")], DAYS[1])
    assert _landed(local.open(), TABLE) == {**expected, newer.attempt: DAYS[1]}


def test_work_that_took_long_does_not_wait(local: Bench) -> None:
    together = Together(local.lake)
    seconds = {"extract": togethers.MOST_S}
    publish_staged(local.lake, local.stage(ROWS[DAYS[0]], DAYS[0]), [1], together=together, seconds=seconds)
    assert by_day(local)[DAYS[0]] == GOOD[DAYS[0]]
    assert len(together.take()) == 1


def test_what_waits_of_a_table_is_committed_before_somebody_reads_it(local: Bench) -> None:
    together = Together(local.lake)
    add_all(local, together)
    together.settle(["raw.shop__customers"])
    assert by_day(local) == {day: [] for day in DAYS}
    together.settle([str(TABLE)])
    assert by_day(local) == GOOD
    assert len(together.take()) == 3


def test_finished_batches_are_committed_although_the_next_one_fails(local: Bench) -> None:
    def run() -> None:
        with publishing_together(local.lake) as together:
            add_all(local, together)
            raise SourceUnavailable("The source went away.", remedy="wait")

    with pytest.raises(SourceUnavailable):
        run()
    assert by_day(local) == GOOD
