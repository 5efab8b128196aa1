"""Laws of reconciling: what differs is named by interval and column, what is known to differ is no difference."""

from __future__ import annotations

import pytest

from common.errors import Unreconciled
from lake.paths import new_attempt
from lake.quarantine import quarantined
from lake.rework import Rework, publish_rework
from penstock.reconcile import Line, reconcile, require_equal, sampled
from penstock.run import run
from tests.integration.ingestion.conftest import DatabaseSource
from tests.integration.ingestion.mysql_source import MysqlSource
from tests.integration.ingestion.shops import Shop
from tests.integration.ingestion.test_replay import DAY, NEXT, Till, new_till

AFTER = "2013-01-03"


@pytest.fixture
def till(database: DatabaseSource) -> Till:
    """Two days published: three good and two bad rows, then one good one."""
    made = new_till(database)
    made.put(9, 90, day=2)
    made.shop.ingest(NEXT)
    return made


def compared(shop: Shop, start: str | None = None, end: str | None = None, sample: int | None = None) -> list[Line]:
    """What ``penstock reconcile`` compares, but for the demo's own refined tables."""
    pipeline = shop.pipeline()
    pipeline.refined_tables = dict  # type: ignore[method-assign]
    return reconcile(pipeline, shop.raw, start=start, end=end, sample=sample)


def test_equal_intervals_are_equal_in_rows_and_columns_and_quarantine_explains_what_lacks(till: Till) -> None:
    first, second = compared(till.shop)
    assert (first.rows_left, first.rows_right, first.apart, first.is_equal) == (5, 3, 2, True)
    assert first.note == "columns not compared: 2 rows in quarantine"
    assert (second.rows_left, second.rows_right, second.columns) == (1, 1, ("id", "at", "amount"))
    require_equal([first, second])
    till.replay({4: {"amount": "40"}})
    (first, _) = compared(till.shop)
    assert (first.apart, first.is_equal, first.note) == (
        1,
        True,
        "columns not compared: 1 rows in quarantine, 1 repaired rows",
    )


def test_what_differs_is_named_by_interval_and_column(till: Till) -> None:
    till.put(9, 91, day=2)
    till.database.run("DELETE FROM {s}.t WHERE id = 1")
    till.put(7, 70, day=4)
    till.shop.ingest("2013-01-04")
    till.put(8, 80, day=3)
    lines = compared(till.shop)
    assert [line.interval for line in lines if not line.is_equal] == [DAY, NEXT, AFTER]
    assert [line.differing for line in lines] == [(), ("amount",), (), ()]
    assert lines[-1].note == "not loaded: run the day"
    with pytest.raises(Unreconciled, match=r"differ in 2013-01-01: 4 and 3 rows, 2 of them set apart.*; and 2 more"):
        require_equal(lines)
    assert [line.interval for line in compared(till.shop, NEXT, AFTER)] == [NEXT]
    assert len(compared(till.shop, sample=1)) == 1


def test_a_run_compares_what_it_has_read_and_a_difference_is_its_exit_code(till: Till) -> None:
    pipeline = till.shop.pipeline()
    pipeline.refined_tables = dict  # type: ignore[method-assign]
    report = run(pipeline, DAY, AFTER, sources=["shop"], build=False)
    assert (report.exit_code, [line.is_equal for line in report.reconciled]) == (0, [True, True])
    tamper(till)
    report = run(pipeline, DAY, AFTER, sources=["shop"], build=False)
    assert report.exit_code == 1
    (error,) = report.refusals
    assert isinstance(error, Unreconciled)
    assert "differ in 2013-01-02: column amount" in str(error)
    assert report.to_dict()["reconciled"][1]["differing"] == ("amount",)


def tamper(till: Till) -> None:
    """Have the lake hold another amount than came, with an account that adds up: what only comparing can find."""
    pipeline = till.shop.pipeline()
    pipeline.declare_raw()
    lake, raw, attempt = pipeline.lake, till.shop.raw, new_attempt()
    base = lake.receipt(raw, NEXT)
    assert base is not None
    location = lake.staging_location(raw, NEXT, attempt)
    with lake.connect() as connection:
        lake.write(connection, f"SELECT * REPLACE (1 AS amount) FROM {lake.relation(raw, [NEXT])}", raw, location)
    seen = frozenset(file.location for file in lake.live(raw, NEXT))
    staying = quarantined(lake, raw, NEXT)
    publish_rework(lake, Rework(raw, base, seen, attempt, (location,), 1, staying, {}, (), "x", "x"), run_id="x")


def test_samples_differ_from_run_to_run_and_are_the_same_for_one() -> None:
    keys = [f"2013-01-{day:02}" for day in range(1, 29)]
    assert sampled(keys, 3, "run-1") == sampled(list(reversed(keys)), 3, "run-1")
    assert len({tuple(sampled(keys, 3, f"run-{n}")) for n in range(20)}) > 10
    assert sampled(keys[:2], 3, "run-1") == keys[:2]


def test_intervals_of_a_mariadb_table_are_compared_beside_its_own_data(mysql: MysqlSource) -> None:
    mysql.run(
        "CREATE TABLE t (id int primary key, at timestamp(6) not null default '2000-01-01', "
        "amount decimal(6,2), note text)"
    )
    mysql.run(
        "SET time_zone = '+00:00'; "
        "INSERT INTO t VALUES (1, '2013-01-01 17:00:00', 0.50, 'é'), (2, '2013-01-02 17:00:00', -0.5, NULL)"
    )
    mysql.spec("id: int32; at: timestamptz; amount: decimal(6,2); note: string", cursor="at")
    shop = Shop(mysql.folder, mysql.url, "t")
    shop.declare((mysql.folder / "shop.yml").read_text())
    for day in (DAY, NEXT):
        shop.ingest(day)
    assert [(line.rows_left, len(line.columns), line.is_equal) for line in compared(shop)] == [(1, 4, True)] * 2
    mysql.run("UPDATE t SET amount = -0.6, note = '' WHERE id = 2")
    assert [line.differing for line in compared(shop)] == [(), ("amount", "note")]
