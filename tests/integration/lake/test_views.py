"""Laws of ``penstock query --lake``: the live rows with their types, one SELECT, and nothing but the lake."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from common.errors import UnknownName
from lake.lake import Lake
from lake.views import lake_views
from tests.integration.lake.lakes import Bench


def asked(lake: Lake, sql: str) -> list[tuple[object, ...]]:
    """The answer to a query."""
    with lake_views(lake, sql) as connection:
        return connection.execute(sql).fetchall()


def test_a_view_shows_the_live_rows_in_the_types_of_the_table(bench: Bench) -> None:
    bench.publish([(1, "a"), (2, "b")])
    bench.publish([(3, "c")])
    lake = bench.open()
    sql = "with x as (select * from raw.shop__orders) select id, note, typeof(id), typeof(ds) from x order by id"
    assert asked(lake, sql) == [(3, "c", "BIGINT", "DATE")]


def test_an_unknown_table_names_those_there_are(bench: Bench) -> None:
    bench.publish([(1, "a")])
    with pytest.raises(UnknownName, match=r"raw\.nothing.*raw\.shop__orders"):
        asked(bench.open(), "select * from raw.nothing")


def test_a_query_reads_no_file_outside_the_lake_and_opens_nothing(bench: Bench, tmp_path: Path) -> None:
    bench.publish([(1, "a")])
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    for sql in (
        f"select * from read_csv('{secret}')",
        f"attach '{tmp_path}/other.db'",
        f"copy (select 1) to '{tmp_path}/out.csv'",
        "set enable_external_access = true",
    ):
        with pytest.raises(duckdb.Error, match=r"(?i)disabled|locked|permission|cannot"):
            asked(bench.open(), sql)
    assert not (tmp_path / "out.csv").exists()
