"""Partitions written anew, some of their rows left out or marked: what merging by key and marking deletions share.

Rows are named by file and row number in a temporary table ``chosen (file, row_number)``, so that a rewrite reads no key
again. A file's chosen rows become a bitmap that DuckDB asks while it scans, so that a rewrite costs what a plain copy
does (measured: a quarter less CPU than an anti-join with the numbers). Every file of a partition is written, also one
that loses nothing, because the attempt in their names ties all of them to one receipt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import duckdb

from common.hashing import digest
from lake.batches import Receipt
from lake.catalog import LiveFile
from lake.lake import Lake
from lake.paths import TableId, engine_path
from lake.schema import DELETED_COLUMN
from lake.sql import identifier, literal, parquet_relation

BITMAP_ROWS = 1_000_000_000
"""Rows of a file for which DuckDB makes a bitmap; of a larger one the numbers themselves are asked."""

NO_FILE = -1
"""The number of a file of which no row is chosen."""

_BITMAP = "penstock_chosen"


@dataclass(frozen=True)
class Part:
    """One file to be written from another one.

    Attributes:
        query: its rows.
        file: number of the file that is read, in ``chosen``; or :data:`NO_FILE`.
        rows: how many rows that file has at most.
    """

    query: str
    file: int
    rows: int


def leaving_out(relation: str, file: int, rows: int) -> Part:
    """The rows of a file (see :class:`Part`) without the chosen ones."""
    return Part(f"SELECT * FROM {relation} WHERE NOT ({_is_chosen(file, rows)})", file, rows)


def marking(relation: str, file: int, rows: int, moment: datetime) -> Part:
    """The rows of a file (see :class:`Part`), the chosen ones marked as deleted in the source; who is marked stays."""
    mark = identifier(DELETED_COLUMN)
    now = f"TIMESTAMPTZ {literal(moment.isoformat())}"
    marked = f"CASE WHEN {_is_chosen(file, rows)} THEN coalesce({mark}, {now}) ELSE {mark} END"
    return Part(f"SELECT * REPLACE ({marked} AS {mark}) FROM {relation}", file, rows)


def _is_chosen(file: int, rows: int) -> str:
    if rows >= BITMAP_ROWS:
        return f"file_row_number IN (SELECT row_number FROM chosen WHERE file = {file})"
    return f"get_bit(getvariable({literal(_BITMAP)}), file_row_number::INTEGER) = 1"


def _make_bitmap(connection: duckdb.DuckDBPyConnection, part: Part) -> None:
    if part.rows < BITMAP_ROWS:  # as long as the file, and of zeros if no row is chosen
        connection.execute(
            f"SET VARIABLE {_BITMAP} = (SELECT coalesce(bitstring_agg(row_number, 0, {part.rows}), "
            f"bitstring('0', {part.rows + 1})) FROM chosen WHERE file = {part.file})"
        )


def file_relation(lake: Lake, table: TableId, location: str) -> str:
    """One file's rows with their row numbers."""
    columns, field_ids = lake.columns(table)
    return parquet_relation([engine_path(location)], columns, field_ids, row_number=True)


def write_parts(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    table: TableId,
    key: str,
    parts: Sequence[Part],
    *,
    attempt: str,
    first_part: int = 0,
) -> tuple[tuple[str, ...], int]:
    """Write parts, each as one file of a partition; their locations and the rows in all of them.

    At the lightest compression (measured: 30 % less CPU for 2 % more bytes), and on one thread: a file of a few row
    groups gives a second one nothing to do but wait, which it does at full speed (measured: up to twice the CPU).

    Side effects: the files; none is left when it raises.
    """
    written: list[str] = []
    rows = 0
    connection.execute("SET threads = 1")
    try:
        for number, part in enumerate(parts, start=first_part):
            written.append(lake.staging_location(table, key, attempt, number))
            _make_bitmap(connection, part)
            rows += lake.write(connection, part.query, table, written[-1])
    except BaseException:
        lake.delete_files(written)
        raise
    finally:
        connection.execute(f"SET threads = {int(lake.settings.threads)}")
    return tuple(written), rows


def rewritten_id(before: Receipt, what: str) -> str:
    """The batch id of a batch that was written anew; see :func:`rewritten_receipt`."""
    return digest(before.batch_id, what)


def rewritten_receipt(lake: Lake, before: Receipt, attempt: str, run_id: str, what: str, **changes: object) -> Receipt:
    """The receipt of a partition whose live batch was written anew.

    Args:
        lake: for its clock.
        before: the receipt of the live batch.
        attempt: the new files' attempt.
        run_id: the run that does it.
        what: says what was changed: the batch id, by which refined tables see that they are outdated, comes of it.
        changes: the account's new figures.
    """
    return replace(
        before,
        attempt=attempt,
        run_id=run_id,
        batch_id=rewritten_id(before, what),
        staged_id=before.came_as,
        state="published",
        published_at=lake.clock().isoformat(),
        seconds={},
        touched=(),
        proof="",
        **changes,  # type: ignore[arg-type]  # figures of the account
    )


def live_receipt(lake: Lake, table: TableId, key: str, files: Sequence[LiveFile], attempt: str) -> Receipt:
    """The receipt of a live batch; if it is lost, an account made from the files alone."""
    found = lake.find_receipt(table, key, attempt)
    if found is not None:
        return found
    rows = sum(file.rows for file in files)
    lost = {"rows_checked": rows, "passed": True, "results": []}
    return Receipt(str(table), key, "ingest", attempt, attempt[:20], "", rows, rows, 0, 0, verdict=lost)


def write_receipts(lake: Lake, table: TableId, receipts: Mapping[str, Receipt]) -> None:
    """Write receipts by partition key; they become true by the commit of the files that carry their attempts."""
    for receipt in receipts.values():
        lake.write_receipt(table, receipt)
