"""Objects -> staged Parquet: list, fetch, verify, decode, convert - each row typed exactly or quarantined.

An interval's batch is all objects whose key names its partition key. Each object is recorded with etag and size, and
read only at that etag, so a changed object is a new version of the batch. Bytes are checked (length, MD5 where the etag
is one, complete gzip) before a row of them is believed. Text becomes typed values only where nothing is lost: ``1.5``
is not an integer, and DuckDB would have rounded it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import duckdb
import pyarrow as pa
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
from pydantic import SecretStr
from urllib3.exceptions import HTTPError

from common.errors import (
    EmptyBatch,
    PenstockError,
    SourceRefused,
    SourceSchemaError,
    SourceUnavailable,
)
from common.fault_points import reach
from common.intervals import Interval
from ingestion.drift import Finding
from ingestion.objects import csv_files
from ingestion.objects.csv_files import Scan
from ingestion.objects.header_check import HeaderCheck, compare_header
from ingestion.objects.text_types import exact_cast
from ingestion.objects.transfer import ObjectInfo, fetch
from ingestion.reader import check_interval
from ingestion.spec import Objects, SourceSpec, TableSpec
from lake.batches import EARLY_REJECTS_SCHEMA, StagedBatch
from lake.lake import Lake
from lake.object_store import parse_s3_url, s3_client
from lake.paths import new_attempt
from lake.schema import PARTITION_COLUMN
from lake.sql import identifier, literal

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_REFUSALS = {
    "AccessDenied",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidBucketName",
    "InvalidToken",
    "NoSuchBucket",
    "PermanentRedirect",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "401",
    "403",
}
"""What a store answers when trying again cannot help."""


class ObjectReader:
    """One listing of a bucket, read batch by batch."""

    def __init__(self, spec: SourceSpec, url: SecretStr, lake: Lake) -> None:
        self._spec = spec
        self._lake = lake
        self._location = parse_s3_url(url)
        self._client: S3Client | None = None
        self._listings: dict[str, dict[str, list[ObjectInfo]]] = {}

    def __enter__(self) -> Self:
        self._client = s3_client(self._location)
        try:  # opening proves that it may be listed: a run finds out before it has published anything
            self._client.list_objects_v2(Bucket=self._location.bucket, MaxKeys=1)
        except Exception as error:  # noqa: BLE001 - translated or raised again there
            self.__exit__(None, None, None)
            raise self._translated(error, {"source": self._spec.source}) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def stage(self, table: TableSpec, interval: Interval, *, code: str) -> StagedBatch:
        """See :meth:`ingestion.reader.SourceReader.stage`."""
        check_interval(self._spec, table, interval, self._lake)
        where = {"source": self._spec.source, "table": table.name, "interval": interval.key}
        objects = self._listing(table, where).get(interval.key, [])
        if not objects:
            raise EmptyBatch(
                f"No object of {self._location} matches {_layout(table).path} for this interval.",
                **where,
                remedy="wait for the objects, or declare the days the source has with 'coverage:' in its spec",
            )
        raw = self._spec.raw(table.name)
        self._lake.ensure(raw, table.lake_columns(), partition_by=PARTITION_COLUMN)
        attempt, check = new_attempt(), HeaderCheck(self._lake, raw, interval.key, table, where)
        staged = StagedBatch(
            raw, interval.key, attempt, (self._lake.staging_location(raw, interval.key, attempt),), 0, 0, code
        )
        folder = self._lake.settings.home / "tmp" / attempt
        folder.mkdir(parents=True)
        try:
            reach("ingest.extract.before_read")
            with self._lake.connect() as connection:
                broken = self._load(connection, table, objects, folder, where, check)
                self._lake.ensure(raw, check.stored.lake_columns(), partition_by=PARTITION_COLUMN)
                rows, early = _convert(connection, self._lake, staged, check, broken)
            reach("ingest.extract.after_write")
        except BaseException:
            self._lake.discard(staged)
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return StagedBatch(
            raw,
            interval.key,
            attempt,
            staged.files,
            rows_in=rows + early.num_rows,
            rows_staged=rows,
            code=code,
            source_state=_state(objects),
            early_rejects=early,
            warnings=check.warnings,
            drift=check.records,
        )

    def _load(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: TableSpec,
        objects: list[ObjectInfo],
        folder: Path,
        where: dict[str, str],
        check: HeaderCheck,
    ) -> list[dict[str, str]]:
        """Objects, one after the other, -> the table ``source_rows``. Returns what is no record."""
        layout, wanted = _layout(table), [column.name for column in table.columns]
        names = ", ".join(f"{identifier(name)} VARCHAR" for name in wanted)
        connection.execute(f"CREATE TEMP TABLE source_rows (object_key VARCHAR, object_line BIGINT, {names})")
        rejects: list[dict[str, str]] = []
        for number, info in enumerate(objects):
            path = folder / f"{number}.csv"
            scan = self._fetch(info, layout, path, where)
            header = check.check(info.key, csv_files.header(path, layout.delimiter))
            for column in check.told.columns[len(wanted) :]:  # new: null in the objects before this one
                connection.execute(f"ALTER TABLE source_rows ADD COLUMN {identifier(column.name)} VARCHAR")
                wanted.append(column.name)
            broken = csv_files.load(
                connection,
                path,
                scan,
                key=info.key,
                names=header,
                wanted=wanted,
                null_tokens=layout.null_tokens,
            )
            rejects += [_reject(info, text) for text in broken]
            path.unlink()
        strict = [column.name for column in table.columns if not column.nullable]
        counted = ", ".join(f"count(*) - count({identifier(name)})" for name in strict) or "0"
        counts = connection.execute(f"SELECT {counted} FROM source_rows").fetchone() or ()
        check.nulls(dict(zip(strict, counts, strict=False)))
        check.finish()
        return rejects

    def drift(self, table: TableSpec) -> tuple[Finding, ...]:
        """See :meth:`ingestion.reader.SourceReader.drift`: the header of the newest interval's last object."""
        where = {"source": self._spec.source, "table": table.name, "interval": "newest"}
        listing = self._listing(table, where)
        if not listing:
            raise EmptyBatch(
                f"No object of {self._location} matches {_layout(table).path}.",
                **where,
                remedy="correct 'objects: {path: ...}' in the spec, or wait for the objects",
            )
        info = listing[max(listing)][-1]
        folder = self._lake.settings.home / "tmp" / new_attempt()
        folder.mkdir(parents=True)
        try:
            self._fetch(info, _layout(table), folder / "newest.csv", where)
            header = csv_files.header(folder / "newest.csv", _layout(table).delimiter)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return compare_header(table, header).findings

    def source_checksums(self, table: TableSpec) -> dict[str, Any] | None:  # noqa: ARG002
        """None: a bucket cannot compute."""
        return None

    def known_state(self, table: TableSpec, interval: Interval) -> dict[str, Any] | None:
        """Keys, etags and sizes of the interval's objects."""
        where = {"source": self._spec.source, "table": table.name, "interval": interval.key}
        return _state(self._listing(table, where).get(interval.key, []))

    def _listing(self, table: TableSpec, where: dict[str, str]) -> dict[str, list[ObjectInfo]]:
        """All objects of the table by partition key; listed once per reader."""
        if table.name not in self._listings:
            layout = _layout(table)
            pattern = layout.key_pattern()
            found: dict[str, list[ObjectInfo]] = {}
            for entry in self._pages(layout.prefix, where):
                match = pattern.fullmatch(entry["Key"])
                if match:
                    info = ObjectInfo(entry["Key"], entry["ETag"].strip('"'), int(entry["Size"]))
                    found.setdefault(match["key"], []).append(info)
            self._listings[table.name] = {key: sorted(objects) for key, objects in found.items()}
        return self._listings[table.name]

    def _pages(self, prefix: str, where: dict[str, str]) -> Iterator[Any]:
        paginator = self._s3.get_paginator("list_objects_v2")
        try:
            for page in paginator.paginate(Bucket=self._location.bucket, Prefix=prefix):
                yield from page.get("Contents", [])
        except Exception as error:  # noqa: BLE001 - translated or raised again there
            raise self._translated(error, where) from None

    def _fetch(self, info: ObjectInfo, layout: Objects, path: Path, where: dict[str, str]) -> Scan:
        """Download one object (see :func:`ingestion.objects.transfer.fetch`)."""
        try:
            return fetch(self._s3, self._location.bucket, info, layout, path)
        except PenstockError as error:
            error.source, error.table, error.interval = where["source"], where["table"], where["interval"]
            raise
        except Exception as error:  # noqa: BLE001 - translated or raised again there
            raise self._translated(error, where, info.key) from None

    @property
    def _s3(self) -> S3Client:
        if self._client is None:
            raise SourceUnavailable("The bucket is not open.", source=self._spec.source, remedy="open it first")
        return self._client

    def _translated(self, error: Exception, where: dict[str, str], key: str | None = None) -> PenstockError:
        code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
        thing = f"object {key} in {self._location}" if key else str(self._location)
        if code in _REFUSALS or isinstance(error, NoCredentialsError | PartialCredentialsError):
            return SourceRefused(
                f"Reading {thing} was refused: {code or 'there are no keys'}.",
                **where,
                remedy=f"correct keys, bucket or rights of connection {self._spec.connection!r}",
            )
        if code in {"PreconditionFailed", "412", "NoSuchKey"}:
            return SourceUnavailable(
                f"The {thing} changed while it was being read.", **where, remedy="run the interval again"
            )
        if isinstance(error, BotoCoreError | ClientError | HTTPError | OSError):
            return SourceUnavailable(
                f"Reading {thing} failed ({code or type(error).__name__}).",
                **where,
                remedy=f"check that the endpoint of connection {self._spec.connection!r} answers",
            )
        raise error


