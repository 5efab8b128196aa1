# ruff: noqa: TID251 - stock Great Expectations is the other side of the comparison
"""The gate counts what stock Great Expectations counts on a data frame, whatever the rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lake.schema import Column
from quality.expectations import build_expectation
from quality.gate import Gate
from quality.suite import Rule, Suite

COLUMNS = [Column("a", "int64"), Column("b", "int64"), Column("s", "string"), Column("x", "float64")]
ROWS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(-3, 3)),
        st.one_of(st.none(), st.integers(-3, 3)),
        st.one_of(st.none(), st.sampled_from(["", "a", "ab", "abc", "B", "a'b", "%"])),
        st.one_of(st.none(), st.sampled_from([-1.5, 0.0, 0.25, 2.5])),
    ),
    max_size=30,
)
VALUE = "expect_column_values_to_"
RULES: list[tuple[str, dict[str, Any], float | None]] = [
    (f"{VALUE}be_between", {"column": "a", "min_value": -1, "max_value": 2}, None),
    (f"{VALUE}be_between", {"column": "a", "min_value": -1, "max_value": 2, "strict_min": True}, 0.6),
    (f"{VALUE}be_between", {"column": "x", "max_value": 0.25, "strict_max": True}, 0.4),
    (f"{VALUE}be_in_set", {"column": "s", "value_set": ["a", "ab", "a'b"]}, 0.5),
    (f"{VALUE}not_be_in_set", {"column": "b", "value_set": [0, 1]}, None),
    (f"{VALUE}not_be_null", {"column": "a"}, 0.8),
    (f"{VALUE}not_be_null", {"column": "s"}, None),
    (f"{VALUE}be_null", {"column": "x"}, 0.3),
    (f"{VALUE}be_unique", {"column": "b"}, None),
    (f"{VALUE}be_unique", {"column": "s"}, 0.5),
    (f"{VALUE}match_regex", {"column": "s", "regex": "^a"}, None),
    (f"{VALUE}not_match_regex", {"column": "s", "regex": "b"}, None),
    ("expect_column_value_lengths_to_be_between", {"column": "s", "min_value": 1, "max_value": 2}, None),
    ("expect_compound_columns_to_be_unique", {"column_list": ["a", "b"]}, None),
    ("expect_compound_columns_to_be_unique", {"column_list": ["a", "s"], "ignore_row_if": "any_value_is_missing"}, 0.5),
    ("expect_compound_columns_to_be_unique", {"column_list": ["a", "b", "s"], "ignore_row_if": "never"}, None),
    (
        "expect_column_pair_values_a_to_be_greater_than_b",
        {"column_A": "a", "column_B": "b", "or_equal": True, "ignore_row_if": "either_value_is_missing"},
        0.5,
    ),
    (
        "expect_column_pair_values_to_be_equal",
        {"column_A": "a", "column_B": "b", "ignore_row_if": "either_value_is_missing"},
        None,
    ),
    ("expect_table_row_count_to_be_between", {"min_value": 1, "max_value": 20}, None),
    ("expect_column_unique_value_count_to_be_between", {"column": "b", "min_value": 1, "max_value": 4}, None),
]


def suite() -> Suite:
    rules = [
        Rule(id=f"rule_{n}", expect=expect, kwargs=kwargs, mostly=mostly, severity="critical", why="compared")
        for n, (expect, kwargs, mostly) in enumerate(RULES)
    ]
    return Suite(suite="raw/property__rows", expectations=tuple(rules))


@pytest.fixture(scope="module")
def gate() -> Iterator[Gate]:
    gate = Gate(threads=1)
    yield gate
    gate.close()


def stock_results(frame: pd.DataFrame) -> list[tuple[bool, Any, list[int]]]:
    """Success, count or observed value, and positions of unexpected rows, by GX's own validator on pandas."""
    from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
    from great_expectations.validator.validator import Validator

    validator = Validator(execution_engine=PandasExecutionEngine(batch_data_dict={"batch": frame}))
    results = validator.graph_validate(
        configurations=[build_expectation(suite(), rule).configuration for rule in suite().expectations],
        runtime_configuration={"result_format": {"result_format": "COMPLETE", "partial_unexpected_count": 0}},
    )
    by_rule = {}
    for result in results:
        assert result.expectation_config is not None
        by_rule[result.expectation_config.meta["rule"]] = result
    found = []
    for rule in suite().expectations:
        result = by_rule[rule.id]
        assert not result.exception_info["raised_exception"], result.exception_info
        observed = result.result.get("unexpected_count", result.result.get("observed_value"))
        found.append((bool(result.success), observed, sorted(result.result.get("unexpected_index_list") or [])))
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_counts_success_and_rejected_rows_equal_stock_great_expectations(
    gate: Gate, tmp_path: Path, rows: list[tuple[Any, ...]]
) -> None:
    frame = pl.DataFrame(rows, schema={"a": pl.Int64, "b": pl.Int64, "s": pl.String, "x": pl.Float64}, orient="row")
    file = tmp_path / "rows.parquet"
    frame.write_parquet(file)
    verdict = gate.audit_files(suite(), [str(file)], columns=COLUMNS)
    pandas = pd.DataFrame({name: pd.Series(frame[name].to_list(), dtype=object) for name in frame.columns})
    rejected: dict[str, list[int]] = {rule.id: [] for rule in suite().expectations}
    for row in verdict.rejects.to_pylist():
        for rule in row["rules"]:
            rejected[rule].append(row["row_number"])
    ours = [
        (result.passed, result.rows_unexpected if result.row_level else result.observed, rejected[result.rule])
        for result in verdict.results
    ]
    assert ours == stock_results(pandas)
