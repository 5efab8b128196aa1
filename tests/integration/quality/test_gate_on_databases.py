"""Laws of the gate on a candidate database file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from common.errors import GateCrashed
from quality.gate import Gate
from quality.suite import Suite

MakeSuite = Callable[..., Suite]

BETWEEN = "expect_column_values_to_be_between"
QUERY = "unexpected_rows_expectation"


@pytest.fixture
def candidate(tmp_path: Path) -> Path:
    """A candidate with a table of 5 orders (one negative, one without customer), a dimension and a view."""
    path = tmp_path / "warehouse.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "CREATE TABLE fct_orders AS SELECT i AS order_id, i - 1 AS amount, i % 4 AS customer_id FROM range(5) t(i)"
        )
        connection.execute(
            "CREATE SCHEMA marts; CREATE TABLE marts.dim_customers AS SELECT i AS customer_id FROM range(3) t(i)"
        )
        connection.execute("CREATE VIEW big_orders AS SELECT * FROM warehouse.main.fct_orders WHERE amount > 1")
    return path


def test_each_table_gets_its_own_verdict_and_critical_rows_refuse(
    gate: Gate, candidate: Path, make_suite: MakeSuite
) -> None:
    known = "select b.row_number from {batch} b anti join dim_customers c on b.customer_id = c.customer_id"
    suites = {
        "fct_orders": make_suite(
            name="warehouse/fct_orders",
            references=["dim_customers"],
            positive=(BETWEEN, {"column": "amount", "min_value": 0}),
            lenient=(BETWEEN, {"column": "amount", "min_value": 0}, {"mostly": 0.5}),
            known=(QUERY, {"unexpected_rows_query": known}),
        ),
        "marts.dim_customers": make_suite(
            name="warehouse/dim_customers", unique=("expect_column_values_to_be_unique", {"column": "customer_id"})
        ),
        "big_orders": make_suite(
            name="warehouse/big_orders", small=(BETWEEN, {"column": "amount", "max_value": 2}, {"severity": "warning"})
        ),
    }
    verdicts = gate.audit_database(suites, candidate)
    assert {table: verdict.passed for table, verdict in verdicts.items()} == {
        "fct_orders": False,
        "marts.dim_customers": True,
        "big_orders": True,
    }
    orders = verdicts["fct_orders"]
    assert orders.reasons == ("positive failed on 1 of 5 rows", "known failed on 1 of 5 rows")
    assert [result.rows_unexpected for result in orders.results] == [1, 1, 1]
    assert [result.passed for result in orders.results] == [False, True, False]
    assert orders.rejects.num_rows == 0
    assert verdicts["big_orders"].results[0].rows_unexpected == 1


def test_the_file_is_left_unchanged_and_free_for_a_writer(gate: Gate, candidate: Path, make_suite: MakeSuite) -> None:
    before = hashlib.sha256(candidate.read_bytes()).hexdigest()
    suites = {"fct_orders": make_suite(positive=(BETWEEN, {"column": "amount", "min_value": 0}))}
    gate.audit_database(suites, candidate)
    with pytest.raises(GateCrashed):
        gate.audit_database({"no_such_table": suites["fct_orders"]}, candidate)
    assert hashlib.sha256(candidate.read_bytes()).hexdigest() == before
    assert sorted(item.name for item in candidate.parent.iterdir()) == ["warehouse.duckdb"]
    with duckdb.connect(str(candidate)) as writer:
        writer.execute("INSERT INTO fct_orders VALUES (99, 1, 1)")
    assert gate.audit_database(suites, candidate)["fct_orders"].rows_checked == 6


def test_two_candidates_of_one_name_do_not_mix(
    gate: Gate, candidate: Path, make_suite: MakeSuite, tmp_path: Path
) -> None:
    other = tmp_path / "other" / "warehouse.duckdb"
    other.parent.mkdir()
    with duckdb.connect(str(other)) as connection:
        connection.execute(
            "CREATE TABLE fct_orders AS SELECT i AS order_id, i AS amount, 1 AS customer_id FROM range(2) t(i)"
        )
    suites = {"fct_orders": make_suite(positive=(BETWEEN, {"column": "amount", "min_value": 0}))}
    answers = [gate.audit_database(suites, path)["fct_orders"] for path in (candidate, other, candidate)]
    assert [(answer.passed, answer.rows_checked) for answer in answers] == [(False, 5), (True, 2), (False, 5)]


@pytest.mark.parametrize("case", ["missing file", "missing table", "ambiguous table", "no suites", "no database"])
def test_a_candidate_that_cannot_be_judged_fails_closed(
    gate: Gate, candidate: Path, make_suite: MakeSuite, case: str
) -> None:
    suite = make_suite(positive=(BETWEEN, {"column": "amount", "min_value": 0}))
    path, suites = candidate, {"fct_orders": suite}
    if case == "missing file":
        path = candidate.with_name("none.duckdb")
    elif case == "missing table":
        suites = {"fct_returns": suite}
    elif case == "ambiguous table":
        with duckdb.connect(str(candidate)) as connection:
            connection.execute("CREATE TABLE marts.fct_orders AS FROM main.fct_orders")
    elif case == "no suites":
        suites = {}
    else:
        path = candidate.with_name("text.duckdb")
        path.write_text("not a database " * 1000)
    with pytest.raises(GateCrashed):
        gate.audit_database(suites, path)
    assert not candidate.with_name("none.duckdb").exists()
