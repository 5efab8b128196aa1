"""The lake: its tables, which of their files are live, and the receipts those files name.

Everything that is ever asked of the lake - which intervals are there, their row accounts, which rows wait in
quarantine - is derived from the files of the current snapshots. Writing is staged here and published in
``lake/publish.py``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from common.clock import utc_now
from common.disk import disk_full, is_disk_full
from common.errors import StateCorrupt, StoreUnavailable, UnknownName
from common.settings import Settings
from common.work import Work
from lake.batches import Receipt, StagedBatch, unaccounted
from lake.catalog import LiveFile, ensure_table, find_table, live_files, load_table, open_catalog, snapshot_files
from lake.engine import open_database
from lake.evolution import stored_columns
from lake.paths import (
    TableId,
    attempt_of,
    data_location,
    engine_path,
    receipt_location,
)
from lake.schema import Column
from lake.sql import identifier, literal, parquet_relation
from lake.state_format import check_format, note_format
from lake.storage import Storage
from lake.unfinished import refuse_unfinished

_LOG = logging.getLogger(__name__)
_DAMAGED = re.compile(
    r"No files found|HTTP 404|No magic bytes|too small to be a Parquet file|Footer length error|Malformed Parquet"
    r"|Failed to read file|converted type can only be set|ZSTD Decompression"
)

_PARQUET = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 61440, WRITE_BLOOM_FILTER false"
"""Level 1 and small dictionaries: a tenth less CPU for an extract than the defaults, for files 2 % larger. Row groups
of half the default size: 30 MB less in each reader. No Bloom filters: DuckDB makes them only for columns of few values,
where they spare a reader nothing, for 4 % of the CPU (measured)."""

_DICTIONARY_VALUES = 4000
"""None at all where a table has floats: DuckDB 1.5.5 takes -0.0 and 0.0 for one entry and writes the first it met."""

_FEW_ROWS = 200_000
"""A second thread has nothing to do for fewer, and spins for 6 ms of CPU behind each query before it sleeps (measured
on 365 intervals of 16,000 rows)."""

Clock = Callable[[], datetime]


@dataclass(frozen=True)
class PinnedTable:
    """A lake table at one snapshot.

    Attributes:
        snapshot_id: id of the snapshot; None before the first commit.
        attempts: partition key -> id of the attempt whose files are live: it changes exactly when the rows may have.
        paths: partition key -> engine paths of its live files with rows.
    """

    snapshot_id: int | None
    attempts: Mapping[str, str]
    paths: Mapping[str, tuple[str, ...]]


class Lake:
    """One lake, as configured. Cheap to make; connects when first asked. Not shared between threads.

    Attributes:
        settings: where it is.
        clock: the time now.
        work: what is told of the work done.
        proven: attempts whose rows have been compared with their receipts (``lake/proof.py``).
    """

    def __init__(self, settings: Settings, *, clock: Clock = utc_now, work: Work | None = None) -> None:
        self.settings = settings
        self.clock = clock
        self.work = work or Work()
        self.proven: set[str] = set()
        self._declared: dict[TableId, tuple[Column, ...]] = {}
        self._tables: dict[TableId, tuple[tuple[Column, ...], tuple[int, ...]]] = {}
        self._says_its_format = False

    @cached_property
    def catalog(self) -> Catalog:
        """The Iceberg catalog.

        Raises:
            StateCorrupt: a restore into this state has not finished.
            StoreUnavailable: catalog or store does not answer.
            UsageError: a newer Penstock wrote this lake.
        """
        refuse_unfinished(self.settings.home)
        self._says_its_format = check_format(self.storage, self.settings.lake_uri)
        return open_catalog(self.settings)

    @cached_property
    def storage(self) -> Storage:
        """Small files and deletion."""
        return Storage(self.settings)

    @cached_property
    def _database(self) -> duckdb.DuckDBPyConnection:
        return open_database(self.settings)

    @cached_property
    def _small_database(self) -> duckdb.DuckDBPyConnection:
        return open_database(self.settings, threads=1)

    @contextmanager
    def connect(self, *, rows: int | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """A DuckDB connection for one piece of work; its temporary tables end with it.

        Args:
            rows: how many rows it is about, where that is known: few are read by one thread.

        Raises:
            StateCorrupt: a data file is missing or damaged.
            StoreUnavailable: the storage failed while reading or writing.
            DiskFull: a file of the lake, or what the engine spills, finds no room.
        """
        few = rows is not None and rows < _FEW_ROWS
        cursor = (self._small_database if few else self._database).cursor()
        try:
            yield cursor
        except duckdb.Error as error:
            raise _translated(error, self.settings.home) from None
        finally:
            cursor.close()

    # -- tables ----------------------------------------------------------------------------------------------------

    def ensure(self, table: TableId, columns: Sequence[Column], *, partition_by: str | None) -> None:
        """Make sure the table exists and holds these columns (see :func:`lake.catalog.ensure_table`)."""
        wanted = tuple(columns)
        if table in self._tables and self._declared[table] == wanted:
            return
        loaded = ensure_table(self.catalog, self.settings, table, wanted, partition_by)
        if not self._says_its_format:
            note_format(self.storage, self.settings.lake_uri)
            self._says_its_format = True
        self._declared[table] = wanted
        self._tables[table] = stored_columns(loaded.schema(), wanted)

    def columns(self, table: TableId) -> tuple[tuple[Column, ...], tuple[int, ...]]:
        """Columns and their field ids, of a table that :meth:`ensure` has seen in this process.

        They are all that the table has, in its own order: those declared, perhaps of a wider type, and those that
        nothing declares any more.
        """
        if table not in self._tables:
            raise UnknownName(f"{table} has not been declared in this process.", remedy="call ensure() first")
        return self._tables[table]

    def load(self, table: TableId) -> Table:
        """The Iceberg table as it is now."""
        return load_table(self.catalog, table)

    def exists(self, table: TableId) -> bool:
        """Whether the catalog has the table."""
        return bool(self.catalog.table_exists(str(table)))

    def snapshot_id(self, table: TableId) -> int | None:
        """Id of the current snapshot; None before the first commit."""
        loaded = find_table(self.catalog, table)
        snapshot = loaded.current_snapshot() if loaded else None
        return snapshot.snapshot_id if snapshot else None

    def live(self, table: TableId, key: str | None = None) -> list[LiveFile]:
        """Data files of the current snapshot; empty if there is no such table."""
        loaded = find_table(self.catalog, table)
        return live_files(loaded, key) if loaded else []

    def paths(self, table: TableId, keys: Iterable[str] | None = None) -> list[str]:
        """Engine paths of the live files with rows, of some partitions or of all, in partition order."""
        wanted = None if keys is None else set(keys)
        files = [f for f in self.live(table) if f.rows and (wanted is None or f.key in wanted)]
        return [engine_path(file.location) for file in sorted(files, key=lambda file: (file.key, file.location))]

    def pin(self, table: TableId) -> PinnedTable:
        """The table at one snapshot, read from the catalog once: what a build reads, and what it says it read."""
        loaded = find_table(self.catalog, table)
        if loaded is None:
            return PinnedTable(None, {}, {})
        snapshot = loaded.current_snapshot()
        files = sorted(live_files(loaded), key=lambda file: (file.key, file.location))
        return PinnedTable(
            snapshot.snapshot_id if snapshot else None,
            {file.key: attempt_of(file.location) or file.location for file in files},
            {
                key: tuple(engine_path(file.location) for file in group if file.rows)
                for key, group in groupby(files, key=lambda file: file.key)
            },
        )

    def relation(self, table: TableId, keys: Iterable[str] | None = None) -> str:
        """A DuckDB relation over the live rows of some partitions, or of all."""
        columns, field_ids = self.columns(table)
        return parquet_relation(self.paths(table, keys), columns, field_ids)

    # -- receipts --------------------------------------------------------------------------------------------------

    def receipts(self, table: TableId) -> list[Receipt]:
        """The receipts of all live batches of a table, in partition order."""
        return [self.read_receipt(table, key, attempt) for key, attempt in sorted(self.live_attempts(table).items())]

    def receipt(self, table: TableId, key: str) -> Receipt | None:
        """The receipt of the batch that is live for a partition.

        None if the interval is missing, or if its receipt is lost: then running it again writes a new one.
        """
        attempt = self.live_attempts(table, key).get(key)
        return self.find_receipt(table, key, attempt) if attempt else None

    def find_receipt(self, table: TableId, key: str, attempt: str) -> Receipt | None:
        """The receipt of one attempt; None if it is lost."""
        try:
            return self.read_receipt(table, key, attempt)
        except StateCorrupt as error:
            _LOG.warning("%s", error)
            return None

    def live_attempts(self, table: TableId, key: str | None = None) -> dict[str, str]:
        """Partition key -> id of the attempt whose files are live, of one partition or of all."""
        return _attempts(self.live(table, key))

    def attempts_at(self, table: TableId, snapshot_id: int | None) -> dict[str, str] | None:
        """What :meth:`live_attempts` was in an earlier snapshot; None if that has been expired.

        Args:
            table: the table.
            snapshot_id: from :meth:`snapshot_id`; None: before the first commit.
        """
        if snapshot_id is None:
            return {}
        loaded = find_table(self.catalog, table)
        snapshot = loaded.snapshot_by_id(snapshot_id) if loaded else None
        return None if loaded is None or snapshot is None else _attempts(snapshot_files(loaded, snapshot))

    def is_overtaken(self, staged: StagedBatch, run_id: str, live: Iterable[LiveFile]) -> bool:
        """Whether another run has published the batch's partition since the batch began to be read.

        Args:
            staged: the batch.
            run_id: the batch's own run, which may publish a partition several times.
            live: the table's live files.
        """
        if staged.base is None:
            return False
        attempts = {attempt_of(file.location) or file.location for file in live if file.key == staged.key}
        if attempts == ({staged.base} if staged.base else set()):
            return False
        found = [self.find_receipt(staged.table, staged.key, attempt) for attempt in attempts]
        return not found or any(other is None or other.run_id != run_id for other in found)

    def read_receipt(self, table: TableId, key: str, attempt: str) -> Receipt:
        """The receipt of one attempt, live or not.

        Raises:
            StateCorrupt: it is missing or not readable.
        """
        location = receipt_location(self.settings.lake_uri, table, key, attempt)
        try:
            return Receipt.from_dict(self.storage.read_json(location))
        except (TypeError, AttributeError):
            raise StateCorrupt(f"{location} is not a receipt.", remedy="re-run the interval it belongs to") from None

    def write_receipt(self, table: TableId, receipt: Receipt) -> str:
        """Write a receipt; it becomes true by the commit of the files that carry its attempt. Returns its location.

        Raises:
            GateRefused: its row account does not add up. Every receipt passes here, so none can be published that
                does not.
        """
        if not receipt.balanced:
            raise unaccounted(receipt)
        location = receipt_location(self.settings.lake_uri, table, receipt.key, receipt.attempt)
        self.storage.write_json(location, receipt.to_dict())
        return location

    # -- writing ---------------------------------------------------------------------------------------------------

    def staging_location(self, table: TableId, key: str, attempt: str, part: int = 0) -> str:
        """Location for a new data file. Side effects: its folder is made."""
        location = data_location(self.settings.lake_uri, table, key, attempt, part)
        self.storage.prepare_folder(location)
        return location

    def discard(self, staged: StagedBatch) -> None:
        """Delete a batch that will not be published."""
        self.delete_files(staged.files)

    def delete_files(self, locations: Iterable[str]) -> None:
        """Delete files that no snapshot names; one that is gone already is no matter."""
        for location in locations:
            with suppress(OSError):
                self.storage.delete(location)

    def delete_receipt(self, table: TableId, key: str, attempt: str) -> None:
        """Delete the receipt of an attempt that did not land."""
        self.delete_files([receipt_location(self.settings.lake_uri, table, key, attempt)])

    def write(self, connection: duckdb.DuckDBPyConnection, query: str, table: TableId, location: str) -> int:
        """Write a query's rows as one Parquet file of a table, with its field ids. Returns the rows written."""
        columns, field_ids = self.columns(table)
        ids = ", ".join(f"{identifier(c.name)}: {i}" for c, i in zip(columns, field_ids, strict=True))
        select = ", ".join(f"CAST({identifier(c.name)} AS {c.duckdb}) AS {identifier(c.name)}" for c in columns)
        values = 0 if any(column.type.startswith("float") for column in columns) else _DICTIONARY_VALUES
        written = connection.execute(
            f"COPY (SELECT {select} FROM ({query})) TO {literal(engine_path(location))} "
            f"({_PARQUET}, DICTIONARY_SIZE_LIMIT {values}, FIELD_IDS {{{ids}}})"
        ).fetchone()
        return int(written[0]) if written else 0

    def nulls(self, table: TableId, given: Iterable[str]) -> str:
        """SQL for the columns of a table that a query does not give, each ``, NULL AS "name"``; may be empty."""
        names = set(given)
        return "".join(f", NULL AS {identifier(c.name)}" for c in self.columns(table)[0] if c.name not in names)

    def checksum(self, table: TableId, keys: Iterable[str] | None = None) -> str:
        """Order-independent checksum of the live rows of some partitions, or of all."""
        with self.connect() as connection:
            return checksum_of(connection, self.relation(table, keys))

    def tables(self, namespace: str) -> list[TableId]:
        """Tables of a namespace, by name; empty if there is no such namespace."""
        if not self.catalog.namespace_exists(namespace):
            return []
        return sorted(TableId(*identifier_) for identifier_ in self.catalog.list_tables(namespace))


def _attempts(files: Iterable[LiveFile]) -> dict[str, str]:
    attempts = ((file.key, attempt_of(file.location)) for file in files)
    return {key: attempt for key, attempt in attempts if attempt}


def _translated(error: duckdb.Error, home: Path) -> Exception:
    if is_disk_full(error):
        return disk_full(error, home)
    text = re.sub(r"\s+", " ", str(error))[:300]
    if type(error) is duckdb.Error or _DAMAGED.search(text):  # what its Parquet reader stumbles over has no class
        return StateCorrupt(f"A file of the lake is missing or damaged: {text}", remedy="run its interval again")
    if isinstance(error, duckdb.IOException):
        return StoreUnavailable(
            f"The lake's storage failed: {text}", remedy="check that it answers and has free space, then try again"
        )
    return error


def checksum_of(connection: duckdb.DuckDBPyConnection, relation: str) -> str:
    """Row count and order-independent sum of row hashes of a DuckDB relation, as ``rows:sum``."""
    query = f"SELECT count(*), coalesce(sum(hash(r)::HUGEINT), 0) FROM {relation} AS r"
    row: tuple[Any, ...] = connection.execute(query).fetchone() or (0, 0)
    return f"{row[0]}:{int(row[1]):x}"
