"""What a warehouse file holds: its tables with row counts and checksums, and row counts by interval."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb

from lake.lake import checksum_of
from lake.schema import OPS
from lake.sql import identifier, literal


def describe_tables(database: Path, day_columns: Mapping[str, str]) -> list[dict[str, Any]]:
    """Name, rows and order-independent checksum of every table that models made, by name.

    Args:
        database: a warehouse file that nobody writes.
        day_columns: table -> its date column by which rows are also counted.

    Returns:
        ``{"name", "rows", "checksum", "rows_by_key"}``; ``rows_by_key`` is empty without a day column.
    """
    with duckdb.connect(str(database), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        tables = connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = current_database() "
            f"AND NOT internal AND schema_name <> {literal(OPS)} ORDER BY ALL"
        ).fetchall()
        return [_describe(connection, schema, table, day_columns.get(table)) for schema, table in tables]


def _describe(connection: duckdb.DuckDBPyConnection, schema: str, table: str, day_column: str | None) -> dict[str, Any]:
    relation = f"{identifier(schema)}.{identifier(table)}"
    checksum = checksum_of(connection, relation)
    by_key: dict[str, int] = {}
    if day_column is not None:
        day = identifier(day_column)
        by_key = dict(
            connection.execute(f"SELECT {day}::VARCHAR, count(*) FROM {relation} GROUP BY 1 ORDER BY 1").fetchall()
        )
    return {
        "name": table if schema == "main" else f"{schema}.{table}",
        "rows": int(checksum.split(":")[0]),
        "checksum": checksum,
        "rows_by_key": by_key,
    }
