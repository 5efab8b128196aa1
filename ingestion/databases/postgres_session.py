"""A read-only session with PostgreSQL through DuckDB's scanner: one REPEATABLE READ snapshot, shared by its readers.

``postgres_query`` sends the query as it is. The password travels in a DuckDB secret: a connection string inside ATTACH
shows up in error texts. Errors are told apart by their text - refused, unavailable, the lake's, anything else - and
rebuilt, because the driver's own may hold connection details.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import duckdb
from pydantic import SecretStr

from common.errors import PenstockError, SettingsError, SourceRefused, SourceUnavailable
from common.intervals import Interval
from common.settings import decode_url_part
from ingestion.databases.sockets import Sockets
from ingestion.databases.translation import Where, translated, where_of
from ingestion.hosts import check_connection
from ingestion.shared_snapshot import SEEN, SharedSnapshot, moment_of
from ingestion.spec import SourceSpec, TableSpec
from lake.engine import extension_path, open_scanner, prepare_statements
from lake.lake import Lake
from lake.sql import literal

CONNECT_TIMEOUT_S = 15
"""How long a server may take to greet: a busy one answers late, and one that is gone is asked again later anyway."""

_ANSWER_S = 30.0
"""How long a session that only holds a snapshot may take to say that it lives."""

_GOODBYE_S = 5
"""How long the end of a transaction is waited for that only read."""

_STALLS = {"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3", "tcp_user_timeout": "60000"}
"""A host that has vanished is noticed within a minute."""

SERVER_SHARE = 0.9
"""Part of the time a query may take after which the server ends it itself; at the end of it the client breaks off."""

_SESSION = {
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
}
"""The text of a value, and the meaning of a backslash in ours, must not depend on how server or role are set up."""

_PATIENCE = {"idle_in_transaction_session_timeout": "0"}
"""The snapshot's own transaction waits while others read, and while a gate judges."""

_URL_OPTIONS = {
    "channel_binding",
    "gssencmode",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
}

_REFUSED = re.compile(
    r"password authentication failed|no password supplied|role .* does not exist|permission denied|"
    r'database ".*" does not exist|no pg_hba.conf entry',
    re.IGNORECASE,
)
_UNPROVEN = re.compile(
    r"certificate verify failed|server certificate for .* does not match|certificate file .* does not exist|"
    r"could not (read|load) .*certificate|server does not support SSL",
    re.IGNORECASE,
)
_UNAVAILABLE = re.compile(
    r"could not connect|connection (to server|refused|timed out|reset)|server closed the connection|"
    r"could not translate host name|timeout expired|terminating connection|SSL SYSCALL|canceling statement|"
    r"the database system is|too many (clients|connections)|remaining connection slots|no connection to the server|"
    r"could not (receive|send) data|no route to host|network is unreachable|SSL connection has been closed|"
    r"current transaction is aborted",
    re.IGNORECASE,
)

_SEEN = f"SELECT {SEEN} AS seen"


