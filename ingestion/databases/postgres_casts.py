"""``policy: cast`` in PostgreSQL: the server's own cast to the declared type, and a guard for values it would refuse.

PostgreSQL has no cast that fails softly (``pg_input_is_valid`` came with version 16, and only for texts), and one value
that cannot be cast would end the whole read. So each cast comes with a condition that is true for exactly such values,
or for a little more: a form of a date that the guard does not know is set apart, never guessed. Every condition on
texts stands in a CASE, because the server may evaluate the two sides of an OR in any order.

Infinite days and instants become null, or are set apart where the column may hold none.
"""

from __future__ import annotations

from ingestion.databases.dialect import DatabaseColumn
from ingestion.databases.postgres_types import (
    INTEGER_DIGITS,
    TEXT_KINDS,
    Reading,
    as_string,
    decimal_size,
    exact,
    kind_of,
    sql_type,
    too_late,
)
from lake.sql import identifier

_FLOATS = {"real", "double precision"}
_INSTANTS = {"timestamp without time zone": "timestamp", "timestamp with time zone": "timestamptz"}
_SPACE = r"[ \t\n\r\f\v]*"
_DAY = "([0-9]{4})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6})?)?"
_ZONE = "(Z|[+-](0[0-9]|1[0-5])(:?[0-5][0-9])?)?"
_INTEGER = f"{_SPACE}[-+]?[0-9]{{1,100}}{_SPACE}"
_NUMBER = rf"{_SPACE}[-+]?([0-9]{{1,200}}(\.[0-9]{{0,200}})?|\.[0-9]{{1,200}})([eE][-+]?[0-9]{{1,4}})?{_SPACE}"
_NO_NUMBER = f"{_SPACE}([-+]?inf(inity)?|nan){_SPACE}"
_TRUTH = f"{_SPACE}(t|tr|tru|true|f|fa|fal|fals|false|y|ye|yes|n|no|on|of|off|1|0){_SPACE}"

_FLOAT_RANGE = {"float32": ("1.4e-45", "3.4028234663852885e38"), "float64": ("5e-324", "1.797693134862315708e308")}
"""The smallest and the largest amount that a cast to a float takes, a little inside the true bounds."""

_INTEGER_BITS = {"int32": 31, "int64": 63}


def cast(column: DatabaseColumn, declared: str, *, nullable: bool) -> Reading | None:
    """How a column is read by the server's cast to the declared type; None if the server has none.

    Args:
        column: the column.
        declared: the type word.
        nullable: whether a null may stand for an infinite instant.
    """
    reading = _cast(column, declared, nullable=nullable)
    if reading is None or reading.unfit is None or reading.reason:
        return reading
    return Reading(reading.expression, reading.unfit, f"{column.name} cannot be cast to {declared}")


def _cast(column: DatabaseColumn, declared: str, *, nullable: bool) -> Reading | None:
    name = identifier(column.name)
    if declared == "string":
        return as_string(column)
    if declared in {"date", "timestamp", "timestamptz"}:
        return _instant(column, declared, nullable=nullable)
    held = exact(column, declared)
    if held is not None and (held.unfit is None or decimal_size(declared) is None):  # else digits may be rounded off
        return held
    if kind_of(column) in TEXT_KINDS or column.category == "e":
        return _from_text(_text(column), declared)
    if declared == "bool":
        return Reading(f"({name} <> 0)") if kind_of(column) in INTEGER_DIGITS else None
    if declared == "time":
        return _time(column)
    return _number(column, declared)


# -- numbers ----------------------------------------------------------------------------------------------------------


def _number(column: DatabaseColumn, declared: str) -> Reading | None:
    kind, name = kind_of(column), identifier(column.name)
    if kind == "boolean" and declared in _INTEGER_BITS:
        return Reading(f"{name}::int4::{sql_type(declared)}")
    if kind == "money":
        name, kind = f"{name}::numeric", "numeric"
    if kind not in {*INTEGER_DIGITS, "numeric", "oid", *_FLOATS}:
        return None
    if declared in _INTEGER_BITS:
        return _to_integer(name, kind, declared)
    if declared in _FLOAT_RANGE:
        return _to_float(name, kind, declared)
    if decimal_size(declared) is None:
        return None
    value = f"{name}::numeric"
    if kind in _FLOATS:  # a cast of infinity to numeric is an error before PostgreSQL 14
        value = f"(CASE WHEN {name} IN ('Infinity', '-Infinity') THEN 'NaN' ELSE {value} END)"
    return _to_decimal(value, declared)


def _to_integer(name: str, kind: str, declared: str) -> Reading:
    bound = 2 ** _INTEGER_BITS[declared]
    expression = f"{name}::{sql_type(declared)}"
    if kind == "oid":
        name, expression = f"{name}::int8", f"{name}::int8::{sql_type(declared)}"
    if kind in _FLOATS:  # 2^63 itself is a float, 2^63 - 1 is none
        value = f"round({name}::float8)"
        return Reading(expression, f"NOT ({value} >= -{bound}::float8 AND {value} < {bound}::float8)")
    value = f"round({name})" if kind == "numeric" else name
    return Reading(expression, f"{value} NOT BETWEEN -{bound} AND {bound - 1}")


