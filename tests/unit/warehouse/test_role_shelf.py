"""Laws of releases as a role sees them: a dataset is, by its name, what the role may see of it."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from common.errors import UnknownName
from warehouse.reader import Reader
from warehouse.releases import Releases
from warehouse.role_shelf import RoleShelf
from warehouse.serve.policy import DatasetRule, Role

ROLE = Role(
    datasets={
        "flights": DatasetRule(columns="all", hide=("pilot",), mask={"tail": "redacted"}, rows="origin = 'JFK'"),
        "ops.ledger": DatasetRule(columns="all"),
    }
)


def publish(releases: Releases, flights: int) -> None:
    candidate = releases.new_candidate(from_scratch=True)
    with duckdb.connect(str(candidate.database)) as connection:
        connection.execute(
            "CREATE TABLE flights AS SELECT i AS flight_id, ['JFK', 'LGA'][1 + i % 2] AS origin, 'ada' AS pilot, "
            f"'N' || i AS tail FROM range({flights}) AS r(i); COMMENT ON TABLE flights IS 'Flights.'; "
            "CREATE TABLE payroll AS SELECT 1 AS cents; CREATE SCHEMA ops; "
            "CREATE TABLE ops.ledger AS SELECT 7 AS rows_in"
        )
    releases.seal(candidate, {})
    releases.publish(candidate)


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    """One release."""
    found = Releases(tmp_path)
    publish(found, 10)
    return found


@pytest.fixture
def reader(releases: Releases) -> Reader:
    """Reads as the role."""
    return Reader(RoleShelf(releases, ROLE, salt="s", memory_limit_mb=256, threads=1))


def test_a_dataset_is_what_the_role_may_see_of_it(reader: Reader) -> None:
    table = reader.table("flights")
    assert (list(table.columns), table.description) == (["flight_id", "origin", "tail"], "Flights.")
    assert table.relation().fetchall() == [(i, "JFK", "***") for i in range(0, 10, 2)]
    assert reader.connection.cursor().execute("SELECT count(*) FROM flights").fetchone() == (5,)
    assert reader.table("ops.ledger").relation().fetchall() == [(7,)]
    with pytest.raises(duckdb.BinderException):
        reader.sql("SELECT pilot FROM flights")


def test_a_dataset_that_is_not_the_roles_is_not_there(reader: Reader) -> None:
    with pytest.raises(UnknownName, match="has no table 'payroll'") as refused:
        reader.table("payroll")
    assert refused.value.remedy == "use one of flights, ops.ledger"
    with pytest.raises(duckdb.CatalogException):
        reader.sql("FROM payroll")


def test_neither_files_nor_settings_nor_writing_are_the_roles(reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("word\ncanary\n")
    for statement in (
        f"SELECT * FROM read_csv('{tmp_path / 'secret.csv'}')",
        "SET enable_external_access = true",
        "INSERT INTO warehouse.payroll VALUES (2)",
    ):
        with pytest.raises(duckdb.Error):
            reader.connection.execute(statement).fetchall()


def test_a_reader_of_a_role_moves_on_with_the_pointer(reader: Reader, releases: Releases) -> None:
    publish(releases, 20)
    assert reader.table("flights").relation().count("*").fetchall() == [(5,)]
    assert reader.refresh()
    assert reader.table("flights").relation().count("*").fetchall() == [(10,)]
