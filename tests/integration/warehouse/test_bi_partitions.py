"""Laws of partitions: only months that changed are sent, and what readers see is the release, whatever came before."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import psycopg  # noqa: TID251 - a client as users have it
import pytest

from common.errors import LeaseHeld, SourceRefused, SpecError
from tests.integration.warehouse.bench import Bench
from warehouse.bi import BiPublished
from warehouse.releases import Release, open_read_only

ROWS = 40
"""Of each month."""
MARK: Mapping[str, Any] = {
    "flights": {"primary_key": ["flight_id"], "indexes": [["origin"]], "partition_by": "day"},
    "carriers": {"primary_key": ["code"]},
}


def months(bench: Bench, versions: Mapping[str, int], *, kind: str = "INTEGER", more: str = "") -> Release:
    """A release with flights of some months; a month's version is in each of its rows."""
    rows = " UNION ALL ".join(
        f"SELECT '{month}-' || i AS flight_id, DATE '{month}-01' + (i % 28)::INTEGER AS day, "
        f"['JFK', 'LGA'][1 + i % 2] AS origin, {version}::{kind} AS delay, 'N' || i AS tail FROM range({ROWS}) AS r(i)"
        for month, version in versions.items()
    )
    return bench.release(
        f"CREATE TABLE flights (flight_id VARCHAR NOT NULL, day DATE, origin VARCHAR, delay {kind}, tail VARCHAR)",
        f"INSERT INTO flights {rows}",
        "COMMENT ON TABLE flights IS 'Flights. Grain: one row per flight.'",
        f"CREATE TABLE carriers AS SELECT 'UA' AS code, {len(versions)} AS months",
        *([more] if more else []),
        bi=MARK,
    )


def same(bench: Bench, release: Release, *, url: str | None = None) -> None:
    """What readers see is the release, row by row and type by type."""
    query = "SELECT flight_id, day, origin, delay, tail FROM {} ORDER BY flight_id, day"
    with closing(open_read_only(release.database)) as connection:
        expected = connection.execute(query.format("main.flights")).fetchall()
    assert bench.ask(query.format("marts.flights"), url=url or bench.reader_url) == expected
    assert bench.ask("SELECT release FROM marts._release") == [(release.id,)]
    [(key, indexed)] = bench.ask(
        "SELECT (SELECT count(*) FROM pg_index WHERE indrelid = 'marts.flights'::regclass AND indisprimary), "
        "(SELECT count(*) FROM pg_index WHERE indrelid = 'marts.flights'::regclass)"
    )
    assert (key, indexed) == (1, 2)


def partitions(bench: Bench) -> dict[str, str]:
    """Identity in PostgreSQL of the table of each month."""
    rows = bench.ask(
        "SELECT substring(obj_description(c.oid, 'pg_class') from 'Rows of ([-0-9]+)'), c.oid::text FROM pg_inherits "
        "JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'marts.flights'::regclass"
    )
    return dict(rows)


def everything(bench: Bench) -> list[tuple[str, str]]:
    """Every table in a schema of ours that is not shown to readers."""
    rows = bench.ask(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
        "WHERE nspname LIKE 'marts\\_\\_%' AND relkind IN ('r', 'p')"
    )
    return [(schema, name) for schema, name in rows]


