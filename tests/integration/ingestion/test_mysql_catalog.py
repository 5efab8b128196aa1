"""Laws of what a MariaDB tells about itself: tables, keys, indexes, comments, estimates, readable types."""

from __future__ import annotations

import re

import pytest

from common.intervals import day_interval
from ingestion.databases.catalog import CatalogIndex
from ingestion.databases.mysql_catalog import MysqlIntrospection
from tests.integration.ingestion.mysql_source import MysqlSource
from tests.integration.ingestion.types.table import mysql_spelling

KINDS = {
    "a": ("tinyint(1)", "bool"),
    "b": ("int(10) unsigned", "int64"),
    "c": ("bigint(20) unsigned", "decimal(20,0)"),
    "d": ("decimal(9,2)", "decimal(9,2)"),
    "e": ("decimal(65,30)", "string"),
    "f": ("float", "float32"),
    "g": ("datetime(6)", "timestamp"),
    "h": ("time", "time"),
    "i": ("varchar(10) character set ascii", "string"),
    "j": ("geometry", "binary"),
    "k": ("bit(40)", "int64"),
}


def test_the_catalog_has_what_the_database_declares(mysql: MysqlSource) -> None:
    listed = ", ".join(f"`{name}` {kind} COMMENT 'about {name}'" for name, (kind, _) in KINDS.items())
    mysql.run(
        f"CREATE TABLE t (y int NOT NULL, x varchar(30), at datetime NOT NULL, {listed}, "
        "PRIMARY KEY (y, x), UNIQUE KEY one (b), KEY part (x(3)), KEY at (at)) COMMENT 'a table';"
        "CREATE VIEW v AS SELECT y FROM t; CREATE TABLE `T` (id int);"
        "INSERT INTO t (y, x, at) SELECT seq, 'long text', '2013-01-01' + INTERVAL seq HOUR FROM seq_1_to_480;"
        f"ANALYZE TABLE t{'' if mysql.server.is_mysql else ' PERSISTENT FOR ALL'};"
    )
    if mysql.server.is_mysql:
        mysql.run("SET GLOBAL explain_format = JSON;")
    introspection = MysqlIntrospection()
    spec = mysql.spec("y: int32; at: timestamp", cursor="at", time_zone="UTC")
    session = mysql.session(spec)
    try:
        catalog = introspection.catalog(session)
        table = catalog.table("public", "t")
        assert table is not None
        sample = introspection.sample(session, table, ["x", "y"], 2)
        days = [day_interval("2013-01-02"), day_interval("2014-01-02")]
        expected = introspection.expected_rows(session, spec, spec.tables[0], days)
    finally:
        session.close()
        if mysql.server.is_mysql:
            mysql.run("SET GLOBAL explain_format = DEFAULT;")
    assert re.match("MySQL [89]" if mysql.server.is_mysql else "MariaDB 1", catalog.server)
    assert catalog.database == catalog.default_schema == mysql.name
    assert {(each.name, each.kind) for each in catalog.tables} == {("T", "table"), ("t", "table"), ("v", "view")}
    assert table.primary_key == ("y", "x")
    assert set(table.indexes) == {
        CatalogIndex(("y", "x"), unique=True),
        CatalogIndex(("b",), unique=True),
        CatalogIndex(("at",), unique=False),
    }
    assert table.description == "a table"
    assert table.column_descriptions == {name: f"about {name}" for name in KINDS}
    assert {column.name: column.nullable for column in table.columns if column.name in {"y", "at", "a"}} == {
        "y": False,
        "at": False,
        "a": True,
    }
    types = {column.name: (column.type, introspection.suggested_type(column)) for column in table.columns}
    spelled = {name: (mysql_spelling(kind), word) for name, (kind, word) in KINDS.items()}
    assert {name: types[name] for name in KINDS} == (spelled if mysql.server.is_mysql else KINDS)
    assert 240 <= (table.rows_estimated or 0) <= 960
    assert sample == [("long text", "1"), ("long text", "2")]
    assert 12 <= (expected[0] or 0) <= 48
    assert (expected[1] or 0) <= 1


def test_what_only_mysql_has_is_described_and_read(mysql: MysqlSource) -> None:
    if not mysql.server.is_mysql:
        pytest.skip("MariaDB has no indexes of expressions or of many values, and generates no keys")
    mysql.run(
        "CREATE TABLE t (id int NOT NULL, name varchar(30), doc json DEFAULT (JSON_OBJECT('a', 5)), "
        "at int GENERATED ALWAYS AS (doc->'$.a') VIRTUAL, upper_name varchar(30) AS (UPPER(name)) STORED, "
        "hidden int DEFAULT 7 INVISIBLE, spot point SRID 4326, PRIMARY KEY (id DESC), "
        "UNIQUE KEY by_lower ((LOWER(name))), KEY of_many ((CAST(doc->'$.many' AS UNSIGNED ARRAY))), "
        "UNIQUE KEY unseen (hidden, id) INVISIBLE);"
        "INSERT INTO t (id, name, spot) SELECT seq, CONCAT('n', seq), ST_GeomFromText('POINT(48.1 11.5)', 4326) "
        "FROM seq_1_to_20;"
        "SET sql_generate_invisible_primary_key = 1; CREATE TABLE keyless (v int); INSERT INTO keyless VALUES (1), (2);"
    )
    introspection = MysqlIntrospection()
    spec = mysql.spec("id: int32; at: int32; upper_name: string; hidden: int32; doc: string; spot: binary")
    session = mysql.session(spec)
    try:
        catalog = introspection.catalog(session)
        table, keyless = (catalog.table("public", name) for name in ("t", "keyless"))
        assert table is not None
        assert keyless is not None
        sample = introspection.sample(session, table, ["spot", "doc"], 1)
    finally:
        session.close()
    assert {(index.columns, index.unique) for index in table.indexes} == {(("id",), True), (("hidden", "id"), True)}
    assert table.primary_key == ("id",)
    assert [column.name for column in keyless.columns] == ["my_row_id", "v"]
    assert keyless.primary_key == ("my_row_id",)
    assert sample == [("E610000001010000000000000000002740CDCCCCCCCC0C4840", '{"a": 5}')]
    mysql.most_rows = 6
    staged = mysql.stage(spec)
    assert len(staged.files) == 4
    spot = bytes.fromhex(str(sample[0][0]))
    assert sorted(mysql.rows(staged)) == [(n, 5, f"N{n}", 7, '{"a": 5}', spot) for n in range(1, 21)]
