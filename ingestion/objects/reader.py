"""Objects -> staged Parquet: list, fetch, verify, decode, convert - each row typed exactly or quarantined.

::

    store.objects  -> the interval's objects      listing.py        against those of the live batch
    store.stream   -> local files                 transfer.py       verified, unpacked, UTF-8, within limits
    local files    -> rows                        csv_files.py, jsonl_files.py, parquet_files.py
    rows           -> one staged Parquet file     convert.py        and the rows that are not kept exactly

An interval's batch is all objects whose key names its partition key. Each object is recorded with etag and size, and
read only at that etag, so a changed object is a new version of the batch. Objects are read one after the other: the
local disk holds one of them at a time (of Parquet, all of an interval), memory a few blocks.
"""

from __future__ import annotations

import shutil
from types import TracebackType
from typing import Any, Self

import duckdb
import pyarrow as pa
from pydantic import SecretStr

from common.errors import EmptyBatch, SourceSchemaError, SourceUnavailable, located
from common.fault_points import reach
from common.intervals import Interval
from ingestion.objects import convert, csv_files, jsonl_files
from ingestion.objects.columns import check_columns
from ingestion.objects.kept import kept_rejects, kept_rows
from ingestion.objects.listing import Comparison, by_partition_key
from ingestion.objects.parquet_files import ParquetObject
from ingestion.objects.rows import Rejects, SourceRows
from ingestion.objects.stores import ObjectStore, StoredObject, open_store
from ingestion.objects.transfer import Part, fetch
from ingestion.reader import check_interval
from ingestion.spec import Objects, SourceSpec, TableSpec
from lake.batches import EARLY_REJECTS_SCHEMA, StagedBatch
from lake.lake import Lake
from lake.paths import new_attempt
from lake.schema import PARTITION_COLUMN


class ObjectReader:
    """One listing of a bucket or folder, read batch by batch."""

    def __init__(self, spec: SourceSpec, url: SecretStr, lake: Lake) -> None:
        self._spec = spec
        self._lake = lake
        self._store: ObjectStore | None = None
        self._url = url
        self._listings: dict[str, dict[str, list[StoredObject]]] = {}

    def __enter__(self) -> Self:
        self._store = open_store(
            self._url,
            source=self._spec.source,
            connection=self._spec.connection,
            allowed_hosts=self._lake.settings.allowed_hosts,
        )
        try:  # opening proves that it may be listed: a run finds out before it has published anything
            self._store.check()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def stage(self, table: TableSpec, interval: Interval, *, code: str) -> StagedBatch:
        """See :meth:`ingestion.reader.SourceReader.stage`."""
        check_interval(self._spec, table, interval, self._lake)
        where = {"source": self._spec.source, "table": table.name, "interval": interval.key}
        with located(**where):
            return self._stage(table, interval.key, code, where)

    def _stage(self, table: TableSpec, key: str, code: str, where: dict[str, str]) -> StagedBatch:
        layout = _layout(table)
        raw = self._spec.raw(table.name)
        self._lake.ensure(raw, table.lake_columns(), partition_by=PARTITION_COLUMN)
        compared = self._compared(table, key)
        compared.refuse_vanished(layout, where)
        kept_keys = [name for name, _, _ in compared.vanished] if layout.on_vanished == "keep" else []
        if not compared.objects and not kept_keys:
            raise EmptyBatch(
                f"No object of {self._opened} matches {layout.path} for this interval.",
                remedy="wait for the objects, or declare the days the source has with 'coverage:' in its spec",
            )
        attempt = new_attempt()
        staged = StagedBatch(raw, key, attempt, (self._lake.staging_location(raw, key, attempt),), 0, 0, code)
        folder = self._lake.settings.home / "tmp" / attempt
        folder.mkdir(parents=True)
        try:
            reach("ingest.extract.before_read")
            with self._lake.connect() as connection:
                batch = _Batch(connection, table, layout, where)
                for number, found in enumerate(compared.objects):
                    for part in fetch(self._opened, found, layout, folder / f"{number}.part"):
                        batch.load(part)
                kept = kept_rows(connection, self._lake, raw, key, kept_keys) if kept_keys else None
                rows, untyped = batch.write(self._lake, staged, kept)
                early = [untyped, pa.Table.from_pylist(batch.rejects.rows, schema=EARLY_REJECTS_SCHEMA)]
            if kept_keys:
                early.append(kept_rejects(self._lake, raw, key, kept_keys))
            reach("ingest.extract.after_write")
        except BaseException:
            self._lake.discard(staged)
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        rejected = pa.concat_tables(early)
        return StagedBatch(
            raw,
            key,
            attempt,
            staged.files,
            rows_in=rows + rejected.num_rows,
            rows_staged=rows,
            code=code,
            source_state=compared.state(layout),
            early_rejects=rejected,
            warnings=(*batch.warnings(), *compared.warnings(layout)),
        )

    def source_checksums(self, table: TableSpec) -> dict[str, Any] | None:  # noqa: ARG002
        """None: a bucket cannot compute."""
        return None

    def known_state(self, table: TableSpec, interval: Interval) -> dict[str, Any] | None:
        """Keys, etags and sizes of the interval's objects, and of those whose rows are kept without them."""
        with located(source=self._spec.source, table=table.name, interval=interval.key):
            return self._compared(table, interval.key).state(_layout(table))

    def _compared(self, table: TableSpec, key: str) -> Comparison:
        """The interval's objects against those of its live batch. The table is listed once per reader."""
        if table.name not in self._listings:
            layout = _layout(table)
            self._listings[table.name] = by_partition_key(self._opened.objects(layout.prefix), layout)
        raw = self._spec.raw(table.name)
        live = self._lake.receipt(raw, key)
        return Comparison.of(self._listings[table.name].get(key, []), live)

    @property
    def _opened(self) -> ObjectStore:
        if self._store is None:
            raise SourceUnavailable("The store is not open.", source=self._spec.source, remedy="open it first")
        return self._store