def test_only_partitions_that_changed_are_sent_and_the_others_stay_the_tables_they_were(bench: Bench) -> None:
    first = months(bench, {"2013-01": 1, "2013-02": 1, "2013-12": 1})
    done = bench.publish(first)
    assert done == BiPublished(first.id, written=("carriers", "flights"))
    assert done.rows_sent == 3 * ROWS + 1
    same(bench, first)
    before = partitions(bench)
    assert set(before) == {"2013-01", "2013-02", "2013-12"}
    # One changes, one comes, one goes; and a prepared statement follows.
    with psycopg.connect(bench.reader_url, autocommit=True) as reader:
        look = b"SELECT count(*), sum(delay) FROM marts.flights WHERE day >= '2013-02-01'"
        for _ in range(6):
            assert reader.execute(look, prepare=True).fetchone() == (2 * ROWS, 2 * ROWS)
        second = months(bench, {"2013-02": 1, "2013-12": 2, "2014-01": 1})
        done = bench.publish(second)
        assert reader.execute(look, prepare=True).fetchone() == (3 * ROWS, 4 * ROWS)
    assert (done.updated, done.written, done.carried) == (("flights",), (), ("carriers",))
    assert done.rows_sent == 2 * ROWS
    same(bench, second)
    after = partitions(bench)
    assert {month for month, oid in after.items() if before.get(month) == oid} == {"2013-02"}
    assert len(everything(bench)) == 3
    # A rollback sends what is different, and no more; a month that only goes sends nothing.
    done = bench.publish(bench.releases.rollback(first.id))
    assert (done.updated, done.rows_sent) == (("flights",), 2 * ROWS)
    same(bench, first)
    third = months(bench, {"2013-01": 1, "2013-02": 1})
    assert bench.publish(third).rows_sent == 1  # of the carriers
    same(bench, third)
    # Readers see neither the partitions nor their schema.
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        bench.ask(f'SELECT * FROM marts__partitions."{everything(bench)[0][1]}"', url=bench.reader_url)
    assert bench.schemas() == ["marts", "marts__partitions"]


