"""Real clients on the BI database: what each sends to find its way about, and what it then reads."""

from __future__ import annotations

from contextlib import closing

import duckdb
import psycopg  # noqa: TID251 - a client as users have it
import pytest
import sqlalchemy as sa

from lake.engine import extension_path
from lake.sql import literal
from penstock.psql import run_psql
from tests.integration.warehouse.bench import Bench

# The shapes of what these tools' drivers send, after their public behaviour; the parameters are filled in.
METADATA = {
    "JDBC getTables (Metabase, Tableau)": (
        """
        SELECT NULL AS table_cat, n.nspname AS table_schem, c.relname AS table_name,
            CASE n.nspname ~ '^pg_' OR n.nspname = 'information_schema' WHEN true THEN 'SYSTEM'
                WHEN false THEN CASE c.relkind WHEN 'r' THEN 'TABLE' WHEN 'v' THEN 'VIEW' ELSE NULL END
            END AS table_type,
            d.description AS remarks
        FROM pg_catalog.pg_namespace n, pg_catalog.pg_class c
        LEFT JOIN pg_catalog.pg_description d
            ON (c.oid = d.objoid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass)
        WHERE c.relnamespace = n.oid AND n.nspname LIKE 'marts' AND c.relname LIKE 'routes' AND c.relkind IN ('r', 'v')
        ORDER BY table_type, table_schem, table_name
        """,
        [(None, "marts", "routes", "TABLE", "Routes. Grain: one row per route.")],
    ),
    "JDBC getTables of a table with partitions (Metabase, Tableau, DBeaver)": (
        """
        SELECT n.nspname AS table_schem, c.relname AS table_name,
            CASE c.relkind WHEN 'r' THEN 'TABLE' WHEN 'p' THEN 'PARTITIONED TABLE' END AS table_type
        FROM pg_catalog.pg_namespace n, pg_catalog.pg_class c
        WHERE c.relnamespace = n.oid AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND c.relname LIKE 'flights%'
            AND c.relkind IN ('r', 'p')
        """,
        [("marts", "flights", "PARTITIONED TABLE")],
    ),
    "JDBC getPrimaryKeys (Tableau)": (
        """
        SELECT n.nspname, ct.relname, a.attname, (information_schema._pg_expandarray(i.indkey)).n AS key_seq
        FROM pg_catalog.pg_class ct
        JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid)
        JOIN pg_catalog.pg_namespace n ON (ct.relnamespace = n.oid)
        JOIN pg_catalog.pg_index i ON (a.attrelid = i.indrelid)
        WHERE i.indisprimary AND ct.relname = 'routes' AND a.attnum = ANY (i.indkey)
        """,
        [("marts", "routes", "id", 1)],
    ),
    "information_schema.columns (Superset, Metabase sync)": (
        """
        SELECT column_name, data_type, is_nullable, numeric_precision, numeric_scale
        FROM information_schema.columns WHERE table_schema = 'marts' AND table_name = 'routes' ORDER BY ordinal_position
        """,
        [
            ("id", "integer", "NO", 32, 0),
            ("name", "text", "YES", None, None),
            ("delay_min", "numeric", "YES", 9, 2),
            ("tags", "jsonb", "YES", None, None),
        ],
    ),
    "privileges (Metabase)": (
        """
        SELECT t.schemaname, t.tablename FROM pg_catalog.pg_tables t
        WHERE t.schemaname !~ '^pg_' AND t.schemaname <> 'information_schema'
            AND pg_catalog.has_schema_privilege(t.schemaname, 'USAGE')
            AND pg_catalog.has_table_privilege(format('%I.%I', t.schemaname, t.tablename), 'SELECT')
            AND NOT pg_catalog.has_table_privilege(
                format('%I.%I', t.schemaname, t.tablename), 'INSERT, UPDATE, DELETE, TRUNCATE')
        ORDER BY 2
        """,
        [("marts", "_release"), ("marts", "_tables"), ("marts", "flights"), ("marts", "routes")],
    ),
}


