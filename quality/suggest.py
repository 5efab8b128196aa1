"""Rules that a table's own rows suggest: what has been true so far, for a person to accept, correct or drop.

Three kinds of scans, whatever the number of columns, in a DuckDB engine with a memory limit::

    per interval:  rows, nulls, smallest and largest value, lengths, values outside each pattern
    whole table:   roughly how many distinct values each column has
    then:          the values of columns that have few; repeated values of columns that seem to have none

Rules are judged batch by batch, so what is suggested must have held in every interval, not on average. Suggestions are
warnings: rows show what happened, not what is allowed. Ranges and counts get room beside what was observed, and every
reason says what that was. Columns of the key, and those whose every value differs, get no range: they grow.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import duckdb

from lake.sql import identifier, literal
from quality.derive import subject
from quality.suite import Rule, Suite

FEW_VALUES = 20
"""A text column with at most so many values, each seen often enough, is taken for a set."""

ROWS_PER_VALUE = 20
ROWS_FOR_UNIQUE = 100
UNIQUE_COLUMNS = 8
"""Columns whose uniqueness is proven; each costs a grouping of the table."""

_LONGEST_VALUE = 60
_NUMBERS = re.compile(r"(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL\(.*\))")
_PATTERNS: Mapping[str, tuple[str, str]] = {
    "digits": ("^[0-9]+$", "digits only"),
    "capitals": ("^[A-Z]+$", "capital letters only"),
    "code": ("^[A-Z0-9]+$", "capital letters and digits only"),
    "uuid": ("^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", "UUIDs"),
    "date": ("^[0-9]{4}-[0-9]{2}-[0-9]{2}$", "dates as YYYY-MM-DD"),
    "email": (r"^[^@\s]+@[^@\s]+\.[^@\s]+$", "addresses of e-mail"),
    "url": (r"^https?://\S+$", "web addresses"),
    "word": ("^[A-Za-z0-9_.-]+$", "letters, digits and _ . - only"),
}
"""Name -> regular expression and its meaning, the narrowest first. All of a column's values must match."""

_SHAPES = (
    "expect_column_values_to_be_in_set",
    "expect_column_values_to_match_regex",
    "expect_column_values_to_match_regex_list",
    "expect_column_values_to_match_like_pattern",
    "expect_column_value_lengths_to_equal",
    "expect_column_value_lengths_to_be_between",
)
"""Rules that say what a text looks like: a column that has one needs no second."""


@dataclass
class _Facts:
    """What is known of one column.

    Attributes:
        name, kind: the column and its DuckDB type.
        nulls: in all rows.
        worst_nulls: largest share of nulls in one interval.
        low, high: smallest and largest value; of text, of its length.
        misses: values outside each pattern.
        distinct: roughly how many values it has.
        values: all of them, where they are few.
        is_unique: whether no value repeats.
    """

    name: str
    kind: str
    nulls: int = 0
    worst_nulls: float = 0.0
    low: Any = None
    high: Any = None
    misses: dict[str, int] = field(default_factory=dict)
    distinct: int = 0
    values: list[Any] = field(default_factory=list)
    is_unique: bool = False

    @property
    def is_text(self) -> bool:
        return self.kind == "VARCHAR"

    @property
    def is_number(self) -> bool:
        return bool(_NUMBERS.fullmatch(self.kind))


@dataclass(frozen=True)
class Table:
    """The rows to look at.

    Attributes:
        relation: SQL of them.
        interval: the column that says in which batch a row came; None for a table that is one batch.
        key: columns of its key.
        own: columns that Penstock added itself; nothing is suggested for them.
    """

    relation: str
    interval: str | None
    key: tuple[str, ...]
    own: frozenset[str] = frozenset()


def suggest(connection: duckdb.DuckDBPyConnection, table: Table, suite: Suite) -> list[Rule]:
    """Rules that hold for every batch of the table and that the suite does not have.

    Args:
        connection: an engine that can read it; its memory limit holds.
        table: the rows.
        suite: the effective suite; an empty one for a table without a suite.

    Returns:
        None if there are no rows.
    """
    kinds = {
        str(row[0]): str(row[1])
        for row in connection.execute(f"DESCRIBE SELECT * FROM {table.relation}").fetchall()
        if row[0] != table.interval and row[0] not in table.own
    }
    columns = [_Facts(name, kind) for name, kind in kinds.items()]
    counts = _look_at_intervals(connection, table, columns)
    if not sum(counts):
        return []
    _look_at_values(connection, table, columns, sum(counts))
    had = {subject(rule) for rule in suite.expectations}
    ids = {rule.id for rule in suite.expectations}
    shaped = {name for expect, names in had if expect in _SHAPES for name in names}
    found = [*_of_counts(counts)]
    for column in columns:
        found += _of_column(column, counts, column.name in table.key, column.name in shaped)
    return [rule for rule in found if subject(rule) not in had and rule.id not in ids]


