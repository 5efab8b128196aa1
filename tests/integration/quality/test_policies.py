"""Laws of policies and budgets: what a table does with its bad rows, and what nobody can wave through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from common.errors import GateCrashed, SpecError
from common.verdict import Signed
from lake.schema import Column
from quality.decide import UNNOTICED_ROWS
from quality.gate import Gate
from quality.suite import Suite, load_suite

Stage = Callable[..., str]
MakeSuite = Callable[..., Suite]

POSITIVE = ("expect_column_values_to_be_between", {"column": "amount", "min_value": 1})
FULL = ("expect_table_row_count_to_be_between", {"min_value": 3})
BROKEN = ("expect_column_values_to_be_between", {"column": "no_such_column", "min_value": 1}, {"severity": "info"})
SIGNED = {"policy": "warn", "policy_reason": "the source is being repaired", "policy_by": "Ada"}
ADA = Signed(by="Ada", reason="checked by hand")


def with_policy(suite: Suite, **policy: str) -> Suite:
    return Suite.model_validate({**suite.model_dump(), **policy})


def test_policy_refuse_refuses_the_batch_for_one_bad_row_and_names_the_rule(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    suite = with_policy(make_suite(positive=POSITIVE), policy="refuse")
    clean = gate.audit_files(suite, [stage((1, 1, "a"), (2, 1, "a"))], columns=columns)
    bad = gate.audit_files(suite, [stage((1, 1, "a"), (2, 0, "a"), (3, 1, "a"))], columns=columns)
    untyped = gate.audit_files(suite, [stage((1, 1, "a"))], columns=columns, rejected_before=1)
    assert (clean.passed, bad.passed, untyped.passed) == (True, False, False)
    assert bad.reasons == ("1 of 3 rows break positive, and the policy of a suite made in code is refuse",)
    assert bad.rows_rejected == 1


def test_policy_warn_rejects_and_refuses_nothing_but_says_everything(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    suite = with_policy(make_suite(positive=POSITIVE, full=FULL), **SIGNED)
    verdict = gate.audit_files(suite, [stage((1, 0, "a"), (2, 0, "a"))], columns=columns)
    assert (verdict.passed, verdict.rows_rejected, verdict.reasons) == (True, 0, ())
    assert [(result.rule, result.passed) for result in verdict.results] == [("positive", False), ("full", False)]
    assert verdict.to_dict()["policy"] == "warn"
    assert verdict.to_dict()["policy_signed"] == {"by": "Ada", "reason": "the source is being repaired"}


def test_policy_warn_does_not_carry_a_rule_that_could_not_be_judged(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    suite = with_policy(make_suite(positive=POSITIVE, broken=BROKEN), **SIGNED)
    verdict = gate.audit_files(suite, [stage((1, 1, "a"))], columns=columns)
    assert [reason.split(":")[0] for reason in verdict.reasons] == ["broken could not be judged"]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("policy: warn", "policy_reason"),
        ("policy: warn\npolicy_reason: because", "policy_by"),
        ("policy: refuse\nbudget: {max_rejected_rows: 1}", "has no budget"),
        ("policy_by: Ada", "belong to another policy"),
        ("policy: ignore", "policy"),
    ],
)
def test_a_policy_without_a_name_and_a_reason_or_with_a_budget_it_has_not_is_refused(
    tmp_path: Path, keys: str, said: str
) -> None:
    path = tmp_path / "shop__orders.yml"
    rule = "{id: a, expect: expect_table_row_count_to_equal, kwargs: {value: 1}, severity: info, why: x}"
    path.write_text(f"suite: raw/shop__orders\n{keys}\nexpectations:\n  - {rule}\n")
    with pytest.raises(SpecError, match=said):
        load_suite(path)


@pytest.mark.parametrize(
    ("rows", "bad", "passes"),
    [
        (200, UNNOTICED_ROWS, True),
        (200, UNNOTICED_ROWS + 1, False),
        (UNNOTICED_ROWS * 20, UNNOTICED_ROWS * 2, True),
        (UNNOTICED_ROWS * 20, UNNOTICED_ROWS * 2 + 1, False),
    ],
)
def test_a_suite_without_a_budget_has_one_that_stops_a_broken_extract(
    gate: Gate, tmp_path: Path, make_suite: MakeSuite, columns: list[Column], rows: int, bad: int, passes: bool
) -> None:
    file = str(tmp_path / "rows.parquet")
    duckdb.sql(
        f"COPY (SELECT i::BIGINT AS key, (i >= {bad})::INTEGER AS amount, 'a' AS code, "
        f"TIMESTAMPTZ '2013-01-01' AS \"at\" FROM range({rows}) AS t(i)) TO '{file}' (FORMAT parquet)"
    )
    verdict = gate.audit_files(make_suite(positive=POSITIVE), [file], columns=columns)
    assert (verdict.passed, verdict.rows_rejected) == (passes, bad)
    unlimited = make_suite(positive=POSITIVE, budget={"max_rejected_share": 1})
    assert gate.audit_files(unlimited, [file], columns=columns).passed


def test_a_refused_batch_can_be_accepted_by_a_person_and_its_bad_rows_stay_rejected(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    suite = make_suite(positive=POSITIVE, full=FULL, budget={"max_rejected_rows": 0})
    refused = gate.audit_files(suite, [stage((1, 0, "a"), (2, 1, "a"))], columns=columns)
    accepted = refused.accept(ADA)
    assert (refused.publishable, accepted.publishable, accepted.passed) == (False, True, False)
    assert (accepted.rows_rejected, accepted.reasons) == (1, refused.reasons)
    assert accepted.to_dict()["accepted"] == {"by": "Ada", "reason": "checked by hand"}


def test_what_passed_needs_nobody_and_what_was_not_judged_nobody_can_accept(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    file = stage((1, 1, "a"))
    passed = gate.audit_files(make_suite(positive=POSITIVE), [file], columns=columns)
    holed = gate.audit_files(make_suite(positive=POSITIVE, broken=BROKEN), [file], columns=columns)
    assert passed.accept(ADA).accepted is None
    assert not holed.accept(ADA).publishable


SLOW = "select b.row_number from {batch} b, range(100000) r, range(100000) s where hash(r.range, s.range) = 1"


@pytest.mark.parametrize(
    ("query", "at"),
    [
        (SLOW, "the 1 rules on single rows of suite.yml, among them slow (suite.yml:7)"),
        (SLOW.replace("b.row_number", "1 as found"), "rule slow (suite.yml:7)"),
    ],
)
def test_a_gate_that_is_out_of_time_refuses_and_says_what_it_was_at(
    stage: Stage, make_suite: MakeSuite, columns: list[Column], query: str, at: str
) -> None:
    suite = make_suite(slow=("unexpected_rows_expectation", {"unexpected_rows_query": query}))
    gate = Gate(threads=1, timeout_s=1.5)
    with pytest.raises(GateCrashed) as refused:
        gate.audit_files(suite.located("suite.yml", {"slow": "suite.yml:7"}), [stage((1, 1, "a"))], columns=columns)
    assert f"longer than 1.5 s; it was at {at}" in str(refused.value)
    assert "PENSTOCK_GATE_TIMEOUT_S" in str(refused.value)
    # The same gate judges the next batch: the interrupt did not outlive the audit.
    assert gate.audit_files(make_suite(positive=POSITIVE), [stage((1, 1, "a"))], columns=columns).passed
    gate.close()


def test_a_rule_that_raises_is_named_with_its_file_and_line(
    gate: Gate, stage: Stage, make_suite: MakeSuite, columns: list[Column]
) -> None:
    suite: Any = make_suite(positive=POSITIVE, broken=BROKEN).located("suite.yml", {"broken": "suite.yml:9"})
    (reason,) = gate.audit_files(suite, [stage((1, 1, "a"))], columns=columns).reasons
    assert reason.startswith("broken (suite.yml:9) could not be judged: no column no_such_column")
