"""``policy: cast`` in MySQL and MariaDB: the server's own cast to the declared type, and a guard for what it bends.

These systems never refuse a cast: ``'12x'`` becomes 12, a number beyond the type becomes its largest, 2013-02-29 null,
each with a warning that nobody sees. So each cast comes with a condition that is true for exactly such values, or for
a little more: a form of a number or date that the guard does not know is set apart, never guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ingestion.databases.dialect import DatabaseColumn
from ingestion.databases.mysql_sql import quoted, text
from ingestion.databases.mysql_types import INTEGERS, MOST_DECIMALS, TEXT, exact_expression, parsed, unfit_condition

_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
_BITS = {"int32": 31, "int64": 63}
_FLOATS = {"float", "double"}
_LARGEST = {"float32": "3.4028234663852886e38", "float64": "1.7976931348623155e308"}
_SMALLEST = {"float32": "1.4e-45", "float64": "5e-324"}
_INSTANTS = {"datetime", "timestamp"}
_INTEGER = r"^ *[-+]?[0-9]{1,60} *\z"
_NUMBER = r"^ *[-+]?([0-9]{1,60}([.][0-9]{0,60})?|[.][0-9]{1,60})([eE][-+]?[0-9]{1,3})? *\z"
_SOME = "^[^eE]*[1-9]"
_DAY = "^([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_TIME = "([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]{1,6})?)?)?"


@dataclass(frozen=True)
class Cast:
    """How a column is read by a cast.

    Attributes:
        value: SQL of the value in a type of the server's.
        unfit: SQL that is true for values that are set apart; None if there are none.
        reason: what quarantine says of them.
        as_text: whether it crosses as its text, because the scanner would bend it.
    """

    value: str
    unfit: str | None = None
    reason: str = ""
    as_text: bool = False

    @property
    def expression(self) -> str:
        """SQL of the value as it crosses."""
        return f"CAST({self.value} AS CHAR)" if self.as_text else self.value

    @property
    def fitting(self) -> str:
        """SQL of the value; null where it is set apart."""
        return f"(CASE WHEN ({self.unfit}) IS NOT TRUE THEN {self.value} END)" if self.unfit else self.value


def cast(column: DatabaseColumn, declared: str) -> Cast | None:
    """How a column is read by the server's cast to the declared type; None if there is no sensible one."""
    found = _cast(column, declared)
    if found is None or found.unfit is None or found.reason:
        return found
    return Cast(found.value, found.unfit, f"{column.name} cannot be cast to {declared}", found.as_text)


def _cast(column: DatabaseColumn, declared: str) -> Cast | None:
    name, kind = quoted(column.name), parsed(column.type)
    number = f"CAST({name} AS UNSIGNED)" if kind.base == "bit" else name
    if declared == "bool" and kind.base in {*INTEGERS, "bit"}:
        return Cast(f"({number} <> 0)")
    exact = exact_expression(column, declared)
    if exact is not None:
        unfit, reason = unfit_condition(column, declared) or (None, "")
        return Cast(exact, unfit, reason)
    if declared in {"date", "timestamp", "timestamptz"}:
        return _instant(column, declared)
    if declared == "time":
        return Cast(f"TIME({name})", *_no_day(column), as_text=True) if kind.base in _INSTANTS else None
    if declared == "string":
        printed = {*INTEGERS, *_FLOATS, *_INSTANTS, "bit", "date"}
        return Cast(number, as_text=True) if kind.base in printed else None
    if kind.base in {*TEXT, "enum"}:
        return _from_text(f"CAST({name} AS CHAR)", declared)
    if kind.base in {*INTEGERS, *_FLOATS, "decimal", "bit", "year"}:
        return _number(number, declared, is_float=kind.base in _FLOATS)
    return None


def _number(value: str, declared: str, *, is_float: bool) -> Cast | None:
    if declared in _BITS:
        bound = 2 ** _BITS[declared]
        rounded = f"ROUND({value})"
        if is_float:  # 2^63 itself is a double, 2^63 - 1 is none
            unfit = f"NOT ({rounded} >= -{bound}e0 AND {rounded} < {bound}e0)"
        else:
            unfit = f"({rounded} < -{bound} OR {rounded} > {bound - 1})"
        return Cast(f"CAST({rounded} AS SIGNED)", unfit)
    if declared in _LARGEST:
        return _float(f"({value} + 0e0)", declared)
    return _decimal(value, declared)


def _float(value: str, declared: str) -> Cast:
    beyond = f"(ABS({value}) > {_LARGEST[declared]} OR ({value} <> 0 AND ABS({value}) < {_SMALLEST[declared]}))"
    return Cast(f"CAST({value} AS FLOAT)" if declared == "float32" else value, beyond)


def _decimal(value: str, declared: str) -> Cast | None:
    wanted = _DECIMAL.fullmatch(declared)
    if wanted is None or int(wanted[2]) > MOST_DECIMALS:
        return None
    precision, scale = int(wanted[1]), int(wanted[2])
    # With room for more digits before the point: what has too many shows itself there.
    unfit = f"ABS(CAST({value} AS DECIMAL(65,{scale}))) >= 1{'0' * (precision - scale)}"
    return Cast(f"CAST({value} AS DECIMAL({precision},{scale}))", unfit, as_text=True)


def _from_text(value: str, declared: str) -> Cast | None:
    if declared in _BITS:
        bound = 2 ** _BITS[declared]
        whole = f"CAST({value} AS DECIMAL(65,0))"
        beyond = f"({whole} < -{bound} OR {whole} > {bound - 1})"
        return Cast(f"CAST({whole} AS SIGNED)", _unless(value, _INTEGER, beyond))
    if declared in _LARGEST:
        found = _float(f"({value} + 0e0)", declared)
        lost = f"({found.value} = 0 AND {value} REGEXP {text(_SOME)})"
        return Cast(found.value, _unless(value, _NUMBER, f"({found.unfit} OR {lost})"))
    rounded = _decimal(value, declared)
    return rounded and Cast(rounded.value, _unless(value, _NUMBER, rounded.unfit or "FALSE"), as_text=True)


def _instant(column: DatabaseColumn, declared: str) -> Cast | None:
    name, kind = quoted(column.name), parsed(column.type)
    target = "DATE" if declared == "date" else "DATETIME(6)"
    if kind.base in {*TEXT, "enum"} and declared != "timestamptz":
        value = f"CAST({name} AS CHAR)"
        form = f"{_DAY}{'' if declared == 'date' else _TIME}\\z"
        return Cast(f"CAST({value} AS {target})", _unless(value, form, f"CAST({value} AS {target}) IS NULL"))
    if kind.base != "date" and kind.base not in _INSTANTS:
        return None
    return Cast(f"CAST({name} AS {target})", *_no_day(column))


def _no_day(column: DatabaseColumn) -> tuple[str | None, str]:
    return unfit_condition(column, "date") or (None, "")


def _unless(value: str, pattern: str, condition: str) -> str:
    """SQL that is true for a text that is not of the pattern, or is and meets the condition; null for a null."""
    return f"(CASE WHEN {value} REGEXP {text(pattern)} THEN {condition} WHEN {value} IS NOT NULL THEN TRUE END)"
