"""Names, types and spec lines of columns, as a comparison needs them."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from ingestion.spec import ColumnSpec
from lake.evolution import promotable
from lake.schema import PARTITION_COLUMN

ALIKE = 0.6
"""Similarity of two names, 0 to 1, from which one may be the other's new form; ``qty`` and ``quantity`` have 0.55."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_RESERVED = {PARTITION_COLUMN, "object_key", "object_line"}
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
_INTEGER_DIGITS = {"int32": 10, "int64": 19}
_FLOATS = {"float32", "float64"}


def alike(name: str, other: str) -> bool:
    """Whether two names look like one another: one within the other, or most letters shared in order."""
    one, two = (re.sub(r"[^a-z0-9]", "", each.lower()) for each in (name, other))
    if not one or not two:
        return False
    within = min(len(one), len(two)) >= 3 and (one in two or two in one)
    return within or SequenceMatcher(None, one, two, autojunk=False).ratio() >= ALIKE


def lake_name(name: str) -> str | None:
    """The name that a source column gets in the lake; None if it has none there of its own."""
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return plain if _NAME.fullmatch(plain) and plain not in _RESERVED else None


def digits(word: str) -> tuple[int, int] | None:
    """Digits before and behind the point that an exact number type holds; None for any other type."""
    if word in _INTEGER_DIGITS:
        return _INTEGER_DIGITS[word], 0
    match = _DECIMAL.fullmatch(word)
    return (int(match[1]) - int(match[2]), int(match[2])) if match else None


def related(word: str, other: str) -> bool:
    """Whether two types hold the same kind of number, so that a value may have either."""
    return {word, other} <= _FLOATS or (digits(word) is not None and digits(other) is not None)


def holds(word: str, narrower: str) -> bool:
    """Whether a type holds every value of another one, and more."""
    one, two = digits(word), digits(narrower)
    if one and two and word.startswith("decimal") and narrower.startswith("decimal"):
        return one != two and one[0] >= two[0] and one[1] >= two[1]
    return promotable(narrower, word)


def common_type(word: str, other: str | None) -> str | None:
    """The narrowest type word that holds every value of both; None if there is none."""
    if other is None or not related(word, other):
        return None
    if word in _FLOATS:
        return "float64"
    if word in _INTEGER_DIGITS and other in _INTEGER_DIGITS:
        return "int64"
    one, two = digits(word), digits(other)
    assert one is not None and two is not None  # noqa: S101, PT018 - related() has said so
    before, behind = max(one[0], two[0]), max(one[1], two[1])
    return f"decimal({before + behind},{behind})" if before + behind <= 38 else None


def yaml_line(column: ColumnSpec) -> str:
    """A column as a line of a spec."""
    kind = f'"{column.type}"' if "(" in column.type else column.type
    parts = [f"name: {column.name}", f"type: {kind}"]
    if column.source_name and column.source_name != column.name:
        source = column.source_name
        plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", source)
        parts.insert(1, f"source_name: {source if plain else _quoted(source)}")
    if not column.nullable:
        parts.append("nullable: false")
    return f"- {{{', '.join(parts)}}}"


def new_column(column: ColumnSpec, word: str | None) -> str:
    """A spec line that reads a column whose type is another one into a new column of the lake."""
    update = {"name": f"{column.name}_2", "source_name": column.in_source, "type": word or "string", "nullable": True}
    return yaml_line(column.model_copy(update=update))


def nullability(nullable: bool) -> str:
    """As a spec says it."""
    return f"nullable: {str(nullable).lower()}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
