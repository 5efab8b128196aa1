"""What a database tells about itself - tables, keys, indexes, its own estimates: what init, validate and plan build on.

::

    a session -> Introspection (one per database system) -> Catalog -> init writes a spec of it
                                                                    -> validate --connect compares a spec with it
                                                                    -> plan takes its estimates

Only the system catalogs are read, and a few rows where a sample is asked for: an introspection never counts a table.
DuckDB's own view of an attached database is not used, because it shows DuckDB's types instead of the database's, and
neither keys nor indexes nor estimates.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from common.intervals import Interval
from ingestion.databases.dialect import DatabaseColumn, Session
from ingestion.spec import SourceSpec, TableSpec


@dataclass(frozen=True)
class CatalogIndex:
    """One index.

    Attributes:
        columns: its columns in order, as far as they are plain columns: an expression ends the list.
        unique: whether no two rows share its values. A partial index is never unique here.
    """

    columns: tuple[str, ...]
    unique: bool


@dataclass(frozen=True)
class CatalogTable:
    """One table or view as the database describes it.

    Attributes:
        schema: the schema it lies in (MySQL: the database).
        name: its name.
        kind: a partitioned table is a ``table``, its partitions are left out; materialised views are views.
        columns: in their order, those that this role may read.
        primary_key: columns of the primary key in key order; empty if there is none.
        indexes: all usable indexes, the primary key's included.
        rows_estimated: the database's own estimate of its rows; None where it has none (a view).
        analysed: whether the estimate rests on the table's statistics, rather than on its size alone.
        size_bytes: what the rows take on the database's disk, without indexes; None where unknown.
        readable: whether this role may SELECT from it.
        description: the comment on the table.
        column_descriptions: comments on columns, by name, where there are any.
    """

    schema: str
    name: str
    kind: Literal["table", "view"]
    columns: tuple[DatabaseColumn, ...]
    primary_key: tuple[str, ...] = ()
    indexes: tuple[CatalogIndex, ...] = ()
    rows_estimated: int | None = None
    analysed: bool = True
    size_bytes: int | None = None
    readable: bool = True
    description: str = ""
    column_descriptions: Mapping[str, str] = field(default_factory=dict)

    def leads_an_index(self, column: str) -> bool:
        """Whether a range of the column's values can be found without reading the whole table."""
        return any(index.columns[:1] == (column,) for index in self.indexes)


@dataclass(frozen=True)
class Catalog:
    """What one connection can see.

    Attributes:
        server: name and version, e.g. ``PostgreSQL 18.4``.
        database: the database's name.
        default_schema: the schema that a spec need not name (PostgreSQL ``public``, MySQL the database itself).
        owner: the database's owner; empty where there is no such thing.
        time_zone: the server's own time zone as an IANA name; empty if it is none.
        tables: by schema and name; tables of the system are left out.
    """

    server: str
    database: str
    default_schema: str
    owner: str
    time_zone: str
    tables: tuple[CatalogTable, ...]

    def table(self, schema: str, name: str) -> CatalogTable | None:
        """The table of that name; None if there is none that this role can see.

        ``public``, which is what a spec says that names no schema, is the default schema.
        """
        schema = self.default_schema if schema == "public" else schema
        return next((table for table in self.tables if (table.schema, table.name) == (schema, name)), None)


class Introspection(Protocol):
    """How one database system is asked about itself, within a session."""

    def catalog(self, session: Session, schemas: Collection[str] | None = None) -> Catalog:
        """Everything this role can see; of some schemas only, where they are named."""
        ...

    def sample(
        self, session: Session, table: CatalogTable, columns: Sequence[str], rows: int
    ) -> list[tuple[str | None, ...]]:
        """The text of some columns of the first few rows the database comes across, each cut to 200 characters."""
        ...

    def suggested_type(self, column: DatabaseColumn) -> str | None:
        """The type word that holds every value of the column exactly; None if no word does."""
        ...

    def type_remark(self, column: DatabaseColumn) -> str:
        """Why that word is not the obvious one; empty if it is."""
        ...

    def expected_rows(
        self, session: Session, spec: SourceSpec, table: TableSpec, intervals: Sequence[Interval]
    ) -> list[int | None]:
        """Rows of each interval by the database's statistics, without reading the table; None where they do not say."""
        ...
