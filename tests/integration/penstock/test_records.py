"""Laws of ``ops.gate_results`` and ``ops.ledger``: all that was judged stands in them once, whoever syncs and when."""

from __future__ import annotations

import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from common import fault_points
from common.clock import utc_now
from common.errors import GateRefused
from common.settings import Settings
from lake import ops
from lake.lake import Lake
from lake.ops import COSTS, GATE_RESULTS, LEDGER, OpsTable, declare_ops, ops_relation
from lake.publish import identify, publish
from lake.sweep import sweep
from lake.verdicts import record_refusal
from penstock.pipeline import Pipeline
from penstock.records import record
from tests.integration.lake.lakes import PROCESSES, TABLE, Bench, start, verdict

SPEC = """\
source: shop
kind: postgresql
connection: shop
owner: someone@shop.example
tables:
  - name: orders
    mode: append
    cursor: {column: at}
    columns: [{name: at, type: date, nullable: false}, {name: id, type: int64}]
"""
DAYS = ("2013-01-01", "2013-01-02", "2013-01-03")


@pytest.fixture
def shop(tmp_path: Path) -> Bench:
    """Three days published, one row of the second in quarantine."""
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "shop.yml").write_text(SPEC)
    bench = Bench(Settings.load({}, home=tmp_path / "state", sources=tmp_path / "sources"))
    for number, day in enumerate(DAYS):
        bench.publish([(1, "a"), (2, "b")], day, rejected=[0] if number == 1 else [])
    return bench


def pipeline(shop: Bench) -> Pipeline:
    return Pipeline(shop.settings, run_id="run-of-the-test")


def rows(shop: Bench, table: OpsTable, columns: str) -> list[tuple[Any, ...]]:
    lake = Lake(shop.settings)
    declare_ops(lake)
    with lake.connect() as connection:
        return connection.execute(f"SELECT {columns} FROM {ops_relation(lake, table)} ORDER BY ALL").fetchall()


def assert_complete(shop: Bench) -> None:
    """Each of the three batches stands in both tables once."""
    assert rows(shop, LEDGER, "partition_key, rows_in, published, quarantined, outcome") == [
        (DAYS[0], 2, 2, 0, "published"),
        (DAYS[1], 2, 1, 1, "published"),
        (DAYS[2], 2, 2, 0, "published"),
    ]
    assert rows(shop, GATE_RESULTS, "partition_key, rule, passed, rows_unexpected, rows_checked") == [
        (DAYS[0], "positive", True, 0, 2),
        (DAYS[1], "positive", False, 1, 2),
        (DAYS[2], "positive", True, 0, 2),
    ]


def test_every_rule_of_every_batch_is_recorded_once_and_a_second_sync_commits_nothing(shop: Bench) -> None:
    first = record(pipeline(shop))
    assert (first.gate_results, first.ledger) == (3, 3)
    assert_complete(shop)
    before = [shop.lake.snapshot_id(each.table) for each in ops.OPS_TABLES]
    again = record(pipeline(shop))
    assert (again.gate_results, again.ledger) == (0, 0)
    assert [shop.lake.snapshot_id(each.table) for each in ops.OPS_TABLES] == before


def test_what_a_run_used_is_recorded_once_and_a_file_cut_off_by_a_crash_stops_nothing(shop: Bench) -> None:
    run = pipeline(shop)
    with run.work.batch("ingest", "raw.shop__orders", DAYS[0]), run.work.step("extract"):
        pass
    assert record(run).costs == 3
    (kept,) = (Path(shop.settings.lake_uri) / "ops" / "usage").rglob("*.json")
    kept.with_name(f"{'0' * 32}.json").write_text(kept.read_text()[:40])
    assert record(pipeline(shop)).costs == 0
    found = rows(shop, COSTS, "run_id, stage, step, table_name, partition_key, times")
    assert found == [
        ("run-of-the-test", "ingest", "extract", "raw.shop__orders", DAYS[0], 1),
        ("run-of-the-test", "ingest", "rest", "raw.shop__orders", DAYS[0], 1),
        ("run-of-the-test", "run", "other", "", "", 1),
    ]


