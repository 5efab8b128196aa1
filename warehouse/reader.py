"""A reader that may live long: it stays on one release, says which, and moves on when it is told to, between queries.

::

    reader = Reader(releases)             r000011, opened by its own path
    ... r000012 is published ...          the reader answers from r000011, also once that is removed
    reader.refresh()                      r000012, for what is asked from now on

An open release cannot change below a reader and cannot be taken from it: a file that is removed lives on until the last
one closes it. Results and tables that were taken before a refresh keep the release they were taken from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import duckdb

from common.errors import UnknownName, UsageError
from lake.sql import identifier
from warehouse.shelf import CURRENT, Shelf

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from warehouse.metrics_layer import Metric
    from warehouse.releases import Release
    from warehouse.serve.query import Question

_RELATIONS = (
    "SELECT schema_name || '.' || table_name AS name, comment FROM duckdb_tables() "
    "WHERE NOT internal AND database_name = current_database() UNION ALL "
    "SELECT schema_name || '.' || view_name, comment FROM duckdb_views() "
    "WHERE NOT internal AND database_name = current_database()"
)
"""Everything that can be read by its name: tables of a release, or the views of a role."""


class Table:
    """One table of one release; nothing is read before it is asked for.

    Attributes:
        name: its name.
        release: the release it is of, from beginning to end.
    """

    def __init__(self, name: str, release: Release, connection: duckdb.DuckDBPyConnection) -> None:
        self.name, self.release = name, release
        self._connection = connection
        schema, _, table = name.rpartition(".")
        found = connection.execute(f"SELECT name FROM ({_RELATIONS}) ORDER BY 1").fetchall()
        there_are = [full.removeprefix("main.") for (full,) in found]
        if name.removeprefix("main.") not in there_are:
            raise UnknownName(
                f"Release {release.id} has no table {name!r}.", table=name, remedy=f"use one of {', '.join(there_are)}"
            )
        self._relation = f"{identifier(schema or 'main')}.{identifier(table)}"

    def relation(self) -> duckdb.DuckDBPyRelation:
        """The table as a lazy DuckDB relation: ``.filter(...)``, ``.aggregate(...)`` and so on run in DuckDB."""
        return self._connection.sql(f"FROM {self._relation}")

    def pl(self) -> pl.DataFrame:
        """All rows as a Polars frame."""
        return self.relation().pl()

    def arrow(self) -> pa.Table:
        """All rows as an Arrow table."""
        return self.relation().to_arrow_table()

    def df(self) -> Any:
        """All rows as a pandas frame; needs pandas."""
        return self.relation().df()

    @property
    def columns(self) -> dict[str, str]:
        """DuckDB type by column, in order."""
        relation = self.relation()
        return dict(zip(relation.columns, map(str, relation.types), strict=True))

    @property
    def description(self) -> str | None:
        """What the table holds, one row per what; None if it was not said."""
        name = self.name if "." in self.name else f"main.{self.name}"
        row = self._connection.execute(f"SELECT comment FROM ({_RELATIONS}) WHERE name = ?", [name]).fetchone()
        return None if row is None else row[0]

    def __repr__(self) -> str:
        """Name and release."""
        return f"<{self.name} of {self.release.id}>"


class Figures:
    """Metrics of one release by groups.

    Attributes:
        release: the release they are of.
        sql: the statement that makes them; its values are bound.
    """

    def __init__(self, asked: Question, release: Release, connection: duckdb.DuckDBPyConnection) -> None:
        self.release, self.sql = release, asked.ordered(None)
        self._values, self._connection = asked.parameters, connection

    def relation(self) -> duckdb.DuckDBPyRelation:
        """As a lazy DuckDB relation.

        Raises:
            duckdb.ConversionException: a filter's value is not of its dimension's type.
        """
        return self._connection.sql(self.sql, params=self._values)

    def pl(self) -> pl.DataFrame:
        """As a Polars frame."""
        return self.relation().pl()

    def arrow(self) -> pa.Table:
        """As an Arrow table."""
        return self.relation().to_arrow_table()

    def df(self) -> Any:
        """As a pandas frame; needs pandas."""
        return self.relation().df()


class Reader:
    """A connection that knows its release and can move to the newest. Use one per thread.

    Args:
        shelf: where the releases are.
        wanted: ``current``, an id, or ``as of <time>``; only a reader of the current release can be refreshed.

    Raises:
        UnknownName: nothing has been published, or that release is not kept.
        StateCorrupt: its file is damaged.
        StoreUnavailable: the releases' store does not answer.
    """

    def __init__(self, shelf: Shelf, wanted: str | None = None) -> None:
        self._shelf, self._wanted = shelf, wanted
        self._opened: tuple[Release, duckdb.DuckDBPyConnection] | None = shelf.open(wanted)

    def _open(self) -> tuple[Release, duckdb.DuckDBPyConnection]:
        if self._opened is None:
            raise UsageError("This reader is closed.", remedy="make another: penstock.reader()")
        return self._opened

    @property
    def release(self) -> Release:
        """The release that is read: ``.id``, ``.published_at``, ``.manifest``."""
        return self._open()[0]

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """DuckDB's own connection; it stays on its release when the reader is refreshed."""
        return self._open()[1]

    def refresh(self) -> bool:
        """Move to the newest release. Returns whether there was a newer one (or an earlier one, after a rollback).

        Raises:
            UsageError: the reader was asked for one certain release.
            StateCorrupt, StoreUnavailable: it cannot be opened; the reader stays where it is.
        """
        if self._wanted not in {None, CURRENT}:
            raise UsageError(
                f"This reader was asked for {self._wanted!r} and stays there.", remedy="make one without a release"
            )
        if self._shelf.current_id() == self.release.id:
            return False
        # The connection before is not closed here: a result that is still being fetched holds it, and ends it.
        self._opened = self._shelf.open(self._wanted)
        return True

    def metrics(self) -> list[Metric]:
        """The metrics that the release carries, by name: label, description, unit, dimensions, grains, dataset."""
        from warehouse.metrics_layer import metrics

        release, connection = self._open()
        return metrics(release, self._shelf.shown(release, connection))

    def metric(
        self,
        names: str | Sequence[str],
        *,
        by: Sequence[str] = (),
        grain: str | None = None,
        filters: Sequence[str] = (),
        sort: str | None = None,
    ) -> Figures:
        """Metrics of one dataset by groups, as the release defines them; nothing is read before it is asked for.

        Args:
            names: one metric, or several of the same dataset.
            by: dimensions to group by; none by default.
            grain: of time, to group by too: ``day``, ``week``, ``month``, ``quarter``, ``year``.
            filters: ``dimension:operator:value`` each: ``origin_code:eq:JFK``, ``scheduled_on:ge:2013-02-01``.
            sort: names of the result by commas, ``-`` before one that falls; the groups by default.

        Raises:
            Problem: no such metric, dimension or grain; metrics of several datasets; a filter that is none.
        """
        from warehouse.metrics_layer import question

        release, connection = self._open()
        shown = self._shelf.shown(release, connection)
        asked = question(release, shown, names, by=by, grain=grain, filters=filters, sort=sort)
        return Figures(asked, release, connection)

    def sql(self, query: str, params: Any = None) -> duckdb.DuckDBPyRelation:
        """A query over the release as a lazy relation: ``.pl()``, ``.to_arrow_table()``, ``.df()``, ``.fetchall()``."""
        return self.connection.sql(query, params=params)

    def table(self, name: str) -> Table:
        """A table of the release.

        Raises:
            UnknownName: there is none of that name; the message lists those there are.
        """
        return Table(name, *self._open())

    def close(self) -> None:
        """Close the connection; results that were not fetched are lost."""
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
