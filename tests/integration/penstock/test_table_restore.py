"""Laws of the restore of one table: what it was then, as one new snapshot, and nothing else; or nothing at all."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from common.errors import CommitConflict, UnknownName, UsageError
from common.settings import Settings
from lake.backup_place import FolderPlace
from lake.paths import TableId
from lake.proof import prove
from lake.quarantine import quarantined
from lake.sweep import sweep
from penstock.backup import take
from penstock.doctor import examine
from penstock.pipeline import Pipeline
from penstock.restore_table import restore_table
from penstock.restore_table_plan import plan_table
from tests.door import SameProcess
from tests.integration.lake.lakes import TABLE, Bench, Row, new_lake

FIRST, SECOND, THIRD, FOURTH = (f"2013-01-0{number}" for number in (1, 2, 3, 4))
THEN: dict[str, list[Row]] = {FIRST: [(1, "a"), (2, None)], SECOND: [(3, "c")], THIRD: [(4, "d")]}


@dataclass
class Past:
    """A lake that has gone on since a moment, and a backup that was taken then or later.

    Attributes:
        bench: the lake.
        place: of the backup.
        backup_id: which.
        at: the moment.
        then: what a reader saw.
    """

    bench: Bench
    place: FolderPlace
    backup_id: str
    at: datetime
    then: tuple[Any, ...]

    def pipeline(self) -> Pipeline:
        """As a command has it."""
        return Pipeline(self.bench.settings)


def seen(bench: Bench) -> tuple[Any, ...]:
    """Rows, the account of each interval, and what waits in quarantine."""
    lake = bench.open()
    accounts = [(r.key, r.rows_in, r.published, r.quarantined, r.checksum) for r in lake.receipts(TABLE)]
    waiting = [(row["row_id"], row["rules"], row["row"]) for row in quarantined(lake, TABLE).to_pylist()]
    return bench.rows(lake=lake), sorted(accounts), waiting


def past(bench: Bench, folder: Path, *, with_data: bool) -> Past:
    """Three days with rejected rows; then one is replaced, one is as it was, one is emptied, and a fourth comes."""
    for key, rows in THEN.items():
        bench.publish([*rows, (-1, f"bad {key}")], key, rejected=[len(rows)])
    then, at = seen(bench), datetime.now(UTC)
    time.sleep(0.01)
    bench.publish([(1, "newer"), (-5, "worse")], FIRST, rejected=[1])
    bench.publish([], THIRD)
    bench.publish([(9, "later")], FOURTH)
    place = FolderPlace(folder)
    taken = take(Pipeline(bench.settings), place, with_data=with_data)
    bench.publish([(10, "later still")], "2013-01-05")
    return Past(bench, place, taken.index.id, at, then)


@pytest.fixture(params=["local", "s3", "s3 without data"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Past:
    """On a local disk, on the real S3, and there with a backup that holds no data files."""
    if request.param == "local":
        return local_world(tmp_path)
    services = request.getfixturevalue("services")
    bench = Bench(new_lake(tmp_path / "state", services.connections["stations"], f"lake-{uuid.uuid4().hex[:12]}"))
    return past(bench, tmp_path / "backups", with_data=request.param == "s3")


def local_world(folder: Path) -> Past:
    """A lake in a folder."""
    return past(Bench(Settings.load({}, home=folder / "state")), folder / "backups", with_data=True)


def test_a_table_becomes_what_it_was_by_one_snapshot_and_goes_on_from_there(world: Past) -> None:
    bench, before = world.bench, seen(world.bench)
    planned = plan_table(world.pipeline(), world.place, world.backup_id, TABLE, at=world.at)
    assert ([each.key for each in planned.back], planned.gone, planned.same) == (
        [FIRST, THIRD],
        (FOURTH, "2013-01-05"),
        1,
    )
    assert seen(bench) == before, "a plan changes nothing"
    snapshots = len(bench.open().load(TABLE).metadata.snapshots)
    done = restore_table(world.pipeline(), world.place, world.backup_id, TABLE, at=world.at)
    assert seen(bench) == world.then
    now = bench.open().load(TABLE).metadata
    assert (len(now.snapshots), now.current_snapshot_id) == (snapshots + 1, done.snapshot_id)
    prove(bench.open(), TABLE)
    assert all(receipt.proof for receipt in bench.open().receipts(TABLE)), "restored rows are proven as all others are"
    sweep(bench.open(), grace=timedelta(0))
    found = examine(world.pipeline(), deep=True)
    assert [each.kind for each in found if each.kind != "hole"] == []
    assert seen(bench) == world.then, "nothing of it was swept"
    again = restore_table(world.pipeline(), world.place, world.backup_id, TABLE, at=world.at)
    assert (again.snapshot_id, again.plan.same) == (None, 3), "once is enough"
    same = bench.publish([*THEN[FIRST], (-1, f"bad {FIRST}")], FIRST, rejected=[2], lake=bench.open())
    assert same.state == "unchanged", "a source that still has what it had then has nothing new"
    bench.publish([(7, "next")], FIRST, lake=bench.open())
    assert bench.rows(FIRST, bench.open()) == [(7, "next")]


def test_the_newest_state_of_a_backup_comes_back_without_a_time(tmp_path: Path) -> None:
    world = local_world(tmp_path)
    done = restore_table(world.pipeline(), world.place, world.backup_id, TABLE)
    assert (done.plan.gone, done.plan.same, done.plan.back) == (("2013-01-05",), 4, ())
    assert world.bench.rows(lake=world.bench.open()) == [(1, "newer"), (3, "c"), (9, "later")]


def test_a_run_that_publishes_meanwhile_wins_and_nothing_is_left_of_the_restore(tmp_path: Path) -> None:
    world = local_world(tmp_path)
    bench = world.bench
    kept: list[tuple[object, set[str]]] = []

    def meanwhile(*_: object) -> None:
        if not kept:
            bench.publish([(11, "meanwhile")], "2013-01-06", lake=bench.open())
            kept.append((seen(bench), set(bench.receipt_files())))

    with pytest.raises(CommitConflict, match="pause the runs"):
        restore_table(world.pipeline(), world.place, world.backup_id, TABLE, at=world.at, progress=meanwhile)
    assert kept == [(seen(bench), set(bench.receipt_files()))]
    live = {file.location for file in bench.open().live(TABLE)}
    before = {f.rsplit("/", 1)[-1] for s in bench.open().load(TABLE).metadata.snapshots for f in _files(bench, s)}
    assert {path.rsplit("/", 1)[-1] for path in bench.data_files()} == before | {x.rsplit("/", 1)[-1] for x in live}


def _files(bench: Bench, snapshot: Any) -> list[str]:
    io = bench.open().load(TABLE).io
    return [
        entry.data_file.file_path
        for manifest in snapshot.manifests(io)
        for entry in manifest.fetch_manifest_entry(io, discard_deleted=True)
    ]


@pytest.mark.parametrize(
    ("table", "at", "error", "told"),
    [
        ("quarantine.raw__shop__orders", None, UsageError, "cannot be restored by itself"),
        ("raw.shop__nothing", None, UnknownName, "has no table"),
        (str(TABLE), datetime(2020, 1, 1, tzinfo=UTC), UsageError, "had no rows yet"),
    ],
)
def test_what_cannot_be_restored_is_refused_and_says_why(
    tmp_path: Path, table: str, at: datetime | None, error: type[Exception], told: str
) -> None:
    world = local_world(tmp_path)
    with pytest.raises(error, match=told):
        plan_table(world.pipeline(), world.place, world.backup_id, TableId.parse(table), at=at)


def test_a_table_that_was_made_anew_with_other_columns_is_refused(tmp_path: Path) -> None:
    world = local_world(tmp_path)
    catalog = world.bench.open().catalog
    catalog.rename_table(str(TABLE), "raw.elsewhere")
    schema = catalog.load_table("raw.elsewhere").schema()
    turned = schema.model_copy(update={"fields": tuple(reversed(schema.fields)), "identifier_field_ids": []})
    catalog.create_table(str(TABLE), turned, f"file://{tmp_path}/state/lake/raw/anew")
    with pytest.raises(UsageError, match="made anew"):
        plan_table(world.pipeline(), world.place, world.backup_id, TABLE)


def test_the_command_says_first_what_it_would_do(tmp_path: Path) -> None:
    world = local_world(tmp_path)
    run = SameProcess(world.bench.settings.home, {}, {"PENSTOCK_BACKUP_URI": str(tmp_path / "backups")}).run
    words = ("restore", world.backup_id, "--table", str(TABLE), "--at", world.at.isoformat())
    told = run(*words)
    assert told.code == 0, told.err
    assert "2 intervals (2013-01-01, 2013-01-03) come back with 3 rows, 2 in quarantine" in told.out
    assert "Nothing was changed" in told.out
    refused = run(*words, "--into", str(tmp_path / "other"))
    assert refused.code == 2
    assert "leave out --into" in refused.err
    done = run(*words, "--yes", "--json")
    assert done.code == 0, done.err
    plain = json.loads(done.out)
    assert (plain["back"], plain["gone"], plain["rows"]) == ([FIRST, THIRD], [FOURTH, "2013-01-05"], 3)
    assert seen(world.bench) == world.then