def _look_at_intervals(connection: duckdb.DuckDBPyConnection, table: Table, columns: Sequence[_Facts]) -> list[int]:
    """Fill in what is counted by interval; the rows of each interval."""
    parts = ["count(*)"]
    for column in columns:
        parts += [f"count({identifier(column.name)})", *_extremes(column)]
    grouped = f" GROUP BY {identifier(table.interval)}" if table.interval else ""
    rows = connection.execute(f"SELECT {', '.join(parts)} FROM {table.relation}{grouped}").fetchall()
    counts = [int(row[0]) for row in rows]
    for row in rows:
        at = 1
        for column in columns:
            width = 1 + len(_extremes(column))
            _take(column, int(row[0]), row[at : at + width])
            at += width
    return counts


def _extremes(column: _Facts) -> list[str]:
    name = identifier(column.name)
    if column.is_number:
        return [f"min({name})", f"max({name})"]
    if column.is_text:
        misses = [
            f"count(*) FILTER (WHERE NOT regexp_matches({name}, {literal(regex)}))" for regex, _ in _PATTERNS.values()
        ]
        return [f"min(length({name}))", f"max(length({name}))", *misses]
    return []


def _take(column: _Facts, rows: int, answer: Sequence[Any]) -> None:
    given, rest = int(answer[0]), answer[1:]
    column.nulls += rows - given
    column.worst_nulls = max(column.worst_nulls, (rows - given) / rows if rows else 0.0)
    if not rest or rest[0] is None:
        return
    column.low = rest[0] if column.low is None else min(column.low, rest[0])
    column.high = rest[1] if column.high is None else max(column.high, rest[1])
    for name, misses in zip(_PATTERNS, rest[2:], strict=False):
        column.misses[name] = column.misses.get(name, 0) + int(misses)


def _look_at_values(connection: duckdb.DuckDBPyConnection, table: Table, columns: Sequence[_Facts], rows: int) -> None:
    """Fill in how many values there are, which they are, and whether they repeat."""
    looked = [column for column in columns if (column.is_text or column.is_number) and column.nulls < rows]
    if not looked:
        return
    guesses = ", ".join(f"approx_count_distinct({identifier(column.name)})" for column in looked)
    answer = connection.execute(f"SELECT {guesses} FROM {table.relation}").fetchone() or ()
    for column, distinct in zip(looked, answer, strict=True):
        column.distinct = int(distinct)
    few = [c for c in looked if c.is_text and c.distinct <= 2 * FEW_VALUES and c.high <= _LONGEST_VALUE]
    if few:
        lists = ", ".join(f"list_sort(list(DISTINCT {identifier(column.name)}))" for column in few)
        answer = connection.execute(f"SELECT {lists} FROM {table.relation}").fetchone() or ()
        for column, values in zip(few, answer, strict=True):
            column.values = list(values)
    # The guess may be a tenth too low; a column of which a quarter repeats is not worth a grouping.
    candidates = [column for column in looked if column.distinct > 0.75 * (rows - column.nulls)]
    for column in candidates[:UNIQUE_COLUMNS] if rows >= ROWS_FOR_UNIQUE else ():
        name = identifier(column.name)
        repeated = connection.execute(
            f"SELECT 1 FROM {table.relation} WHERE {name} IS NOT NULL GROUP BY {name} HAVING count(*) > 1 LIMIT 1"
        ).fetchone()
        column.is_unique = repeated is None


