"""What differs between database systems, apart from connecting: names, types, conditions, a row told as text.

``DatabaseReader`` (``reader.py``) is the same for all of them; a dialect writes the SQL it sends. SQL text is made from
quoted identifiers and literals only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import duckdb

from common.errors import PenstockError
from common.intervals import Interval
from ingestion.databases.checksums import Days
from ingestion.drift.words import digits
from ingestion.shared_snapshot import SharedSnapshot
from ingestion.spec import ColumnSpec, SourceSpec, TableSpec


@dataclass(frozen=True)
class DatabaseColumn:
    """One column as the database's own catalog describes it.

    Attributes:
        name: column name.
        type: the database's own spelling, e.g. ``numeric(10,2)``.
        category: PostgreSQL's ``typtype``: ``e`` for an enum, ``b`` for a base type; ``b`` elsewhere.
        nullable: whether the database allows nulls.
        charset: the character set in which the server holds its text, in the server's spelling; empty if unknown.
        domain: the domain it is declared with, of which ``type`` is the base type; empty if it is none.
    """

    name: str
    type: str
    category: str
    nullable: bool
    charset: str = ""
    domain: str = ""


class Session(Protocol):
    """One read-only transaction with a database, through DuckDB: everything read in it is of one moment."""

    connection: duckdb.DuckDBPyConnection

    def relation(self, query: str) -> str:
        """A DuckDB relation over a query in the database's own SQL."""
        ...

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """All rows of a query in the database's own SQL."""
        ...

    def translated(self, error: duckdb.Error, table: TableSpec | None, interval: Interval | None) -> PenstockError:
        """DuckDB's error as ours, without secrets."""
        ...

    def close(self) -> None:
        """End the transaction and the session."""
        ...


@runtime_checkable
class SnapshotSharing(Protocol):
    """A session that can be joined by others at its very snapshot: an ability that not every database has.

    Attributes:
        moment: what its snapshot sees (:func:`ingestion.shared_snapshot.moment_of`).
        warnings: why it is not the snapshot that was to be joined.
    """

    moment: str
    warnings: tuple[str, ...]

    def shared_snapshot(self) -> SharedSnapshot:
        """Its snapshot for others to join, from wherever they are, while this session lasts."""
        ...

    def is_alive(self) -> bool:
        """Whether the server still answers this session; if not, its snapshot is gone."""
        ...

    def readers(self, count: int) -> Sequence[Session]:
        """This session and others at the same snapshot, ``count`` together; they end with it."""
        ...


@runtime_checkable
class Breakable(Protocol):
    """A session that need not wait for ever for a source that says nothing more."""

    def bounded(self) -> AbstractContextManager[None]:
        """A block that runs one query; the session is severed if the block takes longer than a query may."""
        ...

    def sever(self) -> None:
        """End the connection at once, also from another thread: a query that waits for it fails."""
        ...


class Dialect(Protocol):
    """One database system's SQL. Dialects derive from it for its defaults."""

    kind: str

    def quote(self, name: str) -> str:
        """A quoted identifier."""
        ...

    def columns(self, session: Session, table: TableSpec) -> Mapping[str, DatabaseColumn]:
        """The table's columns that this role may read, by name, in their order; empty if there is no such table."""
        ...

    def relation(self, table: TableSpec) -> str:
        """The table's quoted name."""
        ...

    def expression(self, column: DatabaseColumn, spec: ColumnSpec) -> str | None:
        """SQL that yields ``column`` exactly as its spec declares it; None if that is not possible."""
        ...

    def word(self, column: DatabaseColumn) -> str | None:
        """The type word that holds every value of ``column`` exactly; None if no word does."""
        ...

    def unfit(self, column: DatabaseColumn, spec: ColumnSpec) -> tuple[str, str] | None:
        """SQL that is true for values without an exact form, and the reason; None if every value has one."""
        ...

    def interval(self, spec: SourceSpec, table: TableSpec, interval: Interval) -> str:
        """SQL that is true for the rows of an interval; for a table without an interval column, always."""
        ...

    def early_rejects(self, table: TableSpec, where: str, conditions: Sequence[tuple[str, str]]) -> str:
        """The query for rows with a value that has no exact form.

        Its columns are those of :data:`lake.batches.EARLY_REJECTS_SCHEMA`: the row's primary key is where it stands,
        its text what it holds.
        """
        ...

    def checksums(self, table: TableSpec, days: Days | None = None) -> str:
        """The query for one row of checksums, or one a day, see ``ingestion/databases/checksums.py``."""
        ...

    def keys(self, session: Session, table: TableSpec) -> tuple[tuple[str, ...], ...]:  # noqa: ARG002
        """Column sets that name one row, the primary key first; none by default: not every system says."""
        return ()

    def outside(self, column: DatabaseColumn, declared: str) -> str | None:
        """SQL that is true for numbers of ``column`` that a narrower type cannot hold; None if SQL cannot tell.

        The default holds for integers and decimals in any SQL.
        """
        name, held = self.quote(column.name), digits(declared)
        if held is None:
            return None
        if declared == "int32":
            beyond = f"{name} < -2147483648 OR {name} > 2147483647"
        elif declared == "int64":
            beyond = f"{name} < -9223372036854775808 OR {name} > 9223372036854775807"
        else:
            beyond = f"{name} <= -1{'0' * held[0]} OR {name} >= 1{'0' * held[0]}"
        return f"({beyond} OR {name} <> ROUND({name}, {held[1]}))"
