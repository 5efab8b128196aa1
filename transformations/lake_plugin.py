"""dbt-duckdb plugin: gives dbt's connection the warehouse file, the lake's views and the engine's limits.

::

    run_dbt -> bound(Session) -> dbt opens its connection -> Plugin.update_connection_config, .configure_connection

Why not dbt variables or environment variables in the profile: dbt parses the whole project again whenever they change,
a list of thousands of files does not fit there, and credentials would reach logs and child processes. The session stays
in this process. dbt opens connections in threads of its own, so the session is a module global and not a context
variable; :mod:`transformations.dbt_runner` lets one dbt run at a time into this process.

Only dbt imports this module (and the runner, when it runs dbt): importing it imports dbt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin

from common.errors import BuildFailed, UsageError


@dataclass(frozen=True)
class Session:
    """What one dbt run's connection needs.

    Attributes:
        config: DuckDB configuration.
        prepare_sql: statements that give access to the lake's storage; may hold secrets, so never shown.
        statements: statements that attach the warehouse and make the lake's views.
    """

    config: Mapping[str, Any]
    prepare_sql: Sequence[str] = field(repr=False)
    statements: Sequence[str]


_sessions: list[Session] = []


@contextmanager
def bound(session: Session) -> Iterator[None]:
    """Let the dbt connections that this process opens meanwhile use ``session``."""
    _sessions.append(session)
    try:
        yield
    finally:
        _sessions.clear()


def _current() -> Session:
    if not _sessions:
        raise UsageError(
            "dbt was started without a lake and a warehouse file.",
            remedy="run the models through transformations.dbt_runner.run_dbt",
        )
    return _sessions[0]


class Plugin(BasePlugin):
    """The plugin that profiles.yml names."""

    def update_connection_config(self, creds: Any, config: dict[str, Any]) -> None:  # noqa: ARG002 - dbt's signature
        """Add the session's engine limits to the connection's configuration."""
        config.update(_current().config)

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Attach the warehouse and make the lake's views.

        Raises:
            BuildFailed: a statement failed; the message never repeats a storage statement, which may hold a secret.
        """
        try:
            _prepare(conn, _current())
        except BaseException:
            conn.close()  # dbt asks again for the connection it did not get, and the file must be free then
            raise


def _prepare(connection: duckdb.DuckDBPyConnection, session: Session) -> None:
    for position, statement in enumerate(session.prepare_sql, start=1):
        try:
            connection.execute(statement)
        except duckdb.Error as error:
            raise BuildFailed(
                f"The connection to the lake's storage could not be prepared: statement {position} of "
                f"{len(session.prepare_sql)} failed with {type(error).__name__}.",
                remedy="check the lake's connection and that the engine's extensions are installed",
            ) from None
    try:
        for statement in session.statements:
            connection.execute(statement)
    except duckdb.Error as error:
        raise BuildFailed(
            f"The lake's views could not be made: {error}",
            remedy="check that every file of the pinned snapshots is still there and readable",
        ) from None
