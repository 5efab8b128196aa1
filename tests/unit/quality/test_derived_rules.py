"""Laws of derived rules: a promise is judged once, an explicit rule wins, and ids are stable."""

from __future__ import annotations

from typing import Any

import pytest

from quality.derive import Promise, with_derived
from quality.suite import Rule, Suite

NOT_NULL = "expect_column_values_to_not_be_null"
PROMISES = [
    Promise("given", ("id",), "the source spec", "shop.yml:10"),
    Promise("unique", ("id",), "the source spec", "shop.yml:5"),
    Promise("unique", ("day", "id"), "the source spec", "shop.yml:6"),
    Promise("accepted", ("state",), "the source spec", "shop.yml:12", values=("new", "paid")),
    Promise("refers", ("item", "day"), "the dbt contract", "m.yml:3", table="raw.shop__items", key=("id", "day")),
    Promise("typed", ("id",), "the dbt contract", "m.yml:4", type="BIGINT"),
    Promise("fresh", ("at",), "the source spec", "shop.yml:7"),
]


def suite(*rules: tuple[str, str, dict[str, Any]]) -> Suite:
    return Suite(
        suite="raw/shop__orders",
        expectations=tuple(Rule(id=i, expect=e, kwargs=k, severity="warning", why="x") for i, e, k in rules),
    )


def test_every_promise_becomes_one_critical_rule_that_names_where_it_comes_from() -> None:
    derived = with_derived(suite(), PROMISES)
    assert [rule.id for rule in derived.expectations] == [
        "derived_id_is_given",
        "derived_id_is_unique",
        "derived_day_id_is_unique",
        "derived_state_is_accepted",
        "derived_item_day_in_raw__shop__items",
        "derived_id_has_its_type",
        "derived_at_is_fresh",
    ]
    assert {rule.severity for rule in derived.expectations} == {"critical"}
    assert [derived.where(rule.id) for rule in derived.expectations] == [promise.place for promise in PROMISES]
    assert derived.expectations[0].why == "The source spec says: id has no nulls."
    assert derived.references == ("raw.shop__items",)
    assert derived.expectations[4].kwargs["unexpected_rows_query"] == (
        'select b.row_number from {batch} b anti join "raw__shop__items" r on b."item" = r."id" and b."day" = r."day" '
        'where b."item" is not null and b."day" is not null'
    )


@pytest.mark.parametrize(
    "explicit",
    [
        ("id_is_mostly_given", NOT_NULL, {"column": "id"}),
        ("key", "expect_compound_columns_to_be_unique", {"column_list": ["id", "day"]}),
        ("derived_state_is_accepted", "expect_column_values_to_be_in_set", {"column": "other", "value_set": ["x"]}),
    ],
)
def test_an_explicit_rule_on_the_same_columns_or_of_the_same_id_wins(explicit: tuple[str, str, dict[str, Any]]) -> None:
    derived = with_derived(suite(explicit), PROMISES)
    assert len(derived.expectations) == len(PROMISES)
    assert derived.expectations[0].id == explicit[0]


@pytest.mark.parametrize(
    "beside",
    [
        ("other_column", NOT_NULL, {"column": "day"}),
        ("only_for_some_rows", NOT_NULL, {"column": "id", "row_condition": 'col("state") == "new"'}),
    ],
)
def test_a_rule_about_something_else_leaves_the_promise_to_be_judged(beside: tuple[str, str, dict[str, Any]]) -> None:
    assert "derived_id_is_given" in [rule.id for rule in with_derived(suite(beside), PROMISES).expectations]


def test_the_suite_of_the_file_stays_as_it_is() -> None:
    written = suite(("id_is_mostly_given", NOT_NULL, {"column": "id"})).located(
        "x.yml", {"id_is_mostly_given": "x.yml:4"}
    )
    derived = with_derived(written, PROMISES)
    assert [rule.id for rule in written.expectations] == ["id_is_mostly_given"]
    assert derived.named("id_is_mostly_given") == "id_is_mostly_given (x.yml:4)"
    assert derived.origin == "x.yml"
