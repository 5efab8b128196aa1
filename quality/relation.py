"""What is audited -> two temporary views on the gate's connection, under the same names for every batch.

``penstock_batch`` has the contract's columns (GX sees nothing else: a table rule counts columns), ``penstock_rows`` has
``row_number`` before them. Constant names let the plans of earlier batches be used again as they are.

Staged files must have exactly the promised columns. DuckDB would coerce files that differ in silence (2.5 read as 2),
so every file of a list is compared, by its footer alone. Files of a lake snapshot may be of several times, so their
columns are told by field id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from common.errors import GateCrashed
from lake.schema import Column
from lake.sql import identifier, literal, parquet_relation
from quality.flags import BATCH_VIEW, ROW_NUMBER, ROWS_VIEW
from quality.suite import Suite, view_name

Schema = tuple[tuple[str, str], ...]
"""Column names and DuckDB types."""


def show_files(
    connection: duckdb.DuckDBPyConnection,
    files: Sequence[str],
    columns: Sequence[Column],
    field_ids: Sequence[int] | None = None,
) -> Schema:
    """Make the two views over Parquet files, read as one relation in list order.

    Args:
        connection: where the views are made.
        files: local paths or object URIs; none means a batch without rows.
        columns: the columns the files were promised to have; of a snapshot, those of the table.
        field_ids: of files of a snapshot, the columns' Iceberg field ids: older files may have fewer or narrower ones.

    Raises:
        GateCrashed: a file has other columns or types, or is named twice.
        duckdb.Error: a file cannot be read.
    """
    promised: Schema = tuple((column.name, column.duckdb) for column in columns)
    names = _shown(promised)
    _refuse_reserved(promised)
    if not files:
        empty = ", ".join(f"CAST(NULL AS {kind}) AS {identifier(name)}" for name, kind in promised)
        _make_views(connection, names, f"(SELECT {empty} WHERE false)", "NULL::BIGINT")
        return promised
    if len(set(files)) != len(files):
        raise GateCrashed("A staged file is named twice.", remedy="pass each staged file once")
    listed = ", ".join(literal(file) for file in files)
    if field_ids is None:
        source = f"read_parquet([{listed}], hive_partitioning = false)"
    else:
        source = parquet_relation(files, columns, field_ids, row_number=True)
    found: Schema = promised if field_ids is not None else _schema(connection, source)
    if found != promised:
        raise GateCrashed(
            f"The staged files do not have the promised columns: {_difference(promised, found)}.",
            remedy="write the files with the columns of the table, or change the table's columns",
        )
    number = "file_row_number"
    if len(files) > 1:
        if field_ids is None:
            _refuse_mixed(connection, listed)
        number = f"file_row_number + {_offsets(connection, listed, files)}[(file_index + 1)::BIGINT]"
    _make_views(connection, names, source, number)
    return promised


def show_table(connection: duckdb.DuckDBPyConnection, database: str, table: str) -> Schema:
    """Make the two views over a table or view of an attached database.

    Args:
        connection: where the views are made.
        database: name the database is attached under.
        table: ``name`` or ``schema.name``.

    Raises:
        GateCrashed: there is no such table, or several.
    """
    source, is_stored = _find_table(connection, database, table)
    schema = _schema(connection, source)
    _refuse_reserved(schema)
    names = _shown(schema)
    _make_views(connection, names, source, "rowid" if is_stored else "row_number() OVER () - 1")
    return schema


def show_reference_files(
    connection: duckdb.DuckDBPyConnection, suite: Suite, references: Mapping[str, Sequence[str]]
) -> None:
    """Make a view of each table the suite refers to, named with ``__`` for the dot.

    Raises:
        GateCrashed: a table that the suite needs was not given, or has no files.
        duckdb.Error: a file cannot be read.
    """
    for table in suite.references:
        files = references.get(table)
        if not files:
            raise GateCrashed(
                f"Suite {suite.name} reads {table}, which was not given or has no files.",
                table=suite.name,
                remedy=f"publish {table} first, and pass its files in `references`",
            )
        listed = ", ".join(literal(file) for file in files)
        source = f"read_parquet([{listed}], hive_partitioning = false, union_by_name = true)"
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {_reference_name(suite, table)} AS SELECT * FROM {source}")


def show_reference_tables(connection: duckdb.DuckDBPyConnection, suite: Suite, database: str) -> None:
    """Make a view of each table of the attached database that the suite refers to.

    Raises:
        GateCrashed: there is no such table.
    """
    for table in suite.references:
        source, _ = _find_table(connection, database, table)
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {_reference_name(suite, table)} AS SELECT * FROM {source}")


def hide(connection: duckdb.DuckDBPyConnection, suite: Suite) -> None:
    """Drop the views of an audit."""
    for name in (BATCH_VIEW, ROWS_VIEW, *(identifier(view_name(table)) for table in suite.references)):
        connection.execute(f"DROP VIEW IF EXISTS temp.{name}")


def _shown(schema: Schema) -> str:
    """The columns as the views select them.

    NaN is no smallest and no largest value in the statistics of a file, so DuckDB believes that ``x >= 1.5`` cannot be
    true of a file whose largest number is 1.25, and passes over its NaN (measured; files of Polars and Arrow). Nothing
    is known of the result of ``greatest``, which for one argument is that argument; it costs 6 ns a value.
    """
    opaque = {"FLOAT", "DOUBLE"}
    return ", ".join(
        f"greatest({identifier(name)}) AS {identifier(name)}" if kind in opaque else identifier(name)
        for name, kind in schema
    )


def _make_views(connection: duckdb.DuckDBPyConnection, names: str, source: str, number: str) -> None:
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {BATCH_VIEW} AS SELECT {names} FROM {source}")
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW {ROWS_VIEW} AS SELECT {number} AS {ROW_NUMBER}, {names} FROM {source}"
    )


def _reference_name(suite: Suite, table: str) -> str:
    name = view_name(table)
    if name in (BATCH_VIEW, ROWS_VIEW):
        raise GateCrashed(f"Suite {suite.name} refers to a table called {name}.", remedy="rename the table")
    return identifier(name)


def _refuse_reserved(schema: Schema) -> None:
    if any(name.lower() == ROW_NUMBER for name, _ in schema):
        raise GateCrashed(
            f"The batch has a column called {ROW_NUMBER}, which is the gate's name for a row's position.",
            remedy="rename the column",
        )


def _refuse_mixed(connection: duckdb.DuckDBPyConnection, listed: str) -> None:
    kinds = connection.execute(
        "SELECT count(DISTINCT shape) FROM (SELECT list((name, type, logical_type, converted_type, scale, precision) "
        f"ORDER BY column_id) AS shape FROM parquet_schema([{listed}]) GROUP BY file_name)"
    ).fetchone()
    if kinds and kinds[0] != 1:
        raise GateCrashed(
            "The staged files of one batch have different columns or types.", remedy="stage them with one schema"
        )


def _offsets(connection: duckdb.DuckDBPyConnection, listed: str, files: Sequence[str]) -> list[int]:
    """Rows before each file."""
    rows = connection.execute(f"SELECT file_name, num_rows FROM parquet_file_metadata([{listed}])").fetchall()
    counts = dict(rows)
    offsets, total = [], 0
    for file in files:
        offsets.append(total)
        total += int(counts[file])
    return offsets


def _find_table(connection: duckdb.DuckDBPyConnection, database: str, table: str) -> tuple[str, bool]:
    """Quoted name of a table, and whether it is stored (a view has no row ids)."""
    schema, _, name = table.rpartition(".")
    rows = connection.execute(
        "SELECT schema_name, table_name, true FROM duckdb_tables() WHERE (database_name, table_name) = ($1, $2) "
        "UNION ALL "
        "SELECT schema_name, view_name, false FROM duckdb_views() WHERE (database_name, view_name) = ($1, $2)",
        [database, name],
    ).fetchall()
    found = [row for row in rows if not schema or row[0] == schema]
    if len(found) != 1:
        raise GateCrashed(
            f"The candidate has {'several tables' if found else 'no table'} called {table}.",
            table=table,
            remedy="write schema.name" if found else "build it, or delete its suite",
        )
    return ".".join(identifier(part) for part in (database, found[0][0], found[0][1])), bool(found[0][2])


def attach(connection: duckdb.DuckDBPyConnection, path: Path) -> str:
    """Attach a database file read-only, under its stem: views inside it carry that name.

    Raises:
        duckdb.Error: it is missing, locked by a writer, or no database.
    """
    connection.execute(f"ATTACH {literal(str(path))} AS {identifier(path.stem)} (READ_ONLY)")
    return path.stem


def detach(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Detach a database, so that its file is free."""
    connection.execute(f"DETACH DATABASE IF EXISTS {identifier(name)}")


def _schema(connection: duckdb.DuckDBPyConnection, source: str) -> Schema:
    rows = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    return tuple((str(row[0]), str(row[1])) for row in rows)


def _difference(promised: Schema, found: Schema) -> str:
    missing = [f"{name} {kind}" for name, kind in promised if (name, kind) not in found]
    extra = [f"{name} {kind}" for name, kind in found if (name, kind) not in promised]
    if not missing and not extra:
        return "the same columns in another order"
    return (
        f"promised and not found: {', '.join(missing) or 'none'}; found and not promised: {', '.join(extra) or 'none'}"
    )
