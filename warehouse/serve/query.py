"""Questions to a dataset, from parameters to one SELECT: columns, filters, groups, measures, order, pages.

::

    filter=flights:ge:10&sort=-flights,origin_code&limit=100&cursor=...
      ─▶ SELECT ... FROM (what the role sees) WHERE "flights" >= CAST(? AS BIGINT) ORDER BY ..., row LIMIT 101

Names are looked up among the columns that the role sees and are quoted; values are bound and cast to the column's type.
No text of the caller's becomes SQL. Pages follow keys: a cursor holds the release, a digest of the question and the
number of the last row, and the next page begins behind that row's place in the order. Rows of a release never change,
so pages neither repeat nor lose one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from common.hashing import digest
from lake.sql import identifier
from warehouse.serve.formats import Column
from warehouse.serve.policy import ROW, Shown
from warehouse.serve.problems import Problem

MAX_FILTERS = 20
MAX_VALUES = 500
MAX_PAGE_ROWS = 10_000

_COMPARE = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_MEASURES = {
    "sum": "sum({})",
    "min": "min({})",
    "max": "max({})",
    "avg": "avg({})",
    "count": "count({})",
    "count_distinct": "count(DISTINCT {})",
}
_SUMMABLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_SUMMABLE_TOO = ("DECIMAL", "FLOAT", "DOUBLE")


@dataclass(frozen=True)
class Question:
    """A SELECT and its values.

    Attributes:
        sql: the SELECT, without order of pages.
        columns: what it returns.
        parameters: values of its ``?``.
        order: keys of the order; the last one is the row's number where there are pages.
        digest: of everything but the page; part of a cursor.
    """

    sql: str
    columns: tuple[Column, ...]
    parameters: list[str] = field(default_factory=list)
    order: tuple[str, ...] = ()
    digest: str = ""

    def ordered(self, limit: int | None) -> str:
        """The SELECT in its order and cut."""
        order = f" ORDER BY {', '.join(self.order)}" if self.order else ""
        return self.sql + order + (f" LIMIT {limit}" if limit is not None else "")


def rows_question(
    shown: Shown,
    *,
    select: str | None,
    filters: Sequence[str],
    sort: str | None,
    release: str,
    cursor: str | None = None,
    paged: bool = False,
) -> Question:
    """Rows of a dataset.

    Args:
        shown: the dataset as the role sees it.
        select: names separated by commas; all by default.
        filters: ``column:operator:value`` each; all must hold.
        sort: names separated by commas, ``-`` before one that falls.
        release: the release's id.
        cursor: from the page before.
        paged: whether the row's number is returned too, last.

    Raises:
        Problem: ``unknown_column``, ``bad_filter``, ``bad_parameter``, ``wrong_type``, ``cursor_invalid``,
            ``cursor_of_another_release``.
    """
    types = dict(shown.columns)
    chosen = _names(select, types, "select") if select else list(types)
    where, parameters = conditions(filters, types)
    keys = sort_keys(sort, types)
    own = digest(shown.name, chosen, list(filters), sort or "")[:16]
    if cursor is not None:
        condition, more = _behind(cursor, keys, shown, release=release, own=own)
        where.append(condition)
        parameters += more
    fields = [identifier(name) for name in chosen] + [identifier(ROW)] * paged
    source = shown.select(with_row=paged or cursor is not None)
    sql = f"SELECT {', '.join(fields)} FROM ({source}) AS shown{clause(where)}"
    order = [f"{identifier(name)} {'DESC' if falls else 'ASC'} NULLS LAST" for name, falls in keys]
    if paged:
        order.append(identifier(ROW))
    return Question(sql, tuple((name, types[name]) for name in chosen), parameters, tuple(order), own)


def aggregate_question(
    shown: Shown, *, group: str | None, measures: Sequence[str], filters: Sequence[str], sort: str | None
) -> Question:
    """Measures of a dataset by groups.

    Args:
        shown: the dataset as the role sees it.
        group: names separated by commas; one group of all rows by default.
        measures: ``count``, or ``function:column`` each.
        filters: as of rows.
        sort: names of the result; the groups by default, which also decide among equals.

    Raises:
        Problem: ``unknown_column``, ``bad_filter``, ``bad_parameter``, ``wrong_type``.
    """
    types = dict(shown.columns)
    groups = _names(group, types, "group") if group else []
    fields = [identifier(name) for name in groups]
    columns: list[Column] = [(name, types[name]) for name in groups]
    for measure in measures or ["count"]:
        name, kind, sql = _measure(measure, types)
        if name in dict(columns):
            raise Problem("bad_parameter", f"{name!r} is asked for twice.", remedy="name each measure once")
        columns.append((name, kind))
        fields.append(f"{sql} AS {identifier(name)}")
    where, parameters = conditions(filters, types)
    grouped = f" GROUP BY {', '.join(identifier(name) for name in groups)}" if groups else ""
    sql = f"SELECT {', '.join(fields)} FROM ({shown.select()}) AS shown{clause(where)}{grouped}"
    keys = sort_keys(sort, dict(columns))
    named = {name for name, _ in keys}
    keys += [(name, False) for name in groups if name not in named]
    order = tuple(f"{identifier(name)} {'DESC' if falls else 'ASC'} NULLS LAST" for name, falls in keys)
    return Question(sql, tuple(columns), parameters, order)


def clause(where: Sequence[str]) -> str:
    """The WHERE of conditions that must all hold; nothing without any."""
    return f" WHERE {' AND '.join(where)}" if where else ""


def _column(name: str, types: Mapping[str, str]) -> str:
    if name not in types:
        raise Problem(
            "unknown_column",
            f"There is no column {name[:80]!r} for you.",
            remedy=f"use one of {', '.join(list(types)[:100])}",
        )
    return name


def _names(text: str, types: Mapping[str, str], parameter: str) -> list[str]:
    names = [_column(name, types) for name in text.split(",")]
    if len(set(names)) != len(names):
        raise Problem("bad_parameter", f"A column stands twice in '{parameter}'.", remedy="name each once")
    return names


def sort_keys(sort: str | None, types: Mapping[str, str]) -> list[tuple[str, bool]]:
    """Names of an order, and whether each falls.

    Raises:
        Problem: ``unknown_column``, ``bad_parameter``.
    """
    keys = [(_column(part.removeprefix("-"), types), part.startswith("-")) for part in sort.split(",")] if sort else []
    if len({name for name, _ in keys}) != len(keys):
        raise Problem("bad_parameter", "A column stands twice in 'sort'.", remedy="name each once")
    return keys


def conditions(filters: Sequence[str], types: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Conditions of filters, and their values.

    Args:
        filters: ``column:operator:value`` each.
        types: DuckDB type of each column that may be named.

    Raises:
        Problem: ``unknown_column``, ``bad_filter``, ``wrong_type``.
    """
    if len(filters) > MAX_FILTERS:
        raise Problem("bad_filter", f"There are more than {MAX_FILTERS} filters.", remedy="use fewer")
    found: list[str] = []
    parameters: list[str] = []
    for text in filters:
        condition, values = _filter(text, types)
        found.append(condition)
        parameters += values
    return found, parameters


