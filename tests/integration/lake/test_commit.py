"""Laws of the commit itself: outcomes that are not known, lost races, many writers, readers meanwhile."""

from __future__ import annotations

import time
from pathlib import Path
from sqlite3 import OperationalError
from typing import Any

import pytest
from pyiceberg.exceptions import CommitFailedException

from common.errors import CommitConflict, StateCorrupt, StoreUnavailable
from common.settings import Settings
from lake import catalog
from lake import commit as commits
from lake.catalog import LiveFile
from lake.lake import Lake, checksum_of
from lake.paths import engine_path
from lake.publish import identify, publish
from lake.quarantine import quarantined
from lake.remembering import LeanTransaction, unavailable
from lake.sql import parquet_relation
from tests.integration.lake import lakes
from tests.integration.lake.lakes import PROCESSES, TABLE, Bench, finish, publish_staged, start, verdict

DAY = "2013-01-01"
FIRST = [(1, "a"), (2, None)]
SECOND = [(3, "c"), (4, "")]


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without their waits, and few of them."""
    monkeypatch.setattr(commits, "COMMIT_ATTEMPTS", 4)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)


def lost() -> StoreUnavailable:
    return unavailable(OperationalError("server closed the connection"))


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("failures", [1, 2])
@pytest.mark.parametrize("lands", [True, False])
def test_a_commit_whose_outcome_is_unknown_is_read_back_and_lands_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, failures: int, lands: bool
) -> None:
    bench.publish([(7, "old")])
    real, calls = commits._commit, []

    def uncertain(*arguments: Any) -> int:
        calls.append(1)
        if len(calls) <= failures:
            if lands:
                real(*arguments)
            raise lost()
        return real(*arguments)

    monkeypatch.setattr(commits, "_commit", uncertain)
    receipt = bench.publish(FIRST)
    assert len(calls) == (1 if lands else failures + 1)
    made = [dict(s.summary.additional_properties) if s.summary else {} for s in bench.open().load(TABLE).snapshots()]
    snapshots = [summary for summary in made if summary["penstock.batch_id"] == receipt.batch_id]
    assert len(snapshots) == 1
    assert bench.rows() == FIRST
    assert bench.open().receipt(TABLE, DAY) == receipt


@pytest.mark.usefixtures("no_waiting")
def test_a_commit_that_landed_unknown_and_was_replaced_since_is_not_committed_again(
    local: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = commits._commit
    staged = local.stage(FIRST)

    def overtaken(*arguments: Any) -> int:
        real(*arguments)
        monkeypatch.setattr(commits, "_commit", real)
        local.publish(SECOND, lake=local.open())
        raise lost()

    monkeypatch.setattr(commits, "_commit", overtaken)
    assert publish_staged(local.lake, staged).state == "published"
    assert local.rows() == SECOND
    assert len(local.open().load(TABLE).metadata.snapshots) == 2


@pytest.mark.usefixtures("no_waiting")
def test_a_catalog_that_stays_away_leaves_the_files_because_they_may_be_live(
    local: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.publish([(7, "old")])
    real = commits._commit

    def lands_and_is_lost(*arguments: Any) -> int:
        real(*arguments)
        monkeypatch.setattr(commits, "load_table", away)
        raise lost()

    def away(*_arguments: Any) -> None:
        raise StoreUnavailable("The catalog is away.", remedy="wait")

    with monkeypatch.context() as broken:
        broken.setattr(commits, "_commit", lands_and_is_lost)
        monkeypatch = broken
        with pytest.raises(StoreUnavailable, match="outcome is unknown"):
            local.publish(FIRST)
    assert local.rows(lake=local.open()) == FIRST
    assert local.publish(FIRST, lake=local.open()).state == "unchanged"


@pytest.mark.usefixtures("no_waiting")
def test_a_writer_that_loses_every_race_gives_up_and_leaves_nothing(
    local: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.publish([(7, "old")])
    before, receipts = local.state(), local.receipt_files()

    def beaten(*_arguments: Any) -> int:
        raise CommitFailedException("somebody was faster")

    monkeypatch.setattr(commits, "_commit", beaten)
    with pytest.raises(CommitConflict, match="4 times in a row"):
        local.publish([(1, "a"), (-1, "b")], rejected=[1])
    assert local.state() == before
    assert local.receipt_files() == receipts
    assert quarantined(local.open(), TABLE).num_rows == 0


def test_a_staged_file_that_has_gone_is_refused_and_nothing_changes(local: Bench) -> None:
    local.publish([(7, "old")])
    before = local.state()
    staged = local.stage(FIRST)
    identity = identify(local.lake, staged)
    local.lake.storage.delete(staged.files[0])
    with pytest.raises(StateCorrupt, match="missing"):
        publish(local.lake, staged, verdict(2), identity=identity, stage="ingest", run_id="r")
    assert local.state() == before
    with pytest.raises(StateCorrupt, match="missing or damaged"):
        identify(local.lake, staged)


# -- several processes --------------------------------------------------------------------------------


def test_a_reader_in_a_loop_never_sees_a_mixed_partial_or_missing_version(bench: Bench) -> None:
    bench.publish([(0, "version 0")] * 3)
    stop, ready, seen = PROCESSES.Event(), PROCESSES.Event(), PROCESSES.Queue()
    reader = start(lakes.read_until_told, bench.settings, stop, ready, seen)
    assert ready.wait(60)
    legal = set()
    for version in range(1, 31):
        legal.add(_checksum(bench))
        bench.publish([(version, f"version {version}")] * (3 + version % 4), parts=1 + version % 2)
    legal.add(_checksum(bench))
    stop.set()
    reads, answers, failures = seen.get(timeout=60)
    finish(reader)
    assert failures == []
    assert answers <= legal
    assert len(legal) == 31
    assert reads >= 3


def _checksum(bench: Bench) -> str:
    columns, field_ids = bench.lake.columns(TABLE)
    files = [engine_path(file.location) for file in bench.lake.live(TABLE, DAY)]
    with bench.lake.connect() as connection:
        return checksum_of(connection, parquet_relation(files, columns, field_ids))


def test_three_processes_that_publish_their_own_partitions_all_land(bench: Bench) -> None:
    barrier = PROCESSES.Barrier(3)
    commits_each = 5 if bench.settings.lake_uri.startswith("s3:") else 10
    days = {writer: [f"2013-0{writer}-{day:02d}" for day in range(1, commits_each + 1)] for writer in (1, 2, 3)}
    finish(*(start(lakes.publish_days, bench.settings, barrier, keys, writer) for writer, keys in days.items()))
    lake = bench.open()
    assert sorted(lake.live_attempts(TABLE)) == sorted(key for keys in days.values() for key in keys)
    for writer, keys in days.items():
        expected = [[(-writer, None)] * bool(n % 3) + [(writer, f"batch {n}")] for n in range(len(keys))]
        assert [bench.rows(key, lake) for key in keys] == expected
    assert sum(receipt.quarantined for receipt in lake.receipts(TABLE)) == quarantined(lake, TABLE).num_rows > 0
    assert len(bench.data_files()) == 3 * commits_each


def test_three_processes_that_make_a_new_lake_at_once_make_one(tmp_path: Path) -> None:
    settings = Settings.load({}, home=tmp_path / "new")
    barrier = PROCESSES.Barrier(3)
    keys = {writer: [f"2013-01-0{writer}"] for writer in (1, 2, 3)}
    finish(*(start(lakes.publish_days_in_new_lake, settings, barrier, keys[writer], writer) for writer in keys))
    bench = Bench(settings)
    assert bench.rows() == sorted((number, note) for w in keys for number, note in ((w, "batch 0"), (-w, None)))


def test_two_processes_racing_for_one_partition_leave_exactly_one_batch_and_its_quarantine(bench: Bench) -> None:
    barrier, results = PROCESSES.Barrier(2), PROCESSES.Queue()
    writers = [start(lakes.publish_same, bench.settings, barrier, results) for _ in range(2)]
    receipts = sorted((results.get(timeout=120) for _ in writers), key=lambda receipt: str(receipt["state"]))
    finish(*writers)
    assert [receipt["state"] for receipt in receipts] == ["published", "unchanged"]
    lake = bench.open()
    assert lake.receipts(TABLE)[0].attempt == receipts[0]["attempt"]
    assert bench.rows() == [(1, "a"), (2, "c")]
    assert quarantined(lake, TABLE).num_rows == receipts[0]["quarantined"] == 2
    assert len(bench.data_files()) == len(bench.receipt_files()) == 1


def test_the_loser_of_a_race_does_not_take_the_winner_s_rejected_rows_along(
    local: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(1, "a"), (-1, "b")]
    real = commits._commit

    def overtaken(table: Any, *arguments: Any) -> int:
        if table.name()[0] == "raw":  # the loser's rejected rows are there; its data is not, yet
            monkeypatch.setattr(commits, "_commit", real)
            other = local.open()
            publish_staged(other, local.stage(rows, lake=other), [1])
        return real(table, *arguments)

    monkeypatch.setattr(commits, "_commit", overtaken)
    receipt = local.publish(rows, rejected=[1])
    assert receipt.state == "unchanged"
    assert local.open().receipts(TABLE)[0].quarantined == quarantined(local.open(), TABLE).num_rows == 1


def test_what_a_writer_remembers_of_its_commits_is_what_lies_in_the_files(local: Bench) -> None:
    for number in range(commits.MERGE_MANIFESTS + 2 * commits.KEEP_SNAPSHOTS):
        local.publish([(number, "x")], f"2013-01-{1 + number % 20:02d}", parts=1 + number % 2)
        if number % 7 == 0 or number > commits.MERGE_MANIFESTS:
            remembered, table = local.lake.live(TABLE), local.lake.load(TABLE)
            catalog._LIVE.clear()
            catalog._listed.cache_clear()
            catalog._MANIFESTS = catalog.ReadManifests(10_000)
            other = local.open()
            assert sorted(map(_told, other.live(TABLE))) == sorted(map(_told, remembered))
            assert other.load(TABLE).metadata.model_dump() == table.metadata.model_dump()


def _told(file: LiveFile) -> tuple[object, ...]:
    data = file.data_file
    bounds = sorted(data.lower_bounds.items()), sorted(data.upper_bounds.items())
    return (file.key, file.location, file.rows, data.spec_id, data.file_size_in_bytes, *bounds)


@pytest.mark.usefixtures("no_waiting")
def test_a_commit_decided_in_view_of_metadata_that_has_been_replaced_is_a_conflict(local: Bench) -> None:
    local.publish(FIRST)
    seen = local.lake.load(TABLE)
    local.publish(SECOND, "2013-01-02", lake=local.open())
    with pytest.raises(CommitFailedException), LeanTransaction(seen) as transaction:
        transaction.set_properties({"late": "yes"})
    assert local.rows(lake=local.open()) == sorted([*FIRST, *SECOND])
    assert "late" not in local.lake.load(TABLE).properties


def test_a_lake_that_remembers_metadata_sees_the_next_commit_of_another(local: Bench) -> None:
    local.publish(FIRST)
    assert local.rows() == FIRST
    local.publish(SECOND, lake=local.open())
    assert local.rows() == SECOND


def test_snapshots_manifests_and_metadata_stay_few_after_eighty_commits(local: Bench) -> None:
    for number in range(80):
        local.publish([(number, "x")], f"2013-01-{1 + number % 20:02d}")
    table = local.open().load(TABLE)
    assert len(table.metadata.snapshots) <= 2 * commits.KEEP_SNAPSHOTS
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert len(snapshot.manifests(table.io)) <= commits.MERGE_MANIFESTS + 3
    folder = f"{table.location()}/metadata"
    assert sum(path.endswith(".metadata.json") for path in local.lake.storage.list_files(folder)) <= 12
    expected = [(number, "x") for number in range(60, 80)]
    assert local.rows() == expected
    assert sorted((row["id"], row["note"]) for row in table.scan().to_arrow().to_pylist()) == expected
    assert len(Lake(local.settings).live(TABLE)) == 20
