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

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import duckdb
import pyarrow as pa
from pydantic import SecretStr

from common.errors import EmptyBatch, SourceSchemaError, SourceUnavailable, located
from common.fault_points import reach
from common.intervals import Interval
from ingestion.drift import Finding
from ingestion.extract_record import ExtractRecord, delete_staged, extract_record
from ingestion.objects import convert, csv_files, jsonl_files
from ingestion.objects.header_check import HeaderCheck, compare_header, compare_keys_of_records
from ingestion.objects.kept import kept_rejects, kept_rows
from ingestion.objects.listing import Comparison, by_partition_key
from ingestion.objects.parquet_files import ParquetObject
from ingestion.objects.rows import Rejects, SourceRows
from ingestion.objects.stores import ObjectStore, StoredObject, open_store
from ingestion.objects.transfer import Part, fetch
from ingestion.reader import check_interval
from ingestion.spec import ColumnSpec, Objects, SourceSpec, TableSpec
from lake.batches import EARLY_REJECTS_SCHEMA, StagedBatch
from lake.lake import Lake
from lake.paths import TableId, new_attempt
from lake.schema import PARTITION_COLUMN
from lake.sql import identifier

_LOG = logging.getLogger(__name__)


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
        with extract_record(self._lake.settings.home, str(raw), key) as record:
            attempt, told = new_attempt(), self._start_over(raw, key, record)
            record.begin(attempt=attempt)
            batch = self._read(table, layout, compared, kept_keys, attempt, key, code, where)
        return replace(batch, warnings=(*told, *batch.warnings))

    def _start_over(self, raw: TableId, key: str, record: ExtractRecord) -> tuple[str, ...]:
        """What to tell of an extract that was killed. Side effects: what it left is deleted."""
        if record.left is None:
            return ()
        attempt = str(record.left.get("attempt", ""))
        if attempt and attempt not in self._lake.live_attempts(raw, key).values():
            delete_staged(self._lake, [self._lake.staging_location(raw, key, attempt)])
            shutil.rmtree(self._lake.settings.home / "tmp" / attempt, ignore_errors=True)
        told = "an interrupted extract was started over: the objects of an interval make one file, which was not whole"
        _LOG.info("%s %s: %s", raw, key, told)
        return (told,)

    def _read(
        self,
        table: TableSpec,
        layout: Objects,
        compared: Comparison,
        kept_keys: Sequence[str],
        attempt: str,
        key: str,
        code: str,
        where: dict[str, str],
    ) -> StagedBatch:
        raw = self._spec.raw(table.name)
        staged = StagedBatch(raw, key, attempt, (self._lake.staging_location(raw, key, attempt),), 0, 0, code)
        folder = self._lake.settings.home / "tmp" / attempt
        folder.mkdir(parents=True)
        try:
            reach("ingest.extract.before_read")
            with self._lake.connect() as connection:
                check = HeaderCheck(self._lake, raw, key, table, where)
                batch = _Batch(connection, table, layout, check)
                for number, found in enumerate(compared.objects):
                    for part in fetch(self._opened, found, layout, folder / f"{number}.part"):
                        batch.load(part)
                kept = kept_rows(connection, self._lake, raw, key, kept_keys) if kept_keys else None
                batch.judge()
                self._lake.ensure(raw, check.stored.lake_columns(), partition_by=PARTITION_COLUMN)
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
            set_apart=rejected,
            warnings=(*batch.warnings(), *compared.warnings(layout)),
            drift=check.records,
        )

    def drift(self, table: TableSpec) -> tuple[Finding, ...]:
        """See :meth:`ingestion.reader.SourceReader.drift`: the columns of the newest interval's last object."""
        layout = _layout(table)
        with located(source=self._spec.source, table=table.name, interval="newest"):
            listing = by_partition_key(self._opened.objects(layout.prefix), layout)
            if not listing:
                raise EmptyBatch(
                    f"No object of {self._opened} matches {layout.path}.",
                    remedy="correct 'objects: {path: ...}' in the spec, or wait for the objects",
                )
            if layout.format in {"csv", "tsv"} and not layout.header:
                raise SourceSchemaError(
                    f"Objects of format {layout.format} without a header line have nothing to compare.",
                    remedy="see what runs have recorded: penstock drift",
                )
            folder = self._lake.settings.home / "tmp" / new_attempt()
            folder.mkdir(parents=True)
            try:
                *_, part = fetch(self._opened, listing[max(listing)][-1], layout, folder / "newest.part")
                if layout.format == "parquet":
                    return ParquetObject(part.path, part.name, layout).compared(table).findings
                if layout.format == "jsonl":
                    return compare_keys_of_records(table, jsonl_files.keys(part, layout))[0].findings
                return compare_header(table, csv_files.header(part.path, layout)).findings
            finally:
                shutil.rmtree(folder, ignore_errors=True)

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
        self,
        connection: duckdb.DuckDBPyConnection,
        table: TableSpec,
        layout: Objects,
        check: HeaderCheck,
    ) -> None:
        self.rejects = Rejects()
        self._connection = connection
        self._table = table
        self._layout = layout
        self._wanted = [column.in_source for column in table.columns]
        self._check = check
        self._read = [column.name for column in table.columns]
        self._absent: dict[str, None] = {}
        self._parquet: list[ParquetObject] = []
        self._strict = [column.name for column in table.columns if not column.nullable]
        self._nulls: dict[str, int] = {}
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
        names = self._read[: len(self._wanted)]
        if self._layout.header:
            header = csv_files.header(part.path, self._layout)
            names = self._check.check(f"{part.name} has the wrong header", header)
            self._widen()
        csv_files.load(self._rows, part, self._layout, names, self._read, self.rejects.of(part.name, "csv"))

    def _load_json(self, part: Part) -> None:
        columns, policies = self._columns(self._table), self._table.on_drift
        follows = policies.added in {"evolve", "quarantine"} or policies.renamed == "evolve"
        if follows:  # what a key's values become must be known before the first of them is read
            columns = self._followed(part, jsonl_files.keys(part, self._layout)) or columns
        reject = self.rejects.of(part.name, "json")
        seen = jsonl_files.load(self._rows, part, self._layout, columns, reject)
        if not follows:
            self._followed(part, seen)

    def _followed(self, part: Part, seen: Sequence[str]) -> list[ColumnSpec]:
        """What is to be read of a file of JSON lines that has these keys; nothing if it has none."""
        if not seen:
            return []  # no record at all
        compared, absent = compare_keys_of_records(self._table, seen)
        self._absent |= dict.fromkeys(absent)
        self._check.take(f"{part.name} has the wrong keys", [*seen, *absent], compared)
        self._widen()
        return self._columns(compared.told)

    def _columns(self, table: TableSpec) -> list[ColumnSpec]:
        """The columns of ``source_rows`` as one object has them."""
        own = {column.name: column for column in table.columns}
        known = {column.name: column for column in self._check.told.columns}
        return [own.get(name, known[name]) for name in self._read]

    def _widen(self) -> None:
        for column in self._check.told.columns[len(self._read) :]:
            self._rows.widen(column.name)
            self._read.append(column.name)

    def _load_parquet(self, part: Part) -> None:
        found = ParquetObject(part.path, part.name, self._layout)
        compared = self._check.take(f"{part.name} has the wrong columns", found.names, found.compared(self._table))
        for name, nulls in zip(self._strict, found.judge(self._connection, compared, self._strict), strict=True):
            self._nulls[name] = self._nulls.get(name, 0) + nulls
        self._parquet.append(found)

    def judge(self) -> None:
        """Say to the check what only rows tell: nulls in columns that are declared without."""
        counted = ", ".join(f"count(*) - count({identifier(name)})" for name in self._strict) or "0"
        counts = self._connection.execute(f"SELECT {counted} FROM source_rows").fetchone() or ()
        self._check.nulls(self._nulls or dict(zip(self._strict, counts, strict=False)))
        self._check.finish()

    def write(self, lake: Lake, staged: StagedBatch, kept: str | None) -> tuple[int, pa.Table]:
        """See :func:`ingestion.objects.convert.write`."""
        check = self._check
        queries = [found.query(self._connection, check.stored, check.suspects) for found in self._parquet]
        rows = " UNION ALL ".join(queries) or convert.text_rows(check.stored, check.told, check.suspects)
        try:
            return convert.write(self._connection, lake, staged, check.stored, rows, kept)
        except duckdb.Error as error:
            damaged = next((found for found in self._parquet if str(found.path) in str(error)), None)
            if damaged is None:
                raise
            raise damaged.corrupt(error) from None

    def warnings(self) -> list[str]:
        """What the source has or lacks without being refused for it."""
        found = list(self._check.warnings)
        if self._absent:
            found.append(f"columns that no record of an object has are null: {', '.join(self._absent)}")
        return found


def _layout(table: TableSpec) -> Objects:
    if table.objects is None:
        raise SourceSchemaError("The table has no 'objects:' section.", table=table.name, remedy="add it to the spec")
    return table.objects
