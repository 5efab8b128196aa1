"""A database's table -> staged Parquet, by DuckDB's scanner on one thread, all tables of a run in one snapshot.

Why so (measured on 6 million rows): ``postgres_query`` with casts costs 2.1 times the CPU of COPY to nowhere and 130 MB
whatever the table's size; the alternatives cost 3.5 to 7 times and up to 2.7 GB. One thread because DuckDB's second
thread only spins on a single stream. ``postgres_query`` rather than ATTACH scans because the latter split by physical
position and never use the cursor's index.

One reader for every database system: a session (``*_session.py``) connects and runs queries, a dialect writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import duckdb
import pyarrow as pa
from pydantic import SecretStr

from common.errors import SourceSchemaError, SourceUnavailable, TerminalError
from common.fault_points import reach
from common.intervals import Interval
from ingestion.databases import checksums
from ingestion.databases.dialect import DatabaseColumn, Dialect, Pieces, Session
from ingestion.databases.mysql import MysqlDialect
from ingestion.databases.mysql_session import MysqlSession
from ingestion.databases.postgres import PostgresDialect
from ingestion.databases.postgres_session import PostgresSession
from ingestion.reader import check_interval, partition_key
from ingestion.spec import SourceSpec, TableSpec
from lake.batches import EARLY_REJECTS_SCHEMA, StagedBatch
from lake.lake import Lake
from lake.paths import new_attempt
from lake.schema import PARTITION_COLUMN
from lake.sql import literal


class DatabaseReader:
    """One read-only snapshot of a database.

    Args:
        spec: the source.
        lake: where its rows are staged.
        connect: opens the session.
        dialect: the database's SQL.
    """

    def __init__(self, spec: SourceSpec, lake: Lake, *, connect: Callable[[], Session], dialect: Dialect) -> None:
        self._spec = spec
        self._lake = lake
        self._connect = connect
        self._dialect = dialect
        self._session: Session | None = None
        self._catalog: dict[str, Mapping[str, DatabaseColumn]] = {}

    def __enter__(self) -> Self:
        self._session = self._connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def stage(self, table: TableSpec, interval: Interval, *, code: str) -> StagedBatch:
        """See :meth:`ingestion.reader.SourceReader.stage`."""
        if table.partitioned:
            check_interval(self._spec, table, interval, self._lake)
        try:
            return self._stage(table, interval, code)
        except duckdb.Error as error:
            raise self._connected.translated(error, table, interval) from None

    def known_state(self, table: TableSpec, interval: Interval) -> dict[str, Any] | None:  # noqa: ARG002
        """None: a database tells its state only through its rows."""
        return None

    def _stage(self, table: TableSpec, interval: Interval, code: str) -> StagedBatch:
        columns = self._checked_columns(table, interval)
        raw = self._spec.raw(table.name)
        self._lake.ensure(raw, table.lake_columns(), partition_by=PARTITION_COLUMN if table.partitioned else None)
        key, attempt = partition_key(table, interval), new_attempt()
        where = self._dialect.interval(self._spec, table, interval)
        conditions = [
            condition
            for spec in table.columns
            if (condition := self._dialect.unfit(columns[spec.in_source], spec)) is not None
        ]
        bad = " OR ".join(condition for condition, _ in conditions) or "false"
        selected = ", ".join(
            f"{self._dialect.expression(columns[spec.in_source], spec)} AS {self._dialect.quote(spec.name)}"
            for spec in table.columns
        )
        day = f"DATE {literal(key)} AS {PARTITION_COLUMN}, " if table.partitioned else ""
        locations: list[str] = []
        rows = 0
        try:
            reach("ingest.extract.before_read")
            pieces = self._dialect.pieces(self._connected, table, where)
            for piece in pieces.conditions:
                sql = f"SELECT {selected} FROM {self._dialect.relation(table)} WHERE {piece} AND ({bad}) IS NOT TRUE"
                query = f"SELECT {day}* FROM {self._connected.relation(sql)}"
                locations.append(self._lake.staging_location(raw, key, attempt, len(locations)))
                rows += self._lake.write(self._connected.connection, query, raw, locations[-1])
            reach("ingest.extract.after_write")
            early = self._early_rejects(table, where, conditions) if conditions else EARLY_REJECTS_SCHEMA.empty_table()
            self._check_count(pieces, rows + early.num_rows, table, interval)
        except BaseException:
            self._lake.discard(StagedBatch(raw, key, attempt, tuple(locations), 0, 0, code))
            raise
        return StagedBatch(
            raw,
            key,
            attempt,
            tuple(locations),
            rows_in=rows + early.num_rows,
            rows_staged=rows,
            code=code,
            source_state={"kind": self._dialect.kind, "rows": rows + early.num_rows},
            early_rejects=early,
            warnings=self._warnings(table),
        )

    def _early_rejects(self, table: TableSpec, where: str, conditions: list[tuple[str, str]]) -> pa.Table:
        query = self._dialect.early_rejects(table, where, conditions)
        rows = self._connected.connection.execute(f"SELECT * FROM {self._connected.relation(query)}").to_arrow_table()
        return rows.cast(EARLY_REJECTS_SCHEMA)

    def _check_count(self, pieces: Pieces, rows: int, table: TableSpec, interval: Interval) -> None:
        if pieces.rows is not None and pieces.rows != rows:
            raise TerminalError(
                f"The source counts {pieces.rows} rows and gave {rows}: the table is not read in one snapshot.",
                source=self._spec.source,
                table=table.name,
                interval=interval.key,
                remedy="use a storage engine with consistent reads, such as InnoDB, or read it while nobody writes",
            )

    # -- the source's catalog --------------------------------------------------------------------------------------

    def _checked_columns(self, table: TableSpec, interval: Interval) -> Mapping[str, DatabaseColumn]:
        """The table's columns in the database, checked against the spec."""
        if table.name not in self._catalog:
            self._catalog[table.name] = self._dialect.columns(self._connected, table)
        found = self._catalog[table.name]
        where = {"source": self._spec.source, "table": table.name, "interval": interval.key}
        if not found:
            raise SourceSchemaError(
                f"The database has no table {table.schema_name}.{table.in_source} that this role can see.",
                **where,
                remedy="correct the spec, create the table, or grant SELECT on it",
            )
        missing = [column.in_source for column in table.columns if column.in_source not in found]
        if missing:
            raise SourceSchemaError(
                f"Column {', '.join(missing)} of the spec is not in the table (it has {', '.join(found)}).",
                **where,
                remedy="restore the column in the source, or take it out of the spec",
            )
        changed = [
            f"{c.in_source} is {found[c.in_source].type}, declared {c.type}"
            for c in table.columns
            if self._dialect.expression(found[c.in_source], c) is None
        ]
        if changed:
            raise SourceSchemaError(
                f"Types differ: {'; '.join(changed)}.",
                **where,
                remedy="declare a type that holds every value exactly, or a cast; docs/types.md lists what fits what",
            )
        added = [name for name in found if name not in {column.in_source for column in table.columns}]
        if added and table.on_drift.added_column == "refuse":
            raise SourceSchemaError(
                f"The table has columns that the spec does not name: {', '.join(added)}.",
                **where,
                remedy="add them to the spec, or set on_drift: {added_column: warn}",
            )
        return found

    def _warnings(self, table: TableSpec) -> tuple[str, ...]:
        named = {column.in_source for column in table.columns}
        added = [name for name in self._catalog.get(table.name, {}) if name not in named]
        return (f"columns that the spec does not name are not read: {', '.join(added)}",) if added else ()

    def source_checksums(self, table: TableSpec) -> dict[str, Any] | None:
        """See :meth:`ingestion.reader.SourceReader.source_checksums`."""
        try:
            self._dialect.columns(self._connected, table)  # a dialect may need the types
            return checksums.named(table, self._connected.rows(self._dialect.checksums(table))[0])
        except duckdb.Error as error:
            raise self._connected.translated(error, table, None) from None

    @property
    def _connected(self) -> Session:
        if self._session is None:
            raise SourceUnavailable("The source is not connected.", source=self._spec.source, remedy="open it first")
        return self._session


def postgres_reader(spec: SourceSpec, url: SecretStr, lake: Lake) -> DatabaseReader:
    """A reader for a PostgreSQL source; it is connected when its context is entered."""
    return DatabaseReader(spec, lake, connect=lambda: PostgresSession(spec, url, lake), dialect=PostgresDialect())


def mysql_reader(spec: SourceSpec, url: SecretStr, lake: Lake) -> DatabaseReader:
    """A reader for a MySQL or MariaDB source; it is connected when its context is entered."""
    return DatabaseReader(spec, lake, connect=lambda: MysqlSession(spec, url, lake), dialect=MysqlDialect())
