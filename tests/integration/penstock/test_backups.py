"""Laws of backups: whole and checked or not there, each byte once, safe beside everybody; and back into any folder."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from common.errors import LeaseHeld, SettingsError, StateCorrupt, UnknownName, UsageError
from common.settings import Settings
from lake.backup_place import open_place
from lake.expiry import expire_snapshots
from lake.inventory import take_inventory
from lake.sweep import sweep
from penstock.backup import take
from penstock.backup_files import Pinned, pin
from penstock.backup_keep import prune, verify
from penstock.backup_lock import alone
from penstock.backup_manifest import read_index, read_manifest
from penstock.doctor import examine
from penstock.embedded import EmbeddedServices
from penstock.pipeline import Pipeline
from penstock.restore import plan, restore
from penstock.restore_plan import chosen_backup
from tests.door import SameProcess
from tests.integration.lake.lakes import TABLE, Bench, new_lake
from tests.integration.penstock.backups import World
from tests.unit.warehouse.small_warehouse import answer, make_release
from tests.upgrade.contents import contents, lake_contents

DAY = timedelta(hours=24)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A state whose backups go to a folder."""
    return World(tmp_path, str(tmp_path / "backups"))


@pytest.fixture
def bucket_world(services: EmbeddedServices, tmp_path: Path) -> Iterator[World]:
    """A state whose backups go to the real S3."""
    prefix = f"backups-{uuid.uuid4().hex}"
    made = World(tmp_path, f"s3://stations/{prefix}", {"backup": services.s3_url})
    yield made
    for folder in ("objects", "manifests", "backups", "running"):
        for file in made.place.stored(folder):
            made.place.remove(file.location)


def test_everything_local_is_destroyed_and_comes_back_elsewhere_and_where_it_was_and_goes_on(world: World) -> None:
    bench, state = world.make(), world.folder / "state"
    (state / "policy.yml").write_text("roles: {}\n")
    (state / "serve" / "revoked").mkdir(parents=True)
    (state / "serve" / "revoked" / "ab12").write_text("2026-01-01\n")
    (state / "serve" / "issuer.json").write_text("the key that signs")
    before, taken = world.seen(), world.back_up()
    assert verify(world.place).damaged == {}
    fence = int((state / "warehouse" / "fence").read_text())
    shutil.rmtree(state)
    for home in ("elsewhere", "state"):
        done = restore(world.settings(home), world.place, taken.index.id)
        assert (done.aside, world.seen(home)) == (None, before)
        found = examine(Pipeline(world.settings(home)), deep=True)
        assert [f.kind for f in found if f.kind != "hole"] == [], "nothing damaged, nothing left over"
        for kept in ("policy.yml", "serve/revoked/ab12"):
            assert (world.folder / home / kept).is_file()
        assert not (world.folder / home / "serve" / "issuer.json").exists(), "a secret is in no backup"
    assert not any(
        str(state).encode() in path.read_bytes() for path in (world.folder / "elsewhere" / "lake").rglob("*.json")
    )
    bench = Bench(world.settings("elsewhere"))
    bench.publish([(8, "next")], "2013-01-02")
    bench.publish([(9, "again")])
    assert bench.rows() == [(8, "next"), (9, "again")], "the next batch replaces what was restored, and adds to it"
    assert int(make_release(world.releases("elsewhere"), 3).id[1:]) > fence + 900, "no id of a lost release comes again"
    again = world.back_up("elsewhere").index
    assert again.new_files < taken.index.files, "what is the same is known by its content"
    restore(world.settings("third"), world.place, again.id)
    assert world.seen("third") == world.seen("elsewhere"), "and what only has the same name is not taken for it"


def test_a_file_is_copied_once_and_one_that_changed_again(world: World) -> None:
    bench = world.make()
    first, second = world.back_up(), world.back_up()
    assert first.index.new_bytes > 0
    assert (second.index.new_files, second.index.files) == (0, first.index.files)
    bench.publish([(5, "new")], "2013-01-03")
    third = world.back_up()
    assert 0 < third.index.new_files < 10
    assert third.index.files > first.index.files
    assert world.back_up(full=True).index.new_files >= third.index.new_files
    assert verify(world.place, "all").damaged == {}


