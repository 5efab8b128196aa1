"""PostgreSQL's types: which type word a column may become, the SQL that makes it so, and the values that have no form.

::

    DatabaseColumn + type word -> reading() -> Reading(expression, unfit, reason), or None: the word cannot hold it

DuckDB's scanner loses values silently for some types (unconstrained numeric becomes double, numeric NaN becomes 0,
infinite timestamps become integer extremes). So every column is cast on the server to a type that crosses exactly, and
a value without an exact form is recognised there.

What has no word of its own - arrays, composites, ranges, intervals, an extension's types - is a ``string``: the text
that the server prints, which its own input function turns back into the same value. JSON would not do: it knows neither
NaN nor an array that begins at 0. Only names of objects (``regclass`` and its kind) are not read so: their text depends
on the session's search path, their number does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache

from ingestion.databases.dialect import DatabaseColumn
from lake.sql import identifier

INTEGER_DIGITS = {"smallint": 5, "integer": 10, "bigint": 19}
TEXT_KINDS = {"text", "character varying", "character", "bpchar", "name", '"char"', "citext"}
OBJECT_KINDS = {
    *("regclass", "regcollation", "regconfig", "regdictionary", "regnamespace", "regoper", "regoperator", "regproc"),
    *("regprocedure", "regrole", "regtype"),
}

_WIDTHS = {"smallint": 2, "integer": 4, "bigint": 8}
_WORDS = {
    "boolean": "bool",
    "smallint": "int32",
    "integer": "int32",
    "bigint": "int64",
    "real": "float32",
    "double precision": "float64",
    "bytea": "binary",
    "date": "date",
    "time without time zone": "time",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "money": "decimal(19,2)",
    "oid": "int64",
    "xid": "int64",
    "cid": "int64",
    "xid8": "decimal(20,0)",
    **dict.fromkeys(OBJECT_KINDS, "int64"),
}
"""The obvious word of a type; every other one is a ``string``."""

_SQL = {
    "bool": "bool",
    "int32": "int4",
    "int64": "int8",
    "float32": "float4",
    "float64": "float8",
    "binary": "bytea",
    "date": "date",
    "time": "time",
    "timestamp": "timestamp",
    "timestamptz": "timestamptz",
}

LAST_INSTANT = "294247-01-10 04:00:54.775807"
"""The first timestamp that 64 bits of microseconds since 1970 cannot hold, or that DuckDB takes for infinity."""

_NUMERIC = re.compile(r"numeric\((\d+),(-?\d+)\)")
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")

_UTF8 = (
    r"([\x01-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}"
    r"|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})*"
)
"""Well-formed UTF-8 (RFC 3629), byte by byte: in an SQL_ASCII database a character is a byte."""

_CODECS = {
    **{f"WIN{page}": f"cp{page}" for page in (1250, 1251, 1252, 1253, 1254, 1255, 1257, 1258, 874)},
    "LATIN3": "iso8859-3",
    "ISO_8859_6": "iso8859-6",
    "ISO_8859_7": "iso8859-7",
    "ISO_8859_8": "iso8859-8",
}
"""Encodings of one byte a character in which some bytes are no character: PostgreSQL stores those unchecked."""


@dataclass(frozen=True)
class Reading:
    """How a column is read.

    Attributes:
        expression: SQL of its value, in a type that crosses exactly.
        unfit: SQL that is true for values without a form (false or null for others); None if every value has one.
        reason: why such a value has none, in words.
    """

    expression: str
    unfit: str | None = None
    reason: str = ""


def kind_of(column: DatabaseColumn) -> str:
    """The type's name without its modifiers: ``numeric(12,2)`` is ``numeric``."""
    return re.sub(r"\([\d,-]+\)", "", column.type)


def sql_type(declared: str) -> str:
    """PostgreSQL's type for a type word."""
    return _SQL.get(declared) or declared.replace("decimal", "numeric").replace("string", "text")


def decimal_size(declared: str) -> tuple[int, int] | None:
    """Digits before and behind the point of ``decimal(p,s)``; None for another word."""
    found = _DECIMAL.fullmatch(declared)
    return (int(found[1]) - int(found[2]), int(found[2])) if found else None


def suggest(column: DatabaseColumn) -> str:
    """The type word that keeps every value of a column, or as good as every one.

    An unconstrained numeric is suggested as ``string``, because nothing says how long it may be: see
    :func:`suggestion_reason`.
    """
    sized = _NUMERIC.fullmatch(column.type)
    if sized is None:
        return _WORDS.get(kind_of(column), "string")
    whole, scale = max(int(sized[1]) - int(sized[2]), 0), max(int(sized[2]), 0)
    return f"decimal({whole + scale},{scale})" if whole + scale <= 38 else "string"


def suggestion_reason(column: DatabaseColumn) -> str | None:
    """Why :func:`suggest` gives the word it gives, where it is not the obvious one; else None."""
    kind = kind_of(column)
    if kind == "numeric" and suggest(column) == "string":
        return "numeric without a limit of 38 digits: decimal(p,s) sets apart the values that do not fit"
    if kind == "money":
        return "money has as many decimals as the database's lc_monetary says; most have 2"
    if kind in {"time with time zone", "interval"}:
        return f"{kind} has no counterpart; as text nothing of it is lost"
    if kind in OBJECT_KINDS:
        return f"{kind} is the number of an object; its name depends on the session"
    if kind.endswith("[]") or column.category in {"c", "r", "m"}:
        return f"{kind} as the text that PostgreSQL prints"
    return None


