"""Refine one interval: read the raw rows that are live, apply the table's pure function, stage the result.

Reads go through explicit file lists of one snapshot and an explicit schema; a column that an old file lacks reads as
null. Everything is lazy and streams to the staged file, so memory does not grow with the interval.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pyiceberg.io.pyarrow import schema_to_pyarrow

from common.disk import disk_full, is_disk_full
from common.errors import PenstockError, StateCorrupt, StoreUnavailable
from common.fault_points import reach
from common.hashing import file_digest
from lake.batches import StagedBatch
from lake.engine import lake_credentials
from lake.lake import Lake
from lake.paths import TableId, engine_path, new_attempt
from lake.proof import prove
from lake.schema import PARTITION_COLUMN, arrow_schema
from transformations.column_lineage import ColumnLineage
from transformations.refine.lineage import lineage_of
from transformations.refine.model import RefinedTable, latest_per_key

_WIDER = pl.ScanCastOptions(integer_cast="upcast", float_cast="upcast")
"""Files from before a column was widened read as the wider type; nothing else is cast."""


_DAMAGED = re.compile(r"^parquet: |out of specification|JoinError")
"""How Polars begins what it says of a Parquet file that is not whole."""


def code_of_functions() -> tuple[str, dict[str, str]]:
    """What decides how rows are refined: the version of Polars and a digest of each module of this folder."""
    folder = Path(__file__).parent
    return pl.__version__, {path.name: file_digest(path) for path in sorted(folder.glob("*.py"))}


def refined_id(table: RefinedTable) -> TableId:
    """The lake table that a refined table is published as."""
    return TableId("refined", table.name)


@dataclass(frozen=True)
class Inputs:
    """What a refined interval is made from, each raw table as it was at one moment.

    Attributes:
        upstream: batch ids of the live raw batches, by ``table/key``.
        paths: raw table -> engine paths of its files.
        rows_in: rows of the interval's own batches.
    """

    upstream: dict[str, str]
    paths: dict[str, list[str]]
    rows_in: int


def inputs_of(lake: Lake, table: RefinedTable, key: str) -> Inputs | None:
    """What an interval is made from now; None if a raw batch of its own is not there yet."""
    upstream: dict[str, str] = {}
    paths: dict[str, list[str]] = {}
    rows_in = 0
    for raw in table.inputs.values():
        pin = lake.pin(TableId.parse(raw))
        receipt = lake.find_receipt(TableId.parse(raw), key, pin.attempts[key]) if key in pin.attempts else None
        if receipt is None:
            return None
        upstream[f"{raw}/{key}"] = receipt.batch_id
        paths[raw] = list(pin.paths[key])
        rows_in += receipt.published
    for raw in table.reference_inputs.values():
        pin = lake.pin(TableId.parse(raw))
        for other, attempt in sorted(pin.attempts.items()):
            upstream[f"{raw}/{other}"] = lake.read_receipt(TableId.parse(raw), other, attempt).batch_id
        paths[raw] = [path for _, files in sorted(pin.paths.items()) for path in files]
    return Inputs(upstream, paths, rows_in)


def stage(lake: Lake, table: RefinedTable, key: str, inputs: Inputs, *, code: str) -> StagedBatch:
    """Write the refined rows of one interval where nobody reads them yet.

    Args:
        lake: the lake; the raw tables have been declared to it.
        table: what to make.
        key: partition key, ``whole`` for an unpartitioned table.
        inputs: from :func:`inputs_of`.
        code: digest of function, suite and versions.

    Raises:
        StateCorrupt: a file with raw rows is missing or damaged, or holds other rows than were published.
        StoreUnavailable: the lake's storage does not answer.
        DiskFull: the disk has no room for the refined rows.

    Side effects: one staged file; none is left when it raises.
    """
    for raw in table.inputs.values():
        prove(lake, TableId.parse(raw), [key])
    for raw in table.reference_inputs.values():
        prove(lake, TableId.parse(raw))
    target = refined_id(table)
    lake.ensure(target, table.columns, partition_by=PARTITION_COLUMN if table.partitioned else None)
    attempt = new_attempt()
    location = lake.staging_location(target, key, attempt)
    staged = StagedBatch(target, key, attempt, (location,), 0, 0, code, upstream=inputs.upstream)
    refined = table.function(**_frames(lake, table, inputs))
    latest = latest_per_key(refined, table.primary_key, table.version_column)
    try:
        reach("refine.write.before_write")
        schema = schema_to_pyarrow(lake.load(target).schema())
        _all_columns(lake, table, latest).sink_parquet(
            engine_path(location),
            compression="zstd",
            row_group_size=122_880,
            arrow_schema=schema,
            storage_options=_storage_options(lake),
        )
        reach("refine.write.after_write")
        made, kept = (
            int(frame.item())
            for frame in pl.collect_all(
                [
                    refined.select(pl.len()),
                    pl.scan_parquet(engine_path(location), storage_options=_storage_options(lake)).select(pl.len()),
                ],
                engine="streaming",
            )
        )
    except BaseException as error:
        lake.discard(staged)
        told = _told(lake, error)
        if told is not None:
            raise told from None
        raise
    return StagedBatch(
        target,
        key,
        attempt,
        (location,),
        rows_in=inputs.rows_in,
        rows_staged=kept,
        code=code,
        deduplicated=made - kept,
        source_state={"kind": "lake"},
        upstream=inputs.upstream,
    )


def _told(lake: Lake, error: BaseException) -> PenstockError | None:
    """What Polars says of files and stores in its own words, as our errors; None of anything else."""
    if is_disk_full(error):
        return disk_full(error, Path(lake.settings.home))
    text = re.sub(r"\s+", " ", str(error))[:300]
    if isinstance(error, FileNotFoundError) or (
        isinstance(error, pl.exceptions.ComputeError | pl.exceptions.PanicException) and _DAMAGED.search(text)
    ):
        return StateCorrupt(
            f"A file of the lake is missing or damaged: {text}",
            remedy="run 'penstock doctor --deep': it says which one, and how to mend it",
        )
    if isinstance(error, OSError):
        return StoreUnavailable(
            f"The lake's storage failed: {text}", remedy="check that it answers, then run the interval again"
        )
    return None


def column_lineage(lake: Lake, table: RefinedTable, key: str) -> ColumnLineage:
    """Which raw columns each column of a refined interval is made of.

    Args:
        lake: the lake; the raw tables have been declared to it.
        table: the refined table.
        key: an interval; whatever raw rows are live, for there need not be any.
    """
    return lineage_of(table, _frames(lake, table, inputs_of(lake, table, key) or Inputs({}, {}, 0)))


def _frames(lake: Lake, table: RefinedTable, inputs: Inputs) -> dict[str, pl.LazyFrame]:
    """The raw rows a refined interval is made from, by argument of its function."""
    named = {**table.inputs, **table.reference_inputs}
    return {name: _scan(lake, TableId.parse(raw), inputs.paths.get(raw, [])) for name, raw in named.items()}


def _scan(lake: Lake, table: TableId, paths: list[str]) -> pl.LazyFrame:
    empty = _empty(lake, table)
    if not paths:
        return empty.lazy()
    return pl.scan_parquet(
        paths,
        schema=empty.schema,
        missing_columns="insert",
        extra_columns="ignore",
        cast_options=_WIDER,
        storage_options=_storage_options(lake),
        glob=False,
    )


def _empty(lake: Lake, table: TableId) -> pl.DataFrame:
    columns, _ = lake.columns(table)
    empty = pl.from_arrow(arrow_schema(columns).empty_table())
    assert isinstance(empty, pl.DataFrame)  # noqa: S101 - from_arrow of a table is a frame
    return empty


def _all_columns(lake: Lake, table: RefinedTable, frame: pl.LazyFrame) -> pl.LazyFrame:
    """The frame with all columns of its lake table: one that is declared no longer is null, a wider one stays wide."""
    declared = {column.name: column.type for column in table.columns}
    stored, _ = lake.columns(refined_id(table))
    kinds = _empty(lake, refined_id(table)).schema
    return frame.select(
        pl.lit(None, kinds[column.name]).alias(column.name)
        if column.name not in declared
        else pl.col(column.name)
        if declared[column.name] == column.type  # of another type by mistake, it is refused by what follows
        else pl.col(column.name).cast(kinds[column.name])
        for column in stored
    )


def _storage_options(lake: Lake) -> dict[str, Any] | None:
    credentials = lake_credentials(lake.settings)
    if credentials is None:
        return None
    return {
        "aws_access_key_id": credentials.access_key,
        "aws_secret_access_key": credentials.secret_key.get_secret_value(),
        "aws_endpoint_url": credentials.endpoint,
        "aws_region": credentials.region,
        "aws_allow_http": "true",
    }