def test_writers_expiry_and_a_sweep_without_grace_beside_a_backup_do_not_make_it_less_than_a_state_that_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = world.make()
    pins = []

    def pin_and_be_overtaken(pipeline: Pipeline) -> Pinned:
        pinned = pin(pipeline)
        pins.append(pinned)
        if len(pins) == 1:
            for number in range(12):
                bench.publish([(number, "later")])
            expire_snapshots(bench.lake, TABLE, keep=1)
            sweep(bench.lake, grace=timedelta(0))
            make_release(world.releases(), 3)
        return pinned

    monkeypatch.setattr("penstock.backup.pin", pin_and_be_overtaken)
    taken = world.back_up()
    assert len(pins) == 2, "what it was about to copy was gone"
    restore(world.settings("other"), world.place, taken.index.id)
    assert world.seen("other") == world.seen()
    assert verify(world.place).damaged == {}


def test_what_the_lake_misses_fails_a_backup_and_says_which_file(world: World) -> None:
    bench = world.make()
    live = [each.location for each in bench.lake.live(TABLE)]
    Path(live[0].removeprefix("file://")).unlink()
    with pytest.raises(StateCorrupt, match=live[0].rsplit("/", 1)[-1]):
        world.back_up()
    assert world.place.stored("backups") == [], "half a backup is none"


def test_a_damaged_backup_is_refused_by_the_name_of_what_is_damaged(world: World) -> None:
    world.make()
    backup_id = world.back_up().index.id
    index = read_index(world.place, backup_id)
    entries = read_manifest(world.place, index, world.folder).entries
    data = next(entry.object for entry in entries if "/data/" in entry.path)
    for name in (data, index.manifest_name, f"backups/{backup_id}.json"):
        path = world.folder / "backups" / name
        whole = path.read_bytes()
        for harmed in (whole[:40] + bytes([whole[40] ^ 1]) + whole[41:], None):
            path.unlink()
            if harmed is not None:
                path.write_bytes(harmed)
            is_gone = harmed is None and name.startswith("backups/")
            refusal, told = (UnknownName, backup_id) if is_gone else (StateCorrupt, name)
            target = world.settings(f"target-{name.split('/')[0]}-{harmed is None}")
            with pytest.raises(refusal, match=told):
                verify(world.place, backup_id).raise_if_damaged(world.place)
            with pytest.raises(refusal, match=told):
                restore(target, world.place, backup_id)
            assert not (target.warehouse / "current").exists()
            path.write_bytes(whole)
            if name == data:
                with pytest.raises(StateCorrupt, match="has not finished"):
                    Pipeline(target).lake.tables("raw")
            else:
                assert not (target.home / "catalog.db").exists(), "nothing was begun"
    restore(world.settings("target-objects-True"), world.place, backup_id)
    assert world.seen("target-objects-True") == world.seen(), "what was begun goes on when it is mended"


def test_a_backup_with_a_damaged_object_is_healed_by_a_full_one(world: World) -> None:
    world.make()
    taken = world.back_up()
    path = world.folder / "backups" / world.objects()[0]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert len(verify(world.place, taken.index.id).damaged) == 1
    world.back_up(full=True)
    assert verify(world.place).damaged == {}


# -- as of a time ------------------------------------------------------------------------------------------------------


def now() -> datetime:
    """A moment that no snapshot shares."""
    time.sleep(0.01)
    moment = datetime.now(UTC)
    time.sleep(0.01)
    return moment


def test_a_state_comes_back_as_it_was_at_a_time_over_all_tables_and_the_release(world: World) -> None:
    bench = Bench(world.settings())
    before_all = now()
    bench.publish([(1, "a"), (-1, "b")], rejected=[1])
    make_release(world.releases(), 1)
    first, at_first = world.seen(), now()
    bench.publish([(2, "a"), (-2, "b")], rejected=[1])
    bench.publish([(3, "c")], "2013-01-02")
    make_release(world.releases(), 2)
    second, at_second = world.seen(), now()
    world.releases().rollback("r000001")
    bench.publish([(4, "d")])
    at_third = now()
    world.back_up()
    backup = chosen_backup(world.place, None, at_first)
    for home, at, state in (("first", at_first, first), ("second", at_second, second)):
        done = restore(world.settings(home), world.place, backup, at=at)
        assert world.seen(home) == state
        assert take_inventory(Bench(world.settings(home)).lake).orphans == {}, "nothing of later is there"
        assert done.plan.not_yet == ()
    restore(world.settings("third"), world.place, backup, at=at_third)
    assert world.seen("third") == world.seen()
    assert answer(world.releases("third")) == 1, "the pointer had been rolled back"
    done = restore(world.settings("none"), world.place, backup, at=before_all)
    assert set(done.plan.not_yet) == {str(TABLE), str(TABLE.quarantine)}
    assert (done.plan.releases, done.plan.current) == ((), None)
    Bench(world.settings("first")).publish([(7, "on")], "2013-01-09")
    with pytest.raises(UnknownName, match=r"No backup .* was taken after"):
        chosen_backup(world.place, None, now())


