"""dbt inside this process: quiet, without leftovers, with errors of our own.

dbt was made to own its process: it prints, obeys ``DBT_*`` variables, changes the working folder, and keeps its DuckDB
open between runs, so that the next run would get the old file. This module undoes all of that, and imports dbt lazily
(the import alone takes two CPU seconds). Its user is :mod:`transformations.dbt_runner`, which also makes sure that
there is only one session at a time.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from common.errors import BuildFailed, PenstockError
from common.files import write_atomic
from lake.sql import identifier

if TYPE_CHECKING:
    from dbt.cli.main import dbtRunnerResult

PROJECT = Path(__file__).resolve().parent / "dbt"
"""The dbt project; only ever read."""

CATALOG = "warehouse"
"""Catalog name under which the models see the database file, whatever the file is called."""

_FINE = frozenset({"success", "pass", "warn", "no-op"})

_FLAGS = (
    *("--log-level", "none", "--log-level-file", "info", "--quiet", "--no-print"),
    *("--no-use-colors", "--no-use-colors-file", "--no-version-check", "--no-send-anonymous-usage-stats"),
    *("--threads", "1"),
)


@dataclass(frozen=True)
class NodeResult:
    """What became of one model or test.

    Attributes:
        name: model or test name.
        kind: ``model``, ``test`` or ``unit_test``.
        status: ``success`` (model), ``pass`` or ``warn`` (test); failures raise.
        seconds: time it took.
        rows: rows of the model's table after the build; None for views and tests.
        message: dbt's message, where it says more than the status.
        began_s: when it began, in s since 1970; 0 where dbt does not say.
    """

    name: str
    kind: str
    status: str
    seconds: float
    rows: int | None = None
    message: str | None = None
    began_s: float = 0.0


class DbtSession:
    """dbt with a parsed project, from ``with`` to the end of it.

    Attributes:
        tables: names of the tables that the project makes in the warehouse.
    """

    def __init__(self, target_path: Path, parse_cache: Path | None = None) -> None:
        self._target = target_path.absolute()
        self._cache = parse_cache.absolute() if parse_cache else None
        self._restore = ExitStack()
        self._manifest: Any = None
        self.tables: frozenset[str] = frozenset()

    def __enter__(self) -> DbtSession:
        """Parse the project, with the help of the cached parse result if there is one."""
        parsed = self._target / "partial_parse.msgpack"
        self._target.mkdir(parents=True, exist_ok=True)
        if self._cache is not None and not parsed.exists():
            with suppress(FileNotFoundError):
                shutil.copyfile(self._cache, parsed)
        self._restore.enter_context(_own_surroundings())
        try:
            self._manifest = self._run("parse").result
        except BaseException:
            self._leave()
            raise
        if self._cache is not None:
            write_atomic(self._cache, parsed.read_bytes())
        self.tables = frozenset(
            str(node.name)
            for node in self._manifest.nodes.values()
            if node.resource_type == "model" and node.config.materialized in {"table", "incremental"}
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close everything that dbt left open and go back to the working folder."""
        self._leave()

    @contextmanager
    def connected(
        self, config: Mapping[str, Any], prepare_sql: Sequence[str], statements: Sequence[str]
    ) -> Iterator[None]:
        """Let dbt's connections be prepared by these statements, see :mod:`transformations.lake_plugin`."""
        from transformations.lake_plugin import Session, bound

        with bound(Session(config, prepare_sql, statements)):
            try:
                yield
            finally:
                _close()

    def build(self) -> tuple[NodeResult, ...]:
        """Build every model and run every data test; the project's unit tests are for its own test suite.

        Returns:
            Models and tests in the order they ran, with the rows of the warehouse's tables.

        Raises:
            BuildFailed: a node failed, or a table was not built at all.
        """
        nodes = self.invoke("build", "--exclude-resource-type", "unit_test")
        missing = self.tables - {node.name for node in nodes if node.kind == "model" and node.status == "success"}
        if missing:
            raise BuildFailed(f"dbt succeeded without building {', '.join(sorted(missing))}.", remedy=self._see_log)
        rows = {
            name: int(_query(f"SELECT count(*) FROM {CATALOG}.main.{identifier(name)}")[0][0]) for name in self.tables
        }
        return tuple(replace(node, rows=rows.get(node.name)) for node in nodes)

    def document(self) -> Path:
        """Write the documentation as one page that needs no other file and no network.

        Returns:
            The page. Unlike dbt's own it names no folder of this machine.
        """
        self.invoke("docs", "generate", "--static", "--no-compile")
        page = (self._target / "static_index.html").read_text(encoding="utf-8")
        path = self._target / "docs" / "index.html"
        write_atomic(path, page.replace(json.dumps(f"{self._target}/")[1:-1], ""))
        return path

    def invoke(self, *arguments: str) -> tuple[NodeResult, ...]:
        """Run one dbt command.

        Returns:
            Its models and tests in the order they ran; empty for commands that have none.

        Raises:
            BuildFailed: the command or one of its nodes failed.
        """
        result = self._run(*arguments).result
        return tuple(_node(entry) for entry in getattr(result, "results", ()) if hasattr(entry, "execution_time"))

    def detach(self) -> None:
        """Write everything into the database file and let go of it."""
        _query(f"CHECKPOINT {CATALOG}")
        _query(f"DETACH {CATALOG}")

    def _run(self, *arguments: str) -> dbtRunnerResult:
        from dbt.cli.main import dbtRunner
        from dbt_common.exceptions import DbtBaseException

        outcome = dbtRunner(manifest=self._manifest).invoke([*arguments, *_FLAGS, *self._folders()])
        cause = outcome.exception
        if isinstance(cause, PenstockError):
            raise cause
        if not outcome.success:
            raise BuildFailed(f"dbt {arguments[0]} failed: {_reasons(outcome)}", remedy=self._see_log) from (
                None if isinstance(cause, DbtBaseException) else cause
            )
        return outcome

    @property
    def _see_log(self) -> str:
        return f"read {self._target / 'logs' / 'dbt.log'}"

    def _folders(self) -> list[str]:
        target = str(self._target)
        project = ["--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)]
        return [*project, "--target-path", target, "--log-path", str(self._target / "logs")]

    def _leave(self) -> None:
        _close()
        self._restore.close()


@contextmanager
def _own_surroundings() -> Iterator[None]:
    """Hide ``DBT_*`` variables, and put the working folder back afterwards.

    Any such variable of a host could change the tables: DBT_FULL_REFRESH, DBT_EMPTY, DBT_RESOURCE_TYPES.
    """
    folder, environment = Path.cwd(), os.environ  # noqa: TID251 - not read: kept away from dbt
    hidden = {name: environment.pop(name) for name in list(environment) if name.startswith("DBT_")}
    try:
        yield
    finally:
        environment.update(hidden)
        os.chdir(folder)


def _node(entry: Any) -> NodeResult:
    return NodeResult(
        name=entry.node.name,
        kind=str(entry.node.resource_type),
        status=str(entry.status),
        seconds=float(entry.execution_time),
        message=None if entry.message in {None, "OK"} else str(entry.message),
        began_s=min((t.started_at.replace(tzinfo=UTC).timestamp() for t in entry.timing if t.started_at), default=0.0),
    )


def _reasons(outcome: dbtRunnerResult) -> str:
    entries: Sequence[Any] = getattr(outcome.result, "results", ())
    failed = [node for node in map(_node, entries) if node.status not in _FINE | {"skipped"}]
    skipped = sum(1 for entry in entries if str(entry.status) == "skipped")
    reasons = [f"{node.kind} {node.name} ({node.status}): {node.message}" for node in failed]
    if skipped:
        reasons.append(f"{skipped} nodes that need them were skipped")
    return "; ".join(reasons) or str(outcome.exception)


def _query(sql: str) -> list[tuple[Any, ...]]:
    handle = _connections().env().handle()
    try:
        rows: list[tuple[Any, ...]] = handle.cursor().execute(sql).fetchall()
    finally:
        handle.close()
    return rows


def _close() -> None:
    """Close the DuckDB that dbt keeps open for its next run, which would otherwise get this run's file."""
    import dbt.adapters.factory

    adapters: Any = dbt.adapters.factory
    adapters.reset_adapters()
    with suppress(Exception):
        _connections().env().close()
    _connections().close_all_connections()


def _connections() -> Any:
    """dbt-duckdb's connection manager, which is a class that holds the one DuckDB of the process; it has no types."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    return DuckDBConnectionManager