def _of_counts(counts: Sequence[int]) -> Iterator[Rule]:
    low, high = min(counts), max(counts)
    if low:
        seen = f"{low:,} rows" if len(counts) == 1 else f"{low:,} to {high:,} rows in {len(counts):,} intervals"
        room = {"min_value": max(1, low // 2), "max_value": high * 2}
        yield _rule(
            "batch_has_the_usual_rows",
            "expect_table_row_count_to_be_between",
            room,
            f"Observed {seen}; half and double of that.",
        )


def _of_column(column: _Facts, counts: Sequence[int], is_key: bool, is_shaped: bool) -> Iterator[Rule]:
    rows = sum(counts)
    given = rows - column.nulls
    if not column.nulls:
        why = f"None of {rows:,} rows lacks it."
        yield _rule(f"{column.name}_is_given", "expect_column_values_to_not_be_null", {"column": column.name}, why)
    elif column.worst_nulls < 1:
        share = math.floor(90 * (1 - column.worst_nulls)) / 100
        worst = f", {column.worst_nulls:.1%} in the worst of {len(counts):,} intervals" if len(counts) > 1 else ""
        why = f"Null in {column.nulls / rows:.1%} of {rows:,} rows{worst}."
        if share:
            kwargs = {"column": column.name}
            yield _rule(
                f"{column.name}_is_mostly_given", "expect_column_values_to_not_be_null", kwargs, why, mostly=share
            )
    if not given:
        return
    if column.is_unique and not is_key:
        why = f"No value repeats in {rows:,} rows."
        yield _rule(f"{column.name}_is_unique", "expect_column_values_to_be_unique", {"column": column.name}, why)
    if column.is_number and not is_key and not column.is_unique:
        yield from _range(column)
    elif column.is_text and not is_shaped:
        yield from _shape(column, given)


def _range(column: _Facts) -> Iterator[Rule]:
    """A range with a tenth of its width as room on both sides, in round figures; not below zero where nothing was."""
    if not (math.isfinite(column.low) and math.isfinite(column.high)) or column.low == column.high:
        return
    low, high = Decimal(str(column.low)), Decimal(str(column.high))
    room = (high - low) / 10
    step = Decimal(10) ** (room.adjusted())
    lowest = ((low - room) / step).to_integral_value("ROUND_FLOOR") * step
    highest = ((high + room) / step).to_integral_value("ROUND_CEILING") * step
    if low >= 0:
        lowest = max(lowest, Decimal(0))
    if "INT" in column.kind:
        lowest, highest = lowest.to_integral_value("ROUND_FLOOR"), highest.to_integral_value("ROUND_CEILING")
    kwargs = {"column": column.name, "min_value": _plain(lowest), "max_value": _plain(highest)}
    why = f"Observed {_said(low)} to {_said(high)}."
    yield _rule(f"{column.name}_is_in_range", "expect_column_values_to_be_between", kwargs, why)


def _shape(column: _Facts, given: int) -> Iterator[Rule]:
    if column.values and len(column.values) <= FEW_VALUES and given >= ROWS_PER_VALUE * len(column.values):
        kwargs: dict[str, Any] = {"column": column.name, "value_set": column.values}
        why = f"{len(column.values)} values in {given:,} rows."
        yield _rule(f"{column.name}_is_known", "expect_column_values_to_be_in_set", kwargs, why)
        return
    length = int(column.low) if column.low == column.high else None
    for name, (regex, meaning) in _PATTERNS.items():
        if column.misses.get(name) == 0:
            fixed = regex.replace("]+$", f"]{{{length}}}$") if length and regex.endswith("]+$") else regex
            told = f", {length} of them" if fixed != regex else ""
            why = f"All {given:,} values are {meaning}{told}."
            kwargs = {"column": column.name, "regex": fixed}
            yield _rule(f"{column.name}_looks_as_usual", "expect_column_values_to_match_regex", kwargs, why)
            return
    if length:
        kwargs = {"column": column.name, "value": length}
        why = f"All {given:,} values have {length} characters."
        yield _rule(f"{column.name}_has_its_length", "expect_column_value_lengths_to_equal", kwargs, why)


def _rule(name: str, expect: str, kwargs: Mapping[str, Any], why: str, mostly: float | None = None) -> Rule:
    identity = re.sub(r"\W", "_", name, flags=re.ASCII)
    identity = identity if re.match(r"[A-Za-z_]", identity) else f"_{identity}"
    return Rule(id=identity, expect=expect, kwargs=dict(kwargs), severity="warning", mostly=mostly, why=why)


def _plain(number: Decimal) -> int | float:
    return int(number) if number == number.to_integral_value() else float(number)


def _said(number: Decimal) -> str:
    return f"{number:,f}" if number.as_tuple().exponent else f"{int(number):,}"