def test_a_time_that_the_snapshots_do_not_reach_back_to_is_refused(world: World) -> None:
    bench = Bench(world.settings())
    bench.publish([(1, "a")])
    at = now()
    bench.publish([(2, "a")])
    expire_snapshots(bench.lake, TABLE, keep=1)
    taken = world.back_up()
    with pytest.raises(UnknownName, match="is not known any more"):
        restore(world.settings("target"), world.place, taken.index.id, at=at)
    assert lake_contents(world.settings("target")) == {}, "nothing was begun"


# -- what is in the way ------------------------------------------------------------------------------------------------


def test_a_state_in_the_way_is_refused_and_moved_aside_only_when_asked(world: World) -> None:
    bench = world.make()
    before, taken = world.seen(), world.back_up()
    bench.publish([(6, "newer")])
    newer = world.seen()
    with pytest.raises(UsageError, match="A state is in the way: the catalog has"):
        restore(world.settings(), world.place, taken.index.id)
    assert world.seen() == newer
    assert len(plan(world.settings(), world.place, taken.index.id).occupied) == 3
    done = restore(world.settings(), world.place, taken.index.id, overwrite=True)
    assert world.seen() == before
    outside = Settings.load({}, home=world.folder / "outside", lake_uri=str(world.folder / "state" / "lake"))
    with pytest.raises(UsageError, match=r"lies outside of .* and is not moved: the lake has"):
        restore(outside, world.place, taken.index.id, overwrite=True)
    assert world.seen() == before
    assert done.aside is not None
    assert sorted(path.name for path in done.aside.iterdir()) == ["catalog.db", "lake", "warehouse"]


def test_one_backup_or_restore_of_a_state_folder_at_a_time(world: World) -> None:
    world.make()
    taken = world.back_up()
    with alone(world.folder / "state"), pytest.raises(LeaseHeld, match="Another backup or restore"):
        world.back_up()
    with alone(world.folder / "new"), pytest.raises(LeaseHeld, match="Another backup or restore"):
        restore(world.settings("new"), world.place, taken.index.id)


