"""Lake tables as read-only DuckDB views, each at its current snapshot: how people look at rows no release holds yet.

A view is made of the catalog's own schema and the live files, so it shows tables of specs that have changed since, and
declares nothing. Only tables that the query names are looked up. The connection may read files of the lake and nothing
else, and it takes one SELECT: DuckDB's permission for a folder would also allow to write there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
from pyiceberg.types import DecimalType, IcebergType, ListType, PrimitiveType

from common.errors import UnknownName
from lake.catalog import find_table, live_files
from lake.engine import open_database
from lake.lake import Lake
from lake.paths import TableId, engine_path, root_location
from lake.schema import OPS
from lake.sql import identifier, literal

NAMESPACES = ("raw", "refined", "quarantine", OPS)
"""Namespaces whose tables can be asked."""

_DUCKDB = {
    "boolean": "BOOLEAN",
    "int": "INTEGER",
    "long": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "string": "VARCHAR",
    "binary": "BLOB",
    "date": "DATE",
    "time": "TIME",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMP WITH TIME ZONE",
    "uuid": "UUID",
}


@contextmanager
def lake_views(lake: Lake, sql: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection in which the lake tables that a query names are views, e.g. ``raw.chinook__album``.

    Raises:
        UnknownName: it names a table of the lake that is not there; the message lists those there are.
    """
    connection = open_database(lake.settings)
    try:
        for namespace in NAMESPACES:
            connection.execute(f"CREATE SCHEMA {identifier(namespace)}")
        for table in sorted(_named_tables(connection, sql)):
            connection.execute(_view(lake, table))
        folder = engine_path(root_location(lake.settings.lake_uri)) + "/"
        connection.execute(f"SET allowed_directories = [{literal(folder)}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield connection
    finally:
        connection.close()


def _named_tables(connection: duckdb.DuckDBPyConnection, sql: str) -> set[TableId]:
    """Tables of the lake's namespaces in a query, by DuckDB's own parse tree; none if it does not parse."""
    row = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()
    found: set[TableId] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if node.get("type") == "BASE_TABLE" and node.get("schema_name") in NAMESPACES:
                found.add(TableId(node["schema_name"], node["table_name"]))
            node = list(node.values())
        if isinstance(node, list):
            for each in node:
                walk(each)

    walk(json.loads(row[0]) if row else {})
    return found


def _view(lake: Lake, table: TableId) -> str:
    loaded = find_table(lake.catalog, table)
    if loaded is None:
        known = [str(each) for namespace in NAMESPACES for each in lake.tables(namespace)]
        raise UnknownName(
            f"The lake has no table {table}.",
            table=str(table),
            remedy=f"use one of {', '.join(known)}" if known else "bring one in with: penstock run",
        )
    fields = loaded.schema().fields
    paths = [engine_path(file.location) for file in live_files(loaded) if file.rows]
    if paths:
        columns = ", ".join(
            f"{field.field_id}: {{name: {literal(field.name)}, type: {literal(_duckdb(field.field_type))}, "
            "default_value: NULL}"
            for field in fields
        )
        source = f"read_parquet([{', '.join(map(literal, paths))}], schema=MAP {{{columns}}})"
    else:
        empty = ", ".join(f"CAST(NULL AS {_duckdb(field.field_type)}) AS {identifier(field.name)}" for field in fields)
        source = f"(SELECT {empty} WHERE false)"
    return f"CREATE VIEW {identifier(table.namespace)}.{identifier(table.name)} AS SELECT * FROM {source}"


def _duckdb(kind: IcebergType) -> str:
    """The DuckDB type of a lake column."""
    if isinstance(kind, DecimalType):
        return f"DECIMAL({kind.precision},{kind.scale})"
    if isinstance(kind, ListType):
        return f"{_duckdb(kind.element_type)}[]"
    if isinstance(kind, PrimitiveType) and str(kind) in _DUCKDB:
        return _DUCKDB[str(kind)]
    raise UnknownName(f"A column of type {kind} cannot be shown.", remedy="read the table with another engine")
