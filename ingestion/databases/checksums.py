"""Column checksums that a database and DuckDB compute alike, each beside its own data.

A value's canonical text is hashed with MD5 and the first 32 bits are summed over the rows, so neither order nor
partitioning matters, and only two numbers per column travel: non-null values and their sum. MD5 is a checksum here, not
a protection.
"""

from __future__ import annotations

from typing import Any

import duckdb

from ingestion.spec import TableSpec
from lake.sql import identifier


def postgres_query(table: TableSpec) -> str:
    """One row: ``rows``, then for each column the count of values and the sum of their hashes."""
    terms = ", ".join(_postgres(column.in_source, column.type, n) for n, column in enumerate(table.columns))
    return f"SELECT count(*) AS total, {terms} FROM {identifier(table.schema_name)}.{identifier(table.in_source)}"


def lake_checksums(connection: duckdb.DuckDBPyConnection, table: TableSpec, relation: str) -> dict[str, Any]:
    """The same figures of a lake relation, by column; ``rows`` holds the row count."""
    terms = ", ".join(_duckdb(column.name, column.type) for column in table.columns)
    row = connection.execute(f"SELECT count(*), {terms} FROM {relation}").fetchone()
    return named(table, row or ())


def named(table: TableSpec, row: tuple[Any, ...]) -> dict[str, Any]:
    """A row of figures as ``{"rows": n, column: (values, sum)}``."""
    figures: dict[str, Any] = {"rows": int(row[0])}
    for position, column in enumerate(table.columns):
        values, total = row[1 + 2 * position : 3 + 2 * position]
        figures[column.name] = (int(values), int(total or 0))
    return figures


def _postgres(name: str, kind: str, position: int) -> str:
    column = identifier(name)
    instant = f"CASE WHEN isfinite({column}) THEN (extract(epoch from {column}) * 1000000)::numeric(30,0)::text END"
    text = {
        "timestamptz": instant,
        "timestamp": instant,
        "date": f"CASE WHEN isfinite({column}) THEN ({column} - DATE '1970-01-01')::text END",
        "time": f"(extract(epoch from {column}) * 1000000)::bigint::text",
        "float64": f"('x' || encode(float8send({column}), 'hex'))::bit(64)::bigint::text",
        "float32": f"('x' || encode(float8send({column}::float8), 'hex'))::bit(64)::bigint::text",
        "binary": f"encode({column}, 'hex')",
    }.get(kind, f"{column}::text")
    if kind.startswith("decimal"):  # with the declared number of decimals, as the lake writes it
        text = _pointed(f"{column}::{kind.replace('decimal', 'numeric')}::text")
    total = f"sum(('x' || substr(md5({text}), 1, 8))::bit(32)::bigint)::text"
    return f"count({column}) AS values_{position}, {total} AS sum_{position}"


def _duckdb(name: str, kind: str) -> str:
    column = identifier(name)
    text = {
        "timestamptz": f"epoch_us({column})::VARCHAR",
        "timestamp": f"epoch_us({column})::VARCHAR",
        "date": f"date_diff('day', DATE '1970-01-01', {column})::VARCHAR",
        "time": f"epoch_us({column})::VARCHAR",
        "float64": f"CAST(CAST({column} AS BIT) AS BIGINT)::VARCHAR",
        "float32": f"CAST(CAST({column}::DOUBLE AS BIT) AS BIGINT)::VARCHAR",
        "binary": f"lower(hex({column}))",
    }.get(kind, f"{column}::VARCHAR")
    if kind.startswith("decimal"):
        text = _pointed(text)
    return f"count({column}), sum(('0x' || substr(md5({text}), 1, 8))::BIGINT)"


def _pointed(text: str) -> str:
    """``0.5`` as ``.5``: DuckDB 1.5.5 prints a decimal without digits before the point so, PostgreSQL does not."""
    return f"regexp_replace({text}, '^(-?)0\\.', '\\1.')"
