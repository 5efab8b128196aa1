"""Releases, opened for reading: the current one, followed by its pointer, and earlier ones when they are asked for.

::

    pointer moves ─▶ noticed within follow_s of its shelf ─▶ opened beside the old one ─▶ one reference swapped

A request takes its release once and keeps it to its end, so every answer comes from exactly one. The old instance ends
with the last request that holds it.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from common.errors import PenstockError, UnknownName
from lake.sql import literal
from warehouse.releases import Release
from warehouse.serve.policy import Policy, Shown, Table, shown_to
from warehouse.serve.problems import Problem
from warehouse.shelf import Shelf

_LOG = logging.getLogger(__name__)

PROMISED_DELAY_S = 1.0
"""After how long, at the latest, a release published on this disk is served, in s."""

_EARLIER_KEPT = 2


@dataclass(frozen=True)
class Description:
    """What dbt says of a table: its comment, and its columns' comments by name."""

    text: str
    columns: Mapping[str, str]


class OpenRelease:
    """One release in this process, read only and locked: no other file, no network, no setting.

    Args:
        release: the release, its folder on this disk.
        policy: who may see what.
        salt: see :func:`warehouse.serve.policy.shown_to`.
        memory_limit_mb: DuckDB's limit for all queries of this release.
        threads: of DuckDB, for one query.

    Raises:
        duckdb.Error: its file cannot be opened.
    """

    def __init__(self, release: Release, policy: Policy, *, salt: str, memory_limit_mb: int, threads: int) -> None:
        self.release = release
        self.id = release.id
        self._idle: list[duckdb.DuckDBPyConnection] = []
        self._instance = duckdb.connect(
            config={
                "threads": threads,
                "memory_limit": f"{memory_limit_mb}MB",
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "temp_directory": "",
                "python_enable_replacements": False,
            }
        )
        self._instance.execute("SET TimeZone = 'UTC'")
        self._instance.execute(f"ATTACH {literal(str(release.database))} AS warehouse (READ_ONLY)")
        self._instance.execute("SET enable_external_access = false")
        self._instance.execute("SET lock_configuration = true")
        self.tables, self.descriptions = describe(self._instance)
        self._shown = {
            name: shown_to(self._instance, role, self.tables, salt=salt) for name, role in policy.roles.items()
        }

    def shown(self, role: str) -> Mapping[str, Shown]:
        """The datasets of a role."""
        return self._shown[role]

    def dataset(self, role: str, name: str) -> Shown:
        """One dataset of a role.

        Raises:
            Problem: ``unknown_dataset``: there is none of that name for it; whether for others is not told.
        """
        found = self._shown[role].get(name.lower())
        if found is None:
            raise Problem(
                "unknown_dataset", f"There is no dataset {name[:80]!r} for you.", remedy="see GET /v1/datasets"
            )
        return found

    def borrow(self) -> duckdb.DuckDBPyConnection:
        """A connection for one query at a time; give it back, or close it if the query may still be at work."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._instance.cursor()

    def give_back(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """The query of this connection has ended."""
        self._idle.append(cursor)


def describe(connection: duckdb.DuckDBPyConnection) -> tuple[dict[str, Table], dict[str, Description]]:
    """Tables of the catalog ``warehouse`` and what is said of them, by name."""
    names = "CASE schema_name WHEN 'main' THEN '' ELSE schema_name || '.' END || table_name"
    comments = dict(
        connection.execute(
            f"SELECT lower({names}), coalesce(comment, '') FROM duckdb_tables() "
            "WHERE database_name = 'warehouse' AND NOT internal ORDER BY 1"
        ).fetchall()
    )
    rows = connection.execute(
        f"SELECT lower({names}), column_name, data_type, coalesce(comment, '') FROM duckdb_columns() "
        "WHERE database_name = 'warehouse' AND NOT internal ORDER BY 1, column_index"
    ).fetchall()
    tables = {}
    descriptions = {}
    for name, comment in comments.items():
        own = [row[1:] for row in rows if row[0] == name]
        tables[name] = Table(name, tuple((column, kind) for column, kind, _ in own))
        descriptions[name] = Description(comment, {column: text for column, _, text in own})
    return tables, descriptions


class Follower:
    """The current release, and earlier ones by id.

    Args:
        shelf: where the releases are.
        policy, salt, memory_limit_mb, threads: see :class:`OpenRelease`.

    Side effects: a thread follows the pointer until :meth:`close`.
    """

    def __init__(self, shelf: Shelf, policy: Policy, *, salt: str, memory_limit_mb: int, threads: int) -> None:
        self._shelf = shelf
        self._policy = policy
        self._salt = salt
        self._memory_limit_mb = memory_limit_mb
        self._threads = threads
        self._current: OpenRelease | None = None
        self._earlier: OrderedDict[str, OpenRelease] = OrderedDict()
        self._guard = threading.Lock()
        self._ended = threading.Event()
        self._look()
        self._thread = threading.Thread(target=self._follow, name="follow-releases", daemon=True)
        self._thread.start()

    def current(self) -> OpenRelease:
        """The current release.

        Raises:
            Problem: ``nothing_published``.
        """
        found = self._current
        if found is None:
            raise Problem(
                "nothing_published", "Nothing has been published yet.", remedy="come again later", retry_after_s=30
            )
        return found

    def get(self, release_id: str) -> OpenRelease:
        """A release by its id; it stays open while others like it are asked for.

        Raises:
            Problem: ``unknown_release``: there is none, or it was retired.
        """
        current = self.current()
        if release_id == current.id:
            return current
        with self._guard:
            try:
                release = self._shelf.get(release_id)
                found = self._earlier.pop(release_id, None) or self._open(release)
            except (UnknownName, FileNotFoundError, duckdb.Error):
                self._earlier.pop(release_id, None)
                raise Problem(
                    "unknown_release", f"There is no release {release_id[:40]!r}.", remedy="see GET /v1/releases"
                ) from None
            self._earlier[release_id] = found
            while len(self._earlier) > _EARLIER_KEPT:
                self._earlier.popitem(last=False)
            return found

    def all(self) -> list[Release]:
        """All published releases, oldest first."""
        return self._shelf.all()

    def folder(self, opened: OpenRelease) -> Path:
        """Where the file of a release lies now: a cache may have dropped what is still open, and then fetches it again.

        Raises:
            Problem: ``unknown_release``: it was retired.
        """
        folder = opened.release.folder
        if folder.exists():
            return folder
        try:
            return self._shelf.on_disk(opened.release).folder
        except FileNotFoundError:
            raise Problem(
                "unknown_release", f"Release {opened.id} was retired.", remedy="see GET /v1/releases"
            ) from None

    def _open(self, release: Release) -> OpenRelease:
        return OpenRelease(
            self._shelf.on_disk(release),
            self._policy,
            salt=self._salt,
            memory_limit_mb=self._memory_limit_mb,
            threads=self._threads,
        )

    def _look(self) -> None:
        current = self._shelf.current_id()
        if current is None or (self._current is not None and self._current.id == current):
            return
        release = self._shelf.current()
        if release is not None:
            self._current = self._open(release)
            _LOG.info("release %s is served", release.id)

    def _follow(self) -> None:
        while not self._ended.wait(self._shelf.follow_s):
            try:
                self._look()
            except (PenstockError, duckdb.Error, OSError) as error:  # served on; looked for again in a moment
                _LOG.warning("the current release cannot be opened, the one before is served: %s", error)

    def close(self) -> None:
        """Follow no longer."""
        self._ended.set()
        self._thread.join()
