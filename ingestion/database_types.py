"""PostgreSQL column types: which declared type word each may become, and the SELECT expression that makes it exact.

DuckDB's scanner loses values silently for some types (unconstrained numeric becomes double, numeric NaN becomes 0,
infinite timestamps become integer extremes). So every column is cast on the server to a type that crosses exactly, and
values that have no exact form are recognised there and go to quarantine instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lake.sql import identifier

_INTEGERS = {"smallint": 2, "integer": 4, "bigint": 8}
_TEXT = {"text", "uuid", "json", "jsonb", "xml", "inet", "cidr", "macaddr", "interval", "numeric", "money"}
_NUMERIC = re.compile(r"numeric\((\d+),(-?\d+)\)")
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")


@dataclass(frozen=True)
class DatabaseColumn:
    """One column as the database's own catalog describes it.

    Attributes:
        name: column name.
        type: PostgreSQL's ``format_type``, e.g. ``numeric(10,2)``.
        category: PostgreSQL's ``typtype``: ``e`` for an enum, ``b`` for a base type.
        nullable: whether the database allows nulls.
    """

    name: str
    type: str
    category: str
    nullable: bool


def exact_expression(column: DatabaseColumn, declared: str) -> str | None:
    """SQL that yields ``column`` exactly as the declared type; None if that is not possible."""
    name = identifier(column.name)
    kind = re.sub(r"\(\d+\)", "", column.type)
    simple = {
        "bool": {"boolean"},
        "float32": {"real"},
        "date": {"date"},
        "time": {"time without time zone"},
        "timestamp": {"timestamp without time zone"},
        "timestamptz": {"timestamp with time zone"},
        "binary": {"bytea"},
    }
    if declared in simple:
        return name if kind in simple[declared] else None
    if declared in {"int32", "int64"}:
        width = 4 if declared == "int32" else 8
        return f"{name}::int{width}" if _INTEGERS.get(kind, 99) <= width else None
    if declared == "float64":
        return f"{name}::float8" if kind in {"real", "double precision"} else None
    if declared == "string":
        fits = kind in _TEXT or kind.startswith(("character", "numeric")) or column.category == "e"
        return f"{name}::text" if fits else None
    return _decimal(column, declared)


def _decimal(column: DatabaseColumn, declared: str) -> str | None:
    wanted = _DECIMAL.fullmatch(declared)
    if wanted is None:
        return None
    precision, scale = int(wanted[1]), int(wanted[2])
    if column.type in _INTEGERS:
        digits = {"smallint": 5, "integer": 10, "bigint": 19}[column.type]
        return f"{identifier(column.name)}::numeric({precision},{scale})" if digits <= precision - scale else None
    have = _NUMERIC.fullmatch(column.type)
    if have is None:
        return None
    have_precision, have_scale = int(have[1]), int(have[2])
    if have_scale > scale or have_precision - have_scale > precision - scale:
        return None
    return f"{identifier(column.name)}::numeric({precision},{scale})"


def unrepresentable_condition(column: DatabaseColumn, declared: str) -> tuple[str, str] | None:
    """SQL that is true for values without an exact form (and false or null for others), and the reason.

    None if every value has one.

    DuckDB's timestamps end in the year 294247; PostgreSQL's ``infinity``, numeric ``NaN`` and the time ``24:00``
    have no counterpart.
    """
    name = identifier(column.name)
    if declared in {"date", "timestamp", "timestamptz"}:
        limit = f"{name} >= '290000-01-01'" if declared != "date" else f"{name} >= '5000000-01-01'"
        return (
            f"(NOT isfinite({name}) OR {limit})",
            f"{column.name} is infinite or out of range",
        )
    if declared == "time":
        return f"{name} >= '24:00:00'", f"{column.name} is 24:00:00, which is no time of a day"
    if declared.startswith("decimal") and column.type.startswith("numeric"):
        return f"{name}::text IN ('NaN', 'Infinity', '-Infinity')", f"{column.name} is NaN or infinite"
    return None
