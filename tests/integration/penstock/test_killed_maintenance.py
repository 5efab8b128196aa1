"""Fault 1 for maintenance: killed at every point, then run again; and what it does when nothing disturbs it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from common.settings import Settings
from ingestion.extract_record import extract_record
from lake.compaction import compact, drop_abandoned
from lake.inventory import take_inventory
from lake.lake import Lake
from lake.ops import LEDGER, LEDGER_COLUMNS, append_missing, declare_ops, ops_relation
from lake.paths import attempt_of, new_attempt
from lake.quarantine import quarantined
from penstock.maintenance import maintain, retain
from penstock.pipeline import Pipeline
from tests.command_line import CommandLine
from tests.door import SameProcess
from tests.integration.lake.lakes import TABLE, Bench, publish_staged
from warehouse.lease import lease
from warehouse.releases import Releases

TRIALS = [
    ("maintain.sweep.before_note", 1),
    ("maintain.sweep.before_delete", 1),
    ("maintain.compact.before_commit", 1),
    ("maintain.expire.before_commit", 1),
]
MONTH = "2026-01"


def ledger_row(attempt: str) -> dict[str, object]:
    """One row of ``ops.ledger``."""
    texts = {column.name: "x" for column in LEDGER_COLUMNS if column.type == "string" and not column.nullable}
    counts = {column.name: 1 for column in LEDGER_COLUMNS if column.type == "int64"}
    own = {"attempt_id": attempt, "month": MONTH, "seconds": 0.5, "published_at": datetime(2026, 1, 2, tzinfo=UTC)}
    return {**texts, **counts, **own}


def used_lake(home: Path) -> Bench:
    """A lake with superseded batches, quarantined rows, an unnamed file, and a month of many small files."""
    bench = Bench(Settings.load({}, home=home))
    for number in range(3):
        bench.publish([(number, "a"), (-1, "b")], rejected=[1])
    bench.stage([(9, "nobody's")])
    declare_ops(bench.lake)
    for number in range(5):
        append_missing(bench.lake, LEDGER, [ledger_row(f"attempt {number}")], run_id="run")
    return bench


def seen(lake: Lake) -> tuple[object, ...]:
    """What every reader can see."""
    declare_ops(lake)
    with lake.connect() as connection:
        ledger = connection.execute(f"SELECT * FROM {ops_relation(lake, LEDGER)} ORDER BY attempt_id").fetchall()
    waiting = [row["row_id"] for row in quarantined(lake, TABLE).to_pylist()]
    return lake.checksum(TABLE), [receipt.to_dict() for receipt in lake.receipts(TABLE)], waiting, ledger


def test_maintenance_killed_at_any_point_changes_nothing_that_is_seen_and_its_rerun_ends_as_if_undisturbed(
    tmp_path: Path,
) -> None:
    home, saved = tmp_path / "state", tmp_path / "saved"
    before = seen(used_lake(home).lake)
    shutil.copytree(home, saved)
    command = CommandLine(home, {}, {"PENSTOCK_SWEEP_GRACE_H": "0"})
    for point, occurrence in TRIALS:
        shutil.rmtree(home)
        shutil.copytree(saved, home)
        words = ["expire", "--keep", "1"] if ".expire." in point else ["all"]
        armed = replace(command, extra={**command.extra, "PENSTOCK_FAULT_POINT": f"{point}:{occurrence}"})
        answer = armed.run("maintain", *words)
        assert answer.code == -signal.SIGKILL, f"{point} was reached fewer than {occurrence} times: {answer.err}"
        assert seen(Bench(command.settings()).open()) == before, point
        pipeline = Pipeline(command.settings().model_copy(update={"sweep_grace_h": 0.0}))
        done = maintain(pipeline)
        assert done.errors == {}
        lake = Bench(command.settings()).open()
        assert seen(lake) == before, point
        assert take_inventory(lake).orphans == {}
        assert len(lake.live(LEDGER.table)) == 1


def test_small_files_become_one_with_the_same_rows_and_a_faster_writer_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = used_lake(tmp_path / "state")
    lake = bench.open()
    declare_ops(lake)
    before = lake.checksum(LEDGER.table)
    assert len(compact(lake, LEDGER.table, run_id="run", dry_run=True)) == 1
    assert compact(lake, LEDGER.table, run_id="run", wanted=lambda key: key != MONTH) == []
    assert compact(lake, LEDGER.table, run_id="run", least=6) == []
    other = bench.open()
    declare_ops(other)

    def merged_by_another(_point: str) -> None:
        monkeypatch.setattr("lake.compaction.reach", lambda _point: None)
        assert len(compact(other, LEDGER.table, run_id="other")) == 1

    monkeypatch.setattr("lake.compaction.reach", merged_by_another)
    assert compact(lake, LEDGER.table, run_id="run") == [], "what it had merged was merged meanwhile"
    (file,) = lake.live(LEDGER.table)
    assert lake.checksum(LEDGER.table) == before
    assert [f for f in take_inventory(bench.open()).orphans["ops.ledger"] if "/data/" in f.location] == []
    append_missing(lake, LEDGER, [ledger_row("attempt 9")], run_id="run")
    assert file.location in {each.location for each in lake.live(LEDGER.table)}


def test_dead_files_of_quarantine_are_dropped_after_a_day_and_no_row_that_counts(tmp_path: Path) -> None:
    bench = Bench(Settings.load({}, home=tmp_path / "state"))
    bench.publish([(1, "a"), (-1, "b")], rejected=[1])
    bench.publish([(2, "a"), (-2, "b")], rejected=[1])
    (live,) = bench.lake.live_attempts(TABLE).values()
    assert len(bench.lake.live(TABLE.quarantine)) == 2
    assert drop_abandoned(bench.lake, TABLE, run_id="run") == [], "the other attempt may be about to be published"
    later = Lake(bench.settings, clock=lambda: datetime.now(UTC) + timedelta(days=2))
    later.ensure(TABLE, bench.lake.columns(TABLE)[0], partition_by="ds")
    (dropped,) = drop_abandoned(later, TABLE, run_id="run")
    assert (dropped.files, dropped.size_bytes > 0, dropped.new_bytes) == (1, True, 0)
    assert [attempt_of(file.location) for file in later.live(TABLE.quarantine)] == [live]
    assert quarantined(later, TABLE).num_rows == 1
    assert drop_abandoned(later, TABLE, run_id="run") == []


def test_retention_removes_what_killed_processes_left_and_nothing_that_somebody_holds(tmp_path: Path) -> None:
    settings = Settings.load({}, home=tmp_path / "state", keep_releases=1)
    warehouse = settings.warehouse
    for _ in range(2):
        releases = Releases(warehouse)
        candidate = releases.new_candidate(from_scratch=True)
        releases.seal(candidate, {"tables": []})
        releases.publish(candidate)
    waiting = Releases(warehouse).new_candidate(from_scratch=True)
    Releases(warehouse).seal(waiting, {"tables": []})
    (warehouse / "candidates" / "r000009").mkdir()  # of a build that died
    (warehouse / "releases" / "r000008").mkdir()  # of a publish that died
    (warehouse / "lease.1.held").touch()
    day_ago = time.time() - 25 * 3600
    with extract_record(settings.home, "raw.shop__orders", "2013-01-01"):
        lock = settings.home / "extracts" / "raw.shop__orders" / "2013-01-01.lock"
        os.utime(lock, (day_ago, day_ago))
        dead = lock.with_name("2013-01-02.lock")
        dead.write_text(json.dumps({"attempt": new_attempt()}))
        young = lock.with_name("2013-01-03.lock")
        young.touch()
        os.utime(dead, (day_ago, day_ago))
        spilled = settings.home / "tmp" / "spilled"
        spilled.mkdir(parents=True)
        for path in (spilled, spilled.parent):
            os.utime(path, (day_ago, day_ago))
        with lease(warehouse):
            busy = retain(Pipeline(settings), dry_run=True)
            assert [each["path"] for each in busy.left_over] == [str(dead), str(spilled)]
            assert retain(Pipeline(settings)).busy
        assert not dead.exists()
        assert lock.exists()
        assert young.exists()
    assert not spilled.exists()
    would = retain(Pipeline(settings), dry_run=True)
    done = retain(Pipeline(settings))
    assert would.left_over == done.left_over
    assert sorted(Path(each["path"]).name for each in done.left_over) == ["lease.1.held", "r000008", "r000009"]
    assert would.releases == done.releases == ["r000001"]
    assert Releases(warehouse).candidate().id == waiting.id
    assert [release.id for release in Releases(warehouse).all()] == ["r000002"]
    assert Releases(warehouse).publish(waiting).current


def test_the_commands_say_what_they_would_do_and_then_do_it(tmp_path: Path) -> None:
    used_lake(tmp_path / "state")
    door = SameProcess(tmp_path / "state", {}, {"PENSTOCK_SWEEP_GRACE_H": "24"})
    before = sorted((tmp_path / "state" / "lake").rglob("*"))
    would = json.loads(door.run("maintain", "sweep", "--grace", "0", "--dry-run", "--json").out)
    assert (would["dry_run"], would["files"] > 0, would["size_bytes"] > 0) == (True, True, True)
    assert sorted((tmp_path / "state" / "lake").rglob("*")) == before
    assert "wait: they have to be 24 h old" in door.run("maintain", "sweep").out
    done = json.loads(door.run("maintain", "sweep", "--grace", "0", "--json").out)
    assert {name: done[name] for name in ("files", "size_bytes")} == {n: would[n] for n in ("files", "size_bytes")}
    assert json.loads(door.run("maintain", "compact", "--json").out)[0]["files"] == 5
    assert json.loads(door.run("maintain", "expire", "--keep", "1", "--json").out)[str(TABLE)] > 0
    assert "0 releases and 0 leftovers were removed" in door.run("maintain", "retain").out
    everything = door.run("maintain", "all", "--json")
    assert (everything.code, json.loads(everything.out)["errors"]) == (0, {})
    publish_staged(Bench(Settings.load({}, home=tmp_path / "state")).lake, Bench(door.settings()).stage([(7, "c")]))