def _to_float(name: str, kind: str, declared: str) -> Reading:
    expression = f"{name}::{sql_type(declared)}"
    if kind in INTEGER_DIGITS or kind == "oid":
        return Reading(f"{name}::int8::{sql_type(declared)}")
    value = name if kind == "numeric" else f"{name}::float8"
    return Reading(expression, _beyond(value, declared))


def _beyond(value: str, declared: str) -> str:
    """SQL that is true for a finite number that a float would make infinite or 0."""
    least, most = _FLOAT_RANGE[declared]
    return (
        f"({value} <> 0 AND (abs({value}) < {least} OR abs({value}) > {most}) "
        f"AND {value}::text NOT IN ('NaN', 'Infinity', '-Infinity'))"
    )


def _to_decimal(value: str, declared: str) -> Reading:
    whole, scale = decimal_size(declared) or (0, 0)
    return Reading(f"{value}::{sql_type(declared)}", f"abs(round({value}, {scale})) >= 1e{whole}::numeric")


# -- texts ------------------------------------------------------------------------------------------------------------


def _text(column: DatabaseColumn) -> str:
    """SQL of a column's text, compared byte by byte: patterns do not work on every collation."""
    return f'({identifier(column.name)}::text COLLATE "C")'


def _from_text(text: str, declared: str) -> Reading | None:
    expression = f"{text}::{sql_type(declared)}"
    if declared == "bool":
        return Reading(expression, f"{text} !~* '^{_TRUTH}$'")
    if declared == "time":
        return Reading(expression, f"{text} !~ '^{_TIME}$'")
    if declared in _INTEGER_BITS:
        bound = 2 ** _INTEGER_BITS[declared]
        return Reading(expression, _unless(text, _INTEGER, f"{text}::numeric NOT BETWEEN -{bound} AND {bound - 1}"))
    if declared in _FLOAT_RANGE:
        beyond = _unless(text, _NUMBER, _beyond(f"{text}::numeric", declared))
        return Reading(expression, f"(CASE WHEN {text} ~* '^{_NO_NUMBER}$' THEN false ELSE {beyond} END)")
    if decimal_size(declared) is None:
        return None
    rounded = _to_decimal(f"{text}::numeric", declared)
    return Reading(expression, _unless(text, _NUMBER, rounded.unfit or "false"))


def _unless(text: str, pattern: str, condition: str) -> str:
    """SQL that is true for a text that is not of the pattern, or is and meets the condition; null for a null."""
    return f"(CASE WHEN {text} ~ '^{pattern}$' THEN {condition} WHEN {text} IS NOT NULL THEN true END)"


# -- days, instants, times --------------------------------------------------------------------------------------------


def _instant(column: DatabaseColumn, declared: str, *, nullable: bool) -> Reading | None:
    kind, name = kind_of(column), identifier(column.name)
    target = sql_type(declared)
    if kind in TEXT_KINDS or column.category == "e":
        text = _text(column)
        zone = _ZONE if declared == "timestamptz" else ""
        form = _DAY if declared == "date" else f"{_DAY}([ T]{_TIME}{zone})?"
        return Reading(f"{text}::{target}", _unless(text, form, _no_such_day(text)))
    if kind != "date" and kind not in _INSTANTS:
        return None
    infinite = None if nullable else f"NOT isfinite({name})"
    late = None
    if declared != "date":  # the year 5874897 is a date and no timestamp
        late = f"{name} > '294247-01-10'::date" if kind == "date" else too_late(name, _INSTANTS[kind])
        late = f"(isfinite({name}) AND {late})"
    unfit = " OR ".join(condition for condition in (infinite, late) if condition)
    return Reading(f"(CASE WHEN isfinite({name}) THEN {name}::{target} END)", f"({unfit})" if unfit else None)


def _no_such_day(text: str) -> str:
    """SQL that is true for a text ``YYYY-MM-DD...`` that names no day: 2013-02-29, or the year 0."""
    last = f"extract(day FROM (substr({text}, 1, 8) || '01')::date + interval '1 month' - interval '1 day')"
    return f"(CASE WHEN {text} LIKE '0000%' THEN true ELSE substr({text}, 9, 2)::int > {last} END)"


def _time(column: DatabaseColumn) -> Reading | None:
    kind, name = kind_of(column), identifier(column.name)
    if kind in _INSTANTS:
        return Reading(f"{name}::time", f"NOT isfinite({name})")
    if kind in {"time with time zone", "interval"}:
        value = f"{name}::time"
        finite = f"isfinite({name})" if kind == "interval" else "true"  # infinite intervals came with PostgreSQL 17
        return Reading(value, f"(CASE WHEN {finite} THEN {value} >= '24:00:00' WHEN {name} IS NOT NULL THEN true END)")
    return None
