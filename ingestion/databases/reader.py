"""A database's table -> staged Parquet by DuckDB's scanner, one thread per reader, all tables of a run in one snapshot.

::

    check columns -> ensure the lake table -> plan chunks -> extract.py reads them -> a staged batch

Why so (measured on 6 million rows): ``postgres_query`` with casts costs 2.1 times the CPU of COPY to nowhere and 130 MB
whatever the table's size; the alternatives cost 3.5 to 7 times and up to 2.7 GB. One thread because DuckDB's second
thread only spins on a single stream. ``postgres_query`` rather than ATTACH scans because the latter split by physical
position and never use the cursor's index.

One reader for every database system: a session (``*_session.py``) connects and runs queries, a dialect writes them, a
planner (``chunks.py``) may cut large tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import duckdb
from pydantic import SecretStr

from common.errors import SourceUnavailable, SpecError
from common.hashing import digest
from common.intervals import Interval
from ingestion.databases import checksums, key_sets
from ingestion.databases.chunks import ChunkPlan, ChunkPlanner
from ingestion.databases.dialect import Dialect, Session, SnapshotSharing
from ingestion.databases.extract import Extract, Query, bounded
from ingestion.databases.key_sets import KeyComparison, KeyDialect
from ingestion.databases.mysql import MysqlDialect
from ingestion.databases.mysql_chunks import MysqlChunks
from ingestion.databases.mysql_keys import MysqlKeys
from ingestion.databases.mysql_session import MysqlSession
from ingestion.databases.postgres import PostgresDialect
from ingestion.databases.postgres_chunks import PostgresChunks
from ingestion.databases.postgres_keys import PostgresKeys
from ingestion.databases.postgres_session import PostgresSession
from ingestion.databases.schema_check import CheckedTable, SchemaCheck, comparable
from ingestion.drift import Finding
from ingestion.extract_record import extract_record
from ingestion.reader import check_interval, partition_key
from ingestion.shared_snapshot import SharedSnapshot
from ingestion.spec import SourceSpec, TableSpec
from lake.batches import StagedBatch
from lake.lake import Lake
from lake.paths import WHOLE
from lake.schema import PARTITION_COLUMN
from lake.sql import literal

if TYPE_CHECKING:
    import pyarrow as pa

_REJECTS_AT_ONCE = 10_000

_INTERVALS_BY_INDEX = 40
"""Intervals that are asked for one by one, which an index can answer; for more the whole table is read once."""


class DatabaseReader:
    """One read-only snapshot of a database.

    Args:
        spec: the source.
        lake: where its rows are staged.
        connect: opens the session.
        dialect: the database's SQL.
        planner: cuts large tables into chunks; every table is read in one piece by default.
        keys: its SQL for comparing keys, where there is one.
    """

    def __init__(
        self,
        spec: SourceSpec,
        lake: Lake,
        *,
        connect: Callable[[], Session],
        dialect: Dialect,
        planner: ChunkPlanner | None = None,
        keys: KeyDialect | None = None,
    ) -> None:
        self._spec = spec
        self._lake = lake
        self._connect = connect
        self._dialect = dialect
        self._planner = planner
        self._keys = keys
        self._session: Session | None = None
        self._schema = SchemaCheck(spec, lake, dialect)

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

    @property
    def moment(self) -> str:
        """See :class:`ingestion.reader.SharesSnapshot`."""
        return session.moment if isinstance(session := self._connected, SnapshotSharing) else ""

    def shared_snapshot(self) -> SharedSnapshot | None:
        """See :class:`ingestion.reader.SharesSnapshot`."""
        session = self._connected
        try:
            return session.shared_snapshot() if isinstance(session, SnapshotSharing) else None
        except duckdb.Error as error:
            raise session.translated(error, None, None) from None

    def is_alive(self) -> bool:
        """See :class:`ingestion.reader.SharesSnapshot`."""
        return isinstance(session := self._connected, SnapshotSharing) and session.is_alive()

    def _stage(self, table: TableSpec, interval: Interval, code: str) -> StagedBatch:
        checked = self._schema.check(self._connected, table, interval)
        raw, drift, key = self._spec.raw(table.name), checked.drift, partition_key(table, interval)
        partition_by = PARTITION_COLUMN if table.partitioned else None
        self._lake.ensure(raw, drift.lake.lake_columns(), partition_by=partition_by)
        query = self._query(checked, interval, key, code)
        with extract_record(self._lake.settings.home, str(raw), key) as record:
            read, planner = drift.read, self._planner
            plan = planner.plan(self._connected, self._spec, read, interval) if planner else ChunkPlan()
            found = Extract(self._lake, raw, key, read, self._connected, record).run(plan, planner, query)
        early = _joined(found.rejects)
        apart = early.num_rows if early is not None else 0
        return StagedBatch(
            raw,
            key,
            found.attempt,
            found.files,
            rows_in=found.rows + apart,
            rows_staged=found.rows,
            code=code,
            source_state={
                "kind": self._dialect.kind,
                "rows": found.rows + apart,
                **({"snapshot": self.moment} if self.moment else {}),
            },
            set_apart=early,
            warnings=(*self._warnings, *drift.warnings, *found.warnings),
            drift=drift.records,
        )

    def _query(self, checked: CheckedTable, interval: Interval, key: str, code: str) -> Query:
        table, columns = checked.drift.read, checked.found
        where = self._dialect.interval(self._spec, table, interval)
        conditions = [
            *checked.conditions,
            *(
                condition
                for spec in table.columns
                if (condition := self._dialect.unfit(columns[spec.in_source], spec)) is not None
            ),
        ]
        bad = " OR ".join(condition for condition, _ in conditions) or "false"
        selected = ", ".join(
            f"{self._dialect.expression(columns[spec.in_source], spec)} AS {self._dialect.quote(spec.name)}"
            for spec in table.columns
        )
        source_sql = f"SELECT {selected} FROM {self._dialect.relation(table)} WHERE ({bad}) IS NOT TRUE AND {where}"
        day = f"DATE {literal(key)} AS {PARTITION_COLUMN}, " if table.partitioned else ""
        nulls = self._lake.nulls(self._spec.raw(table.name), [PARTITION_COLUMN, *(spec.name for spec in table.columns)])

        def select(session: Session, chunk: str) -> str:
            return f"SELECT {day}*{nulls} FROM {session.relation(f'{source_sql} AND {chunk}')}"

        def rejects(session: Session, chunk: str) -> pa.Table | None:
            query = self._dialect.early_rejects(checked.drift.told, f"{where} AND {chunk}", conditions)
            with bounded(session):
                found = session.connection.execute(f"SELECT * FROM {session.relation(query)}")
                return _as_table(found)

        return Query(select, rejects if conditions else None, digest(code, source_sql, day, nulls))

    def drift(self, table: TableSpec) -> tuple[Finding, ...]:
        """See :meth:`ingestion.reader.SourceReader.drift`."""
        try:
            return self._schema.compare(self._connected, table)[1].findings
        except duckdb.Error as error:
            raise self._connected.translated(error, table, None) from None

    def source_checksums(self, table: TableSpec) -> dict[str, Any] | None:
        """See :meth:`ingestion.reader.SourceReader.source_checksums`."""
        try:
            read = comparable(self._schema.compare(self._connected, table)[1])
            names = [column.name for column in read.columns]
            return checksums.named(names, self._connected.rows(self._dialect.checksums(read))[0])
        except duckdb.Error as error:
            raise self._connected.translated(error, table, None) from None

    def checksums_by_day(
        self, table: TableSpec, intervals: Sequence[Interval], *, columns: bool
    ) -> dict[str, dict[str, Any]]:
        """See :meth:`ingestion.reader.ComparesKeys.checksums_by_day`."""
        try:
            read = comparable(self._schema.compare(self._connected, table)[1])
            asked = read if columns else read.model_copy(update={"columns": ()})
            names = [column.name for column in asked.columns]
            if not table.partitioned:
                row = self._connected.rows(self._dialect.checksums(asked))[0]
                return {WHOLE: checksums.named(names, row)}
            wanted = [f"({self._dialect.interval(self._spec, read, interval)})" for interval in intervals]
            few = len(wanted) <= _INTERVALS_BY_INDEX
            days = checksums.Days(self._comparing.day(self._spec, read), " OR ".join(wanted) if few else "1 = 1")
            rows = self._connected.rows(self._dialect.checksums(asked, days))
            return {str(row[0]): checksums.named(names, row[1:]) for row in rows}
        except duckdb.Error as error:
            raise self._connected.translated(error, table, None) from None

    def compare_keys(self, table: TableSpec, relation: str, newest: Interval | None) -> KeyComparison:
        """See :meth:`ingestion.reader.ComparesKeys.compare_keys`."""
        table = self._schema.compare(self._connected, table)[1].read
        try:
            return key_sets.compare_keys(self._connected, self._comparing, self._spec, table, relation, newest)
        except duckdb.Error as error:
            raise self._connected.translated(error, table, newest) from None

    def rows_by_day(self, table: TableSpec) -> dict[str, int]:
        """See :meth:`ingestion.reader.ComparesKeys.rows_by_day`."""
        table = self._schema.compare(self._connected, table)[1].read
        try:
            return key_sets.rows_by_day(self._connected, self._comparing, self._spec, table)
        except duckdb.Error as error:
            raise self._connected.translated(error, table, None) from None

    @property
    def _warnings(self) -> tuple[str, ...]:
        return session.warnings if isinstance(session := self._connected, SnapshotSharing) else ()

    @property
    def _comparing(self) -> KeyDialect:
        if self._keys is None:
            raise SpecError(
                f"Keys of a {self._dialect.kind} source cannot be compared.",
                source=self._spec.source,
                remedy="take 'deletes:' and 'late:' out of its spec",
            )
        return self._keys

    @property
    def _connected(self) -> Session:
        if self._session is None:
            raise SourceUnavailable("The source is not connected.", source=self._spec.source, remedy="open it first")
        return self._session


def postgres_reader(
    spec: SourceSpec, url: SecretStr, lake: Lake, *, joins: SharedSnapshot | None = None
) -> DatabaseReader:
    """A reader for a PostgreSQL source; it is connected when its context is entered, at the snapshot that it joins."""
    dialect = PostgresDialect()
    return DatabaseReader(
        spec,
        lake,
        connect=lambda: PostgresSession(spec, url, lake, joins=joins),
        dialect=dialect,
        planner=PostgresChunks(dialect),
        keys=PostgresKeys(),
    )


def mysql_reader(spec: SourceSpec, url: SecretStr, lake: Lake) -> DatabaseReader:
    """A reader for a MySQL or MariaDB source; it is connected when its context is entered."""
    dialect = MysqlDialect()
    return DatabaseReader(
        spec,
        lake,
        connect=lambda: MysqlSession(spec, url, lake),
        dialect=dialect,
        planner=MysqlChunks(dialect),
        keys=MysqlKeys(),
    )


def _as_table(found: duckdb.DuckDBPyConnection) -> pa.Table | None:
    """The rows set apart; None if there are none, so that an extract without any does not load Arrow (60 MB)."""
    pieces = []
    while rows := found.fetchmany(_REJECTS_AT_ONCE):
        import pyarrow as pa

        from lake.batches import EARLY_REJECTS_SCHEMA

        columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
        pieces.append(pa.Table.from_arrays(columns, schema=EARLY_REJECTS_SCHEMA))
    return pa.concat_tables(pieces) if pieces else None


def _joined(rejects: Sequence[pa.Table]) -> pa.Table | None:
    if not rejects:
        return None
    import pyarrow as pa

    return pa.concat_tables(rejects)
