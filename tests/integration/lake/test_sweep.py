"""Laws of the sweep: what is named stays, what is not goes in two steps, and nobody who reads or writes notices."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from common.settings import Settings
from lake.commit import KEEP_SNAPSHOTS
from lake.expiry import expire_snapshots
from lake.inventory import take_inventory
from lake.lake import Lake
from lake.object_store import s3_client
from lake.paths import engine_path, noticed_location
from lake.quarantine import quarantined
from lake.sweep import Sweep, sweep
from tests.integration.lake.lakes import TABLE, Bench, finish, publish_days, read_until_told, start

DAY = timedelta(days=1)
NOTHING = timedelta(0)


def after(ahead: timedelta) -> datetime:
    """The time of a clock that is so far ahead."""
    return datetime.now(UTC) + ahead


def sweep_at(bench: Bench, later: timedelta = NOTHING, *, grace: timedelta = DAY, dry_run: bool = False) -> Sweep:
    """A sweep when the store's clock shows so much later than now."""
    return sweep(bench.open(), grace=grace, dry_run=dry_run, now=partial(after, later))


def files(bench: Bench) -> set[str]:
    """Everything in the lake but the sweep's own notes."""
    stored = bench.lake.storage.list_files(bench.lake.load(TABLE).location().rsplit("/", 2)[0])
    return {path for path in stored if "/ops/maintenance/" not in path}


def seen(bench: Bench) -> tuple[object, ...]:
    """What every reader can see."""
    lake = bench.open()
    waiting = [row["row_id"] for row in quarantined(lake, TABLE).to_pylist()]
    return bench.rows(lake=lake), [receipt.to_dict() for receipt in lake.receipts(TABLE)], waiting


def test_what_nothing_names_goes_a_grace_after_it_was_found_and_all_else_stays(bench: Bench) -> None:
    for number in range(3):
        bench.publish([(number, "a"), (-1, "b")], rejected=[1])
    staged = bench.stage([(9, "nobody's")])
    before = seen(bench)
    everything = files(bench)
    assert expire_snapshots(bench.lake, TABLE, keep=1) == 2
    everything = files(bench)
    # Younger than the grace: not even noted.
    first = sweep_at(bench)
    assert first.files == 0
    assert sum(table.waiting for table in first.tables) > 0
    assert files(bench) == everything
    # Old enough: noted. Before the grace is over: still there.
    assert sweep_at(bench, 1.5 * DAY).files == 0
    assert sweep_at(bench, 2.4 * DAY).files == 0
    assert files(bench) == everything
    assert sweep_at(bench, 2.6 * DAY, dry_run=True).files > 0
    assert files(bench) == everything
    done = sweep_at(bench, 2.6 * DAY)
    gone = everything - files(bench)
    assert set(staged.files) <= gone
    assert done.files == len(gone) > len(staged.files)
    assert done.size_bytes > 0
    assert (done.held_back, done.unclaimed) == ({}, 0)
    assert seen(bench) == before
    assert take_inventory(bench.open()).orphans == {}
    assert len(bench.receipt_files()) == 1, "receipts of batches that no snapshot has are gone"
    assert sweep_at(bench, 9 * DAY).files == 0


def test_a_file_that_was_staged_when_a_sweep_saw_it_and_expired_when_the_next_did_is_not_taken_from_its_readers(
    local: Bench,
) -> None:
    local.publish([(1, "old")])
    old = [file.location for file in local.open().live(TABLE)]
    sweep_at(local, 0.5 * DAY)
    local.publish([(2, "new")])
    expire_snapshots(local.open(), TABLE, keep=1)
    sweep_at(local, 1.6 * DAY)
    assert Path(engine_path(old[0])).exists(), "its readers have a grace from now on"
    sweep_at(local, 2.7 * DAY)
    assert not Path(engine_path(old[0])).exists()


def test_neither_a_wrong_clock_of_this_host_nor_a_torn_note_deletes_what_was_just_written(local: Bench) -> None:
    local.publish([(1, "a")])
    staged = local.stage([(2, "b")])
    for ahead in (timedelta(days=-400), timedelta(days=400)):
        skewed = Lake(local.settings, clock=partial(after, ahead))
        for _ in range(3):
            assert sweep(skewed, grace=DAY).files == 0
    sweep_at(local, 2 * DAY)
    Path(engine_path(noticed_location(local.settings.lake_uri))).write_text('{"files": {"raw/')
    assert sweep_at(local, 4 * DAY).files == 0, "what it held is not known any more: it is noted anew"
    assert Path(engine_path(staged.files[0])).exists()
    assert sweep_at(local, 6 * DAY).files > 0


