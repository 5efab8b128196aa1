"""DuckDB's types as PostgreSQL's, exactly or not at all, and values as the text that ``COPY`` takes.

A type that PostgreSQL cannot hold exactly is refused by name, before anything is written. A value it cannot hold (a NUL
byte in a text, a year beyond 294276) makes ``COPY`` fail, and with it the whole publishing: nothing is bent to fit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from common.errors import SpecError
from lake.sql import identifier

_SIMPLE = {
    "BOOLEAN": "boolean",
    "TINYINT": "smallint",
    "UTINYINT": "smallint",
    "SMALLINT": "smallint",
    "USMALLINT": "integer",
    "INTEGER": "integer",
    "UINTEGER": "bigint",
    "BIGINT": "bigint",
    "UBIGINT": "numeric(20,0)",
    "HUGEINT": "numeric(39,0)",
    "UHUGEINT": "numeric(39,0)",
    "FLOAT": "real",
    "DOUBLE": "double precision",
    "VARCHAR": "text",
    "UUID": "uuid",
    "DATE": "date",
    "TIME": "time",
    "TIME WITH TIME ZONE": "timetz",
    "TIMESTAMP": "timestamp",
    "TIMESTAMP_S": "timestamp",
    "TIMESTAMP_MS": "timestamp",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "INTERVAL": "interval",
    "BLOB": "bytea",
    "BIT": "bit varying",
    "JSON": "jsonb",
}
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_NESTED = re.compile(r"(STRUCT|MAP)\(.*\)|.*\[\d*\]", re.DOTALL)
_REFUSED = {
    "TIMESTAMP_NS": "PostgreSQL's times end at microseconds",
    "TIME_NS": "PostgreSQL's times end at microseconds",
    "UNION": "PostgreSQL has no type for values of one of several types",
    "GEOMETRY": "plain PostgreSQL has no such type",
    "BIGNUM": "DuckDB's own arbitrary numbers have no limits that could be declared",
}
_DATED = {"date", "timestamp", "timestamptz"}


@dataclass(frozen=True)
class BiColumn:
    """One column of a table for BI tools.

    Attributes:
        name: its name.
        duckdb: its type in the release.
        postgres: its type in PostgreSQL.
        not_null: whether its contract says so.
        comment: what it holds; None where nothing is said.
    """

    name: str
    duckdb: str
    postgres: str
    not_null: bool
    comment: str | None

    def as_copy_text(self) -> str:
        """A DuckDB expression: the value as ``COPY ... (FORMAT text)`` takes it."""
        column = identifier(self.name)
        if self.postgres == "bytea":
            text = rf"'\\x' || hex({column})"
        elif self.postgres == "jsonb":
            text = _escaped(f"CAST({column if self.duckdb == 'JSON' else f'to_json({column})'} AS VARCHAR)")
        elif self.postgres == "text":
            text = _escaped(f"CAST({column} AS VARCHAR)")
        elif self.postgres in _DATED:
            plain = f"CAST({column} AS VARCHAR)"
            text = f"replace({plain}, ' (BC)', '') || if(contains({plain}, '(BC)'), ' BC', '')"
        else:
            text = f"CAST({column} AS VARCHAR)"
        return rf"coalesce({text}, '\N')"


def postgres_type(duckdb_type: str) -> str:
    """PostgreSQL's type for one of DuckDB's.

    Raises:
        SpecError: there is none that holds all its values exactly; says why.
    """
    if found := _SIMPLE.get(duckdb_type):
        return found
    if decimal := _DECIMAL.fullmatch(duckdb_type):
        return f"numeric({decimal[1]},{decimal[2]})"
    if duckdb_type.startswith("ENUM("):
        return "text"
    if not duckdb_type.startswith("UNION(") and _NESTED.fullmatch(duckdb_type):
        return "jsonb"
    word = re.split(r"[(\[]", duckdb_type)[0]
    why = _REFUSED.get(word, "it has no counterpart")
    raise SpecError(
        f"The type {duckdb_type} cannot be given to PostgreSQL exactly: {why}.",
        remedy="cast it in the model, or leave the model out with config: {meta: {bi: false}}",
    )


def _escaped(expression: str) -> str:
    """Backslash, tab and line ends as COPY writes them: no value can end its field, its row or the stream."""
    escaped = rf"replace({expression}, '\', '\\')"
    for code, letter in ((9, "t"), (10, "n"), (13, "r")):
        escaped = rf"replace({escaped}, chr({code}), '\{letter}')"
    return escaped