def _state(objects: list[ObjectInfo]) -> dict[str, Any]:
    return {"kind": "objects", "objects": [[info.key, info.etag, info.size_bytes] for info in objects]}


def _layout(table: TableSpec) -> Objects:
    if table.objects is None:
        raise SourceSchemaError("The table has no 'objects:' section.", table=table.name, remedy="add it to the spec")
    return table.objects


def _reject(info: ObjectInfo, broken: csv_files.Broken) -> dict[str, str]:
    return {
        "rule": "csv_record",
        "reason": broken.reason,
        "position": f"{info.key} line {broken.line}",
        "row": json.dumps({"csv": broken.text}, ensure_ascii=False),
    }


def _convert(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    staged: StagedBatch,
    check: HeaderCheck,
    broken: list[dict[str, str]],
) -> tuple[int, pa.Table]:
    """``source_rows`` -> one staged Parquet file. Returns rows written, and all that is not among them."""
    table = check.stored
    casts = {column.name: exact_cast(column) for column in table.columns}
    failed = ", ".join(
        f"CASE WHEN {identifier(n)} IS NOT NULL AND {cast} IS NULL THEN {literal(n + ' is not a valid ')} "
        f"|| {literal(next(c.type for c in table.columns if c.name == n))} END"
        for n, cast in casts.items()
    )
    for suspect in check.suspects:
        name, null = suspect.column.name, suspect.kind == "nullability"
        reason = literal(f"schema drift: {suspect.column.in_source} {suspect.reason}")
        failed += f", CASE WHEN {identifier(name)} IS {'' if null else 'NOT '}NULL THEN {reason} END"
    connection.execute(f"CREATE TEMP VIEW judged AS SELECT *, concat_ws('; ', {failed}) AS _problem FROM source_rows")
    selected = ", ".join(
        [f"DATE {literal(staged.key)} AS {PARTITION_COLUMN}"]
        + [f"{cast} AS {identifier(name)}" for name, cast in casts.items()]
        + ["object_key", "object_line"]
    ) + lake.nulls(staged.table, [PARTITION_COLUMN, *casts, "object_key", "object_line"])
    rows = lake.write(connection, f"SELECT {selected} FROM judged WHERE _problem = ''", staged.table, staged.files[0])
    row = ", ".join(f"{literal(c.name)}: {identifier(c.name)}" for c in check.told.columns)
    untyped = connection.execute(
        "SELECT 'exact_value' AS rule, _problem AS reason, object_key || ' line ' || object_line AS position, "
        f"to_json({{{row}}})::VARCHAR AS row FROM judged WHERE _problem <> '' ORDER BY object_key, object_line"
    ).to_arrow_table()
    early = pa.concat_tables(
        [untyped.cast(EARLY_REJECTS_SCHEMA), pa.Table.from_pylist(broken, schema=EARLY_REJECTS_SCHEMA)]
    )
    return rows, early
