"""JSON lines -> rows of text, every digit kept; a line that is no object, or holds other types, is set apart.

A number never becomes a float on its way: the parser keeps its digits, and ``convert.py`` makes the declared type from
them exactly or not at all. What fits a column:

====================  =================================================================
column                JSON value
====================  =================================================================
``string``            a string as it is; anything else as its JSON text, byte for byte
``bool``              ``true``, ``false``
integers, floats      a number, never a string
``decimal(p,s)``      a number or a string
dates, times, binary  a string
====================  =================================================================

A key that is missing is null, like ``null``. A key that stands twice makes the line no record: either value could be
meant. Blank lines are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn

from ingestion.objects.csv_records import shown_start
from ingestion.objects.lines import Lines, Offsets, TooLong
from ingestion.objects.rows import Broken, Reject, SourceRows
from ingestion.spec import ColumnSpec, Objects

if TYPE_CHECKING:
    from ingestion.objects.transfer import Part

_LARGEST_EXPONENT = 100
_WHITE = " \t\r\n"


class _Number(str):
    """A number's digits."""

    __slots__ = ()


class _Pairs(list[tuple[str, Any]]):
    """An object's keys and values, doubled keys too."""


class _NoRecord(Exception):
    """Why a line is none."""


def _refuse_constant(name: str) -> NoReturn:
    raise _NoRecord(f"{name} is no JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_Pairs, parse_int=_Number, parse_float=_Number, parse_constant=_refuse_constant
)


def keys(part: Part, layout: Objects) -> list[str]:
    """Every key that a record of the file has, in the order in which they appear."""
    seen: dict[str, None] = {}
    with part.path.open("rb") as handle:
        lines = Lines(handle, layout.max_record_bytes)
        for _, raw in _records(lines):
            if raw is None:
                lines.skip_line()
                continue
            with suppress(_NoRecord):
                seen |= dict.fromkeys(_record(raw, part)[1])
    return list(seen)


def load(rows: SourceRows, part: Part, layout: Objects, columns: Sequence[ColumnSpec], reject: Reject) -> list[str]:
    """Append a file's records to ``rows``.

    Args:
        rows: takes them, in the order of ``columns``.
        part: the file.
        layout: its limits.
        columns: what is taken.
        reject: takes what is no record, or none of these types.

    Returns:
        Every key that a record of the file has, in the order in which they appear.
    """
    seen: dict[str, None] = {}
    offset_of = Offsets(part.path, part.text)
    with part.path.open("rb") as handle:
        lines = Lines(handle, layout.max_record_bytes)
        for at, raw in _records(lines):
            if raw is None:
                size_bytes = lines.skip_line()
                reason = f"{size_bytes} bytes, more than {layout.max_record_bytes}"
                reject(Broken(lines.number, offset_of(at), reason, shown_start(lines.record[0], part.text)))
                continue
            rule = None
            try:
                text, values = _record(raw, part)
                seen |= dict.fromkeys(values)
                found, problems = _texts(text, values, columns)
                if not problems:
                    rows.append(part.name, lines.number, found, len(raw))
                    continue
                rule, reason = "exact_value", "; ".join(problems)
            except _NoRecord as problem:
                reason = str(problem)
            text, kept = part.text.shown(raw.rstrip()), part.text.kept_bytes(raw.rstrip())
            reject(Broken(lines.number, offset_of(lines.offset_bytes), reason, text, rule, kept))
    rows.flush(part.name)
    return list(seen)


def _records(lines: Lines) -> Iterator[tuple[int, bytes | None]]:
    """Offset and bytes of each line that is not blank; None for one that is longer than it may be."""
    while True:
        lines.begin()
        try:
            next(lines)
        except StopIteration:
            return
        except TooLong:
            yield lines.offset_bytes, None
            continue
        if lines.record[0].strip():
            yield lines.offset_bytes, lines.record[0]


def _record(raw: bytes, part: Part) -> tuple[str, dict[str, Any]]:
    """A line as text, and its object."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        at = error.start if part.text.is_utf8 else part.text.original_bytes(raw[: error.start].decode())
        raise _NoRecord(f"not {part.text.encoding} at byte {at} of the record") from None
    text = text.strip(_WHITE)
    try:
        pairs = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise _NoRecord(f"not JSON: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise _NoRecord("nested too deeply") from None
    if not isinstance(pairs, _Pairs):
        raise _NoRecord("not a JSON object")
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        raise _NoRecord(f"key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return text, values


def _texts(text: str, values: Mapping[str, Any], columns: Sequence[ColumnSpec]) -> tuple[list[str | None], list[str]]:
    """The columns' values as text, and what is wrong with them."""
    found: list[str | None] = []
    problems = []
    raw: dict[str, str] | None = None
    for column in columns:
        value = values.get(column.in_source)
        if value is None:
            found.append(None)
            continue
        if isinstance(value, list) and column.type == "string":
            raw = raw if raw is not None else _raw_values(text)
            found.append(raw[column.in_source])
            continue
        kept = _text_of(value, column.type)
        if kept is None:
            problems.append(f"{column.in_source} is {_kind(value)}, declared {column.type}")
        elif "\0" in kept:
            problems.append(f"{column.in_source} holds a NUL character")
        elif not kept.isascii() and any("\ud800" <= character <= "\udfff" for character in kept):
            problems.append(f"{column.in_source} holds half of a surrogate pair")
        found.append(kept)
    return found, problems


def _text_of(value: Any, kind: str) -> str | None:
    """One value as text that the column's type is made from; None if it is of another kind."""
    if isinstance(value, bool):
        return str(value).lower() if kind in {"bool", "string"} else None
    if isinstance(value, _Number):
        if kind.startswith("decimal"):
            return _without_exponent(value)
        return str(value) if kind in {"string", "int32", "int64", "float32", "float64"} else None
    if isinstance(value, str):
        return None if kind in {"bool", "int32", "int64", "float32", "float64"} else value
    return None


def _without_exponent(digits: str) -> str:
    """``1.5e2`` as ``150``: a decimal's text has no exponent."""
    if "e" not in digits and "E" not in digits:
        return str(digits)
    exponent = digits.lower().partition("e")[2].lstrip("+-").lstrip("0")
    return format(Decimal(digits), "f") if len(exponent) < 4 and int(exponent or 0) <= _LARGEST_EXPONENT else digits


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, _Pairs):
        return "an object"
    if isinstance(value, list):
        return "an array"
    return "a number" if isinstance(value, _Number) else "a string"


def _raw_values(text: str) -> dict[str, str]:
    """The text of each value of an object that is known to be one."""
    found = {}
    at = _skip(text, 1)
    while text[at] != "}":
        key, at = json.decoder.scanstring(text, at + 1)  # type: ignore[attr-defined]
        at = _skip(text, _skip(text, at) + 1)
        _, end = _DECODER.raw_decode(text, at)
        found[key] = text[at:end]
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def _skip(text: str, at: int) -> int:
    while text[at] in _WHITE:
        at += 1
    return at
