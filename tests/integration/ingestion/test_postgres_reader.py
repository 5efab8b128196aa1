"""Laws of reading a real PostgreSQL: every value arrives as it is or its row is set apart; one snapshot; one day."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import psycopg  # noqa: TID251 - the tests own the source's tables
import pytest

from common.errors import IntervalError, SourceSchemaError, SpecError
from common.intervals import day_interval
from ingestion.databases.checksums import lake_checksums
from lake.paths import engine_path
from lake.sql import parquet_relation
from penstock.embedded import EmbeddedServices
from tests.integration.ingestion.conftest import DatabaseSource, rejects

naive = datetime.fromisoformat


def test_a_changed_value_changes_the_checksum_of_its_column_and_no_other(database: DatabaseSource) -> None:
    database.run("CREATE TABLE {s}.t AS SELECT g AS id, g::text AS v, 'same' AS w FROM generate_series(1, 3) AS g")
    spec = database.spec("id: int32, v: string, w: string")
    staged = database.stage(spec)
    with database.open(spec) as reader:
        before = reader.source_checksums(spec.tables[0]) or {}
    assert checksums(database, staged) == before
    database.run("UPDATE {s}.t SET v = NULL WHERE id = 1")
    with database.open(spec) as reader:
        after = reader.source_checksums(spec.tables[0]) or {}
    assert {name for name in before if before[name] != after[name]} == {"v"}


def checksums(database: DatabaseSource, staged: Any) -> dict[str, Any]:
    """Figures of the staged rows, computed in DuckDB."""
    columns, field_ids = database.lake.columns(staged.table)
    relation = parquet_relation([engine_path(file) for file in staged.files], columns, field_ids)
    with database.lake.connect() as connection:
        table = database_table(database)
        return lake_checksums(connection, table, relation)


def database_table(database: DatabaseSource) -> Any:
    """The table that the last spec describes."""
    from ingestion.spec import load_source

    return load_source(database.folder / "shop.yml").tables[0]


@pytest.mark.parametrize(
    ("kind", "declared", "bad", "reason"),
    [
        ("numeric(10,2)", "decimal(10,2)", "NaN", "v is NaN or infinite"),
        ("date", "date", "infinity", "v is infinite or out of range"),
        ("date", "date", "-infinity", "v is infinite or out of range"),
        ("timestamp", "timestamp", "infinity", "v is infinite or out of range"),
        ("timestamp", "timestamp", "294276-12-31", "v is infinite or out of range"),
        ("timestamptz", "timestamptz", "-infinity", "v is infinite or out of range"),
        ("time", "time", "24:00:00", "v is 24:00:00, which is no time of a day"),
    ],
)
def test_a_value_without_an_exact_form_sets_its_row_apart_with_its_key(
    database: DatabaseSource, kind: str, declared: str, bad: str, reason: str
) -> None:
    database.run(f"CREATE TABLE {{s}}.t (id int PRIMARY KEY, v {kind}, secret text)")
    database.run(f"INSERT INTO {{s}}.t VALUES (1, NULL, 'x'), (2, '{bad}', 'CanarySecret'), (3, NULL, 'y')")
    spec = database.spec(f"id: int32, v: {declared}")
    staged = database.stage(spec)
    assert database.rows(staged, "id", "v") == [(1, None), (3, None)]
    assert rejects(staged) == [("exact_value", reason, 'key {"id":2}')]
    assert (staged.rows_in, staged.rows_staged) == (3, 2)
    row = str(staged.early_rejects.column("row")[0])
    assert json.loads(row)["id"] == 2
    assert json.loads(row)["v"] is not None
    assert set(json.loads(row)) == {"id", "v"}  # a column that the spec leaves out stays out of the quarantine too
    with database.open(spec) as reader:
        assert (reader.source_checksums(spec.tables[0]) or {})["rows"] == 3


def test_two_bad_values_in_one_row_are_one_reject_with_both_reasons(database: DatabaseSource) -> None:
    database.run("CREATE TABLE {s}.t (k int, _row date, t timestamptz, PRIMARY KEY (k))")
    database.run("INSERT INTO {s}.t VALUES (1, '2013-01-01', 'infinity'), (2, '-infinity', 'infinity')")
    database.run("ALTER TABLE {s}.t RENAME _row TO row")
    staged = database.stage(database.spec("k: int32, row: date, t: timestamptz"))
    assert [(reason, position) for _, reason, position in rejects(staged)] == [
        ("t is infinite or out of range", 'key {"k":1}'),
        ("row is infinite or out of range; t is infinite or out of range", 'key {"k":2}'),
    ]


def test_a_cast_makes_infinity_null_only_where_a_null_may_be(database: DatabaseSource) -> None:
    database.run("CREATE TABLE {s}.t AS SELECT 1 AS id, timestamptz 'infinity' AS v, timestamptz 'infinity' AS w")
    database.run("INSERT INTO {s}.t VALUES (2, '-infinity', '2013-01-01 00:00Z')")
    table = database.table("id: int32, v: date, w: date").replace('"date"', '"date", policy: cast, why: Days do')
    before, after = table.rsplit("nullable: true", 1)
    staged = database.stage(database.spec_of([f"{before}nullable: false{after}"]))
    assert database.rows(staged) == [(2, None, date(2013, 1, 1))]
    assert rejects(staged) == [("exact_value", "w cannot be cast to date", 'key {"id":1}')]


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        *(("json", "int32"), ("uuid", "binary"), ("integer[]", "int64"), ("interval", "int64"), ("boolean", "float64")),
        *(("timestamp", "int64"), ("date", "time"), ("bytea", "int32"), ("text", "binary"), ("real", "bool")),
    ],
)
def test_a_cast_that_the_database_does_not_have_is_refused(database: DatabaseSource, kind: str, word: str) -> None:
    database.run(f"CREATE TABLE {{s}}.t (id int, v {kind})")
    table = database.table(f"id: int32, v: {word}").replace("{name: v,", "{policy: cast, why: Tried here, name: v,")
    with pytest.raises(SourceSchemaError, match=rf"differs from its spec: v is .*, declared {word}"):
        database.stage(database.spec_of([table]))


def test_serial_identity_and_generated_columns_are_read_as_their_types(database: DatabaseSource) -> None:
    database.run(
        "CREATE TABLE {s}.t (id serial, i bigint GENERATED ALWAYS AS IDENTITY, n numeric(4,2), "
        "g numeric(6,2) GENERATED ALWAYS AS (n * 2) STORED)"
    )
    database.run("INSERT INTO {s}.t (n) VALUES (1.25), (99.99)")
    staged = database.stage(database.spec("id: int32, i: int64, n: decimal(4,2), g: decimal(6,2)"))
    assert [tuple(map(str, row)) for row in database.rows(staged)] == [
        ("1", "1", "1.25", "2.50"),
        ("2", "2", "99.99", "199.98"),
    ]


def test_a_view_is_read_like_a_table(database: DatabaseSource) -> None:
    database.run(
        "CREATE VIEW {s}.t AS SELECT g AS id, timestamptz '2013-01-01 12:00Z' AS at FROM generate_series(1, 3) g"
    )
    assert database.stage(database.spec("id: int32, at: timestamptz", cursor="at")).rows_staged == 3


def test_a_table_without_rows_is_an_empty_batch(database: DatabaseSource) -> None:
    database.run("CREATE TABLE {s}.t (id int)")
    staged = database.stage(database.spec("id: int32"))
    assert (staged.rows_in, database.rows(staged)) == (0, [])


# -- which rows -------------------------------------------------------------------------------------------------------


def test_a_row_at_the_start_of_a_day_is_in_and_one_at_its_end_is_not(database: DatabaseSource) -> None:
    database.run("CREATE TABLE {s}.t (id int, at timestamptz NOT NULL)")
    database.run(
        "INSERT INTO {s}.t VALUES (1, '2013-03-10 04:59:59.999999Z'), (2, '2013-03-10 05:00Z'), "
        "(3, '2013-03-11 03:59:59.999999Z'), (4, '2013-03-11 04:00Z')"  # a day of 23 hours in New York
    )
    spec = database.spec("id: int32, at: timestamptz", cursor="at")
    days = {day: [i for (i,) in database.rows(database.stage(spec, day=day), "id")] for day in DAYS}
    assert days == {"2013-03-09": [1], "2013-03-10": [2, 3], "2013-03-11": [4]}
    assert database.rows(database.stage(spec, day="2013-03-10"), "ds")[0] == (date(2013, 3, 10),)


DAYS = ("2013-03-09", "2013-03-10", "2013-03-11")


def test_a_date_cursor_compares_the_day_itself(database: DatabaseSource) -> None:
    database.run("CREATE TABLE {s}.t (id int, day date NOT NULL)")
    database.run("INSERT INTO {s}.t VALUES (1, '2013-03-09'), (2, '2013-03-10'), (3, '2013-03-11')")
    staged = database.stage(database.spec("id: int32, day: date", cursor="day"), day="2013-03-10")
    assert database.rows(staged, "id", "ds") == [(2, date(2013, 3, 10))]


def test_a_day_that_is_not_over_yet_is_refused(database: DatabaseSource) -> None:
    database.run("CREATE TABLE {s}.t (id int, at timestamptz NOT NULL)")
    with pytest.raises(IntervalError, match="not over yet"):
        database.stage(database.spec("id: int32, at: timestamptz", cursor="at"), day="2026-01-02")
    assert database.staged_files() == []


def test_all_tables_of_a_run_are_seen_as_they_were_when_it_began(database: DatabaseSource) -> None:
    for name in ("t", "u"):
        database.run(f"CREATE TABLE {{s}}.{name} AS SELECT 1 AS id")
    spec = database.spec_of([database.table("id: int32", table=name) for name in ("t", "u")])
    with database.open(spec) as reader:
        database.run("INSERT INTO {s}.t VALUES (2)")
        for table in spec.tables:
            staged = reader.stage(table, day_interval("2013-01-01"), code="code")
            assert database.rows(staged) == [(1,)]
            database.run("INSERT INTO {s}.u VALUES (2)")
            database.run("DELETE FROM {s}.u WHERE id = 1")
            assert (reader.source_checksums(table) or {})["rows"] == 1
    assert database.rows(database.stage(spec)) == [(1,), (2,)]


# -- names and settings that would change the meaning -----------------------------------------------------------------

HOSTILE = ['quo"ted', "semi; drop schema public", "it's", "dollar$$x", "%s {x} \\", "ünï cøde", 'x"; SELECT 1 --']


@pytest.mark.parametrize("database", HOSTILE, indirect=True)
def test_a_schema_name_is_a_name_whatever_it_says(database: DatabaseSource) -> None:
    database.run("CREATE TABLE {s}.t AS SELECT 1 AS id, 'infinity'::date AS d UNION ALL SELECT 2, '2013-01-01'")
    spec = database.spec("id: int32, d: date")
    staged = database.stage(spec)
    assert database.rows(staged) == [(2, date(2013, 1, 1))]
    assert len(rejects(staged)) == 1
    with database.open(spec) as reader:
        assert (reader.source_checksums(spec.tables[0]) or {})["rows"] == 2


@pytest.mark.parametrize("name", ['t"; DROP TABLE t', "t; SELECT 1", "T", "t.u", "../t", "t--", "", "t\nu"])
def test_a_table_or_column_name_that_could_be_more_never_reaches_the_database(
    database: DatabaseSource, name: str
) -> None:
    with pytest.raises(SpecError, match="lower-case"):
        database.spec("id: int32", table=json.dumps(name))
    with pytest.raises(SpecError, match="lower-case"):
        database.spec(f"id: int32, {json.dumps(name).replace(', ', ',')}: int32")


@pytest.mark.parametrize(
    "word", ["select", "table", "user", "order", "ctid", "oid", "t", "pg", "rule", "reason", "position"]
)
def test_columns_named_like_words_of_sql_are_columns(database: DatabaseSource, word: str) -> None:
    renamed = word if word != "ctid" else "tableoid_"  # PostgreSQL keeps ctid for itself
    database.run(f"CREATE TABLE {{s}}.t AS SELECT 1 AS \"{renamed}\", 'infinity'::date AS d UNION ALL SELECT 2, NULL")
    staged = database.stage(database.spec(f"{renamed}: int32, d: date"))
    assert database.rows(staged) == [(2, None)]
    assert rejects(staged)[0][2] == f'key {{"{renamed}":1}}'


def test_the_server_s_and_role_s_settings_change_no_value(database: DatabaseSource, services: EmbeddedServices) -> None:
    name = f"latin_{database.schema}"
    database.admin.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    try:
        for setting in (
            "TimeZone='Asia/Tokyo'",
            "DateStyle='German'",
            "IntervalStyle='iso_8601'",
            "extra_float_digits=-10",
        ):
            database.admin.execute(f"ALTER DATABASE {name} SET {setting}")
        url = services.postgres_url.replace("/flightops", f"/{name}")
        with psycopg.connect(url, autocommit=True) as latin:
            latin.execute(
                f"CREATE SCHEMA {database.schema}; CREATE TABLE {database.schema}.t AS "
                "SELECT 1 AS id, 'Zürich é'::text AS a, "
                "interval '1 day' AS i, timestamptz '2013-01-01 05:00Z' AS at, timestamp '2013-02-01 00:00' AS w, "
                "date '2013-12-31' AS d, 0.1::float8 AS f, json '{\"x\": 1}' AS j"
            )
        spec = database.spec(
            "id: int32, a: string, i: string, at: timestamptz, w: timestamp, d: date, f: float64, j: string",
            cursor="at",
        )
        staged = database.stage(spec, url=url)
    finally:
        database.admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    [(_, number, text, interval, at, wall, day, real, document)] = database.rows(staged)
    assert (number, text, interval, wall, day) == (1, "Zürich é", "1 day", naive("2013-02-01"), date(2013, 12, 31))
    assert (at.astimezone(UTC), real, document) == (datetime(2013, 1, 1, 5, tzinfo=UTC), 0.1, '{"x": 1}')
