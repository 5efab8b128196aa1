"""Opening a database to ask it about itself, whatever system it is: session, dialect and introspection in one hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
from pydantic import SecretStr

from common.errors import SettingsError
from ingestion.databases.catalog import Introspection
from ingestion.databases.dialect import Dialect, Session
from ingestion.spec import SourceSpec
from lake.lake import Lake

DATABASE_KINDS = {"postgresql": "postgresql", "postgres": "postgresql", "mysql": "mysql", "mariadb": "mysql"}
"""Kind of source by URL scheme."""


@dataclass(frozen=True)
class Inspection:
    """An open database: the session, and what writes and reads its SQL."""

    session: Session
    dialect: Dialect
    introspection: Introspection


@contextmanager
def inspecting(spec: SourceSpec, url: SecretStr, lake: Lake) -> Iterator[Inspection]:
    """Open the database of a source, read only.

    Args:
        spec: the source; of a spec that is not written yet, only names and kind are asked.
        url: its connection.
        lake: whose settings bound memory and time; nothing is written to it.

    Raises:
        SettingsError: the URL is none, or the kind is no database.
        SourceRefused, SourceUnavailable: the server does not let us in, or does not answer.
        TerminalError: a question to it failed.
    """
    session: Session
    dialect: Dialect
    introspection: Introspection
    if spec.kind == "postgresql":
        from ingestion.databases.postgres import PostgresDialect
        from ingestion.databases.postgres_catalog import PostgresIntrospection
        from ingestion.databases.postgres_session import PostgresSession

        session, dialect, introspection = PostgresSession(spec, url, lake), PostgresDialect(), PostgresIntrospection()
    elif spec.kind == "mysql":
        from ingestion.databases.mysql import MysqlDialect
        from ingestion.databases.mysql_catalog import MysqlIntrospection
        from ingestion.databases.mysql_session import MysqlSession

        session, dialect, introspection = MysqlSession(spec, url, lake), MysqlDialect(), MysqlIntrospection()
    else:
        raise SettingsError(f"A source of kind {spec.kind} is no database.", source=spec.source)
    try:
        yield Inspection(session, dialect, introspection)
    except duckdb.Error as error:
        raise session.translated(error, None, None) from None
    finally:
        session.close()


def unwritten_source(source: str, *, kind: str, connection: str) -> SourceSpec:
    """A source of which nothing is known but how to reach it: enough for a session, too little to be a spec."""
    known: dict[str, Any] = {"source": source, "kind": kind, "connection": connection, "time_zone": "UTC"}
    return SourceSpec.model_construct(**known, tables=())
