"""What readers of a state can see, as checksums: run by the Penstock whose state it is, or by a later one.

Run as a program it prints them as JSON: ``python tests/upgrade/contents.py <home>``, with the code to be used first on
Python's path.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import penstock
from common.errors import UnknownName
from common.settings import Settings
from lake.catalog import live_files
from lake.evolution import stored_columns
from lake.lake import Lake, checksum_of
from lake.paths import engine_path
from lake.sql import identifier, parquet_relation

NAMESPACES = ("raw", "refined", "quarantine", "ops")


def contents(settings: Settings) -> dict[str, str]:
    """Checksum of every table of the lake and of the current release, every value read."""
    return lake_contents(settings) | release_contents(settings)


def lake_contents(settings: Settings) -> dict[str, str]:
    """Checksum of the live rows of every table."""
    lake, found = Lake(settings), {}
    for table in (table for namespace in NAMESPACES for table in lake.tables(namespace)):
        loaded = lake.load(table)
        columns, field_ids = stored_columns(loaded.schema(), ())
        paths = [engine_path(file.location) for file in live_files(loaded) if file.rows]
        if paths:
            with lake.connect() as connection:
                found[str(table)] = checksum_of(connection, parquet_relation(paths, columns, field_ids))
        else:
            found[str(table)] = "0:0"
    return found


def release_contents(settings: Settings) -> dict[str, str]:
    """Checksum of every table of the current release; nothing without one."""
    try:
        connection = penstock.connect(settings=settings)
    except UnknownName:
        return {}
    with connection:
        query = "SELECT schema_name, table_name FROM duckdb_tables() ORDER BY ALL"
        tables = connection.execute(query).fetchall()
        return {
            f"release {schema}.{name}": checksum_of(connection, f"{identifier(schema)}.{identifier(name)}")
            for schema, name in tables
        }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(contents(Settings.load(home=Path(sys.argv[1])))))
