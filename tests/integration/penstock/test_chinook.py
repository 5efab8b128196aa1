"""Chinook by ``init`` and ``run``: the lake holds what the database itself says, whichever database it is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import psycopg  # noqa: TID251 - the tests ask the database itself
import pytest

from ingestion.spec import load_source
from lake.sql import identifier
from penstock.embedded import EmbeddedServices
from penstock.psql import run_psql
from tests.chinook import ROWS, TABLES, Contents, chinook_script, described_and_read, in_the_lake
from tests.door import Door
from tests.mariadb_server import READER, MariadbServer

TYPES = {
    "integer": "INTEGER",
    "character varying": "VARCHAR",
    "timestamp without time zone": "TIMESTAMP",
    "numeric": "DECIMAL(10,2)",
}


@pytest.fixture(scope="module")
def postgres_url(services: EmbeddedServices) -> Iterator[str]:
    """Owner's URL of Chinook in the real PostgreSQL; dropped at the end."""
    run_psql(services.postgres_url, [chinook_script("Chinook_PostgreSql.sql")])
    try:
        yield services.postgres_url.rsplit("/", 1)[0] + "/chinook"
    finally:
        run_psql(services.postgres_url, [b"DROP DATABASE chinook WITH (FORCE);"])


@pytest.fixture(scope="module")
def from_postgres(postgres_url: str, services: EmbeddedServices, tmp_path_factory: pytest.TempPathFactory) -> Door:
    """The command line over a lake made of it by a role that may only read."""
    run_psql(postgres_url, [b"GRANT SELECT ON ALL TABLES IN SCHEMA public TO penstock_reader;"])
    reader = services.connections["flightops"].rsplit("/", 1)[0] + "/chinook"
    door = Door(tmp_path_factory.mktemp("postgres"), {"chinook": reader})
    described_and_read(door)
    return door


def test_the_lake_holds_every_table_column_and_row_that_the_database_prints(
    from_postgres: Door, postgres_url: str
) -> None:
    expected: Contents = {}
    with psycopg.connect(postgres_url) as admin:
        columns = admin.execute(
            "SELECT table_name, column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = 'public' ORDER BY table_name, ordinal_position"
        ).fetchall()
        for table in sorted({row[0] for row in columns}):
            rows = admin.execute(f"SELECT * FROM {identifier(table)}".encode()).fetchall()
            described = [(name, TYPES[kind]) for owner, name, kind in columns if owner == table]
            expected[table] = (described, sorted(rows, key=repr))
    assert len(expected) == TABLES
    assert sum(len(rows) for _, rows in expected.values()) == ROWS
    assert in_the_lake(from_postgres) == expected


def test_a_run_over_what_is_there_changes_nothing(from_postgres: Door) -> None:
    run = ("run", "--source", "chinook", "--from", "2026-01-02", "--to", "2026-01-03", "--no-build", "--json")
    report = json.loads(from_postgres.run(*run).out)
    assert [line["unchanged"] for line in report["tables"]] == [1] * TABLES


def test_who_ran_init_can_ask_at_once(from_postgres: Door) -> None:
    answer = from_postgres.run(
        "query",
        "--lake",
        "select g.name as genre, count(*) as tracks from raw.chinook__track join raw.chinook__genre g using (genre_id) "
        "group by all order by tracks desc",
        "--limit",
        "2",
        "--json",
    )
    assert json.loads(answer.out) == [{"genre": "Rock", "tracks": 1297}, {"genre": "Latin", "tracks": 579}]


def test_columns_about_people_are_suspected_and_others_are_not(from_postgres: Door) -> None:
    text = (from_postgres.folder / "sources" / "chinook.yml").read_text()
    suspected = {line.split("name: ")[1].split(",")[0] for line in text.splitlines() if "pii: suspected" in line}
    assert suspected == {
        *("first_name", "last_name", "address", "postal_code", "phone", "fax", "email", "birth_date"),
        *("billing_address", "billing_postal_code"),
    }


@pytest.fixture(scope="module")
def from_mariadb(mariadb: MariadbServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """The same from the same data in a real MariaDB, where the names are of another style."""
    mariadb.run(chinook_script("Chinook_MySql.sql"))
    try:
        mariadb.run(f"GRANT SELECT ON Chinook.* TO {READER}@'%';")
        door = Door(tmp_path_factory.mktemp("mariadb"), {"chinook": mariadb.url("Chinook")})
        described_and_read(door)
        yield door
    finally:
        mariadb.run("DROP DATABASE Chinook;")


def test_the_lake_holds_what_mariadb_prints_of_every_table(from_mariadb: Door, mariadb: MariadbServer) -> None:
    contents = in_the_lake(from_mariadb)
    spec = load_source(from_mariadb.folder / "sources" / "chinook.yml")
    printed = {
        name
        for [name] in mariadb.run("SELECT table_name FROM information_schema.tables WHERE table_schema = 'Chinook';")
    }
    assert {table.in_source for table in spec.tables} == printed
    for table in spec.tables:
        names = ", ".join(f"`{column.in_source}`" for column in table.columns)
        rows = mariadb.run(f"SELECT {names} FROM `{table.in_source}`;", database="Chinook")
        columns, found = contents[table.name]
        assert [name for name, _ in columns] == [column.name for column in table.columns]
        assert sorted([_printed(value) for value in row] for row in found) == sorted(rows), table.name


def _printed(value: object) -> str:
    """A value of the lake as MariaDB's client prints it in batch mode."""
    if value is None:
        return "NULL"
    return str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def test_both_engines_give_the_same_lake_but_for_what_their_own_parsers_read_differently(
    from_postgres: Door, from_mariadb: Door
) -> None:
    one, other = in_the_lake(from_postgres), in_the_lake(from_mariadb)
    assert {table: columns for table, (columns, _) in one.items()} == {t: columns for t, (columns, _) in other.items()}
    differing = [
        (table, name, ours, theirs)
        for table, (columns, rows) in one.items()
        for pair in zip(rows, other[table][1], strict=True)
        for (name, _), ours, theirs in zip(columns, *pair, strict=True)
        if ours != theirs
    ]
    # One script text, two readings by the databases themselves: PostgreSQL takes N'Edinburgh ' for a char(n) and drops
    # the blank when it stores a varchar; MariaDB takes a backslash in a text for an escape and drops that.
    assert Counter(table for table, *_ in differing) == {"customer": 1, "invoice": 7, "track": 4}
    assert [row for row in differing if row[2].replace("\\", "") != row[3].rstrip(" ")] == []
    assert sum(len(rows) for _, rows in other.values()) == ROWS