class PostgresSession:
    """One read-only transaction; everything read through it sees the same moment.

    Args:
        spec: the source.
        url: its connection.
        lake: whose storage is written to.
        shared: a session whose snapshot this one joins, on a connection of its own; a snapshot of its own by default.
        joins: a snapshot that somebody else holds; where it is gone, a snapshot of its own and a warning.

    Attributes:
        moment, warnings: see :class:`ingestion.databases.dialect.SnapshotSharing`.

    Raises:
        SettingsError: the URL is none.
        SourceRefused, SourceUnavailable: the server does not let us in, or does not answer.
    """

    def __init__(
        self,
        spec: SourceSpec,
        url: SecretStr,
        lake: Lake,
        *,
        shared: PostgresSession | None = None,
        joins: SharedSnapshot | None = None,
    ) -> None:
        self._spec, self._url, self._lake = spec, url, lake
        self._limit_s = lake.settings.statement_timeout_s
        server, options, secret = _connection_parts(url, spec, self._limit_s)
        self._server = f"{server[0]}:{server[1]}/{server[2]}"
        if shared is None:
            addresses = check_connection(url, spec, lake.settings)
            # libpq takes one address per host, and tries no other: a name that has several is judged and not pinned.
            options += f" hostaddr='{addresses[0]}'" if len(addresses) == 1 else ""
        self._sockets = Sockets(server[1])
        self._others: list[PostgresSession] = []
        self._snapshot = ""
        self.moment: str = shared.moment if shared is not None else ""
        self.warnings: tuple[str, ...] = ()
        # One engine for all: its one thread is the caller's, so each of our own threads is a reader.
        self.connection: duckdb.DuckDBPyConnection = (
            open_scanner(lake.settings) if shared is None else shared.connection.cursor()
        )
        try:
            with self._sockets.connecting():
                if shared is None:
                    self._attach(options, secret)
                    self._begin(joins)
                else:
                    self.connection.execute("SET TimeZone = 'UTC'")
                    self._join(shared.exported_snapshot())
        except duckdb.Error as error:
            self.close()
            raise self.translated(error, None, None) from None

    def _attach(self, options: str, secret: str) -> None:
        self.connection.execute("SET TimeZone = 'UTC'")
        self.connection.execute(f"LOAD {literal(str(extension_path('postgres_scanner')))}")
        for statement in (*prepare_statements(self._lake.settings), secret):
            self.connection.execute(statement)
        self.connection.execute(f"ATTACH {literal(options)} AS pg (TYPE postgres, READ_ONLY, SECRET penstock_source)")

    def _begin(self, joins: SharedSnapshot | None) -> None:
        if joins is not None:
            # Servers say in many languages that there is none of that name. If it is something worse, it comes again.
            with suppress(duckdb.Error):
                self._join(joins.name)
                self.moment = self._seen()
            if self.moment == joins.moment:
                return
            # Or it is another one of that name: of another server, or of this one after a restart.
            with suppress(duckdb.Error):
                self.connection.execute("ROLLBACK")
            self.warnings = (f"snapshot {joins.name} of {self._server} is gone: read in one of its own",)
        self.connection.execute("BEGIN")
        self.moment = self._seen()

    def _join(self, snapshot: str) -> None:
        self.connection.execute("BEGIN")
        adopt = f"SET TRANSACTION SNAPSHOT {literal(snapshot)}"
        self.connection.execute(f"CALL postgres_execute('pg', {literal(adopt)})")

    def _seen(self) -> str:
        return moment_of(str(self.rows(_SEEN)[0][0]))

    def close(self) -> None:
        """End the transaction and the session, and those that share its snapshot."""
        for other in self._others:
            other.close()
        self._others.clear()
        with suppress(duckdb.Error), self._sockets.bounded(_GOODBYE_S):
            self.connection.execute("ROLLBACK")
        self._sockets.close()
        self.connection.close()

    def exported_snapshot(self) -> str:
        """The name by which other transactions can join this one's snapshot while it lasts."""
        if not self._snapshot:
            self._snapshot = str(self.rows("SELECT pg_export_snapshot()")[0][0])
        return self._snapshot

    def shared_snapshot(self) -> SharedSnapshot:
        """See :class:`ingestion.databases.dialect.SnapshotSharing`."""
        return SharedSnapshot(self.exported_snapshot(), self.moment)

    def is_alive(self) -> bool:
        """See :class:`ingestion.databases.dialect.SnapshotSharing`."""
        try:
            with self._sockets.bounded(_ANSWER_S):
                return bool(self.connection.execute(f"SELECT * FROM {self.relation(_SEEN)}").fetchall())
        except duckdb.Error:
            return False

    def readers(self, count: int) -> Sequence[PostgresSession]:
        """See :class:`ingestion.databases.dialect.SnapshotSharing`."""
        while len(self._others) < count - 1:
            self._others.append(PostgresSession(self._spec, self._url, self._lake, shared=self))
        return [self, *self._others[: count - 1]]

    def bounded(self) -> AbstractContextManager[None]:
        """See :class:`ingestion.databases.dialect.Breakable`."""
        return self._sockets.bounded(self._limit_s)

    def sever(self) -> None:
        """See :class:`ingestion.databases.dialect.Breakable`."""
        self._sockets.sever()

    def relation(self, query: str) -> str:
        """See :class:`ingestion.databases.dialect.Session`."""
        return f"postgres_query('pg', {literal(query)})"

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """All rows of a query in PostgreSQL's own SQL."""
        with self.bounded():
            return self.connection.execute(f"SELECT * FROM {self.relation(query)}").fetchall()

    def translated(self, error: duckdb.Error, table: TableSpec | None, interval: Interval | None) -> PenstockError:
        """DuckDB's error as ours."""
        where = where_of(self._spec, table, interval)
        if any(session._sockets.timed_out for session in (self, *self._others)):  # noqa: SLF001 - of this class
            return SourceUnavailable(
                f"PostgreSQL at {self._server} said nothing more: a query was not over after {self._limit_s:g} s.",
                **where,
                remedy="check the network between; for a query that needs longer raise PENSTOCK_STATEMENT_TIMEOUT_S",
            )
        server = f"PostgreSQL at {self._server}"
        return translated(error, partial(self._judged, where), server=server, url=self._url, where=where)

    def _judged(self, where: Where, text: str) -> PenstockError | None:
        if found := _REFUSED.search(text):
            return SourceRefused(
                f"PostgreSQL at {self._server} refused: {found[0]}.",
                **where,
                remedy=f"correct the user, password or grants of connection {self._spec.connection!r}",
            )
        if found := _UNPROVEN.search(text):
            return SourceRefused(
                f"PostgreSQL at {self._server} is not trusted: TLS failed ({found[0]}).",
                **where,
                remedy="name the authority of its certificate by sslrootcert=<file> in the URL of connection "
                f"{self._spec.connection!r}, and the host as its certificate does; sslmode says what is asked for",
            )
        if _UNAVAILABLE.search(text):
            return SourceUnavailable(
                f"PostgreSQL at {self._server} does not answer or broke off.",
                **where,
                remedy=f"check that it runs and that connection {self._spec.connection!r} names its host and port",
            )
        return None