def test_a_lost_catalog_or_a_missing_file_makes_nothing_an_orphan(local: Bench) -> None:
    for number in range(3):
        local.publish([(number, "a")])
    everything = files(local)
    saved = local.settings.home / "saved.db"
    shutil.move(local.settings.home / "catalog.db", saved)
    lost = sweep(Lake(local.settings), grace=NOTHING)
    assert (lost.files, lost.unclaimed > 5) == (0, True), "no table of the catalog owns them"
    anew = local.open()  # the table is made anew in the same folder
    assert "of another table" in sweep(anew, grace=NOTHING).held_back[str(TABLE)]
    assert everything <= files(local)
    shutil.move(saved, local.settings.home / "catalog.db")
    (live,) = local.open().live(TABLE)
    Path(engine_path(live.location)).unlink()
    damaged = sweep_at(local, grace=NOTHING)
    assert "is missing" in damaged.held_back[str(TABLE)]
    assert damaged.files == 0


def test_writers_and_a_reader_beside_sweeps_in_a_loop_do_not_notice_them(local: Bench) -> None:
    local.publish([(0, "a")])
    processes = multiprocessing.get_context("forkserver")
    stop, ready, answers = processes.Event(), processes.Event(), processes.Queue()
    barrier = processes.Barrier(2)
    reader = start(read_until_told, local.settings, stop, ready, answers)
    assert ready.wait(60)
    keys = ["2013-01-01", "2013-01-02"] * 4
    writers = [start(publish_days, local.settings, barrier, keys, writer) for writer in (1, 2)]
    deleted, hour = 0, timedelta(hours=1)
    while any(writer.is_alive() for writer in writers):
        lake = local.open()
        (old,) = local.stage([(5, "a run that died")], lake=lake).files
        hours_ago = time.time() - 3 * 3600
        os.utime(engine_path(old), (hours_ago, hours_ago))
        # Noted an hour and a half ago; what the writers do meanwhile is younger than the grace, however slow they are.
        for back in (1.5 * hour, NOTHING):
            deleted += sweep(lake, grace=hour, now=partial(after, -back)).files
        assert not Path(engine_path(old)).exists()
    finish(*writers)
    stop.set()
    reads, _, failures = answers.get(timeout=60)
    finish(reader)
    assert (failures, reads > 3, deleted > 0) == ([], True, True)
    before = seen(local)
    local.stage([(6, "another run that died")])  # writers that never met leave nothing
    assert sweep(local.open(), grace=NOTHING).files > 0
    assert take_inventory(local.open()).orphans == {}
    assert seen(local) == before
    assert len(local.open().live_attempts(TABLE)) == 2


def test_expiry_leaves_the_newest_snapshots_and_those_that_are_spared(local: Bench) -> None:
    for number in range(6):
        local.publish([(number, "a")])
    ids = [snapshot.snapshot_id for snapshot in local.open().load(TABLE).metadata.snapshots]
    before = seen(local)
    assert expire_snapshots(local.open(), TABLE, keep=2, spared={ids[1]}, dry_run=True) == 3
    assert expire_snapshots(local.open(), TABLE, keep=2, spared={ids[1]}) == 3
    assert [snapshot.snapshot_id for snapshot in local.open().load(TABLE).metadata.snapshots] == [ids[1], *ids[-2:]]
    assert expire_snapshots(local.open(), TABLE, keep=KEEP_SNAPSHOTS) == 0
    sweep(local.open(), grace=NOTHING)
    assert seen(local) == before
    spared = local.open().load(TABLE).snapshot_by_id(ids[1])
    assert spared is not None
    local.open().storage.read_json(f"{local.lake.load(TABLE).metadata_location}")


def test_an_upload_in_parts_that_nobody_finished_is_aborted(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    from lake.engine import lake_credentials
    from tests.integration.lake.lakes import new_lake

    services = request.getfixturevalue("services")
    bench = Bench(new_lake(tmp_path / "home", services.connections["stations"], "lake-uploads"))
    bench.publish([(1, "a")])
    credentials = lake_credentials(bench.settings)
    assert credentials is not None
    client = s3_client(credentials)
    key = "lake-uploads/raw/shop__orders/data/2013-01-01/upload.parquet"
    begun = client.create_multipart_upload(Bucket="stations", Key=key)
    client.upload_part(Bucket="stations", Key=key, UploadId=begun["UploadId"], PartNumber=1, Body=b"x" * 1000)
    other = client.create_multipart_upload(Bucket="stations", Key="elsewhere/file")
    assert sweep_at(bench).uploads == 0
    assert sweep_at(bench, 2 * DAY).uploads == 1
    left = {upload["Key"] for upload in client.list_multipart_uploads(Bucket="stations").get("Uploads", [])}
    assert key not in left
    assert "elsewhere/file" in left
    client.abort_multipart_upload(Bucket="stations", Key="elsewhere/file", UploadId=other["UploadId"])
    assert bench.rows() == [(1, "a")]


def test_settings_give_the_grace(tmp_path: Path) -> None:
    assert Settings.load({"PENSTOCK_SWEEP_GRACE_H": "48"}, home=tmp_path).sweep_grace_h == 48
