"""Rules that other files imply: what a source spec, a refined table or a dbt contract promises is judged without being
written again.

::

    spec, refined table, dbt contract --(penstock/suites.py)--> promises --> rules --> suite file + derived rules

A promise is neutral: this package knows nothing of specs and dbt. Each becomes one expectation of Great Expectations,
critical, with a stable id that begins with ``derived_`` and a reason that names where it comes from. An explicit rule
wins: one of the same expectation on the same columns (without a ``row_condition``), or one of the same id. So a suite
can soften what a spec says, and the difference stands in the suite with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lake.sql import identifier
from quality.expectations import QUERY_RULE
from quality.suite import Rule, Suite, view_name

PREFIX = "derived_"
"""How ids of derived rules begin."""

FRESH_SINCE = "fresh_since"
"""Parameter of the freshness rule: what the newest value must not be older than."""

_VALUES = "expect_column_values_to_"


@dataclass(frozen=True)
class Promise:
    """One thing that is promised of a table's rows.

    Attributes:
        kind: ``given``: no nulls; ``unique``: values together do not repeat; ``accepted``: one of ``values``;
            ``refers``: the values are a ``key`` of ``table``; ``typed``: the column has the DuckDB type ``type``;
            ``fresh``: the newest value is not older than the parameter :data:`FRESH_SINCE`.
        columns: the columns it is about; one, except for ``unique`` and ``refers``.
        by: what promises it, in words, e.g. ``the source spec``.
        place: ``file:line`` of it.
        values, table, key, type: see ``kind``.
    """

    kind: Literal["given", "unique", "accepted", "refers", "typed", "fresh"]
    columns: tuple[str, ...]
    by: str
    place: str
    values: tuple[Any, ...] = ()
    table: str = ""
    key: tuple[str, ...] = ()
    type: str = ""


def with_derived(suite: Suite, promises: Iterable[Promise]) -> Suite:
    """The suite with a rule for each promise that it does not say itself."""
    said = {subject(rule) for rule in suite.expectations if not rule.kwargs.get("row_condition")}
    ids = {rule.id for rule in suite.expectations}
    rules: list[tuple[Rule, str]] = []
    references = []
    for promise in promises:
        rule = _rule(promise)
        if rule.id in ids or subject(rule) in said:
            continue
        ids.add(rule.id)
        rules.append((rule, promise.place))
        references += [promise.table] if promise.table else []
    return suite.with_derived(rules, references)


def is_derived(rule: Rule) -> bool:
    """Whether a rule comes from a promise."""
    return rule.id.startswith(PREFIX)


def subject(rule: Rule) -> tuple[str, frozenset[str]]:
    """Expectation and columns: what a rule is about. A query has no columns and stands for itself."""
    columns = rule.kwargs.get("column_list") or [rule.kwargs[key] for key in ("column",) if key in rule.kwargs]
    itself = [f"rule {rule.id}"] if rule.expect == QUERY_RULE else []
    return rule.expect, frozenset([*map(str, columns), *itself])


def _rule(promise: Promise) -> Rule:
    words = "_".join(promise.columns)
    column = promise.columns[0]
    match promise.kind:
        case "given":
            return _made(f"{words}_is_given", f"{_VALUES}not_be_null", {"column": column}, promise, "no nulls")
        case "unique" if len(promise.columns) == 1:
            return _made(f"{words}_is_unique", f"{_VALUES}be_unique", {"column": column}, promise, "unique")
        case "unique":
            columns = {"column_list": list(promise.columns)}
            return _made(f"{words}_is_unique", "expect_compound_columns_to_be_unique", columns, promise, "unique")
        case "accepted":
            allowed = {"column": column, "value_set": list(promise.values)}
            return _made(f"{words}_is_accepted", f"{_VALUES}be_in_set", allowed, promise, "one of the accepted values")
        case "typed":
            typed = {"column": column, "type_": promise.type}
            return _made(f"{words}_has_its_type", f"{_VALUES}be_of_type", typed, promise, f"of type {promise.type}")
        case "fresh":
            since = {"column": column, "min_value": {"$PARAMETER": FRESH_SINCE}}
            return _made(f"{words}_is_fresh", "expect_column_max_to_be_between", since, promise, "fresh")
        case "refers":
            query = {"unexpected_rows_query": _orphans(promise)}
            there = f"in {promise.table}"
            name = f"{words}_in_{view_name(promise.table)}"
            return _made(name, QUERY_RULE, query, promise, there)


def _made(name: str, expect: str, kwargs: dict[str, Any], promise: Promise, quality: str) -> Rule:
    identity = PREFIX + re.sub(r"\W", "_", name, flags=re.ASCII)
    what = ", ".join(promise.columns)
    why = f"{promise.by[:1].upper()}{promise.by[1:]} says: {what} is {quality}."
    if quality == "no nulls":
        why = f"{promise.by[:1].upper()}{promise.by[1:]} says: {what} has no nulls."
    return Rule(id=identity, expect=expect, kwargs=kwargs, severity="critical", why=why)


def _orphans(promise: Promise) -> str:
    """Rows whose reference leads nowhere; a row with a null in it refers to nothing, as in SQL."""
    pairs = list(zip(_quoted(promise.columns), _quoted(promise.key), strict=True))
    same = " and ".join(f"b.{column} = r.{key}" for column, key in pairs)
    given = " and ".join(f"b.{column} is not null" for column, _ in pairs)
    referred = identifier(view_name(promise.table)).replace("{", "{{").replace("}", "}}")
    return f"select b.row_number from {{batch}} b anti join {referred} r on {same} where {given}"


def _quoted(columns: Sequence[str]) -> list[str]:
    return [identifier(column).replace("{", "{{").replace("}", "}}") for column in columns]
