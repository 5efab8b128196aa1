"""Releases as one role sees them: every dataset is the role's own SELECT, under the dataset's own name.

::

    release's file ─(attached, read only)─▶ engine in memory ─▶ views: fct_flights, ops.ledger, ... ─▶ connection

For programs of the team that show data to others, such as dashboards: what they read by name is what the role may see,
so none of them has to think of it. It is no wall against a program that means to get around it, for that is what
guarded SQL is for (:mod:`warehouse.serve.sandbox`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from common.errors import StateCorrupt
from lake.sql import identifier, literal
from warehouse.releases import Release
from warehouse.serve.opened import describe
from warehouse.serve.policy import Role, Shown, shown_to
from warehouse.shelf import Move, Shelf

_ENGINES_KEPT = 4


@dataclass(frozen=True)
class _Engine:
    """A release with the role's views."""

    connection: duckdb.DuckDBPyConnection
    shown: Mapping[str, Shown]


class RoleShelf(Shelf):
    """A place with releases, seen by one role.

    Args:
        place: where the releases are.
        role: what may be seen.
        salt: see :func:`warehouse.serve.policy.shown_to`.
        memory_limit_mb: DuckDB's limit for all queries of one release.
        threads: of DuckDB, for one query.
    """

    def __init__(self, place: Shelf, role: Role, *, salt: str, memory_limit_mb: int, threads: int) -> None:
        self._place, self._role, self._salt = place, role, salt
        self._memory_limit_mb, self._threads = memory_limit_mb, threads
        self._engines: OrderedDict[str, _Engine] = OrderedDict()
        self._guard = threading.Lock()

    def current_id(self) -> str | None:
        """See :class:`Shelf`."""
        return self._place.current_id()

    def current(self) -> Release | None:
        """See :class:`Shelf`."""
        return self._place.current()

    def all(self) -> list[Release]:
        """See :class:`Shelf`."""
        return self._place.all()

    def moves(self) -> list[Move]:
        """See :class:`Shelf`."""
        return self._place.moves()

    def shown(self, release: Release, connection: duckdb.DuckDBPyConnection) -> Mapping[str, Shown]:  # noqa: ARG002
        """See :class:`Shelf`; what the role may see."""
        return self._engine(release).shown

    def on_disk(self, release: Release) -> Release:
        """See :class:`Shelf`."""
        return self._place.on_disk(release)

    def _connect(self, release: Release) -> duckdb.DuckDBPyConnection:
        return self._engine(release).connection.cursor()

    def _engine(self, release: Release) -> _Engine:
        with self._guard:
            engine = self._engines.pop(release.id, None) or self._open(release)
            self._engines[release.id] = engine
            while len(self._engines) > _ENGINES_KEPT:
                self._engines.popitem(last=False)
            return engine

    def _open(self, release: Release) -> _Engine:
        database = self._place.on_disk(release).database.resolve()
        connection = duckdb.connect(
            config={
                "threads": self._threads,
                "memory_limit": f"{self._memory_limit_mb}MB",
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "temp_directory": "",
                "python_enable_replacements": False,
            }
        )
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        try:
            connection.execute(f"ATTACH {literal(str(database))} AS warehouse (READ_ONLY)")
        except duckdb.Error as error:
            if not database.exists():
                raise FileNotFoundError(database) from None
            raise StateCorrupt(
                f"Release {release.id} cannot be opened: {error}",
                remedy="roll back to another release: 'penstock rollback'",
            ) from None
        tables, descriptions = describe(connection)
        shown = shown_to(connection, self._role, tables, salt=self._salt)
        for name, dataset in shown.items():
            schema, _, table = name.rpartition(".")
            view = f"{identifier(schema or 'main')}.{identifier(table)}"
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(schema or 'main')}")
            connection.execute(f"CREATE VIEW {view} AS {dataset.select()}")
            connection.execute(f"COMMENT ON VIEW {view} IS {literal(descriptions[name].text)}")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        return _Engine(connection, shown)