class _Batch:
    """The rows of an interval while its objects are read."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, table: TableSpec, layout: Objects, where: dict[str, str]
    ) -> None:
        self.rejects = Rejects()
        self._connection = connection
        self._table = table
        self._layout = layout
        self._where = where
        self._wanted = [column.in_source for column in table.columns]
        self._added: dict[str, None] = {}
        self._absent: dict[str, None] = {}
        self._parquet: list[ParquetObject] = []
        self._queries: list[str] = []
        self._rows = SourceRows(connection, [column.name for column in table.columns])
        connection.execute("CREATE TEMP TABLE inexact (object_key VARCHAR, object_line BIGINT, problem VARCHAR)")

    def load(self, part: Part) -> None:
        """Take in one file of rows."""
        match self._layout.format:
            case "parquet":
                self._load_parquet(part)
                return  # it stays until it is written
            case "jsonl":
                self._load_json(part)
            case _:
                self._load_csv(part)
        part.path.unlink()

    def _load_csv(self, part: Part) -> None:
        names = self._wanted
        if self._layout.header:
            names = csv_files.header(part.path, self._layout)
            added = check_columns(names, self._table, self._where, f"{part.name} has the wrong header")
            self._added |= dict.fromkeys(added)
        csv_files.load(self._rows, part, self._layout, names, self._wanted, self.rejects.of(part.name, "csv"))

    def _load_json(self, part: Part) -> None:
        reject = self.rejects.of(part.name, "json")
        seen = jsonl_files.load(self._rows, part, self._layout, self._table.columns, reject)
        if not seen:
            return  # no record at all
        for column in self._table.columns:
            if column.in_source not in seen and column.nullable:
                self._absent[column.in_source] = None
                seen.add(column.in_source)
        names = [*(name for name in self._wanted if name in seen), *sorted(seen - set(self._wanted))]
        added = check_columns(names, self._table, self._where, f"{part.name} has the wrong keys")
        self._added |= dict.fromkeys(added)

    def _load_parquet(self, part: Part) -> None:
        found = ParquetObject(part.path, part.name, self._layout, self._table, self._where)
        self._added |= dict.fromkeys(found.added)
        self._queries.append(found.load(self._connection))
        self._parquet.append(found)

    def write(self, lake: Lake, staged: StagedBatch, kept: str | None) -> tuple[int, pa.Table]:
        """See :func:`ingestion.objects.convert.write`."""
        rows = " UNION ALL ".join(self._queries) or convert.text_rows(self._table)
        try:
            return convert.write(self._connection, lake, staged, self._table, rows, kept)
        except duckdb.Error as error:
            damaged = next((found for found in self._parquet if str(found.path) in str(error)), None)
            if damaged is None:
                raise
            raise damaged.corrupt(error) from None

    def warnings(self) -> list[str]:
        """What the source has or lacks without being refused for it."""
        found = []
        if self._added:
            found.append(f"columns that the spec does not name are not read: {', '.join(self._added)}")
        if self._absent:
            found.append(f"columns that no record of an object has are null: {', '.join(self._absent)}")
        return found


def _layout(table: TableSpec) -> Objects:
    if table.objects is None:
        raise SourceSchemaError("The table has no 'objects:' section.", table=table.name, remedy="add it to the spec")
    return table.objects