def text_of(column: DatabaseColumn) -> str:
    """SQL of a column's text, as COPY and psql print it.

    The cast ``::text`` is the same for all types but two: it strips the blanks of ``char(n)`` and adds ``/32`` to an
    ``inet`` that has none.
    """
    name, kind = identifier(column.name), kind_of(column)
    if kind in {"character", "bpchar"}:
        return f"textin(bpcharout({name}))"
    return f"textin(inet_out({name}))" if kind == "inet" else f"{name}::text"


def not_utf8(column: DatabaseColumn) -> str | None:
    """SQL that is true for a text with bytes that have no form in UTF-8; None where the server sees to that.

    Left to itself, the server would refuse to send such a text and so end the read of the whole table.
    """
    valid = _valid_text(column.charset)
    return f"""NOT ({text_of(column)} COLLATE "C" ~ '^{valid}$')""" if valid else None


def valid_bytes(column: DatabaseColumn) -> str:
    """SQL of how many bytes there are before the first without a form in UTF-8, in a text that has one."""
    return f"""length(substring({text_of(column)} COLLATE "C" FROM '^({_valid_text(column.charset)})'))"""


@cache
def _valid_text(charset: str) -> str | None:
    """A pattern of texts that have a form in UTF-8; None if all have, or the encoding is of more bytes a character."""
    if charset not in _CODECS:
        return _UTF8 if charset == "SQL_ASCII" else None
    undefined = [byte for byte in range(1, 256) if not bytes([byte]).decode(_CODECS[charset], errors="ignore")]
    return f"[^{''.join(f'{chr(92)}x{byte:02x}' for byte in undefined)}]*"


def as_string(column: DatabaseColumn) -> Reading:
    """A column as text; bytes that have no form in UTF-8 are set apart."""
    return Reading(text_of(column), not_utf8(column), f"{column.name} holds bytes that have no form in UTF-8")


@lru_cache(maxsize=4096)  # every interval of a table asks again
def exact(column: DatabaseColumn, declared: str) -> Reading | None:
    """How a column is read so that every value stays what it is; None if the declared type cannot promise that."""
    kind, name = kind_of(column), identifier(column.name)
    if declared == "string":
        has_word = _WORDS.get(kind, "string") != "string" and kind not in {"money", "oid", "xid", "cid", "xid8"}
        return None if has_word else as_string(column)
    if declared in {"int32", "int64"}:
        return _integer(column, declared)
    if declared == "float64" and kind == "real":
        return Reading(f"{name}::float8")
    if decimal_size(declared):
        return _decimal(column, declared)
    if _WORDS.get(kind) != declared:
        return None
    return _bounded(column, declared)


def _integer(column: DatabaseColumn, declared: str) -> Reading | None:
    kind, name = kind_of(column), identifier(column.name)
    if kind in _WIDTHS:
        fits = _WIDTHS[kind] <= (4 if declared == "int32" else 8)
        return Reading(f"{name}::{sql_type(declared)}") if fits else None
    if declared == "int64" and (kind == "oid" or kind in OBJECT_KINDS):
        return Reading(f"{name}::oid::int8")
    return Reading(f"{name}::text::int8") if declared == "int64" and kind in {"xid", "cid"} else None


def _bounded(column: DatabaseColumn, declared: str) -> Reading:
    """A type with a word of its own; instants, days and times may have values that no other engine has."""
    name = identifier(column.name)
    expression = f"{name}::{sql_type(declared)}"  # a domain would cross as text
    outside = f"{column.name} is infinite or out of range"
    if declared == "date":
        return Reading(expression, f"NOT isfinite({name})", outside)
    if declared in {"timestamp", "timestamptz"}:
        return Reading(expression, f"(NOT isfinite({name}) OR {too_late(name, declared)})", outside)
    if declared == "time":
        return Reading(expression, f"{name} >= '24:00:00'", f"{column.name} is 24:00:00, which is no time of a day")
    return Reading(expression)


def too_late(value: str, declared: str) -> str:
    """SQL that is true for a timestamp beyond what 64 bits of microseconds hold."""
    zone = "+00" if declared == "timestamptz" else ""
    return f"{value} >= '{LAST_INSTANT}{zone}'::{sql_type(declared)}"


def _decimal(column: DatabaseColumn, declared: str) -> Reading | None:
    whole, scale = decimal_size(declared) or (0, 0)
    kind, name = kind_of(column), identifier(column.name)
    if kind in INTEGER_DIGITS:
        return Reading(f"{name}::{sql_type(declared)}") if INTEGER_DIGITS[kind] <= whole else None
    if kind == "xid8":
        return Reading(f"{name}::text::{sql_type(declared)}") if whole >= 20 else None
    if kind == "money" or (kind == "numeric" and suggest(column) == "string"):
        value = f"{name}::numeric"
        return Reading(
            f"{value}::{sql_type(declared)}",
            f"(abs({value}) >= 1e{whole}::numeric OR {value} <> trunc({value}, {scale}))",  # NaN exceeds every number
            f"{column.name} does not fit {declared}",
        )
    have = _NUMERIC.fullmatch(column.type)
    if have is None or int(have[2]) > scale or int(have[1]) - int(have[2]) > whole:
        return None
    nan = f"{name} = 'NaN'::numeric"  # a numeric with a size has no infinity
    return Reading(f"{name}::{sql_type(declared)}", nan, f"{column.name} is NaN or infinite")
