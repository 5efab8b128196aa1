"""Laws of comparing keys: source and lake hash one text of a key, whatever its type; rows of MariaDB tell their day."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from ingestion.databases.key_sets import KeyDialect, lake_digest
from ingestion.databases.mysql_keys import MysqlKeys
from ingestion.databases.postgres_keys import PostgresKeys
from ingestion.spec import SourceSpec
from lake.paths import engine_path
from lake.sql import parquet_relation
from penstock.run import run
from tests.integration.ingestion.conftest import DatabaseSource
from tests.integration.ingestion.mysql_source import MysqlSource
from tests.integration.ingestion.shops import Shop

_MYSQL = {
    "i": ("bigint", "int64", "-9223372036854775808, 0, 9223372036854775807"),
    "u": ("int unsigned zerofill", "int64", "0, 7, 4294967295"),
    "y": ("year", "int32", "1901, 2155"),
    "bits": ("bit(33)", "int64", "0, 8589934591"),
    "flag": ("tinyint(1)", "bool", "0, 1"),
    "exact": ("decimal(38,10)", "decimal(38,10)", "-1234567890123456789012345678.0123456789, 0, 0.5, -0.0000000001"),
    "tail": ("decimal(30,30)", "decimal(30,30)", "0.123456789012345678901234567891, -0.000000000000000000000000000001"),
    "big": ("bigint unsigned", "decimal(20,0)", "0, 18446744073709551615"),
    "wide": ("decimal(9,2) unsigned", "decimal(12,4)", "0, 1234567.89"),
    "day": ("date", "date", "'0001-01-01', '0999-12-31', '2013-03-10', '9999-12-31'"),
    "wall": ("datetime(6)", "timestamp", "'0999-01-01 00:00:00.000001', '9999-12-31 23:59:59.999999'"),
    "moment": ("timestamp(6) null", "timestamptz", "'1970-01-01 00:00:01', '2038-01-19 03:14:07.999999'"),
    "word": ("varchar(40) collate utf8mb4_general_ci", "string", "'', 'a', 'strasse', 'naïve 東京 🚀', 'a\\\\''b'"),
    "cased": ("varchar(40) collate utf8mb4_bin", "string", "'a', 'A', ' a', 'é'"),
    "fixed": ("char(6)", "string", "'ab', ' ab'"),
    "latin": ("varchar(9) character set latin1", "string", "'ÿ€'"),
    "moscow": ("varchar(9) character set koi8r", "string", "'привет'"),
    "choice": ("enum('b','a é')", "string", "'b', 'a é'"),
    "number": ("decimal(65,30)", "string", "12345678901234567890123456789012345.000000000000000000000000000001"),
    "name": ("uuid", "string", "'123e4567-e89b-12d3-a456-426614174000'"),
}  # fmt: skip

_POSTGRES = {
    "i": ("bigint", "int64", "-9223372036854775808, 0, 9223372036854775807"),
    "flag": ("boolean", "bool", "true, false"),
    "exact": ("numeric(38,10)", "decimal(38,10)", "-1234567890123456789012345678.0123456789, 0, 0.5"),
    "tail": ("numeric(38,38)", "decimal(38,38)", "0.12345678901234567890123456789012345678"),
    "day": ("date", "date", "'0044-03-15 BC', '0001-01-01', '0999-12-31', '2013-03-10', '12013-01-01'"),
    "wall": ("timestamp", "timestamp", "'0999-01-01 00:00:00.000001', '2013-03-10 02:30:00', '0002-01-01 BC'"),
    "moment": ("timestamptz", "timestamptz", "'0999-01-01 00:00:00+00', '2013-11-03 05:30:00.5+00'"),
    "word": ("text", "string", "'', 'a', 'A', 'a ', 'naïve 東京 🚀', 'a''b\\'"),
}


_NOT_IN_MYSQL = {"name"}
"""Columns of types that MySQL does not have."""


def _columns(kinds: dict[str, tuple[str, str, str]]) -> list[str]:
    return [f"{name}: {word}" for name, (_, word, _) in kinds.items()]


def _inserts(kinds: dict[str, tuple[str, str, str]], table: str) -> list[str]:
    """One row for each value, the other columns being null."""
    listed = [(name, value) for name, (_, _, values) in kinds.items() for value in values.split(", ")]
    return [f"INSERT INTO {table} (id, {name}) VALUES ({n}, {value})" for n, (name, value) in enumerate(listed)]


def assert_digests_agree(source: Any, spec: SourceSpec, keys: KeyDialect, kinds: dict[str, Any]) -> None:
    """What the database hashes of each value is what DuckDB hashes of it in the lake."""
    staged = source.stage(spec)
    assert staged.early_rejects.num_rows == 0
    columns, field_ids = source.lake.columns(staged.table)
    relation = parquet_relation([engine_path(file) for file in staged.files], columns, field_ids)
    compared = 0
    with source.open(spec) as reader, source.lake.connect() as connection:
        for name in kinds:
            table = spec.tables[0].model_copy(update={"primary_key": (name,)})
            theirs = reader._connected.rows(
                f"SELECT id, {keys.digest(table)} AS d FROM {keys.relation(table)} WHERE {name} IS NOT NULL"
            )
            ours = connection.execute(f"SELECT id, {lake_digest(table)} FROM {relation} WHERE {name} IS NOT NULL")
            found = dict(ours.fetchall())
            assert {id_: str(digest) for id_, digest in theirs} == found, name
            assert len(set(found.values())) == len(found), f"{name}: two keys have one digest"
            compared += len(found)
        both = spec.tables[0].model_copy(update={"primary_key": ("id", "i")})
        [(theirs_of_two,)] = reader._connected.rows(
            f"SELECT {keys.digest(both)} AS d FROM {keys.relation(both)} WHERE id = 0"
        )
        ours_of_two = connection.execute(f"SELECT {lake_digest(both)} FROM {relation} WHERE id = 0").fetchone()
        assert ours_of_two == (theirs_of_two,)
    assert compared == len(_inserts(kinds, "t"))


def test_keys_of_every_type_have_the_same_digest_in_mariadb_and_in_the_lake(mysql: MysqlSource) -> None:
    missing = _NOT_IN_MYSQL if mysql.server.is_mysql else set()
    kinds = {name: kind for name, kind in _MYSQL.items() if name not in missing}
    listed = ", ".join(f"{name} {kind}" for name, (kind, _, _) in kinds.items())
    mysql.run(f"CREATE TABLE t (id int PRIMARY KEY, {listed}) CHARACTER SET utf8mb4;")
    mysql.run("; ".join(_inserts(kinds, "t")))
    spec = mysql.spec("; ".join(["id: int32", *_columns(kinds)]))
    assert_digests_agree(mysql, spec, MysqlKeys(), kinds)


def test_keys_of_every_type_have_the_same_digest_in_postgres_and_in_the_lake(database: DatabaseSource) -> None:
    listed = ", ".join(f"{name} {kind}" for name, (kind, _, _) in _POSTGRES.items())
    database.run(f"CREATE TABLE {{s}}.t (id int PRIMARY KEY, {listed})")
    for statement in _inserts(_POSTGRES, "{s}.t"):
        database.run(statement)
    text = database.table("id: int32")
    text += "".join(f'      - {{name: {name}, type: "{word}"}}\n' for name, (_, word, _) in _POSTGRES.items())
    assert_digests_agree(database, database.spec_of([text]), PostgresKeys(), _POSTGRES)


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"])
def test_a_timestamp_of_mariadb_lies_in_the_day_of_the_sources_clock(mysql: MysqlSource, zone: str) -> None:
    """Around every hour in which that clock is changed, and far from it."""
    mysql.run(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamp(6) NOT NULL);"
        "INSERT INTO t SELECT seq, TIMESTAMPADD(SECOND, seq * 9973, '1970-01-02 00:00:00') FROM seq_0_to_200000;"
        "UPDATE t SET at = '2013-11-03 05:59:59.999999' WHERE id = 1;"
        "UPDATE t SET at = '2038-01-19 03:14:07' WHERE id = 2;"
    )
    spec = mysql.spec("id: int32; at: timestamptz", cursor="at", time_zone=zone)
    with mysql.open(spec) as reader:
        found = reader.rows_by_day(spec.tables[0])
        rows = reader._connected.rows("SELECT at FROM t")
    with mysql.lake.connect() as connection:
        moments = pa.table({"moment": pa.array([row[0] for row in rows], pa.timestamp("us", "UTC"))})
        connection.register("moments", moments)
        expected = connection.execute(
            f"SELECT strftime(moment AT TIME ZONE '{zone}', '%Y-%m-%d') AS day, count(*) FROM moments GROUP BY day"
        ).fetchall()
    assert found == dict(expected)


# -- what it is for ---------------------------------------------------------------------------------------------------


def _shop(mysql: MysqlSource, **more: Any) -> Shop:
    mysql.spec("id: int32; at: timestamptz; note: string", cursor="at", **more)
    shop = Shop(mysql.folder, mysql.url, "t")
    shop.declare((mysql.folder / "shop.yml").read_text())
    return shop


def test_deleted_rows_of_mariadb_are_marked_and_only_buckets_that_differ_are_pulled(mysql: MysqlSource) -> None:
    mysql.run(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamp NOT NULL, note varchar(9));"
        "INSERT INTO t SELECT seq, TIMESTAMPADD(DAY, seq % 2, '2013-01-01 17:00:00'), 'x' FROM seq_1_to_40000;"
    )
    shop = _shop(mysql, deletes={"policy": "reconcile"})
    days = ("2013-01-01", "2013-01-02")
    for day in days:
        shop.ingest(day)
    mysql.run("DELETE FROM t WHERE id IN (2, 20000); INSERT INTO t VALUES (50000, '2013-01-02 17:00:00', 'late');")
    mysql.run("INSERT INTO t VALUES (50001, '2013-01-03 17:00:00', 'not loaded yet');")
    before = shop.pipeline().lake.live_attempts(shop.raw)
    found = shop.pipeline().reconcile_deletes("shop", "t")
    after = shop.pipeline().lake.live_attempts(shop.raw)
    assert (found.rows_compared, found.marked, found.missing) == (40000, 2, {"2013-01-02": 1})
    assert (found.buckets, found.buckets_pulled) == (64, 3)
    assert {key for key in after if after[key] != before[key]} == {"2013-01-01"}
    marked = [row[0] for row in shop.rows("id", "source_deleted_at IS NOT NULL") if row[1]]
    assert marked == [2, 20000]
    assert shop.pipeline().reconcile_deletes("shop", "t").marked == 0


def test_late_rows_of_mariadb_are_counted_and_their_day_is_read_again(mysql: MysqlSource) -> None:
    mysql.run(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamp NOT NULL, note varchar(9));"
        "INSERT INTO t VALUES (1, '2013-01-01 17:00:00', 'a'), (2, '2013-01-02 17:00:00', 'b');"
    )
    shop = _shop(mysql, late={"beyond": "reopen"})

    def report(start: str) -> list[str]:
        pipeline = shop.pipeline()
        pipeline.refined_tables = dict  # type: ignore[method-assign]
        return run(pipeline, start, "2013-01-03", sources=["shop"], build=False).warnings

    assert report("2013-01-01") == []
    mysql.run(
        "INSERT INTO t VALUES (3, '2013-01-01 17:00:00', 'late'), (4, '2013-01-02 04:59:59', 'late in New York');"
    )
    assert report("2013-01-02") == [
        "raw.shop__t: 2 rows came later than the late window, in 2013-01-01 (2): read again"
    ]
    assert shop.rows("ds::VARCHAR", "id") == [
        ("2013-01-01", 1),
        ("2013-01-01", 3),
        ("2013-01-01", 4),
        ("2013-01-02", 2),
    ]
