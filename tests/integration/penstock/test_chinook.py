"""Chinook by ``init`` and ``run``: the lake holds what the database itself says, whichever database it is."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psycopg  # noqa: TID251 - the tests ask the database itself
import pytest

from lake.sql import identifier
from penstock.embedded import EmbeddedServices
from penstock.psql import run_psql
from tests.chinook import ROWS, TABLES, Contents, chinook_script, described_and_read, in_the_lake
from tests.door import Door

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
