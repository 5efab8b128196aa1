"""Laws of publishing: one commit makes a batch true, or nothing has changed. On local disk and on S3."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import pytest

from common.errors import GateRefused, SpecError, StateCorrupt, UnknownName
from lake.engine import lake_credentials
from lake.lake import Lake
from lake.paths import WHOLE, attempt_of, receipt_location
from lake.publish import identify, publish
from lake.quarantine import quarantined
from lake.schema import Column
from tests.integration.lake.lakes import (
    COLUMNS,
    NOW,
    TABLE,
    WHOLE_TABLE,
    Bench,
    publish_staged,
    stage_rows,
    verdict,
)

DAY, NEXT_DAY = "2013-01-01", "2013-01-02"
FIRST = [(1, "a"), (2, None)]
SECOND = [(3, "ü 'x' \"y\"\n"), (4, "")]


def test_a_batch_is_invisible_until_it_is_published(bench: Bench) -> None:
    bench.publish(FIRST)
    before = bench.state()[:3]
    staged = bench.stage(SECOND)
    assert bench.state()[:3] == before
    publish_staged(bench.lake, staged)
    assert bench.rows() == SECOND


def test_a_batch_replaces_exactly_its_own_partition(bench: Bench) -> None:
    bench.publish(FIRST, DAY)
    bench.publish([(9, "other day")], NEXT_DAY)
    receipt = bench.publish(SECOND, DAY)
    assert bench.rows(DAY) == SECOND
    assert bench.rows(NEXT_DAY) == [(9, "other day")]
    assert (receipt.state, receipt.rows_in, receipt.published) == ("published", 2, 2)
    assert receipt.balanced
    assert [r.key for r in bench.open().receipts(TABLE)] == [DAY, NEXT_DAY]
    assert bench.open().receipt(TABLE, DAY) == receipt


def test_the_same_batch_again_changes_nothing_and_leaves_no_file(bench: Bench, figures: Callable[..., None]) -> None:
    first = bench.publish(FIRST)
    before, size_bytes = bench.state(), bench.size_bytes()
    again = bench.publish(list(reversed(FIRST)))
    rows = bench.rows()
    figures(
        rows_expected=len(FIRST),
        rows_lost=len(set(FIRST) - set(rows)),
        rows_duplicated=len(rows) - len(set(rows)),
        second_run_bytes=bench.size_bytes() - size_bytes,
    )
    assert (again.state, again.batch_id, again.attempt) == ("unchanged", first.batch_id, first.attempt)
    assert bench.state() == before


def test_the_same_batch_that_reaches_the_commit_again_changes_nothing(bench: Bench) -> None:
    staged = bench.stage(FIRST)
    identity = identify(bench.lake, staged)
    bench.publish(FIRST)
    before, receipts = bench.state()[:3], bench.receipt_files()
    receipt = publish(bench.lake, staged, verdict(2), identity=identity, stage="ingest", run_id="late")
    assert receipt.state == "unchanged"
    assert bench.state()[:3] == before
    assert len(bench.data_files()) == 1
    assert bench.receipt_files() == receipts


@pytest.mark.parametrize("change", [{"code": "new code"}, {"deduplicated": 1}, {"early": 1}])
def test_the_same_rows_with_another_code_or_account_are_another_batch(local: Bench, change: dict[str, Any]) -> None:
    first = local.publish(FIRST)
    again = local.publish(FIRST, **change)
    assert again.state == "published"
    assert again.batch_id != first.batch_id
    assert local.open().receipt(TABLE, DAY) == again


def test_rejected_rows_wait_in_quarantine_and_the_rest_is_published(bench: Bench) -> None:
    rows = [(1, "a"), (-1, 'b "quoted"'), (2, "c"), (-2, None)]
    receipt = bench.publish(rows, rejected=[1, 3], early=2, deduplicated=3)
    assert bench.rows() == [(1, "a"), (2, "c")]
    assert (receipt.rows_in, receipt.published, receipt.quarantined, receipt.deduplicated) == (9, 2, 4, 3)
    assert receipt.rows_in == receipt.published + receipt.quarantined + receipt.deduplicated
    waiting = quarantined(bench.open(), TABLE).to_pylist()
    assert sorted((row["position"], row["rules"], row["reason"], json.loads(row["row"])["id"]) for row in waiting) == [
        ("line 0", "exact_value", "no number", "x0"),
        ("line 1", "exact_value", "no number", "x1"),
        ("row 1", "positive", "An id is > 0.", -1),
        ("row 3", "positive", "An id is > 0.", -2),
    ]
    assert json.loads(waiting[2]["row"]) == {"ds": DAY, "id": -1, "note": 'b "quoted"'}
    assert {(row["batch_id"], row["attempt_id"], row["run_id"], row["quarantined_at"]) for row in waiting} == {
        (receipt.batch_id, receipt.attempt, "run", NOW)
    }
    assert len(bench.data_files()) == 1  # the staged file with the bad rows is gone
    assert quarantined(bench.open(), TABLE, limit=3).num_rows == 3
    assert quarantined(bench.open(), TABLE, NEXT_DAY).num_rows == 0


def test_rejects_of_a_batch_of_several_files_are_counted_over_all_of_them(local: Bench) -> None:
    rows = [(1, "a"), (2, "b"), (-3, "c"), (4, "d"), (-5, "e"), (6, "f")]
    local.publish(rows, parts=3, rejected=[2, 4])
    assert local.rows() == [(1, "a"), (2, "b"), (4, "d"), (6, "f")]
    waiting = quarantined(local.open(), TABLE).to_pylist()
    assert [(row["position"], json.loads(row["row"])["id"]) for row in waiting] == [("row 2", -3), ("row 4", -5)]


def test_rows_rejected_from_a_superseded_batch_show_no_more(bench: Bench) -> None:
    bench.publish([(1, "a"), (-1, "b")], rejected=[1])
    bench.publish([(8, "x"), (-8, "y")], NEXT_DAY, rejected=[1])
    bench.publish([(1, "a"), (-7, "z"), (-8, "z")], rejected=[1, 2])
    waiting = quarantined(bench.open(), TABLE, DAY).to_pylist()
    assert sorted(json.loads(row["row"])["id"] for row in waiting) == [-8, -7]
    bench.publish([(1, "a"), (7, "z")])
    assert quarantined(bench.open(), TABLE, DAY).num_rows == 0
    assert quarantined(bench.open(), TABLE).num_rows == 1


def test_rows_of_attempts_that_died_long_ago_leave_the_quarantine_for_good(local: Bench) -> None:
    for number in range(3):
        local.publish([(1, f"{number}"), (-1, "b")], rejected=[1])
    assert len(local.lake.live(TABLE.quarantine, DAY)) == 3  # young ones may be about to be published
    later = local.open()
    later.clock = lambda: NOW + timedelta(days=2)
    publish_staged(later, local.stage([(1, "later"), (-1, "b")], lake=later), [1])
    # Rows of two days ago in files of a moment ago: somebody is about to publish them anew.
    assert len(local.lake.live(TABLE.quarantine, DAY)) == 4
    later.clock = lambda: datetime.now(UTC) + timedelta(days=2)
    publish_staged(later, local.stage([(1, "much later"), (-1, "b")], lake=later), [1])
    assert len(local.lake.live(TABLE.quarantine, DAY)) == 2  # the one that was live, and the new one
    assert quarantined(local.open(), TABLE).num_rows == 1


def test_a_row_with_values_that_json_has_not_is_quarantined_as_valid_json(local: Bench) -> None:
    lake = local.lake
    columns = (Column("f", "float64"), Column("g", "float32"), Column("b", "binary"), Column("d", "decimal(38,10)"))
    lake.ensure(WHOLE_TABLE, columns, partition_by=None)
    staged = stage_rows(lake, [], WHOLE, table=TABLE, parts=0)
    location = lake.staging_location(WHOLE_TABLE, WHOLE, staged.attempt)
    values = "'nan'::DOUBLE AS f, '-inf'::FLOAT AS g, '\\x00\\xFF'::BLOB AS b, 12345678901234567890.1234567890 AS d"
    with lake.connect() as connection:
        lake.write(connection, f"SELECT {values}", WHOLE_TABLE, location)
    publish_staged(lake, replace(staged, table=WHOLE_TABLE, files=(location,), rows_in=1, rows_staged=1), [0])

    def refuse(word: str) -> None:
        raise AssertionError(word)

    waiting = quarantined(lake, WHOLE_TABLE).to_pylist()
    assert json.loads(waiting[0]["row"], parse_constant=refuse, parse_float=str) == {
        "f": "nan",
        "g": "-inf",
        "b": "AP8=",
        "d": "12345678901234567890.1234567890",
    }


def test_a_refused_batch_publishes_nothing_and_leaves_its_verdict_and_no_file(bench: Bench) -> None:
    bench.publish(FIRST)
    before = bench.state()
    staged = bench.stage(SECOND, early=1)
    identity = identify(bench.lake, staged)
    with pytest.raises(GateRefused, match="too many rejected rows") as refused:
        publish(bench.lake, staged, verdict(2, [0], passed=False), identity=identity, stage="ingest", run_id="r1")
    assert (refused.value.table, refused.value.interval) == (str(TABLE), DAY)
    assert bench.state() == before
    assert quarantined(bench.open(), TABLE).num_rows == 0
    [refusal] = bench.refusal_files()
    assert (refusal["table"], refusal["key"], refusal["run_id"], refusal["rows_in"]) == (str(TABLE), DAY, "r1", 3)
    assert refusal["verdict"]["reasons"] == ["too many rejected rows"]


@pytest.mark.parametrize(
    ("change", "rows_checked", "rejected"),
    [
        ({"rows_in": 3}, 2, []),  # a row was lost on the way
        ({"rows_staged": 3, "rows_in": 3}, 2, []),  # a row was announced that is not in the file
        ({"rows_staged": 3, "rows_in": 3}, 3, []),
        ({}, 1, []),  # the gate read another file
        ({}, 2, [5]),  # the gate rejected a row that is not there
        ({}, 2, [1, 1]),  # the gate rejected one row twice
    ],
)
def test_an_account_that_does_not_add_up_is_refused_and_leaves_nothing(
    local: Bench, change: dict[str, Any], rows_checked: int, rejected: list[int]
) -> None:
    local.publish([(7, "live")])
    before, receipts = local.state(), local.receipt_files()
    staged = replace(local.stage(FIRST), **change)
    identity = identify(local.lake, staged)
    with pytest.raises(GateRefused, match="account does not add up"):
        publish(local.lake, staged, verdict(rows_checked, rejected), identity=identity, stage="ingest", run_id="r")
    assert local.state() == before
    assert local.receipt_files() == receipts
    assert quarantined(local.open(), TABLE).num_rows == 0


def test_an_empty_interval_is_recorded_and_shows_as_live(bench: Bench) -> None:
    receipt = bench.publish([])
    assert (receipt.state, receipt.rows_in, receipt.published) == ("published", 0, 0)
    assert bench.open().receipt(TABLE, DAY) == receipt
    assert bench.open().live_attempts(TABLE) == {DAY: receipt.attempt}
    assert bench.rows() == []
    assert bench.publish([]).state == "unchanged"
    bench.publish(FIRST)
    bench.publish([])
    assert bench.rows() == []
    assert bench.open().pin(TABLE).paths == {DAY: ()}


def test_a_batch_of_which_every_row_is_rejected_is_live_and_empty(bench: Bench) -> None:
    receipt = bench.publish([(-1, "a")], rejected=[0])
    assert (receipt.rows_in, receipt.published, receipt.quarantined) == (1, 0, 1)
    assert bench.rows() == []
    assert bench.open().receipt(TABLE, DAY) == receipt
    assert quarantined(bench.open(), TABLE).num_rows == 1


def test_a_table_without_partitions_is_replaced_as_a_whole_and_has_a_quarantine_too(bench: Bench) -> None:
    lake = bench.lake
    lake.ensure(WHOLE_TABLE, COLUMNS[1:], partition_by=None)
    for rows, rejected in (([(1, "a"), (-1, "b")], [1]), ([(2, "c"), (3, "d"), (-2, "e")], [2])):
        publish_staged(lake, stage_rows(lake, rows, WHOLE, table=WHOLE_TABLE), rejected)
        other = Lake(bench.settings)
        other.ensure(WHOLE_TABLE, COLUMNS[1:], partition_by=None)
        with other.connect() as connection:
            found = connection.execute(f"SELECT * FROM {other.relation(WHOLE_TABLE)} ORDER BY id").fetchall()
        assert found == [row for row in rows if row[0] > 0]
        assert list(other.live_attempts(WHOLE_TABLE)) == [WHOLE]
        [waiting] = quarantined(other, WHOLE_TABLE).to_pylist()
        assert (waiting["partition_key"], json.loads(waiting["row"])["id"]) == (WHOLE, rows[-1][0])


def polars_options(bench: Bench) -> dict[str, str] | None:
    """Polars' own words for the lake's credentials."""
    store = lake_credentials(bench.settings)
    if store is None:
        return None
    return {
        "aws_access_key_id": store.access_key,
        "aws_secret_access_key": store.secret_key.get_secret_value(),
        "aws_region": store.region,
        "aws_endpoint_url": store.endpoint,
        "aws_allow_http": str(urlsplit(store.endpoint).scheme == "http").lower(),
    }


@pytest.mark.filterwarnings("ignore:Iceberg scan planning")
def test_standard_readers_read_the_same_rows(bench: Bench) -> None:
    bench.publish([*FIRST, (-1, "bad")], DAY, rejected=[2])
    bench.publish(SECOND, NEXT_DAY)
    bench.publish([], "2013-01-03")
    bench.publish([(5, "five"), (6, None)], DAY)
    table = bench.open().load(TABLE)
    expected = sorted([(5, "five"), (6, None), *SECOND])
    assert sorted((row["id"], row["note"]) for row in table.scan().to_arrow().to_pylist()) == expected
    frame = pl.scan_iceberg(table, storage_options=polars_options(bench)).select("id", "note", "ds").collect()
    assert sorted(frame.select("id", "note").rows()) == expected
    day = table.scan(row_filter=f"ds = '{NEXT_DAY}'").to_arrow()
    assert set(day.column("id").to_pylist()) == {3, 4}
    assert int(table.current_snapshot().summary["total-records"]) == 4  # type: ignore[union-attr,index,arg-type]


def test_the_lake_can_be_pinned_at_one_snapshot_while_others_publish(bench: Bench) -> None:
    bench.publish(FIRST, DAY)
    bench.publish(SECOND, NEXT_DAY)
    pinned = bench.open().pin(TABLE)
    assert set(pinned.attempts) == set(pinned.paths) == {DAY, NEXT_DAY}
    assert pinned.snapshot_id == bench.lake.snapshot_id(TABLE)
    bench.publish([(9, "new")], DAY)
    with bench.lake.connect() as connection:
        paths = [path for group in pinned.paths.values() for path in group]
        assert connection.execute("SELECT count(*) FROM read_parquet(?)", [paths]).fetchone() == (4,)
    after = bench.open().pin(TABLE)
    assert after.snapshot_id != pinned.snapshot_id
    assert {key for key in after.attempts if after.attempts[key] != pinned.attempts[key]} == {DAY}
    assert all(attempt_of(paths[0]) == after.attempts[key] for key, paths in after.paths.items())


# -- schemas --------------------------------------------------------------------------------

GROWN = (*COLUMNS, Column("amount", "decimal(10,2)", True, "Amount."))


@pytest.mark.filterwarnings("ignore:Iceberg scan planning")
def test_an_added_nullable_column_reads_as_null_from_older_files(bench: Bench) -> None:
    bench.publish(FIRST, DAY)
    grown = Lake(bench.settings)
    grown.ensure(TABLE, GROWN, partition_by="ds")
    publish_staged(grown, stage_rows(grown, SECOND, NEXT_DAY))
    with grown.connect() as connection:
        found = connection.execute(f"SELECT id, note, amount FROM {grown.relation(TABLE)} ORDER BY id").fetchall()
    assert found == [(*row, None) for row in [*FIRST, *SECOND]]
    frame = pl.scan_iceberg(grown.load(TABLE), storage_options=polars_options(bench)).select("id", "amount").collect()
    assert sorted(frame.rows()) == [(number, None) for number in (1, 2, 3, 4)]
    assert grown.load(TABLE).scan().to_arrow().column("amount").null_count == 4


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (Column("note", "int64"), "note: string in the lake, int64 declared"),
        (Column("id", "float64"), "id: int64 in the lake, float64 declared"),
        (Column("id", "decimal(20,0)"), r"id: int64 in the lake, decimal\(20,0\) declared"),
    ],
)
def test_a_column_of_another_type_is_refused(local: Bench, column: Column, says: str) -> None:
    local.publish(FIRST)
    before = local.state()
    columns = [column if each.name == column.name else each for each in COLUMNS]
    with pytest.raises(SpecError, match=says):
        Lake(local.settings).ensure(TABLE, columns, partition_by="ds")
    assert local.state() == before
    assert [field.name for field in local.open().load(TABLE).schema().fields] == ["ds", "id", "note"]


# -- lost receipts, missing tables --------------------------------------------------------------------------------


def test_an_interval_whose_receipt_is_lost_is_healed_by_running_it_again(bench: Bench) -> None:
    receipt = bench.publish(FIRST)
    location = receipt_location(bench.settings.lake_uri, TABLE, DAY, receipt.attempt)
    bench.lake.storage.delete(location)
    with pytest.raises(StateCorrupt, match="re-run the interval"):
        bench.open().receipts(TABLE)
    again = bench.publish(FIRST, lake=bench.open())
    assert (again.state, again.batch_id) == ("published", receipt.batch_id)
    assert bench.open().receipts(TABLE) == [again]
    assert bench.rows() == FIRST


def test_a_table_that_is_not_there_is_named_and_has_no_rows(bench: Bench) -> None:
    lake = Lake(bench.settings)
    assert lake.live(WHOLE_TABLE) == []
    assert lake.receipts(WHOLE_TABLE) == []
    assert lake.pin(WHOLE_TABLE).snapshot_id is None
    assert quarantined(lake, WHOLE_TABLE).num_rows == 0
    with pytest.raises(UnknownName, match=r"raw\.shop__customers"):
        lake.load(WHOLE_TABLE)
