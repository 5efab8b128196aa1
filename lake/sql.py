"""SQL text: identifiers and literals are quoted here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

from lake.schema import Column


def identifier(name: str) -> str:
    """A quoted SQL identifier (quotes doubled)."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A quoted SQL string literal (quotes doubled)."""
    return "'" + text.replace("'", "''") + "'"


def parquet_relation(
    paths: Sequence[str],
    columns: Sequence[Column],
    field_ids: Sequence[int],
    *,
    row_number: bool = False,
    filename: bool = False,
) -> str:
    """A DuckDB relation over exactly these Parquet files, columns matched by Iceberg field id.

    DuckDB silently coerces when files of a list differ (measured: 2.5 read as 2), so the schema is always given; a
    column that a file does not have yet reads as null.

    Args:
        paths: engine paths; may be empty (then the relation has no rows).
        columns: the table's columns.
        field_ids: their Iceberg field ids, in the same order.
        row_number: also give ``file_row_number`` and, to who names it, ``file_index``: the file's place in ``paths``.
        filename: also give ``filename``, the path of the row's file.
    """
    if not paths:
        fields = [f"CAST(NULL AS {column.duckdb}) AS {identifier(column.name)}" for column in columns]
        if row_number:
            fields += ["CAST(NULL AS BIGINT) AS file_row_number", "CAST(NULL AS UBIGINT) AS file_index"]
        if filename:
            fields.append("CAST(NULL AS VARCHAR) AS filename")
        return f"(SELECT {', '.join(fields)} WHERE false)"
    schema = ", ".join(
        f"{field_id}: {{name: {literal(column.name)}, type: {literal(column.duckdb)}, default_value: NULL}}"
        for field_id, column in zip(field_ids, columns, strict=True)
    )
    files = ", ".join(literal(path) for path in paths)
    more = ", file_row_number=true" * row_number + ", filename=true" * filename
    return f"read_parquet([{files}], schema=MAP {{{schema}}}{more})"
