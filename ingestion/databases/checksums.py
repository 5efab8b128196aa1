"""Column checksums that a database and DuckDB compute alike, each beside its own data.

A value's canonical text is hashed with MD5 and the first 32 bits are summed over the rows, so neither order nor
partitioning matters, and only two numbers per column travel: non-null values and their sum. MD5 is a checksum here, not
a protection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from ingestion.spec import TableSpec
from lake.sql import identifier


@dataclass(frozen=True)
class Days:
    """Which rows are summed up: not all together, but those of some intervals, day by day.

    Attributes:
        day: SQL of the day in which a row lies, as text.
        where: SQL that is true for the rows that are meant.
    """

    day: str
    where: str = "true"

    def of(self, select: str, relation: str) -> str:
        """The query of these terms, the day before them."""
        return f"SELECT {self.day} AS day_of_rows, {select} FROM {relation} WHERE {self.where} GROUP BY 1"


def postgres_query(
    table: TableSpec, values: Mapping[str, str] | None = None, *, charset: str = "", days: Days | None = None
) -> str:
    """One row: ``rows``, then for each column the count of values and the sum of their hashes.

    Args:
        table: the table.
        values: SQL of a column's value as it is read, by its name in the lake; the column itself where there is none.
        charset: the server's character set: hashes are those of UTF-8.
        days: one row for each day, which stands before the others.
    """
    recoded = charset not in {"", "UTF8", "SQL_ASCII"}
    terms = []
    for position, column in enumerate(table.columns):
        name = identifier(column.in_source)
        value = (values or {}).get(column.name) or name
        counted = name if column.policy == "exact" else value  # a cast may make a value null
        total = _postgres(value, column.type, recoded=recoded)
        terms.append(f"count({counted}) AS values_{position}, {total} AS sum_{position}")
    relation = f"{identifier(table.schema_name)}.{identifier(table.in_source)}"
    select = ", ".join(["count(*) AS total", *terms])
    return days.of(select, relation) if days else f"SELECT {select} FROM {relation}"


def lake_checksums(connection: duckdb.DuckDBPyConnection, table: TableSpec, relation: str) -> dict[str, Any]:
    """The same figures of a lake relation, by column; ``rows`` holds the row count."""
    columns = [(column.name, column.type) for column in table.columns]
    return duckdb_checksums(connection, columns, relation)[""]


def duckdb_checksums(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[tuple[str, str]], relation: str, *, day: str = "''"
) -> dict[str, dict[str, Any]]:
    """The same figures of any relation of DuckDB, by day.

    Args:
        connection: where it can be asked.
        columns: names and type words.
        relation: the rows.
        day: SQL of a row's day as text; all rows are of the day ``""`` by default.
    """
    select = ", ".join(["count(*)", *(_duckdb(name, kind) for name, kind in columns)])
    rows = connection.execute(Days(day).of(select, relation)).fetchall()
    found = {str(row[0]): named([name for name, _ in columns], row[1:]) for row in rows}
    nothing: dict[str, Any] = {"rows": 0, **{name: (0, 0) for name, _ in columns}}
    return found or {"": nothing}


def named(names: Sequence[str], row: tuple[Any, ...]) -> dict[str, Any]:
    """A row of figures as ``{"rows": n, column: (values, sum)}``."""
    figures: dict[str, Any] = {"rows": int(row[0])}
    for position, name in enumerate(names):
        values, total = row[1 + 2 * position : 3 + 2 * position]
        figures[name] = (int(values), int(total or 0))
    return figures


def _postgres(value: str, kind: str, *, recoded: bool) -> str:
    """SQL of the sum of a column's hashes."""
    text = {
        "timestamptz": _epoch_us("timestamptz", value),
        "timestamp": _epoch_us("timestamp", value),
        "date": f"CASE WHEN isfinite({value}) THEN ({value} - DATE '1970-01-01')::text END",
        "time": f"('x' || encode(time_send({value}), 'hex'))::bit(64)::bigint::text",
        "float64": f"('x' || encode(float8send({value}), 'hex'))::bit(64)::bigint::text",
        "float32": f"('x' || encode(float8send({value}::float8), 'hex'))::bit(64)::bigint::text",
        "binary": f"encode({value}, 'hex')",
    }.get(kind, f"{value}::text")
    if kind.startswith("decimal"):  # with the declared number of decimals, as the lake writes it
        text = _pointed(f"{value}::{kind.replace('decimal', 'numeric')}::text")
    if kind == "string" and recoded:
        text = f"convert_to({text}, 'UTF8')"
    return f"sum(('x' || substr(md5({text}), 1, 8))::bit(32)::bigint)::text"


def _epoch_us(kind: str, value: str) -> str:
    """SQL of a finite instant's microseconds since 1970, from its binary form.

    ``extract(epoch ...)`` is a float before PostgreSQL 14 and loses microseconds.
    """
    since_2000 = f"('x' || encode({kind}_send({value}), 'hex'))::bit(64)::bigint"
    return f"CASE WHEN isfinite({value}) THEN ({since_2000} + 946684800000000)::text END"


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
