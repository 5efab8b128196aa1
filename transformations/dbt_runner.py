"""Runs the dbt project in this process: lake files in, tables of one DuckDB file out, nothing else touched.

::

    lake files, changed days ─▶ views in the in-memory catalog "lake" ─▶ dbt build ─▶ warehouse file, static docs

One dbt process per build (one per model costs eleven times the CPU and fights over the file lock; measured). What
varies between runs goes through :mod:`transformations.lake_plugin` and not through variables, so that dbt's parse cache
stays valid.

Two modes, decided here and nowhere else:

- **whole**: the file is made from nothing; the lake's views hold every file.
- **incremental**: the file is a copy of the last release; the views of partitioned tables hold the changed days only
  (cost follows the change, not the history), and the incremental models replace exactly those days.

Incremental is allowed only if every partitioned table's change is a list of days and the file has exactly the tables of
the project; anything else is built whole. Both modes give the same contents, in another order of rows. The caller asks
for a full refresh when the models' code changed since the file was built: :func:`project_digest` tells.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal

import duckdb

from common.errors import StateCorrupt, UsageError
from common.hashing import digest, file_digest
from lake.schema import OPS, PARTITION_COLUMN, Column
from lake.sql import identifier, literal, parquet_relation
from transformations.dbt_session import CATALOG, PROJECT, DbtSession, NodeResult

_running = threading.Lock()


@dataclass(frozen=True)
class LakeTableFiles:
    """One refined table at one snapshot.

    Attributes:
        columns: its columns.
        field_ids: their Iceberg field ids, in the same order.
        files: Parquet files (engine paths: local or ``s3://``) by partition key; an unpartitioned table has one key.
    """

    columns: tuple[Column, ...]
    field_ids: tuple[int, ...]
    files: Mapping[str, Sequence[str]]

    @property
    def partitioned(self) -> bool:
        """Whether its partition keys are days."""
        return any(column.name == PARTITION_COLUMN for column in self.columns)

    def relation(self, keys: Sequence[str] | None = None) -> str:
        """DuckDB relation over the files of these partition keys, of all of them by default."""
        chosen = self.files if keys is None else {key: self.files.get(key, ()) for key in keys}
        paths = [path for key in sorted(chosen) for path in chosen[key]]
        return parquet_relation(paths, self.columns, self.field_ids)


@dataclass(frozen=True)
class DbtResult:
    """One dbt run that succeeded.

    Attributes:
        mode: how the tables were built, see the module's docstring.
        nodes: every model and test, in the order they ran.
        seconds: time of the whole run.
        manifest_path: dbt's ``manifest.json``.
        docs_path: the static documentation page, where asked for.
    """

    mode: Literal["whole", "incremental"]
    nodes: tuple[NodeResult, ...]
    seconds: float
    manifest_path: Path
    docs_path: Path | None

    @property
    def semantics(self) -> dict[str, Any]:
        """Dbt's ``semantic_manifest.json``: semantic models and metrics, parsed and validated."""
        found: dict[str, Any] = json.loads(self.manifest_path.with_name("semantic_manifest.json").read_bytes())
        return found

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each table of the warehouse, by name."""
        return {node.name: node.rows for node in self.nodes if node.rows is not None}

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form, without paths."""
        return {
            "mode": self.mode,
            "seconds": round(self.seconds, 3),
            "nodes": [
                {
                    "name": node.name,
                    "kind": node.kind,
                    "status": node.status,
                    "seconds": round(node.seconds, 3),
                    "rows": node.rows,
                    "message": node.message,
                }
                for node in self.nodes
            ],
        }


def project_digest() -> str:
    """Digest of every file of the dbt project: equal digests build equal tables from equal inputs."""
    files = sorted(path for path in PROJECT.rglob("*") if path.suffix in {".sql", ".yml", ".md"})
    return digest([[path.relative_to(PROJECT).as_posix(), file_digest(path)] for path in files])


def run_dbt(
    database: Path,
    target_path: Path,
    lake_tables: Mapping[str, LakeTableFiles],
    *,
    changed_keys: Mapping[str, Sequence[str] | None] | None = None,
    full_refresh: bool = False,
    docs: bool = True,
    prepare_sql: Sequence[str] = (),
    threads: int = 2,
    memory_limit_mb: int = 768,
    parse_cache: Path | None = None,
) -> DbtResult:
    """Build the models into ``database`` and test them.

    Args:
        database: DuckDB file that nobody else has open: absent, or a copy of the last release to bring up to date.
        target_path: folder for dbt's artefacts, logs and spilled data.
        lake_tables: every refined table at its pinned snapshot, by name without namespace.
        changed_keys: partition keys to build again by table; None in place of keys means all of them, a table that is
            missing has not changed. None in place of the mapping: everything changed.
        full_refresh: build from nothing.
        docs: also write the static documentation page.
        prepare_sql: statements a connection needs before it can read the files; may hold secrets, never shown.
        threads: threads of the engine. dbt itself runs one model after the other: each uses the whole engine.
        memory_limit_mb: memory limit of the engine.
        parse_cache: file that keeps dbt's parse result between runs; read if it is there, then replaced.

    Raises:
        BuildFailed: a model or test failed; the message names every failing node.
        StateCorrupt: ``database`` exists and is not a DuckDB file.
        UsageError: partition keys that are not days.

    Side effects: ``database`` is written and checkpointed, in whole mode after removing the old file; after a failure
    it holds some of the new tables and is good for nothing. Waits while another dbt run is going on in this process,
    and meanwhile the process has another working folder and none of its ``DBT_*`` variables.
    """
    started = time.monotonic()
    database, target_path = database.absolute(), target_path.absolute()
    days = None if changed_keys is None or full_refresh else _changed_days(lake_tables, changed_keys)
    with _running, DbtSession(target_path, parse_cache) as dbt:
        if days is not None and _tables(database) != dbt.tables:
            days = None
        if days is None:
            _remove(database)
        statements = _statements(str(database), lake_tables, days)
        with dbt.connected(_engine_config(target_path, threads, memory_limit_mb), prepare_sql, statements):
            nodes = dbt.build()
            docs_path = dbt.document() if docs else None
            dbt.detach()
    return DbtResult(
        mode="whole" if days is None else "incremental",
        nodes=nodes,
        seconds=time.monotonic() - started,
        manifest_path=target_path / "manifest.json",
        docs_path=docs_path,
    )


def unit_test_dbt(target_path: Path, lake_tables: Mapping[str, LakeTableFiles]) -> tuple[NodeResult, ...]:
    """Run the project's unit tests on a throw-away database in memory.

    Args:
        target_path: folder for dbt's artefacts and logs.
        lake_tables: the refined tables; dbt takes the columns of its fixtures from them, files are not read.

    Returns:
        The unit tests' results, all of them passed.

    Raises:
        BuildFailed: a unit test failed; the message holds dbt's difference between expected and actual rows.
    """
    empty = {name: replace(table, files={}) for name, table in lake_tables.items()}
    with _running, DbtSession(target_path) as dbt:
        statements = _statements(":memory:", empty, None)
        with dbt.connected(_engine_config(target_path.absolute(), 1, 512), (), statements):
            dbt.invoke("run")
            return dbt.invoke("test", "--select", "test_type:unit")


def _changed_days(
    lake_tables: Mapping[str, LakeTableFiles], changed_keys: Mapping[str, Sequence[str] | None]
) -> dict[str, list[str]] | None:
    """Changed days of each partitioned table; None if some table changed as a whole."""
    days: dict[str, list[str]] = {}
    for name, table in lake_tables.items():
        if not table.partitioned:
            continue
        keys = changed_keys.get(name, ())
        if keys is None:
            return None
        days[name] = sorted({_day(name, key) for key in keys})
    return days


def _day(table: str, key: str) -> str:
    try:
        return date.fromisoformat(key).isoformat()
    except ValueError:
        raise UsageError(
            f"Partition key {key!r} is not a day.",
            table=f"refined.{table}",
            remedy="name changed partitions by day, such as 2013-01-31, or give None to build the whole table",
        ) from None


def _statements(
    database: str, lake_tables: Mapping[str, LakeTableFiles], days: Mapping[str, Sequence[str]] | None
) -> list[str]:
    """SQL that attaches the warehouse and makes the lake's views, restricted to the changed days if there are any."""
    days = days or {}
    changed = ", ".join(
        f"({literal(name)}, DATE {literal(day)})" for name, listed in sorted(days.items()) for day in listed
    )
    views = [
        f"CREATE VIEW lake.refined.{identifier(name)} AS "
        f"SELECT {', '.join(identifier(column.name) for column in table.columns)} FROM {table.relation(days.get(name))}"
        for name, table in sorted(lake_tables.items())
    ]
    return [
        f"ATTACH {literal(database)} AS {CATALOG}",
        "ATTACH ':memory:' AS lake",
        "CREATE SCHEMA lake.refined",
        "CREATE SCHEMA lake.build",
        "CREATE TABLE lake.build.changed_days (table_name VARCHAR NOT NULL, ds DATE NOT NULL)",
        *([f"INSERT INTO lake.build.changed_days VALUES {changed}"] if changed else []),
        *views,
    ]


def _engine_config(target_path: Path, threads: int, memory_limit_mb: int) -> dict[str, Any]:
    return {
        "threads": threads,
        "memory_limit": f"{memory_limit_mb}MB",
        "temp_directory": str(target_path / "spill"),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }


def _tables(database: Path) -> frozenset[str]:
    """Names of the models' tables and views in a database file; none if there is no file."""
    if not database.exists():
        return frozenset()
    try:
        with duckdb.connect(str(database), read_only=True) as connection:
            rows = connection.execute(
                f"SELECT table_name FROM duckdb_tables() WHERE schema_name <> {literal(OPS)} "
                "UNION ALL SELECT view_name FROM duckdb_views() WHERE NOT internal"
            ).fetchall()
    except duckdb.Error as error:
        raise StateCorrupt(
            f"{database} cannot be opened: {error}", remedy="copy the last release again, or build with full_refresh"
        ) from error
    return frozenset(str(name) for (name,) in rows)


def _remove(database: Path) -> None:
    for path in (database, database.with_name(f"{database.name}.wal")):
        path.unlink(missing_ok=True)