def test_files_of_costs_that_the_table_has_go_when_no_sync_looks_at_their_month_any_more(shop: Bench) -> None:
    run = pipeline(shop)
    with run.work.batch("ingest", "raw.shop__orders", DAYS[0]):
        pass
    record(run)
    (kept,) = (Path(shop.settings.lake_uri) / "ops" / "usage").rglob("*.json")
    unread = kept.with_name(f"{'0' * 32}.json")
    unread.write_text(kept.read_text())
    before = rows(shop, COSTS, "*")

    def swept(days: int) -> set[Path]:
        lake = Lake(shop.settings, clock=lambda: utc_now() + timedelta(days=days))
        sweep(lake, grace=timedelta(0))
        return {path for path in (kept, unread) if not path.exists()}

    assert swept(0) == set()
    assert swept(75) == {kept}, "what the table does not have stays"
    assert rows(shop, COSTS, "*") == before


def test_only_what_is_new_is_read(shop: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    record(pipeline(shop))
    shop.publish([(3, "c")], "2013-01-04")
    later = pipeline(shop)
    read: list[str] = []
    real = later.lake.storage.read_json

    def noted(location: str) -> Any:
        read.append(location)
        return real(location)

    monkeypatch.setattr(later.lake.storage, "read_json", noted)
    assert record(later).ledger == 1
    (receipt,) = (location for location in read if "/receipts/" in location)
    assert "2013-01-04" in receipt


def test_a_refused_batch_is_recorded_with_its_reason_and_its_rows_are_rejected(shop: Bench) -> None:
    staged = shop.stage([(0, "x"), (0, "y"), (0, "z")], "2013-01-04")
    with pytest.raises(GateRefused):
        publish(
            shop.lake,
            staged,
            verdict(3, [0, 1, 2], passed=False),
            identity=identify(shop.lake, staged),
            stage="ingest",
            run_id="run",
        )
    record_refusal(shop.lake, TABLE, "2013-01-05", "run", {"rows_in": 4, "volume": {"rows": 4, "rows_live": 99}})
    record(pipeline(shop))
    columns = "partition_key, stage, rows_in, published, quarantined, deduplicated, rejected, reason"
    refused = [row for row in rows(shop, LEDGER, f"{columns}, outcome") if row[-1] == "refused"]
    assert [row[:-1] for row in refused] == [
        ("2013-01-04", "ingest", 3, 0, 0, 0, 3, "too many rejected rows"),
        ("2013-01-05", "ingest", 4, 0, 0, 0, 4, 'volume: {"rows": 4, "rows_live": 99}'),
    ]
    judged = rows(shop, GATE_RESULTS, "outcome, partition_key, rule, severity, passed")
    assert [row[1:] for row in judged if row[0] == "refused"] == [
        ("2013-01-04", "positive", "critical", False),
        ("2013-01-05", "volume", "critical", False),
    ]


def test_a_batch_that_was_replaced_before_any_sync_is_recorded_too(shop: Bench) -> None:
    shop.publish([(7, "a"), (8, "b"), (9, "c")], DAYS[0])
    record(pipeline(shop))
    assert rows(shop, LEDGER, "partition_key, published")[:2] == [(DAYS[0], 2), (DAYS[0], 3)]


def test_many_syncs_leave_few_files_and_every_row(shop: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "MONTH_FILES", 2)
    record(pipeline(shop))
    for number in range(4, 10):
        shop.publish([(number, None)], f"2013-01-0{number}")
        record(pipeline(shop))
    assert len(rows(shop, GATE_RESULTS, "attempt_id")) == 9
    assert len(set(rows(shop, LEDGER, "attempt_id"))) == 9
    for each in ops.OPS_TABLES:
        assert len(shop.lake.live(each.table)) <= 2


# -- other processes ---------------------------------------------------------------------------------------------------


def _record(settings: Settings, point: str) -> None:
    fault_points.arm(point)
    record(Pipeline(settings))


def test_two_syncs_at_once_record_everything_once(shop: Bench) -> None:
    declare_ops(shop.lake)
    both = [start(_record, shop.settings, "") for _ in range(2)]
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    assert_complete(shop)


@pytest.mark.parametrize("point", ["lake.publish.after_commit:1", "lake.ops.before_commit:2"])
def test_a_sync_killed_at_any_commit_is_made_good_by_the_next_one(shop: Bench, point: str) -> None:
    declare_ops(shop.lake)
    process = PROCESSES.Process(target=_record, args=(shop.settings, point))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    record(pipeline(shop))
    assert_complete(shop)
