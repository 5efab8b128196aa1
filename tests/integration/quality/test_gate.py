"""Laws of the gate on staged files: what is rejected, and what refuses the batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
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


def test_the_failing_rows_of_critical_rules_are_exactly_the_rows_rejected(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    suite = make_suite(
        positive=POSITIVE,
        key_unique=(UNIQUE, {"column": "key"}),
        code_known=("expect_column_values_to_be_in_set", {"column": "code", "value_set": ["a", "b"]}),
    )
    file = stage((1, 5, "a"), (2, 0, "a"), (3, 5, "x"), (4, -1, "x"), (5, 5, "b"), (5, 5, "a"))
    verdict = gate.audit_files(suite, [file], columns=columns)
    assert verdict.passed
    assert verdict.rows_checked == 6
    assert rejected(verdict) == [
        (1, ["positive"]),
        (2, ["code_known"]),
        (3, ["positive", "code_known"]),
        (4, ["key_unique"]),
        (5, ["key_unique"]),
    ]
    assert [(result.rule, result.rows_unexpected) for result in verdict.results] == [
        ("positive", 2),
        ("key_unique", 2),
        ("code_known", 2),
    ]
    assert verdict.results[0].observed == {
        "unexpected_count": 2,
        "unexpected_percent": pytest.approx(100 / 3),
        "partial_unexpected": [0, -1],
    }


def test_a_clean_batch_passes_and_rejects_nothing(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    verdict = gate.audit_files(make_suite(positive=POSITIVE), [stage((1, 5, "a"))], columns=columns)
    assert verdict.passed
    assert verdict.reasons == ()
    assert rejected(verdict) == []


@pytest.mark.parametrize("severity", ["warning", "info"])
def test_warnings_are_counted_and_reject_nothing(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column], severity: str
) -> None:
    suite = make_suite(
        positive=(*POSITIVE, {"severity": severity}),
        rows=(ROW_COUNT, {"min_value": 100}, {"severity": severity}),
    )
    verdict = gate.audit_files(suite, [stage((1, 0, "a"), (2, 0, "a"))], columns=columns)
    assert verdict.passed
    assert rejected(verdict) == []
    assert [(result.passed, result.rows_unexpected) for result in verdict.results] == [(False, 2), (False, None)]
    assert verdict.results[1].observed == 2


def test_nulls_are_judged_only_by_the_rules_that_are_about_nulls(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    suite = make_suite(
        positive=POSITIVE,
        amount_unique=(UNIQUE, {"column": "amount"}),
        code_known=("expect_column_values_to_be_in_set", {"column": "code", "value_set": ["a"]}),
        code_shape=("expect_column_values_to_match_regex", {"column": "code", "regex": "^a$"}),
        key_given=(NOT_NULL, {"column": "key"}),
    )
    verdict = gate.audit_files(suite, [stage((1, None, "a"), (None, 7, None), (2, None, None))], columns=columns)
    assert rejected(verdict) == [(1, ["key_given"])]


def test_a_regular_expression_is_searched_not_matched_whole(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    suite = make_suite(
        has_b=("expect_column_values_to_match_regex", {"column": "code", "regex": "b"}),
        no_z=("expect_column_values_to_not_match_regex", {"column": "code", "regex": "z"}),
        listed=("expect_column_values_to_match_regex_list", {"column": "code", "regex_list": ["b", "q"]}),
        not_listed=("expect_column_values_to_not_match_regex_list", {"column": "code", "regex_list": ["z", "y"]}),
        like=("expect_column_values_to_match_like_pattern", {"column": "code", "like_pattern": "%b%"}),
    )
    verdict = gate.audit_files(suite, [stage((1, 1, "abc"), (2, 1, "azc"))], columns=columns)
    assert rejected(verdict) == [(1, ["has_b", "no_z", "listed", "not_listed", "like"])]


def test_a_failing_critical_rule_on_the_batch_refuses_it(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    suite = make_suite(rows=(ROW_COUNT, {"min_value": 3}), positive=POSITIVE)
    verdict = gate.audit_files(suite, [stage((1, 1, "a"), (2, 0, "a"))], columns=columns)
    assert not verdict.passed
    assert verdict.reasons == ("rows failed: observed 2",)
    assert rejected(verdict) == [(1, ["positive"])]


@pytest.mark.parametrize(
    ("budget", "passes"),
    [
        ({}, True),
        ({"max_rejected_rows": 2}, True),
        ({"max_rejected_rows": 1}, False),
        ({"max_rejected_share": 0.5}, True),
        ({"max_rejected_share": 0.49}, False),
    ],
)
def test_more_rejected_rows_than_the_budget_refuse_the_batch(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column], budget: dict[str, Any], passes: bool
) -> None:
    file = stage((1, 1, "a"), (2, 0, "a"), (3, 0, "a"), (4, 1, "a"))
    verdict = gate.audit_files(make_suite(budget=budget, positive=POSITIVE), [file], columns=columns)
    assert verdict.passed is passes
    assert verdict.rows_rejected == 2
    assert bool(verdict.reasons) is not passes


def test_a_batch_of_which_no_row_is_left_is_refused(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    verdict = gate.audit_files(make_suite(positive=POSITIVE), [stage((1, 0, "a"), (2, 0, "a"))], columns=columns)
    assert not verdict.passed
    assert verdict.reasons == ("all 2 rows rejected",)


def test_mostly_of_a_critical_rule_is_its_own_budget(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    file = stage((1, 1, "a"), (2, 0, "a"), (3, 1, "a"), (4, 1, "a"))
    lenient = gate.audit_files(make_suite(positive=(*POSITIVE, {"mostly": 0.7})), [file], columns=columns)
    strict = gate.audit_files(make_suite(positive=(*POSITIVE, {"mostly": 0.8})), [file], columns=columns)
    assert (lenient.passed, lenient.results[0].passed, rejected(lenient)) == (True, True, [(1, ["positive"])])
    assert (strict.passed, strict.results[0].passed, rejected(strict)) == (False, False, [(1, ["positive"])])


def test_an_empty_batch_passes_rules_on_rows_and_is_judged_by_rules_on_the_batch(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    rules = {
        "positive": POSITIVE,
        "key_given": (NOT_NULL, {"column": "key"}),
        "key_unique": (UNIQUE, {"column": "key"}),
    }
    for files in ([stage()], []):
        verdict = gate.audit_files(make_suite(**rules), files, columns=columns)
        assert (verdict.passed, verdict.rows_checked, rejected(verdict)) == (True, 0, [])
        refused = gate.audit_files(make_suite(**rules, rows=(ROW_COUNT, {"min_value": 1})), files, columns=columns)
        assert refused.reasons == ("rows failed: observed 0",)


def test_row_numbers_run_over_all_files_in_list_order(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    first, empty, second = stage((1, 1, "a"), (2, 0, "a")), stage(), stage((3, 0, "a"), (4, 1, "a"), (5, 0, "a"))
    suite = make_suite(positive=POSITIVE)
    forward = gate.audit_files(suite, [first, empty, second], columns=columns)
    backward = gate.audit_files(suite, [second, empty, first], columns=columns)
    assert [row for row, _ in rejected(forward)] == [1, 2, 4]
    assert [row for row, _ in rejected(backward)] == [0, 2, 4]


def test_more_rules_than_one_mask_holds_all_count_and_reject(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    rules = {f"below_{limit}": (BETWEEN, {"column": "amount", "max_value": limit}) for limit in range(140)}
    rules["key_unique"] = (UNIQUE, {"column": "key"})
    verdict = gate.audit_files(make_suite(**rules), [stage((1, 0, "a"), (2, 63, "a"), (2, 139, "a"))], columns=columns)
    assert rejected(verdict) == [
        (1, [f"below_{limit}" for limit in range(63)] + ["key_unique"]),
        (2, [f"below_{limit}" for limit in range(139)] + ["key_unique"]),
    ]
    assert [result.rows_unexpected for result in verdict.results] == [2] * 63 + [1] * 76 + [0] + [2]


def test_a_condition_on_rows_restricts_counting_and_rejecting(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    only_a = {"row_condition": 'col("code") == "a"'}
    suite = make_suite(
        positive=(BETWEEN, {"column": "amount", "min_value": 1, **only_a}),
        unique=("expect_compound_columns_to_be_unique", {"column_list": ["key", "amount"], **only_a}),
        rows=("expect_table_row_count_to_equal", {"value": 3, **only_a}),
    )
    file = stage((1, 0, "a"), (2, 0, "b"), (3, 7, "a"), (3, 7, "b"), (3, 7, "a"))
    verdict = gate.audit_files(suite, [file], columns=columns)
    assert verdict.passed
    assert rejected(verdict) == [(0, ["positive"]), (2, ["unique"]), (4, ["unique"])]


def test_a_query_that_returns_row_numbers_rejects_those_rows(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    query = "select row_number from {batch} where amount > 3 and code <> '{{x}}'"
    verdict = gate.audit_files(
        make_suite(custom=(QUERY, {"unexpected_rows_query": query})),
        [stage((1, 1, "a"), (2, 9, "a"), (3, 9, "{x}"))],
        columns=columns,
    )
    assert rejected(verdict) == [(1, ["custom"])]
    assert verdict.results[0].row_level
    assert verdict.results[0].observed["partial_unexpected"] == [{"row_number": 1}]


def test_a_query_that_returns_no_row_numbers_judges_the_batch(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    query = "select code from {batch} group by code having count(*) > 1"
    verdict = gate.audit_files(
        make_suite(custom=(QUERY, {"unexpected_rows_query": query})), [stage((1, 1, "a"), (2, 9, "a"))], columns=columns
    )
    assert not verdict.results[0].row_level
    assert verdict.reasons == ("custom failed: observed 1",)
    assert rejected(verdict) == []


def test_a_rule_can_read_a_reference_table(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    query = (
        "select b.row_number from {batch} b left join raw__shop__codes p on b.code = p.code "
        "where b.code is not null and p.code is null"
    )
    suite = make_suite(references=["raw.shop__codes"], known=(QUERY, {"unexpected_rows_query": query}))
    batch = stage((1, 1, "a"), (2, 1, "zz"), (3, 1, None))
    reference = stage((0, 0, "a"), (0, 0, "b"))
    verdict = gate.audit_files(suite, [batch], columns=columns, references={"raw.shop__codes": [reference]})
    assert rejected(verdict) == [(1, ["known"])]
    with pytest.raises(GateCrashed, match=r"raw\.shop__codes"):
        gate.audit_files(suite, [batch], columns=columns)


def test_a_row_that_a_join_returns_twice_is_one_row(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    query = "select a.row_number from {batch} a join {batch} b on a.code = b.code and a.row_number <> b.row_number"
    suite = make_suite(alone=(QUERY, {"unexpected_rows_query": query}))
    verdict = gate.audit_files(suite, [stage((1, 1, "a"), (2, 1, "a"), (3, 1, "a"), (4, 1, "b"))], columns=columns)
    assert verdict.results[0].rows_unexpected == 3
    assert [row for row, _ in rejected(verdict)] == [0, 1, 2]


def test_rejects_of_a_large_share_stay_exact(
    gate: Gate, tmp_path: Path, make_suite: MakeSuite, columns: list[Column]
) -> None:
    file = str(tmp_path / "large.parquet")
    duckdb.sql(
        "COPY (SELECT i::BIGINT AS key, (i % 3)::INTEGER AS amount, 'a' AS code, TIMESTAMPTZ '2013-01-01' AS \"at\" "
        f"FROM range(300000) AS t(i)) TO '{file}' (FORMAT parquet, ROW_GROUP_SIZE 20480)"
    )
    verdict = gate.audit_files(make_suite(positive=POSITIVE), [file], columns=columns)
    assert verdict.rejects["row_number"].combine_chunks().equals(pa.array(range(0, 300000, 3), pa.int64()))
