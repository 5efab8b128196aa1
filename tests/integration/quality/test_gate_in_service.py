"""Laws of a gate in long use: it fails closed, keeps batches apart, and leaves nothing behind."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from common.errors import GateCrashed
from common.verdict import REJECTS_SCHEMA, Verdict
from lake.schema import Column
from quality.gate import Gate
from quality.suite import Suite

Stage = Callable[..., str]
MakeSuite = Callable[..., Suite]

BETWEEN = "expect_column_values_to_be_between"
NOT_NULL = "expect_column_values_to_not_be_null"
UNIQUE = "expect_column_values_to_be_unique"
ROW_COUNT = "expect_table_row_count_to_be_between"
QUERY = "unexpected_rows_expectation"
POSITIVE = (BETWEEN, {"column": "amount", "min_value": 1})


def rejected(verdict: Verdict) -> list[tuple[int, list[str]]]:
    assert verdict.rejects.schema == REJECTS_SCHEMA
    return [(row["row_number"], row["rules"]) for row in verdict.rejects.to_pylist()]


def test_a_rewritten_file_is_judged_by_its_new_bytes(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column], tmp_path: Path
) -> None:
    suite, file = make_suite(positive=POSITIVE), tmp_path / "same-name.parquet"
    for amounts in ((1, 0), (0, 1), (1, 1)):
        Path(stage((1, amounts[0], "a"), (2, amounts[1], "a"))).rename(file)
        verdict = gate.audit_files(suite, [str(file)], columns=columns)
        assert verdict.rejects["row_number"].to_pylist() == [row for row, amount in enumerate(amounts) if amount == 0]


@pytest.mark.parametrize("severity", ["critical", "info"])
@pytest.mark.parametrize(
    "broken",
    [
        (BETWEEN, {"column": "no_such_column", "min_value": 1}),
        (QUERY, {"unexpected_rows_query": "select row_number from {batch} where error('boom') is null"}),
        (QUERY, {"unexpected_rows_query": "select null::bigint as row_number from {batch}"}),
        (QUERY, {"unexpected_rows_query": "select code from {batch} where code::int = 1"}),
        (QUERY, {"unexpected_rows_query": "select nonsense from {batch}"}),
        ("expect_column_mean_to_be_between", {"column": "code", "min_value": 1}),
        (
            "expect_column_quantile_values_to_be_between",
            {"column": "no_such_column", "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[0, 1]]}},
        ),
    ],
)
def test_a_rule_that_raises_refuses_the_batch_whatever_its_severity(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column], broken: Any, severity: str
) -> None:
    suite = make_suite(positive=POSITIVE, broken=(*broken, {"severity": severity}))
    verdict = gate.audit_files(suite, [stage((1, 0, "a"), (2, 1, "a"))], columns=columns)
    assert not verdict.passed
    assert [reason.split(":")[0] for reason in verdict.reasons] == ["broken could not be judged"]
    good, bad = verdict.results
    assert (good.error, good.rows_unexpected) == (None, 1)
    assert bad.error
    assert not bad.passed
    assert rejected(verdict) == [(0, ["positive"])]


def test_an_empty_suite_fails_closed(gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]) -> None:
    with pytest.raises(GateCrashed, match="no expectations"):
        gate.audit_files(make_suite(), [stage((1, 1, "a"))], columns=columns)


def test_an_unreadable_batch_fails_closed(
    gate: Gate, tmp_path: Path, make_suite: MakeSuite, columns: list[Column]
) -> None:
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    for file in ("torn.parquet", "missing.parquet"):
        with pytest.raises(GateCrashed, match=file):
            gate.audit_files(make_suite(positive=POSITIVE), [str(tmp_path / file)], columns=columns)


def test_an_unknown_expectation_fails_closed(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    with pytest.raises(GateCrashed, match="expect_the_unexpected"):
        gate.audit_files(make_suite(x=("expect_the_unexpected", {})), [stage((1, 1, "a"))], columns=columns)


def test_files_without_the_promised_columns_fail_closed(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column], tmp_path: Path
) -> None:
    suite = make_suite(positive=POSITIVE)
    file = stage((1, 1, "a"))
    wider = [column if column.name != "amount" else Column("amount", "int64") for column in columns]
    says = "promised and not found: amount BIGINT; found and not promised: amount INTEGER"
    with pytest.raises(GateCrashed, match=says):
        gate.audit_files(suite, [file], columns=wider)
    other = str(tmp_path / "other.parquet")
    duckdb.sql(f"COPY (SELECT 1::BIGINT AS key, 2.5::DOUBLE AS amount, 'a' AS code, now() AS \"at\") TO '{other}'")
    with pytest.raises(GateCrashed, match="different columns or types"):
        gate.audit_files(suite, [file, other], columns=columns)


def test_two_suites_in_turn_on_one_gate_do_not_mix(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    low = make_suite(limit=(BETWEEN, {"column": "amount", "min_value": 5}), rows=(ROW_COUNT, {"max_value": 2}))
    high = make_suite(name="raw/shop__returns", limit=(BETWEEN, {"column": "amount", "max_value": 5}))
    first, second = stage((1, 1, "a"), (2, 9, "a")), stage((1, 9, "a"), (2, 1, "a"), (3, 9, "a"))
    for _ in range(3):
        verdicts = [
            gate.audit_files(suite, [file], columns=columns) for file in (first, second) for suite in (low, high)
        ]
        assert [[row for row, _ in rejected(verdict)] for verdict in verdicts] == [[0], [1], [1], [0, 2]]
        assert [verdict.rows_checked for verdict in verdicts] == [2, 2, 3, 3]
        assert [verdict.passed for verdict in verdicts] == [True, True, False, True]


def test_parameters_take_the_value_of_each_call(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    suite = make_suite(rows=(ROW_COUNT, {"min_value": {"$PARAMETER": "expected_rows"}}))
    file = stage((1, 1, "a"), (2, 1, "a"))
    passed = [
        gate.audit_files(suite, [file], columns=columns, parameters={"expected_rows": n}).passed for n in (2, 3, 1)
    ]
    assert passed == [True, False, True]
    with pytest.raises(GateCrashed, match="expected_rows"):
        gate.audit_files(suite, [file], columns=columns)


def test_threads_wait_for_each_other_and_get_their_own_verdicts(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    suite = make_suite(positive=POSITIVE)
    files = [stage(*[(key, int(key >= bad), "a") for key in range(20)]) for bad in range(1, 9)]
    found: dict[int, int] = {}

    def audit(bad: int) -> None:
        for _ in range(3):
            found[bad] = gate.audit_files(suite, [files[bad - 1]], columns=columns).rows_rejected

    workers = [threading.Thread(target=audit, args=(bad,)) for bad in range(1, 9)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == {bad: bad for bad in range(1, 9)}


def test_a_borrowed_connection_is_left_as_it_was(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    suite = make_suite(late=(BETWEEN, {"column": "at", "max_value": "2013-01-01T00:30:00Z"}))
    with duckdb.connect() as mine:
        mine.execute("SET TimeZone = 'Asia/Tokyo'")
        verdict = gate.audit_files(suite, [stage((1, 1, "a"), (2, 1, "a"))], columns=columns, connection=mine)
        assert rejected(verdict) == [(1, ["late"])]
        assert mine.execute("SELECT current_setting('TimeZone')").fetchone() == ("Asia/Tokyo",)
        assert mine.execute("SELECT count(*) FROM duckdb_views() WHERE NOT internal").fetchone() == (0,)
        assert mine.execute("SELECT count(*) FROM duckdb_tables()").fetchone() == (0,)


def test_the_callers_preparation_runs_once_on_the_gates_own_connection(
    stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    prepared: list[str] = []

    def prepare(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute("CREATE MACRO limit_of_test() AS 5")
        prepared.append("once")

    gate = Gate(prepare_connection=prepare)
    query = "select row_number from {batch} where amount > limit_of_test()"
    for _ in range(2):
        suite = make_suite(custom=(QUERY, {"unexpected_rows_query": query}))
        verdict = gate.audit_files(suite, [stage((1, 1, "a"), (2, 9, "a"))], columns=columns)
        assert rejected(verdict) == [(1, ["custom"])]
    gate.close()
    assert prepared == ["once"]


def test_great_expectations_reads_its_own_result_back_from_the_verdict(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    from great_expectations.core.expectation_validation_result import (  # noqa: TID251 - it reads what it said
        expectationSuiteValidationResultSchema,
    )

    suite = make_suite(
        positive=POSITIVE,
        rows=(ROW_COUNT, {"min_value": 1}),
        mean=("expect_column_mean_to_be_between", {"column": "amount", "max_value": 0.1}, {"severity": "info"}),
        key=("expect_compound_columns_to_be_unique", {"column_list": ["key", "code"]}, {"mostly": 0.5}),
        custom=(QUERY, {"unexpected_rows_query": "select row_number from {batch} where amount > 5"}),
        broken=(BETWEEN, {"column": "no_such_column", "min_value": 1}, {"severity": "info"}),
    )
    verdict = gate.audit_files(suite, [stage((1, 0, "a"), (2, 1, "a"), (3, None, "b"))], columns=columns)
    kept = json.loads(verdict.validation_json)
    read = expectationSuiteValidationResultSchema.load(kept)
    assert read.suite_name == "raw/shop__orders"
    assert [result.expectation_config.meta["rule"] for result in read.results] == [r.id for r in suite.expectations]
    assert read.statistics["unsuccessful_expectations"] == 3
    assert read.results[0].result["unexpected_count"] == 1
    assert read.results[0].expectation_config.to_domain_obj().column == "amount"
    assert read.results[5].exception_info["raised_exception"]
    # What it would write itself is what we wrote, except the empty places that reading fills in.
    again = json.loads(json.dumps(read.to_json_dict()))
    assert again["statistics"] == kept["statistics"]
    assert [result["result"] for result in again["results"]] == [result["result"] for result in kept["results"]]
    assert [r["expectation_config"] for r in again["results"]] == [r["expectation_config"] for r in kept["results"]]


def test_a_verdict_can_be_written_as_json(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    suite = make_suite(
        late=(BETWEEN, {"column": "at", "max_value": "2012-01-01T00:00:00Z"}, {"severity": "info"}),
        latest=(
            "expect_column_max_to_be_between",
            {"column": "at", "max_value": "2012-01-01T00:00:00Z"},
            {"severity": "info"},
        ),
    )
    verdict = gate.audit_files(suite, [stage((1, 1, "a"))], columns=columns)
    written = json.loads(json.dumps(verdict.to_dict()))
    assert written["results"][0]["observed"]["partial_unexpected"] == ["2013-01-01T00:00:00+00:00"]
    assert written["results"][1]["observed"] == "2013-01-01T00:00:00+00:00"


def test_an_audit_writes_no_file_and_prints_nothing(
    tmp_path: Path,
    stage: Stage,
    make_suite: MakeSuite,
    columns: list[Column],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    file = stage((1, 0, "a"), (2, 1, "a"))
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    gate = Gate()
    broken = (BETWEEN, {"column": "no_such_column", "min_value": 1})
    gate.audit_files(make_suite(positive=POSITIVE, broken=broken), [file], columns=columns)
    gate.close()
    assert list(home.iterdir()) == []
    assert list(here.iterdir()) == []
    assert capfd.readouterr() == ("", "")
