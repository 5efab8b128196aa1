"""Rows of an interval's objects -> one staged Parquet file, and the rows that are not kept exactly.

Every format gives the same columns: ``object_key``, ``object_line``, the declared ones in their types, ``_problem``
(what is not kept; empty if all is) and ``_row`` (the row as it came, JSON). Rows without a problem are written, the
others are set apart; nothing else can happen to a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from common.errors import ObjectCorrupt
from ingestion.drift import Suspect
from ingestion.objects.rows import MAX_BROKEN
from ingestion.objects.text_types import exact_cast
from ingestion.spec import TableSpec
from lake.batches import EARLY_REJECTS_SCHEMA, StagedBatch
from lake.lake import Lake
from lake.schema import PARTITION_COLUMN
from lake.sql import identifier, literal


def text_rows(table: TableSpec, told: TableSpec, suspects: Sequence[Suspect]) -> str:
    """The query that makes typed rows of the table of text ``source_rows``.

    Args:
        table: the columns that are kept.
        told: all columns that were read: what is told of a row that is set apart.
        suspects: what rows may not hold for the schema's sake.
    """
    casts = {column.name: exact_cast(column) for column in table.columns}
    problems = ", ".join(
        f"CASE WHEN {identifier(column.name)} IS NOT NULL AND {casts[column.name]} IS NULL "
        f"THEN {literal(f'{column.name} is not a valid {column.type}')} END"
        for column in table.columns
    )
    for suspect in suspects:
        null = "" if suspect.kind == "nullability" else "NOT "
        reason = literal(f"schema drift: {suspect.column.in_source} {suspect.reason}")
        problems += f", CASE WHEN {identifier(suspect.column.name)} IS {null}NULL THEN {reason} END"
    row = ", ".join(f"{literal(column.name)}: {identifier(column.name)}" for column in told.columns)
    selected = ", ".join(f"{cast} AS {identifier(name)}" for name, cast in casts.items())
    return (
        f"SELECT object_key, object_line, {selected}, concat_ws('; ', {problems}) AS _problem, "
        f"to_json({{{row}}})::VARCHAR AS _row FROM source_rows"
    )


def write(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    staged: StagedBatch,
    table: TableSpec,
    rows: str,
    kept: str | None,
) -> tuple[int, pa.Table]:
    """Write a batch's rows to its one staged file.

    Args:
        connection: where ``rows`` can be queried.
        lake: where to.
        staged: the batch.
        table: its columns.
        rows: a query as described above.
        kept: a query of rows that are live already and stay as they are; None if there are none.

    Returns:
        Rows written, and those set apart, in the order of objects and lines.

    Raises:
        ObjectCorrupt: so many are set apart that the objects must be something else.
    """
    connection.execute(f"CREATE TEMP VIEW judged AS {rows}")
    names = ", ".join([*(identifier(column.name) for column in table.columns), "object_key", "object_line"])
    given = [PARTITION_COLUMN, *(column.name for column in table.columns), "object_key", "object_line"]
    nulls = lake.nulls(staged.table, given)
    query = f"SELECT DATE {literal(staged.key)} AS {PARTITION_COLUMN}, {names}{nulls} FROM judged WHERE _problem = ''"
    if kept:
        others = "".join(f", {identifier(c.name)}" for c in lake.columns(staged.table)[0] if c.name not in given)
        query += f" UNION ALL SELECT {PARTITION_COLUMN}, {names}{others} FROM ({kept})"
    written = lake.write(connection, query, staged.table, staged.files[0])
    untyped = connection.execute(
        "SELECT 'exact_value' AS rule, _problem AS reason, object_key || ' line ' || object_line AS position, "
        f"_row AS row FROM judged WHERE _problem <> '' ORDER BY object_key, object_line LIMIT {MAX_BROKEN + 1}"
    ).to_arrow_table()
    if untyped.num_rows > MAX_BROKEN:
        raise ObjectCorrupt(
            f"More than {MAX_BROKEN} rows of the interval hold values that are not of the declared types.",
            remedy="correct the types in the spec; the first reason: " + str(untyped.column("reason")[0]),
        )
    return written, untyped.cast(EARLY_REJECTS_SCHEMA)
