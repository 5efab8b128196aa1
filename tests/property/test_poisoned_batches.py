"""Poison k rows among good ones, in every way an expectation can find: exactly those are rejected, for exactly that.

Each rule has columns of its own, so that what breaks one rule leaves the others alone, and a row may be broken in
several ways at once. Every expectation that Great Expectations has is either here or known to have no SQL form: a new
one without a poison fails the last law.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lake.schema import Column
from quality.expectations import NOT_IN_SQL, load_great_expectations
from quality.gate import Gate
from quality.suite import Rule, Suite

TEXT, NUMBER, REAL = "string", "int64", "float64"
POLARS = {TEXT: pl.String, NUMBER: pl.Int64, REAL: pl.Float64}
VALUE = "expect_column_values_to_"
Row = dict[str, Any]


@dataclass(frozen=True)
class Poison:
    """How one rule is broken.

    Attributes:
        expect, kwargs: the rule; columns are named by letters and get the rule's number.
        kind: type of its columns.
        good: values of its columns in good rows, in turn.
        bad: values that break the rule.
        doubled: whether a bad row repeats the values of a good one, so that both are bad.
    """

    expect: str
    kwargs: Mapping[str, Any]
    kind: str
    good: tuple[tuple[Any, ...], ...]
    bad: tuple[tuple[Any, ...], ...] = ()
    doubled: bool = False
    names: str = field(default="")

    @property
    def letters(self) -> str:
        """One letter for each column."""
        return "abc"[: len(self.good[0])] if self.good else "a"


def one(*values: Any) -> tuple[tuple[Any, ...], ...]:
    return tuple((value,) for value in values)


PAIR, TRIPLE, ONE = {"column_A": "a", "column_B": "b"}, {"column_list": ["a", "b", "c"]}, {"column": "a"}
CODES = one("AB1", "ZZ9", None)
POISONS = [
    Poison(
        f"{VALUE}be_between", {**ONE, "min_value": 1, "max_value": 9}, NUMBER, one(1, 5, 9, None), one(0, 10, -(2**63))
    ),
    Poison(
        f"{VALUE}be_between",
        {**ONE, "max_value": 1.5, "strict_max": True},
        REAL,
        one(1.25, -1e300, None),
        one(1.5, float("inf"), float("nan")),
    ),
    Poison(f"{VALUE}be_in_set", {**ONE, "value_set": ["a", "it's"]}, TEXT, one("a", "it's", None), one("A", "", "a ")),
    Poison(f"{VALUE}not_be_in_set", {**ONE, "value_set": [0, 7]}, NUMBER, one(1, -7, None), one(0, 7)),
    Poison(f"{VALUE}not_be_null", ONE, TEXT, one("", "x"), one(None)),
    Poison(f"{VALUE}be_null", ONE, REAL, one(None), one(0.0, float("nan"))),
    Poison(f"{VALUE}be_unique", ONE, NUMBER, (), doubled=True),
    Poison(f"{VALUE}match_regex", {**ONE, "regex": "^[A-Z]{2}[0-9]$"}, TEXT, CODES, one("AB", "ab1", "", "AB12", "É1")),
    Poison(f"{VALUE}not_match_regex", {**ONE, "regex": "[xy]$"}, TEXT, one("xa", "", None), one("ax", "y")),
    Poison(f"{VALUE}match_regex_list", {**ONE, "regex_list": ["^a", "z$"]}, TEXT, one("ab", "bz", None), one("ba", "")),
    Poison(
        f"{VALUE}match_regex_list",
        {**ONE, "regex_list": ["^a", "z$"], "match_on": "all"},
        TEXT,
        one("abz", "az", None),
        one("ab", "bz", ""),
    ),
    Poison(f"{VALUE}not_match_regex_list", {**ONE, "regex_list": ["^a", "z$"]}, TEXT, one("ba", None), one("ab", "bz")),
    Poison(
        f"{VALUE}match_like_pattern", {**ONE, "like_pattern": "A_%"}, TEXT, one("AB", "A1x", None), one("A", "bA", "")
    ),
    Poison(f"{VALUE}not_match_like_pattern", {**ONE, "like_pattern": "%x%"}, TEXT, one("a", "", None), one("x", "axa")),
    Poison(
        f"{VALUE}match_like_pattern_list",
        {**ONE, "like_pattern_list": ["a%", "%z"], "match_on": "any"},
        TEXT,
        one("ab", "bz", None),
        one("ba", ""),
    ),
    Poison(
        f"{VALUE}not_match_like_pattern_list",
        {**ONE, "like_pattern_list": ["a%", "%z"]},
        TEXT,
        one("ba", "", None),
        one("ab", "bz"),
    ),
    Poison(
        "expect_column_value_lengths_to_be_between",
        {**ONE, "min_value": 1, "max_value": 3},
        TEXT,
        one("a", "äöü", None),
        one("", "abcd"),
    ),
    Poison(
        "expect_column_value_lengths_to_equal", {**ONE, "value": 2}, TEXT, one("ab", "é€", None), one("a", "abc", "")
    ),
    Poison(
        "expect_column_value_z_scores_to_be_less_than",
        {**ONE, "threshold": 1.5, "double_sided": True},
        REAL,
        one(0.0, 1.0),
        one(1000.0),
    ),
    Poison(
        "expect_column_pair_values_a_to_be_greater_than_b",
        {**PAIR, "or_equal": True, "ignore_row_if": "either_value_is_missing"},
        NUMBER,
        ((2, 1), (3, 3), (None, 4), (4, None)),
        ((1, 2), (-5, 5)),
    ),
    Poison(
        "expect_column_pair_values_to_be_equal",
        {**PAIR, "ignore_row_if": "both_values_are_missing"},
        TEXT,
        (("a", "a"), ("", ""), (None, None)),
        (("a", "b"), ("a", "A")),
    ),
    Poison(
        "expect_column_pair_values_to_be_in_set",
        {**PAIR, "value_pairs_set": [[1, 2], [3, 4]], "ignore_row_if": "either_value_is_missing"},
        NUMBER,
        ((1, 2), (3, 4), (None, 2)),
        ((1, 4), (2, 1)),
    ),
    Poison("expect_compound_columns_to_be_unique", {"column_list": ["a", "b"]}, NUMBER, (), doubled=True),
    Poison(
        "expect_multicolumn_sum_to_equal",
        {**TRIPLE, "sum_total": 10},
        NUMBER,
        ((1, 2, 7), (0, 0, 10)),
        ((1, 2, 8), (0, 0, 0)),
    ),
    Poison(
        "expect_multicolumn_values_to_be_equal",
        TRIPLE,
        TEXT,
        (("a", "a", "a"), ("", "", "")),
        (("a", "a", "b"), ("b", "a", "a")),
    ),
    Poison(
        "expect_select_column_values_to_be_unique_within_record",
        TRIPLE,
        NUMBER,
        ((1, 2, 3), (3, 2, 1)),
        ((1, 1, 2), (1, 2, 1), (2, 1, 1)),
    ),
    Poison(
        "unexpected_rows_expectation",
        {"unexpected_rows_query": "select row_number from {batch} where a < 0"},
        NUMBER,
        one(0, 1, None),
        one(-1, -(2**63)),
    ),
]
"""Every expectation on single rows, with values that meet it and values that break it."""

GROUPED = [number for number, poison in enumerate(POISONS) if poison.doubled]
SCORES = next(number for number, poison in enumerate(POISONS) if "z_scores" in poison.expect)


def letters_of(poison: Poison) -> str:
    if poison.doubled:
        return "ab" if "column_list" in poison.kwargs else "a"
    return poison.letters


def named(number: int, value: Any) -> Any:
    """Arguments with the rule's number behind its columns' letters."""
    if isinstance(value, str):
        return f"r{number}{value}"
    return [f"r{number}{each}" for each in value]


def rule_of(number: int, poison: Poison) -> Rule:
    kwargs = {key: named(number, value) if key.startswith("column") else value for key, value in poison.kwargs.items()}
    if "unexpected_rows_query" in kwargs:
        kwargs["unexpected_rows_query"] = str(kwargs["unexpected_rows_query"]).replace(" a ", f" r{number}a ")
    return Rule(id=f"rule_{number}", expect=poison.expect, kwargs=kwargs, severity="critical", why="poisoned")


COLUMNS = [
    Column(f"r{number}{letter}", poison.kind) for number, poison in enumerate(POISONS) for letter in letters_of(poison)
]
SUITE = Suite(
    suite="raw/poisoned__rows", expectations=tuple(rule_of(number, poison) for number, poison in enumerate(POISONS))
)


@pytest.fixture(scope="module")
def gate() -> Iterator[Gate]:
    gate = Gate(threads=1)
    yield gate
    gate.close()


@st.composite
def poisoned(draw: st.DrawFn) -> tuple[list[Row], dict[int, list[str]]]:
    """Rows, and of each bad one the rules it breaks."""
    count = draw(st.integers(8, 40))
    rows = [good_row(position) for position in range(count)]
    broken: dict[int, set[int]] = {}
    chosen = st.lists(
        st.tuples(st.integers(0, len(POISONS) - 1), st.integers(0, count - 1), st.integers(0, 9), st.integers(0, 9)),
        max_size=12,
        unique_by=lambda each: each[:2],
    )
    scores = 0
    for number, position, kind, other in draw(chosen):
        poison = POISONS[number]
        columns = [f"r{number}{letter}" for letter in letters_of(poison)]
        if poison.doubled:
            twin = (position + 1 + other % (count - 1)) % count
            rows[position] |= {column: rows[twin][column] for column in columns}
            continue  # which rows are doubled is counted at the end: twins may have been changed again
        if number == SCORES:
            scores += 1
            if scores > count // 4:
                continue  # so many outliers would be no outliers
        rows[position] |= dict(zip(columns, poison.bad[kind % len(poison.bad)], strict=True))
        broken.setdefault(position, set()).add(number)
    for number in GROUPED:
        columns = [f"r{number}{letter}" for letter in letters_of(POISONS[number])]
        keys = [tuple(row[column] for column in columns) for row in rows]
        for position, key in enumerate(keys):
            if keys.count(key) > 1:
                broken.setdefault(position, set()).add(number)
    return rows, {position: [f"rule_{number}" for number in sorted(broken[position])] for position in sorted(broken)}


def good_row(position: int) -> Row:
    row: Row = {}
    for number, poison in enumerate(POISONS):
        values = (position, -position)[: len(letters_of(poison))] if poison.doubled else ()
        values = values or poison.good[position % len(poison.good)]
        row |= dict(zip((f"r{number}{letter}" for letter in letters_of(poison)), values, strict=True))
    return row


def staged(folder: Path, rows: list[Row]) -> str:
    path = folder / "rows.parquet"
    schema = {column.name: POLARS[column.type] for column in COLUMNS}
    pl.DataFrame(rows, schema=schema).write_parquet(path)
    return str(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=poisoned())
def test_exactly_the_poisoned_rows_are_rejected_for_exactly_what_is_wrong(
    gate: Gate, tmp_path: Path, figures: Callable[..., None], made: tuple[list[Row], dict[int, list[str]]]
) -> None:
    rows, broken = made
    verdict = gate.audit_files(SUITE, [staged(tmp_path, rows)], columns=COLUMNS)
    assert [(result.rule, result.error) for result in verdict.results if result.error] == []
    rejected = {row["row_number"]: row["rules"] for row in verdict.rejects.to_pylist()}
    figures(
        action="poisoned batch",
        rows_expected=len(rows),
        bad_rows=len(broken),
        bad_rows_served=len(broken.keys() - rejected.keys()),
        good_rows_rejected=len(rejected.keys() - broken.keys()),
    )
    assert rejected == broken
    assert verdict.passed is (len(broken) < len(rows))
    counted = {result.rule: result.rows_unexpected for result in verdict.results}
    assert counted == {rule.id: sum(rule.id in rules for rules in broken.values()) for rule in SUITE.expectations}


@pytest.mark.parametrize("number", range(len(POISONS)), ids=lambda number: f"{number}-{POISONS[number].expect}")
def test_each_poison_alone_is_found_and_without_it_the_batch_passes(gate: Gate, tmp_path: Path, number: int) -> None:
    poison = POISONS[number]
    columns = [f"r{number}{letter}" for letter in letters_of(poison)]
    rows = [good_row(position) for position in range(12)]
    bad = poison.bad or (tuple(rows[3][column] for column in columns),)
    suite = Suite(suite="raw/poisoned__rows", expectations=(SUITE.expectations[number],))
    clean = gate.audit_files(suite, [staged(tmp_path, rows)], columns=COLUMNS)
    assert (clean.passed, clean.rows_rejected, clean.noticed) == (True, 0, ())
    for position, values in enumerate(bad, start=5):
        poisoned_rows = [dict(row) for row in rows]
        poisoned_rows[position] |= dict(zip(columns, values, strict=True))
        verdict = gate.audit_files(suite, [staged(tmp_path, poisoned_rows)], columns=COLUMNS)
        expected = [3, position] if poison.doubled else [position]
        assert [row["row_number"] for row in verdict.rejects.to_pylist()] == expected, values


BATCH = pl.DataFrame(
    {"n": [1, 2, 3, 4, 4, None], "s": ["a", "b", "a", "c", "a", "a"]}, schema={"n": pl.Int64, "s": pl.String}
)
BATCH_COLUMNS = [Column("n", "int64"), Column("s", "string")]
N, S = {"column": "n"}, {"column": "s"}
BATCH_RULES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("expect_column_distinct_values_to_be_in_set", {**S, "value_set": ["a", "b", "c", "d"]}, {**S, "value_set": ["a"]}),
    ("expect_column_distinct_values_to_contain_set", {**S, "value_set": ["a", "b"]}, {**S, "value_set": ["a", "d"]}),
    ("expect_column_distinct_values_to_equal_set", {**S, "value_set": ["c", "b", "a"]}, {**S, "value_set": ["a", "b"]}),
    (
        "expect_column_kl_divergence_to_be_less_than",
        {**S, "partition_object": {"values": ["a", "b", "c"], "weights": [0.66, 0.17, 0.17]}, "threshold": 0.1},
        {**S, "partition_object": {"values": ["a", "b", "c"], "weights": [0.1, 0.1, 0.8]}, "threshold": 0.1},
    ),
    ("expect_column_max_to_be_between", {**N, "min_value": 4, "max_value": 4}, {**N, "max_value": 3}),
    ("expect_column_mean_to_be_between", {**N, "min_value": 2.7, "max_value": 2.9}, {**N, "min_value": 2.9}),
    ("expect_column_median_to_be_between", {**N, "min_value": 3, "max_value": 3}, {**N, "min_value": 4}),
    ("expect_column_min_to_be_between", {**N, "min_value": 1}, {**N, "min_value": 2}),
    ("expect_column_most_common_value_to_be_in_set", {**S, "value_set": ["a"]}, {**S, "value_set": ["b"]}),
    (
        "expect_column_proportion_of_non_null_values_to_be_between",
        {**N, "min_value": 0.8, "max_value": 0.9},
        {**N, "min_value": 0.9},
    ),
    (
        "expect_column_proportion_of_unique_values_to_be_between",
        {**N, "min_value": 0.7, "max_value": 0.9},
        {**N, "min_value": 0.95},
    ),
    (
        "expect_column_quantile_values_to_be_between",
        {**N, "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[2, 3]]}},
        {**N, "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[9, 10]]}},
    ),
    ("expect_column_stdev_to_be_between", {**N, "min_value": 1, "max_value": 2}, {**N, "max_value": 1}),
    ("expect_column_sum_to_be_between", {**N, "min_value": 14, "max_value": 14}, {**N, "min_value": 15}),
    ("expect_column_to_exist", N, {"column": "m"}),
    ("expect_column_type_to_be", {**N, "type_": "BIGINT"}, {**N, "type_": "VARCHAR"}),
    ("expect_column_unique_value_count_to_be_between", {**N, "min_value": 4, "max_value": 4}, {**N, "min_value": 5}),
    (f"{VALUE}be_of_type", {**N, "type_": "BIGINT"}, {**N, "type_": "INTEGER"}),
    (f"{VALUE}be_in_type_list", {**N, "type_list": ["BIGINT", "INTEGER"]}, {**N, "type_list": ["VARCHAR"]}),
    ("expect_table_column_count_to_be_between", {"min_value": 2, "max_value": 2}, {"min_value": 3}),
    ("expect_table_column_count_to_equal", {"value": 2}, {"value": 3}),
    ("expect_table_columns_to_match_ordered_list", {"column_list": ["n", "s"]}, {"column_list": ["s", "n"]}),
    ("expect_table_columns_to_match_set", {"column_set": ["s", "n"]}, {"column_set": ["s"], "exact_match": True}),
    ("expect_table_row_count_to_be_between", {"min_value": 6, "max_value": 6}, {"min_value": 7}),
    ("expect_table_row_count_to_equal", {"value": 6}, {"value": 5}),
    (
        "expect_table_row_count_to_equal_other_table",
        {"other_table_name": "raw__s__same"},
        {"other_table_name": "raw__s__one"},
    ),
    (
        "unexpected_rows_expectation",
        {"unexpected_rows_query": "select count(*) from {batch} having count(*) > 6"},
        {"unexpected_rows_query": "select count(*) from {batch} having count(*) > 5"},
    ),
]
"""Every expectation on the batch as a whole, met and broken by :data:`BATCH`."""


@pytest.mark.parametrize(
    ("expect", "met", "broken"), BATCH_RULES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_batch_that_breaks_a_rule_on_the_whole_is_refused_and_one_that_meets_it_passes(
    gate: Gate, tmp_path: Path, expect: str, met: dict[str, Any], broken: dict[str, Any]
) -> None:
    files = {"batch": BATCH, "raw.s__same": BATCH, "raw.s__one": BATCH.head(1)}
    for name, frame in files.items():
        frame.write_parquet(tmp_path / f"{name}.parquet")

    def judged(kwargs: dict[str, Any]) -> tuple[bool, list[str], int]:
        rule = Rule(id="rule", expect=expect, kwargs=kwargs, severity="critical", why="judged")
        suite = Suite(suite="raw/s__batch", references=("raw.s__same", "raw.s__one"), expectations=(rule,))
        references = {name: [str(tmp_path / f"{name}.parquet")] for name in suite.references}
        verdict = gate.audit_files(
            suite, [str(tmp_path / "batch.parquet")], columns=BATCH_COLUMNS, references=references
        )
        assert [result.error for result in verdict.results] == [None]
        return verdict.passed, [reason.split(":")[0] for reason in verdict.reasons], verdict.rows_rejected

    assert judged(met) == (True, [], 0)
    assert judged(broken) == (False, ["rule failed"], 0)


def test_every_expectation_there_is_has_a_poison_or_no_sql_form() -> None:
    poisoned_here = {poison.expect for poison in POISONS} | {expect for expect, _, _ in BATCH_RULES}
    assert set(load_great_expectations()) - poisoned_here == set(NOT_IN_SQL)