def test_a_walk_of_changes_rollbacks_and_failures_always_ends_in_the_release_and_sends_the_difference(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, versions = random.Random(45), {"2013-01": 1}
    made: list[tuple[Release, dict[str, int]]] = []
    live: dict[str, int] = {}
    for step in range(9):
        if step % 4 == 3:
            release, versions = chance.choice(made)
            release = bench.releases.rollback(release.id)
        else:
            versions = {month: version for month, version in versions.items() if chance.random() > 0.2}
            for month in chance.sample(["2012-12", "2013-01", "2013-02", "2013-03", "2014-02"], 2):
                versions[month] = step + 1
            release = months(bench, versions)
            made.append((release, versions))
        if step in {2, 5}:  # stopped between load and swap: nothing is seen of it
            with monkeypatch.context() as patched:
                patched.setattr("warehouse.bi.reach", lambda _point: (_ for _ in ()).throw(InterruptedError))
                with pytest.raises(InterruptedError):
                    bench.publish(release)
            assert dict(bench.ask("SELECT substr(flight_id, 1, 7), max(delay) FROM marts.flights GROUP BY 1")) == live
        done = bench.publish(release)
        same(bench, release)
        kept = {month for month in versions if live.get(month) == versions[month]}
        changed = "carriers" in done.written
        assert done.rows_sent == changed + ROWS * (len(versions) - len(kept)), step
        assert done.updated == (("flights",) if kept and versions != live else ())
        assert len(everything(bench)) == len(versions)
        live = dict(versions)


def test_what_is_changed_of_its_shape_is_written_whole_and_what_has_no_month_is_one_table(bench: Bench) -> None:
    first = months(bench, {"2013-01": 1, "2013-02": 1})
    bench.publish(first)
    wider = months(bench, {"2013-01": 1, "2013-02": 1}, kind="BIGINT")
    done = bench.publish(wider)
    assert (done.written, done.rows_sent) == (("flights",), 2 * ROWS)
    same(bench, wider)
    kind = "SELECT data_type FROM information_schema.columns WHERE table_schema = 'marts' AND column_name = 'delay'"
    assert bench.ask(kind) == [("bigint",)]
    bench.publish(bench.releases.rollback(first.id))
    same(bench, first)
    assert bench.ask(kind) == [("integer",)]
    # A row without a day, or beyond the calendar: no partitions, all rows.
    for day in ("NULL", "'infinity'::DATE"):
        odd = months(bench, {"2013-01": 1}, more=f"INSERT INTO flights VALUES ('odd', {day}, 'JFK', 1, 'N')")
        assert bench.publish(odd).rows_sent in {ROWS + 1, ROWS + 2}
        assert bench.ask("SELECT count(*), count(*) FILTER (WHERE flight_id = 'odd') FROM marts.flights") == [
            (ROWS + 1, 1)
        ]
        assert everything(bench) == []
    # More months than PostgreSQL should lock: years.
    long = months(bench, {f"{year}-{month:02d}": 1 for year in range(2000, 2011) for month in range(1, 13)})
    bench.publish(long)
    same(bench, long)
    assert sorted(partitions(bench)) == [str(year) for year in range(2000, 2011)]


def test_a_load_that_fails_half_way_and_a_key_that_is_none_leave_what_readers_saw(bench: Bench) -> None:
    first = months(bench, {"2013-01": 1, "2013-02": 1})
    bench.publish(first)
    before = partitions(bench)
    # PostgreSQL cannot hold a NUL; the row is in the second month that is written.
    broken = months(
        bench,
        {"2013-01": 1, "2013-02": 2, "2013-03": 1},
        more="UPDATE flights SET tail = chr(0) WHERE flight_id = '2013-03-7'",
    )
    with pytest.raises(SourceRefused, match="said no"):
        bench.publish(broken)
    # The same key in two months: no index of PostgreSQL's would find it.
    doubled = months(
        bench,
        {"2013-01": 1, "2013-02": 2},
        more="UPDATE flights SET flight_id = '2013-01-1' WHERE flight_id = '2013-02-1'",
    )
    with pytest.raises(SpecError, match=r"share a value of the primary key \(flight_id\)"):
        bench.publish(doubled)
    same(bench, first)
    assert partitions(bench) == before
    bench.release("CREATE TABLE flights AS SELECT 1 AS day", bi={"flights": {"partition_by": "day"}})
    current = bench.releases.current()
    assert current is not None
    with pytest.raises(SpecError, match="no column 'day' of type DATE"):
        bench.publish(current)
    mended = months(bench, {"2013-01": 1, "2013-02": 2, "2013-03": 1})
    assert bench.publish(mended).rows_sent == 2 * ROWS + 1
    same(bench, mended)
    assert bench.schemas() == ["marts", "marts__partitions"]


def test_snapshots_and_transactions_of_before_see_one_release_whole_also_where_partitions_were_exchanged(
    bench: Bench,
) -> None:
    first = months(bench, {"2013-01": 1, "2013-02": 1})
    bench.publish(first)
    second = months(bench, {"2013-01": 1, "2013-02": 2, "2013-03": 2})
    whole = b"SELECT (SELECT release FROM marts._release), count(*), sum(delay) FROM marts.flights"
    with psycopg.connect(bench.reader_url) as early, psycopg.connect(bench.reader_url) as reading:
        early.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        early.execute("SELECT count(*) FROM pg_class")  # a snapshot; no table of ours is open
        with reading.cursor(name="server_side") as cursor:
            cursor.execute("SELECT delay FROM marts.flights")
            assert cursor.fetchone() == (1,)
            with pytest.raises(LeaseHeld, match="kept tables of 'marts' open"):
                bench.publish(second, wait_s=0.0)
            assert {delay for (delay,) in cursor.fetchall()} == {1}
        reading.commit()
        assert bench.publish(second).updated == ("flights",)
        expected = (second.id, 3 * ROWS, 5 * ROWS)
        assert early.execute(whole).fetchone() == expected
        assert reading.execute(whole).fetchone() == expected
    # A view of somebody's on the table goes on with it, and one on a partition keeps that.
    with psycopg.connect(bench.url, autocommit=True) as owner:
        [(leaf,)] = bench.ask(
            "SELECT c.relname FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid "
            "WHERE inhparent = 'marts.flights'::regclass AND obj_description(c.oid) LIKE 'Rows of 2013-01.%'"
        )
        owner.execute(f'CREATE VIEW on_leaf AS SELECT delay FROM marts__partitions."{leaf}"'.encode())
        owner.execute("CREATE VIEW on_table AS SELECT delay FROM marts.flights")
        done = bench.publish(months(bench, {"2013-01": 3, "2013-02": 2, "2013-03": 2}))
        assert [notice.split(" is kept")[1] for notice in done.notices] == [
            ": a view or a transaction needs its tables"
        ]
        seen = "SELECT (SELECT max(delay) FROM on_leaf), (SELECT max(delay) FROM on_table)"
        assert bench.ask(seen) == [(1, 3)]
        owner.execute("DROP VIEW on_leaf")
        owner.execute("DROP VIEW on_table")
    last = months(bench, {"2013-01": 4, "2013-02": 2, "2013-03": 2})
    assert bench.publish(last).notices == ()
    same(bench, last)
    assert len(everything(bench)) == 3
