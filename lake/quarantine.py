"""Quarantine: rejected rows as they came, with the rules they broke, until somebody repairs or discards them.

One table per lake table, ``quarantine.<namespace>__<name>``. The row itself is JSON text, so that a row fits whatever
columns its table has today or had when the row was rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import duckdb
from pyiceberg.conversions import from_bytes
from pyiceberg.types import TimestamptzType

from common.verdict import Verdict
from lake.batches import Receipt
from lake.catalog import LiveFile
from lake.commit import replace_partition
from lake.lake import Lake
from lake.paths import TableId, attempt_of, engine_path
from lake.schema import Column, arrow_schema
from lake.sql import identifier, literal, parquet_relation

if TYPE_CHECKING:
    import pyarrow as pa

ABANDONED_AFTER = timedelta(days=1)
"""How long an attempt may take from rejecting rows to its commit; older ones that are not live have died."""

QUARANTINE_COLUMNS = (
    Column("partition_key", "string", False, "Partition key of the batch the row came in."),
    Column("stage", "string", False, "Stage whose gate rejected it: ingest or refine."),
    Column("rules", "string", False, "Ids of the critical rules it broke, comma-separated."),
    Column("reason", "string", False, "The rules' reasons in words."),
    Column("row", "string", False, "The row as it came, JSON."),
    Column("position", "string", False, "Where it stood: row number in the batch, or object and line."),
    Column("batch_id", "string", False, "Batch it came in."),
    Column("attempt_id", "string", False, "Attempt that wrote the batch's live files."),
    Column("run_id", "string", False, "Run that rejected it."),
    Column("quarantined_at", "timestamptz", False, "When, UTC."),
)


def quarantine_rows(
    connection: duckdb.DuckDBPyConnection,
    staged_relation: str,
    columns: Sequence[Column],
    *,
    verdict: Verdict,
    early_rejects: pa.Table,
    receipt: Receipt,
    quarantined_at: datetime,
) -> str:
    """A query that yields the rejected rows in :data:`QUARANTINE_COLUMNS`.

    Side effects: registers ``verdict_rejects``, ``verdict_reasons`` and ``early_rejects`` on the connection.
    """
    reasons = {r.rule: r.why or r.expectation for r in verdict.results if r.row_level and r.severity == "critical"}
    connection.register("verdict_rejects", verdict.rejects)
    import pyarrow as pa

    named = pa.schema([pa.field("rule", pa.string()), pa.field("why", pa.string())])
    connection.register("verdict_reasons", pa.table({"rule": list(reasons), "why": list(reasons.values())}, named))
    connection.register("early_rejects", early_rejects)
    constants = (
        f"{literal(receipt.batch_id)} AS batch_id, {literal(receipt.attempt)} AS attempt_id, "
        f"{literal(receipt.run_id)} AS run_id, TIMESTAMPTZ {literal(quarantined_at.isoformat())} AS quarantined_at"
    )
    row = ", ".join(f"{literal(c.name)}: {_as_json(c)}" for c in columns)
    head = f"{literal(receipt.key)} AS partition_key, {literal(receipt.stage)} AS stage"
    # Once for each combination of rules: asked for each row it takes more than reading the rows (measured).
    told = (
        "(SELECT rules, string_agg(why, '; ' ORDER BY rule) AS reason FROM "
        "(SELECT DISTINCT rules, unnest(rules) AS rule FROM verdict_rejects) JOIN verdict_reasons USING (rule) "
        "GROUP BY rules) AS told"
    )
    return (
        f"SELECT {head}, array_to_string(bad.rules, ',') AS rules, told.reason, to_json({{{row}}})::VARCHAR AS row, "
        f"'row ' || staged.file_row_number AS position, {constants} "
        f"FROM {staged_relation} AS staged JOIN verdict_rejects AS bad ON staged.file_row_number = bad.row_number "
        f"LEFT JOIN {told} ON told.rules = bad.rules "
        f"UNION ALL SELECT {head}, rule, reason, row, position, {constants} FROM early_rejects"
    )


def _as_json(column: Column) -> str:
    """SQL of a value that JSON can hold: infinity and NaN as text, bytes as DuckDB's escaped text."""
    name = f"staged.{identifier(column.name)}"
    if column.type in {"float32", "float64"}:
        return f"CASE WHEN isfinite({name}) THEN to_json({name}) ELSE to_json({name}::VARCHAR) END"
    return f"{name}::VARCHAR" if column.type == "binary" else name


def still_needed(lake: Lake, table: TableId, key: str, waiting: Sequence[LiveFile]) -> list[LiveFile]:
    """Files of a quarantine partition that have to stay when another one is added.

    Those of the live attempt of ``table``, and those of any attempt younger than a day: it may be about to be
    published by a run beside this one.
    """
    live = set(lake.live_attempts(table, key).values())
    columns, field_ids = lake.columns(table.quarantine)
    field_id = field_ids[[column.name for column in columns].index("quarantined_at")]
    horizon_us = int((lake.clock() - ABANDONED_AFTER).timestamp() * 1_000_000)

    def is_young(file: LiveFile) -> bool:
        bound = (file.data_file.lower_bounds or {}).get(field_id)
        return bound is None or int(from_bytes(TimestamptzType(), bound)) >= horizon_us

    return [file for file in waiting if attempt_of(file.location) in live or is_young(file)]


def carry_quarantine(
    connection: duckdb.DuckDBPyConnection, lake: Lake, table: TableId, key: str, attempt: str, receipt: Receipt
) -> None:
    """Let the rejected rows of one attempt count for another one, which writes the same batch's rows anew.

    Side effects: a copy of them is committed under the attempt of ``receipt``; it counts once that attempt is live, and
    what it is copied from until then.
    """
    waiting = table.quarantine
    lake.ensure(waiting, QUARANTINE_COLUMNS, partition_by="partition_key")
    columns, field_ids = lake.columns(waiting)
    paths = [engine_path(file.location) for file in lake.live(waiting, key) if attempt_of(file.location) == attempt]
    relation = parquet_relation(paths, columns, field_ids)
    location = lake.staging_location(waiting, key, receipt.attempt)
    lake.write(
        connection, f"SELECT * REPLACE ({literal(receipt.attempt)} AS attempt_id) FROM {relation}", waiting, location
    )
    replace_partition(
        lake.catalog,
        waiting,
        key,
        [location],
        attempt=receipt.attempt,
        summary={"penstock.batch_id": receipt.batch_id, "penstock.run_id": receipt.run_id},
        keep=lambda there: still_needed(lake, table, key, there),
    )


def quarantined(lake: Lake, table: TableId, key: str | None = None, limit: int | None = None) -> pa.Table:
    """The rows of ``table`` that wait in quarantine now, newest partition last.

    Only rows of live batches count: those of a superseded batch have been judged again since.
    """
    waiting = table.quarantine
    if not lake.exists(waiting):
        return arrow_schema(QUARANTINE_COLUMNS).empty_table()
    lake.ensure(waiting, QUARANTINE_COLUMNS, partition_by="partition_key")
    live = set(lake.live_attempts(table).values())
    columns, field_ids = lake.columns(waiting)
    files = [f for f in lake.live(waiting, key) if attempt_of(f.location) in live]
    relation = parquet_relation([engine_path(f.location) for f in files], columns, field_ids)
    limited = f" LIMIT {int(limit)}" if limit is not None else ""
    with lake.connect() as connection:
        query = f"SELECT * FROM {relation} ORDER BY partition_key, position{limited}"
        return connection.execute(query).to_arrow_table()