def _connection_parts(url: SecretStr, spec: SourceSpec, timeout_s: float) -> tuple[tuple[str, int, str], str, str]:
    """Host, port and database; ATTACH options without secrets; and the statement that stores the secret."""
    try:
        parts = urlsplit(url.get_secret_value())
        host, port, database = parts.hostname, parts.port or 5432, parts.path.lstrip("/")
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    except ValueError:
        parts, host, port, database, query = urlsplit(""), None, 0, "", {}
    if parts.scheme not in {"postgresql", "postgres"} or not host or not database:
        raise SettingsError(
            f"Connection {spec.connection!r} is not a PostgreSQL URL.",
            source=spec.source,
            remedy="write it as postgresql://user:password@host:port/database, special characters percent-encoded",
        )
    unknown = sorted(set(query) - _URL_OPTIONS)
    if unknown:
        raise SettingsError(
            f"Connection {spec.connection!r} has the unknown option {unknown[0]!r} in its URL.",
            source=spec.source,
            remedy=f"leave it out, or use one of {', '.join(sorted(_URL_OPTIONS))}",
        )
    session = {"statement_timeout": str(max(1, int(timeout_s * SERVER_SHARE * 1000))), **_PATIENCE, **_SESSION}
    options = {
        "connect_timeout": str(CONNECT_TIMEOUT_S),
        "application_name": f"penstock_{spec.source}",
        "client_encoding": "UTF8",
        "options": " ".join(f"-c{name}={value}" for name, value in session.items()),
        **_STALLS,
        **query,
    }
    text = " ".join("{}='{}'".format(k, v.replace("\\", "\\\\").replace("'", "\\'")) for k, v in options.items())
    secret = (
        "CREATE OR REPLACE SECRET penstock_source (TYPE postgres, "
        f"HOST {literal(host)}, PORT {port}, DATABASE {literal(decode_url_part(database))}, "
        f"USER {literal(decode_url_part(parts.username))}, PASSWORD {literal(decode_url_part(parts.password))})"
    )
    return (host, port, decode_url_part(database)), text, secret