@pytest.fixture
def shown(bench: Bench) -> Bench:
    """A BI database that shows one documented table, and one with partitions."""
    bench.publish(
        bench.release(
            "CREATE TABLE routes (id INTEGER NOT NULL, name VARCHAR, delay_min DECIMAL(9,2), tags VARCHAR[])",
            "INSERT INTO routes SELECT range, 'route ' || range, range / 4, ['a', NULL] FROM range(5000)",
            "COMMENT ON TABLE routes IS 'Routes. Grain: one row per route.'",
            "COMMENT ON COLUMN routes.delay_min IS 'Mean delay in minutes.'",
            "CREATE TABLE flights AS SELECT range AS id, DATE '2013-01-01' + (range // 20)::INTEGER AS day "
            "FROM range(5000)",
            bi={
                "routes": {"primary_key": ["id"], "indexes": [["name"]]},
                "flights": {"primary_key": ["id"], "indexes": [["day"]], "partition_by": "day"},
            },
        )
    )
    return bench


def test_every_client_finds_its_way_about_and_reads_as_a_reader_without_rights(shown: Bench) -> None:
    _psql(shown)
    _sqlalchemy(shown)
    _psycopg(shown)
    _duckdb(shown)
    with psycopg.connect(shown.reader_url, autocommit=True) as connection:
        for client, (query, expected) in METADATA.items():
            assert connection.execute(query.encode()).fetchall() == expected, client


def _psql(shown: Bench) -> None:
    script = [b"\\d marts.routes\n", b"\\di marts.*\n", b"select count(*), sum(delay_min) from marts.routes;\n"]
    told = run_psql(shown.reader_url, script)
    assert ["delay_min", "numeric(9,2)", "", "", ""] in told
    assert any("routes_pkey" in cell for row in told for cell in row)
    assert told[-1] == ["5000", "3124375.00"]


def _sqlalchemy(shown: Bench) -> None:
    engine = sa.create_engine(shown.reader_url.replace("postgresql://", "postgresql+psycopg://"))
    inspector = sa.inspect(engine)
    assert "marts" in inspector.get_schema_names()
    assert sorted(inspector.get_table_names("marts")) == ["_release", "_tables", "flights", "routes"]
    assert inspector.get_pk_constraint("flights", "marts")["constrained_columns"] == ["id", "day"]
    assert [index["column_names"] for index in inspector.get_indexes("flights", "marts")] == [["day"]]
    assert inspector.get_pk_constraint("routes", "marts")["constrained_columns"] == ["id"]
    assert [index["column_names"] for index in inspector.get_indexes("routes", "marts")] == [["name"]]
    assert inspector.get_table_comment("routes", "marts") == {"text": "Routes. Grain: one row per route."}
    routes = sa.Table("routes", sa.MetaData(), schema="marts", autoload_with=engine)
    assert [(column.name, str(column.type), column.comment) for column in routes.columns] == [
        ("id", "INTEGER", None),
        ("name", "TEXT", None),
        ("delay_min", "NUMERIC(9, 2)", "Mean delay in minutes."),
        ("tags", "JSONB", None),
    ]
    with engine.connect() as connection:
        assert connection.execute(sa.select(routes.c.name).where(routes.c.id == 7)).scalars().all() == ["route 7"]
    engine.dispose()


def _psycopg(shown: Bench) -> None:
    with psycopg.connect(shown.reader_url) as connection:
        for _ in range(7):
            row = connection.execute("SELECT tags FROM marts.routes WHERE id = %s", [3], prepare=True).fetchone()
            assert row == (["a", None],)
        with connection.cursor(name="all_of_it") as cursor:
            cursor.itersize = 100
            assert sum(1 for _ in cursor.execute("SELECT * FROM marts.routes")) == 5000
        with connection.cursor(name="partitions") as cursor:
            assert sum(1 for _ in cursor.execute("SELECT * FROM marts.flights WHERE day < '2013-03-01'")) == 59 * 20
        plan = connection.execute("EXPLAIN SELECT * FROM marts.flights WHERE day = '2013-03-01'").fetchall()
        assert {month for month in ("2013_02", "2013_03", "2013_04") if month in str(plan)} == {"2013_03"}
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("UPDATE marts.routes SET name = 'mine'")


def _duckdb(shown: Bench) -> None:
    with closing(duckdb.connect()) as connection:
        connection.execute(f"LOAD {literal(str(extension_path('postgres_scanner')))}")
        connection.execute(f"ATTACH {literal(shown.reader_url)} AS bi (TYPE postgres, READ_ONLY, SCHEMA 'marts')")
        found = connection.execute("SELECT count(*), sum(delay_min) FROM bi.marts.routes").fetchone()
        assert found is not None
        assert list(map(str, found)) == ["5000", "3124375.00"]
        found = connection.execute(
            "SELECT count(*), count(DISTINCT id), max(day)::VARCHAR FROM bi.marts.flights"
        ).fetchone()
        assert found == (5000, 5000, "2013-09-07")
