"""Text to typed values without loss: DuckDB SQL that yields the value, or null where the text is not exactly one."""

from __future__ import annotations

import re

from ingestion.spec import ColumnSpec
from lake.schema import Column, resolve_type
from lake.sql import identifier, literal

_YEAR = r"(?:[1-9]\d{3}|0[1-9]\d\d|00[1-9]\d|000[1-9])"
_DAY = rf"{_YEAR}-\d\d-\d\d"
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,6}0*)?)?"
_ZONE = r" ?(?:Z|UTC|[+-]\d\d(?::?\d\d)?)"
_PATTERNS = {
    "int32": r"[+-]?\d+",
    "int64": r"[+-]?\d+",
    "date": _DAY,
    "time": _CLOCK,
    "timestamp": rf"{_DAY}(?:[ T]{_CLOCK})?",
    "timestamptz": rf"{_DAY}(?:[ T]{_CLOCK}(?:{_ZONE})?)?",
}
_NUMBER = r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*"
_NO_NUMBER = r"(?i)\s*[+-]?(?:nan|inf|infinity)\s*"


def exact_cast(column: ColumnSpec | Column) -> str:
    """SQL for one column of text.

    A plain TRY_CAST would round ``1.5`` to an integer and ``1.239`` to two decimals, cut the time off a day and the
    seventh decimal off a second, pass over the zone of a timestamp without one, read ``1e400`` as infinity and
    ``24:00:00`` as the next day; so a pattern stands before it wherever the type cannot hold what the text says.
    """
    name = identifier(column.name)
    if column.type == "string":
        return name
    cast = f"TRY_CAST({name} AS {resolve_type(column.type)[1]})"
    if column.type in {"float32", "float64"}:
        has_digits = f"regexp_matches({name}, '^[^eE]*[1-9]')"
        return (
            f"CASE WHEN regexp_full_match({name}, {literal(_NUMBER)}) "
            f"THEN CASE WHEN isfinite({cast}) AND ({cast} <> 0 OR NOT {has_digits}) THEN {cast} END "
            f"WHEN regexp_full_match({name}, {literal(_NO_NUMBER)}) THEN {cast} END"
        )
    pattern = _PATTERNS.get(column.type)
    decimal = re.fullmatch(r"decimal\(\d+,(\d+)\)", column.type)
    if decimal:
        pattern = rf"[+-]?\d*(?:\.\d{{0,{decimal[1]}}}0*)?"
    if pattern is None:
        return cast
    exact = literal(rf"\s*(?:{pattern})\s*")
    return f"CASE WHEN regexp_full_match({name}, {exact}) THEN {cast} END"