def _filter(text: str, types: Mapping[str, str]) -> tuple[str, list[str]]:
    name, _, rest = text.partition(":")
    operator, colon, value = rest.partition(":")
    column, kind = identifier(_column(name, types)), types[name]
    if "\0" in value:
        raise Problem("bad_filter", "A value holds a NUL character.", remedy="leave it out")
    if operator == "is_null" and value in {"true", "false"}:
        return f"{column} IS {'NOT ' * (value == 'false')}NULL", []
    if colon and operator in _COMPARE:
        return f"{column} {_COMPARE[operator]} CAST(? AS {kind})", [value]
    if colon and operator == "in":
        values = value.split(",")
        if len(values) > MAX_VALUES:
            raise Problem("bad_filter", f"There are more than {MAX_VALUES} values.", remedy="use fewer")
        return f"{column} IN ({', '.join([f'CAST(? AS {kind})'] * len(values))})", values
    if colon and operator in {"starts_with", "contains"}:
        if kind != "VARCHAR":
            raise Problem("wrong_type", f"{name} is no text.", remedy="compare it: eq, ne, lt, le, gt, ge, in")
        return f"{operator}({column}, ?)", [value]
    raise Problem(
        "bad_filter",
        f"{text[:80]!r} is no filter.",
        remedy="write column:operator:value, the operator one of eq, ne, lt, le, gt, ge, in, starts_with, contains, "
        "or column:is_null:true|false",
    )


def _measure(text: str, types: Mapping[str, str]) -> tuple[str, str, str]:
    """Name, type and SQL of a measure."""
    if text == "count":
        return "count", "BIGINT", "count(*)"
    function, _, name = text.partition(":")
    if function not in _MEASURES or not name:
        raise Problem(
            "bad_parameter",
            f"{text[:80]!r} is no measure.",
            remedy=f"write count, or function:column with one of {', '.join(_MEASURES)}",
        )
    kind = types[_column(name, types)]
    number = kind.startswith((*_SUMMABLE, *_SUMMABLE_TOO)) and not kind.endswith("]")
    if function in {"sum", "avg"} and not number:
        raise Problem("wrong_type", f"{name} is no number.", remedy="use count, count_distinct, min or max")
    result = "BIGINT" if function in {"count", "count_distinct"} else kind
    if function == "avg":
        result = "DOUBLE"
    if function == "sum":
        result = "HUGEINT" if kind.startswith(_SUMMABLE) else "DOUBLE"
        if kind.startswith("DECIMAL"):
            result = f"DECIMAL(38,{kind.rstrip(')').split(',')[1].strip()})"
    return f"{function}_{name}", result, _MEASURES[function].format(identifier(name))


# -- pages -------------------------------------------------------------------------------------------------------


def make_cursor(release: str, own: str, row: int) -> str:
    """Where the next page begins."""
    return base64.urlsafe_b64encode(json.dumps([release, own, row]).encode()).rstrip(b"=").decode()


def _behind(
    cursor: str, keys: Sequence[tuple[str, bool]], shown: Shown, *, release: str, own: str
) -> tuple[str, list[str]]:
    """The condition that holds for rows behind the cursor's row, in the order of the keys and the row's number."""
    invalid = Problem("cursor_invalid", "That is no cursor of this question.", remedy="begin again without a cursor")
    try:
        found = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        of_release, of_question, row = found
    except (ValueError, TypeError, RecursionError):
        raise invalid from None
    if not isinstance(row, int) or isinstance(row, bool) or not 0 <= row < 1 << 62:
        raise invalid
    if of_release != release:
        raise Problem(
            "cursor_of_another_release",
            "The cursor is of another release than the one that is read.",
            remedy="begin again without a cursor, or read on with release=<the one that began>",
        )
    if of_question != own:
        raise invalid
    mine = identifier(ROW)
    condition = f"{mine} > {row}"
    last = f"(SELECT {{}} FROM ({shown.select(with_row=True)}) AS last WHERE {mine} = {row})"
    for name, falls in reversed(keys):
        column = identifier(name)
        value = last.format(column)
        further = f"{column} {'<' if falls else '>'} {value} OR ({column} IS NULL AND {value} IS NOT NULL)"
        condition = f"({further} OR ({column} IS NOT DISTINCT FROM {value} AND {condition}))"
    return condition, []
