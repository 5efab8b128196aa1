"""DuckDB connections, all made the same way: UTC, bounded memory, no downloads.

Extensions come from wheels and are loaded by path; automatic installation is off, so the lake works without internet.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from urllib.parse import urlsplit

import duckdb

from common.errors import SettingsError
from common.settings import Settings
from lake.object_store import S3Location, parse_s3_url
from lake.sql import literal


def extension_path(name: str) -> Path:
    """Path of a DuckDB extension installed from its wheel, e.g. ``httpfs`` or ``postgres_scanner``.

    Raises:
        SettingsError: the wheel is missing or made for another DuckDB version.
    """
    try:
        module = importlib.import_module(f"duckdb_extension_{name}")
    except ModuleNotFoundError:
        module = None
    folder = Path(next(iter(module.__path__))) if module else Path()
    path = folder / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
    if module is None or not path.exists():
        raise SettingsError(
            f"DuckDB extension {name!r} for DuckDB {duckdb.__version__} is not installed.",
            remedy=f"install duckdb-extension-{name.replace('_', '-')}=={duckdb.__version__}",
        )
    return path


def lake_credentials(settings: Settings) -> S3Location | None:
    """Credentials of an ``s3://`` lake, from the connection named ``lake``; None for a local lake."""
    if urlsplit(settings.lake_uri).scheme != "s3":
        return None
    return parse_s3_url(settings.connection(settings.lake_connection))


def prepare_statements(settings: Settings) -> list[str]:
    """Statements that let a DuckDB connection read the lake. They may hold secrets: never log them."""
    store = lake_credentials(settings)
    if store is None:
        return []
    statements = [f"LOAD {literal(str(extension_path('httpfs')))}"]
    bucket = urlsplit(settings.lake_uri).netloc
    options = f"REGION {literal(store.region)}, SCOPE {literal('s3://' + bucket)}"
    if store.access_key:
        options += f", KEY_ID {literal(store.access_key)}, SECRET {literal(store.secret_key.get_secret_value())}"
    if store.endpoint:
        endpoint = urlsplit(store.endpoint)
        secure = "false" if endpoint.scheme == "http" else "true"
        options += f", ENDPOINT {literal(endpoint.netloc)}, URL_STYLE 'path', USE_SSL {secure}"
    return [*statements, f"CREATE OR REPLACE SECRET penstock_lake (TYPE s3, PROVIDER config, {options})"]


def prepare(settings: Settings, connection: duckdb.DuckDBPyConnection) -> None:
    """Let a DuckDB connection read the lake."""
    for statement in prepare_statements(settings):
        connection.execute(statement)


def open_database(settings: Settings, *, threads: int | None = None) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB that can read and write the lake's Parquet files. Take a cursor for each piece of work.

    Args:
        settings: where the lake is, and the limits of an engine.
        threads: its threads; as many as the settings say by default.
    """
    spill = settings.home / "tmp"
    spill.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect(
        config={
            "threads": threads or settings.threads,
            "memory_limit": f"{settings.memory_limit_mb}MB",
            "temp_directory": str(spill),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            # It answers from old bytes when a path is written again within a second (measured), and it holds memory.
            "enable_external_file_cache": False,
        }
    )
    try:
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        prepare(settings, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def open_scanner(settings: Settings) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB through which one source's database is read: one thread, the connecting is the caller's."""
    return duckdb.connect(
        config={
            "threads": 1,
            # One thread writes rows as they come either way; asked to keep their order DuckDB collects them first.
            "preserve_insertion_order": False,
            "memory_limit": f"{settings.memory_limit_mb}MB",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )
