"""What every kind of source can do: stage one table for one interval.

::

    with open_source(spec, lake) as reader:        one consistent snapshot where the source has such a thing
        staged = reader.stage(table, interval)     Parquet under the table's location, invisible until published
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from common.errors import IntervalError
from common.intervals import Interval
from ingestion.drift import Finding
from ingestion.shared_snapshot import SharedSnapshot
from ingestion.spec import SourceSpec, TableSpec
from lake.batches import StagedBatch
from lake.lake import Lake
from lake.paths import WHOLE

if TYPE_CHECKING:
    from ingestion.databases.key_sets import KeyComparison


class SourceReader(Protocol):
    """A connection to one source for one run."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def stage(self, table: TableSpec, interval: Interval, *, code: str) -> StagedBatch:
        """Read the table's rows for the interval into staged Parquet files.

        Args:
            table: what to read.
            interval: which rows (a snapshot table ignores it).
            code: digest of spec, suite and versions; becomes part of the batch id.

        Raises:
            SourceUnavailable, SourceRefused, SourceSchemaError, ObjectCorrupt, EmptyBatch: see ``common/errors.py``.

        Side effects: staged files only; none are left when it raises.
        """
        ...

    def known_state(self, table: TableSpec, interval: Interval) -> dict[str, Any] | None:
        """What the source looks like for the interval, where that is known without reading rows; else None.

        A batch that was made from the same state by the same code need not be read again.
        """
        ...

    def drift(self, table: TableSpec) -> tuple[Finding, ...]:
        """How the table's columns in the source differ from its spec now (see ``ingestion/drift``).

        Raises:
            SourceUnavailable, SourceRefused, SourceSchemaError, EmptyBatch: there is nothing to look at.
        """
        ...

    def source_checksums(self, table: TableSpec) -> dict[str, Any] | None:
        """Rows and checksums of the columns that source and lake share; None where the source cannot compute them.

        See ``ingestion/databases/checksums.py``.
        """
        ...


@runtime_checkable
class ComparesKeys(Protocol):
    """A reader whose source can say which keys it has, and how many rows lie in which day, without giving the rows."""

    def compare_keys(self, table: TableSpec, relation: str, newest: Interval | None) -> KeyComparison:
        """Compare the source's keys with those of live rows of the lake.

        Args:
            table: the table.
            relation: the lake's rows with ``filename`` and ``file_row_number``.
            newest: the newest interval that was loaded; None for a table that is loaded as a whole.

        Raises:
            SourceUnavailable, SourceRefused, SourceSchemaError: see ``common/errors.py``.
        """
        ...

    def checksums_by_day(
        self, table: TableSpec, intervals: Sequence[Interval], *, columns: bool
    ) -> dict[str, dict[str, Any]]:
        """Rows and column checksums of some intervals, by partition key; perhaps of others too.

        Args:
            table: the table.
            intervals: which; none for a table that is loaded as a whole, whose figures stand under ``whole``.
            columns: whether columns are summed up too, or rows are counted only.

        Raises:
            SourceUnavailable, SourceRefused, SourceSchemaError: see ``common/errors.py``.
        """
        ...

    def rows_by_day(self, table: TableSpec) -> dict[str, int]:
        """Rows by the day in which they lie, also of days that are still to come.

        Raises:
            SourceUnavailable, SourceRefused, SourceSchemaError: see ``common/errors.py``.
        """
        ...


@runtime_checkable
class SharesSnapshot(Protocol):
    """A reader of a database, some of which let other readers join a snapshot."""

    @property
    def moment(self) -> str:
        """Which transactions its snapshot sees: readers of one moment see the same rows. Empty: nobody can tell."""
        ...

    def shared_snapshot(self) -> SharedSnapshot | None:
        """Its snapshot for others to join while this reader is open; None where the database has no such thing.

        Raises:
            SourceUnavailable: the server does not answer any more.
        """
        ...

    def is_alive(self) -> bool:
        """Whether its snapshot can still be joined."""
        ...


def open_source(spec: SourceSpec, lake: Lake, *, joins: SharedSnapshot | None = None) -> SourceReader:
    """A reader for the source's kind. Entering its context connects, and proves that the source lets us in.

    Args:
        spec: the source.
        lake: where its rows are staged.
        joins: a snapshot of it that somebody holds (:meth:`SharesSnapshot.shared_snapshot`), to be read instead of one
            of its own; other kinds than PostgreSQL have none to give.
    """
    url = lake.settings.connection(spec.connection)
    if spec.kind == "postgresql":
        from ingestion.databases.reader import postgres_reader

        return postgres_reader(spec, url, lake, joins=joins)
    if spec.kind == "mysql":
        from ingestion.databases.reader import mysql_reader

        return mysql_reader(spec, url, lake)
    from ingestion.objects.reader import ObjectReader

    return ObjectReader(spec, url, lake)


def check_interval(spec: SourceSpec, table: TableSpec, interval: Interval, lake: Lake) -> None:
    """Refuse an interval that is not over yet: its rows are still to come.

    Raises:
        IntervalError: naming source, table and interval.
    """
    if interval.end > lake.clock():
        raise IntervalError(
            f"The interval {interval} is not over yet.",
            source=spec.source,
            table=table.name,
            interval=interval.key,
            remedy=f"wait until {interval.end:%Y-%m-%d %H:%M} UTC, or choose an earlier day",
        )


def partition_key(table: TableSpec, interval: Interval) -> str:
    """The partition that a batch of this table for this interval replaces."""
    return interval.key if table.partitioned else WHOLE
