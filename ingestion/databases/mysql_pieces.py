"""A table's rows in pieces that fit into memory, all read in the session's one snapshot.

Why at all: what ``mysql_query`` answers within the snapshot is held in memory whole (``mysql_session.py``). So a table
with more rows than a piece takes is cut along its primary key, in which order InnoDB stores it: the server walks one
piece ahead and answers the key where the next one begins.

The law: a piece is "at or behind its first key" and *not true that* "at or behind the next piece's first key". So each
row lies in exactly one piece, whatever a key's type, collation or nulls make of a comparison.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from common.errors import TerminalError
from ingestion.databases.dialect import DatabaseColumn, Session
from ingestion.databases.mysql_sql import quoted, text
from ingestion.databases.mysql_types import BYTES, INTEGERS, PRINTED, TEXT, parsed

PIECE_ROWS = 50_000
PIECE_BYTES = 16 << 20
"""A piece is as many rows as the table's mean row length makes this, and never more than :data:`PIECE_ROWS`."""

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_PRINTED = re.compile(r"[0-9A-Fa-f:. -]+")


@dataclass(frozen=True)
class KeyColumn:
    """One column of the key along which a table is cut."""

    column: DatabaseColumn

    @property
    def name(self) -> str:
        """Its quoted name."""
        return quoted(self.column.name)

    @property
    def _base(self) -> str:
        return parsed(self.column.type).base

    @property
    def usable(self) -> bool:
        """Whether its values are in an order, and can be written as literals."""
        kinds = {*INTEGERS, *TEXT, *BYTES, *PRINTED, "bit", "date", "datetime", "timestamp"} - {"json"}
        return self._base in kinds and not self.column.nullable

    def printing(self) -> str:
        """SQL of a value as ASCII text, from which :meth:`literal` makes the value again."""
        if self._base in TEXT:
            return f"HEX(CAST({self.name} AS CHAR))"
        if self._base in BYTES:
            return f"HEX({self.name})"
        return (
            f"CAST({self.name} + 0 AS CHAR)" if self._base in {"bit", "enum", "set"} else f"CAST({self.name} AS CHAR)"
        )

    def literal(self, printed: str) -> str:
        """The literal of a printed value.

        Raises:
            TerminalError: it is none.
        """
        if self._base in TEXT | BYTES:
            if re.fullmatch(r"(?:[0-9A-F]{2})*", printed):
                return f"_utf8mb4 x'{printed}'" if self._base in TEXT else f"x'{printed}'"
        elif self._base in {*INTEGERS, "decimal", "year", "bit", "enum", "set"}:
            if _NUMBER.fullmatch(printed):
                return printed
        elif _PRINTED.fullmatch(printed):
            return f"'{printed}'"
        raise TerminalError(
            f"A value of key column {self.column.name} cannot be written as a literal: {printed[:60]!r}.",
            remedy="please report it: this is a defect",
        )


def usable_key(columns: Sequence[DatabaseColumn]) -> tuple[KeyColumn, ...]:
    """The key made of these columns; empty if a table cannot be cut along it."""
    key = tuple(map(KeyColumn, columns))
    return key if all(column.usable for column in key) else ()


def primary_key(session: Session, schema: str, table: str) -> list[str]:
    """Columns of the table's primary key as the database has it, in key order; empty if it has none.

    Args:
        session: where to ask.
        schema: SQL of the database's name.
        table: the table's name.
    """
    rows = session.rows(
        "SELECT COLUMN_NAME AS name FROM information_schema.STATISTICS "
        f"WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = {text(table)} "
        f"AND CAST(TABLE_NAME AS BINARY) = CAST({text(table)} AS BINARY) "
        "AND INDEX_NAME = 'PRIMARY' ORDER BY SEQ_IN_INDEX"
    )
    return [str(row[0]) for row in rows]


def piece_rows(session: Session, schema: str, table: str, most: int) -> int:
    """Rows that a piece may have, by the mean length of a row as the database estimates it."""
    rows = session.rows(
        "SELECT CAST(MAX(AVG_ROW_LENGTH) AS SIGNED) AS bytes FROM information_schema.TABLES "
        f"WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = {text(table)}"
    )
    mean_bytes = int(rows[0][0] or 0) if rows else 0
    return max(1, min(most, PIECE_BYTES // max(1, mean_bytes)))


def cut(
    session: Session, relation: str, where: str, key: Sequence[KeyColumn], *, total: int, rows: int
) -> Iterator[str]:
    """Conditions of the pieces besides ``where``, each asked for when it is needed.

    Args:
        session: where to ask.
        relation: the table's quoted name.
        where: which rows at all.
        key: along which columns; none: all rows are one piece.
        total: how many rows there are.
        rows: how many a piece takes.
    """
    lower: tuple[str, ...] | None = None
    while key and total > rows:
        upper = _first_behind(session, relation, f"{where} AND {_within(key, lower, None)}", key, rows)
        if upper is None:
            break
        yield _within(key, lower, upper)
        lower, total = upper, total - rows
    yield _within(key, lower, None)


def _first_behind(
    session: Session, relation: str, where: str, key: Sequence[KeyColumn], rows: int
) -> tuple[str, ...] | None:
    """The key of the row that has this many before it, as literals; None if there is none."""
    printed = ", ".join(f"{column.printing()} AS k{position}" for position, column in enumerate(key))
    order = ", ".join(column.name for column in key)
    found = session.rows(f"SELECT {printed} FROM {relation} WHERE {where} ORDER BY {order} LIMIT 1 OFFSET {rows}")
    if not found:
        return None
    return tuple(column.literal(str(value)) for column, value in zip(key, found[0], strict=True))


def _within(key: Sequence[KeyColumn], lower: tuple[str, ...] | None, upper: tuple[str, ...] | None) -> str:
    parts = []
    if lower is not None:  # the plain comparison of the first column is what an index is searched by
        parts.append(f"{key[0].name} >= {lower[0]} AND ({_at_or_behind(key, lower)}) IS TRUE")
    if upper is not None:
        parts.append(f"{key[0].name} <= {upper[0]} AND ({_at_or_behind(key, upper)}) IS NOT TRUE")
    return " AND ".join(parts) or "true"


def _at_or_behind(key: Sequence[KeyColumn], bound: tuple[str, ...]) -> str:
    """``(a, b) >= (x, y)`` spelled out: servers do not search an index by a comparison of rows."""
    first, value = key[0].name, bound[0]
    if len(key) == 1:
        return f"{first} >= {value}"
    return f"{first} > {value} OR ({first} = {value} AND ({_at_or_behind(key[1:], bound[1:])}))"
