"""Laws of what a MariaDB tells about itself: tables, keys, indexes, comments, estimates, readable types."""

from __future__ import annotations

from common.intervals import day_interval
from ingestion.databases.catalog import CatalogIndex
from ingestion.databases.mysql_catalog import MysqlIntrospection
from tests.integration.ingestion.mysql_source import MysqlSource

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
        "ANALYZE TABLE t PERSISTENT FOR ALL;"
    )
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
    assert catalog.server.startswith("MariaDB 1")
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
    assert {name: types[name] for name in KINDS} == KINDS
    assert 240 <= (table.rows_estimated or 0) <= 960
    assert sample == [("long text", "1"), ("long text", "2")]
    assert 12 <= (expected[0] or 0) <= 48
    assert (expected[1] or 0) <= 1