def test_a_lake_or_a_backup_of_a_newer_penstock_is_left_alone(world: World) -> None:
    world.make()
    taken = world.back_up()
    marker = world.folder / "state" / "lake" / "ops" / "format.json"
    assert json.loads(marker.read_text())["format"] == 1
    marker.write_text('{"format": 2, "penstock": "9.9.0"}')
    with pytest.raises(UsageError, match=r"has format 2.*use Penstock 9\.9\.0"):
        Bench(world.settings())
    index = world.folder / "backups" / "backups" / f"{taken.index.id}.json"
    index.write_text(index.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(UsageError, match="has format 2, this Penstock knows"):
        plan(world.settings("target"), world.place, taken.index.id)


def test_a_place_that_would_be_lost_with_the_state_or_is_none_is_refused(world: World) -> None:
    settings = world.settings()
    with pytest.raises(SettingsError, match="would be lost with it"):
        open_place(settings, str(settings.home / "backups"))
    with pytest.raises(SettingsError, match="no place in a bucket"):
        open_place(settings, "gs://somewhere/else")
    with pytest.raises(SettingsError, match="There is no place for backups"):
        open_place(Settings.load({}, home=world.folder / "state"))


# -- a lake in object storage ------------------------------------------------------------------------------------------


def test_of_a_lake_in_object_storage_the_metadata_are_saved_and_the_data_if_asked(
    services: EmbeddedServices, world: World
) -> None:
    prefix = f"lake-{uuid.uuid4().hex}"
    settings = new_lake(world.folder / "state", services.s3_url, prefix)
    bench = Bench(settings)
    bench.publish([(1, "a"), (-1, "b")], rejected=[1])
    before, pipeline = contents(settings), Pipeline(settings)
    try:
        thin, whole = take(pipeline, world.place).index, take(pipeline, world.place, with_data=True).index
        assert (thin.covers_data, whole.covers_data) == (False, True)
        assert whole.files == thin.files + 2
        back = Settings.load(
            {}, home=world.folder / "back", lake_uri=settings.lake_uri, connections=settings.connections
        )
        restore(back, world.place, thin.id)
        assert contents(back) == before
        other = new_lake(world.folder / "other", services.s3_url, f"{prefix}-2")
        with pytest.raises(UsageError, match="holds no data files"):
            restore(other, world.place, thin.id)
        for location in bench.data_files():
            bench.lake.storage.delete(location)
        restore(other, world.place, whole.id)
        assert contents(other) == before
        local = Settings.load({}, home=world.folder / "local")
        restore(local, world.place, whole.id)
        assert contents(local) == before, "out of the bucket onto a disk"
        lost = Settings.load(
            {}, home=world.folder / "lost", lake_uri=settings.lake_uri, connections=settings.connections
        )
        with pytest.raises(StateCorrupt, match="is missing"):
            restore(lost, world.place, thin.id)
    finally:
        bench.lake.storage.delete_many(bench.lake.storage.list_files(f"s3://stations/{prefix}"))
        bench.lake.storage.delete_many(bench.lake.storage.list_files(f"s3://stations/{prefix}-2"))


# -- retention ---------------------------------------------------------------------------------------------------------


def test_a_prune_keeps_the_newest_whole_and_removes_what_only_older_ones_need(bucket_world: World) -> None:
    world = bucket_world
    bench = world.make()
    ids = [world.back_up().index.id]
    for number in range(3):
        bench.publish([(number, "more")])
        expire_snapshots(bench.lake, TABLE, keep=1)
        ids.append(world.back_up().index.id)
    ids.sort()
    would = prune(world.place, keep=2, grace=DAY, dry_run=True)
    done = prune(world.place, keep=2, grace=DAY)
    assert (done.removed, done.kept) == (ids[:2], ids[2:])
    assert (would.objects, would.size_bytes) == (done.objects, done.size_bytes)
    assert done.objects > 2
    assert verify(world.place, "all").backups == ids[2:]
    assert verify(world.place, "all").damaged == {}
    restore(world.settings("other"), world.place, ids[-1])
    assert world.seen("other") == world.seen()
    assert prune(world.place, keep=2, grace=DAY).objects == 0


def test_no_object_goes_while_a_backup_may_run_and_two_prunes_keep_out_of_each_others_way(world: World) -> None:
    world.make()
    for _ in range(3):
        world.back_up(full=True)
    before = world.objects()
    world.place.write("running/of-somebody.json", b'{"owner": "somebody"}')
    done = prune(world.place, keep=1, grace=DAY)
    assert (done.waits_for, done.objects, len(done.removed)) == (["running/of-somebody.json"], 0, 2)
    assert world.objects() == before
    world.place.remove("running/of-somebody.json")
    world.place.write("running/prune-other.json", b"{}")
    with pytest.raises(LeaseHeld, match="Another prune"):
        prune(world.place, keep=1, grace=DAY)
    world.place.remove("running/prune-other.json")
    assert prune(world.place, keep=1, grace=DAY).objects > 0
    assert verify(world.place).damaged == {}


# -- the commands ------------------------------------------------------------------------------------------------------


def test_the_commands_take_list_verify_prune_and_restore(world: World, tmp_path: Path) -> None:
    world.make()
    door = SameProcess(tmp_path / "state", {}, {"PENSTOCK_BACKUP_URI": world.backup_uri, "PENSTOCK_KEEP_BACKUPS": "1"})
    assert "There is no backup" in door.run("backup", "list").out
    assert "files with" in door.run("backup").out
    taken = json.loads(door.run("backup", "--json").out)
    assert taken["new_files"] == 0
    assert [each["id"] for each in json.loads(door.run("backup", "list", "--json").out)][-1] == taken["id"]
    assert "Every length and checksum is right" in door.run("backup", "verify").out
    assert "1 backups were removed" in door.run("backup", "prune").out
    told = door.run("restore", "--into", str(tmp_path / "new"))
    assert "Nothing was changed" in told.out
    assert not (tmp_path / "new").exists()
    assert "IN THE WAY" in door.run("restore").out
    assert door.run("restore", "--yes").code == 2
    at = datetime.now(UTC).isoformat()
    assert door.run("restore", "--at", at).code == 2
    done = json.loads(door.run("restore", taken["id"], "--into", str(tmp_path / "new"), "--yes", "--json").out)
    assert (done["backup"], done["current"]) == (taken["id"], "r000002")
    assert world.seen("new") == world.seen()
    damaged = tmp_path / "backups" / world.objects()[0]
    damaged.write_bytes(b"")
    found = door.run("backup", "verify")
    assert (found.code, world.objects()[0] in found.err) == (3, True)
