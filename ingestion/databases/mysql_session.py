"""A read-only session with MySQL or MariaDB through DuckDB's scanner: one connection, one consistent snapshot.

Everything is read by ``mysql_query(..., stream_results=false)``: of the scanner's ways it is the only one that sends
SQL of our own *on the transaction's connection*. Its streaming form takes another connection from a pool, hence another
moment, and a scan of an attached table can send no SQL (measured; see docs/decisions/0017). The price is that a result
is held in memory before its first row is seen, so a table is read in pieces (``mysql_pieces.py``).

DuckDB would begin the transaction by itself, at the first read. Here it is ended again at once, the session is set up,
and a read-only one with a consistent snapshot begins: the moment of a run is the moment it connects. ``mysql_execute``
can do that on an attachment that DuckDB takes for writable only; it is the server that enforces READ ONLY, and the
grants of the role.

The password travels in a DuckDB secret: a connection string inside ATTACH shows up in error texts. Errors are told
apart by their text - refused, unavailable, the lake's, anything else - and rebuilt.
"""

from __future__ import annotations

import re
import socket
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
from ingestion.spec import SourceSpec, TableSpec
from lake.engine import extension_path, open_scanner, prepare_statements
from lake.lake import Lake
from lake.sql import literal

CONNECT_TIMEOUT_S = 15
"""How long a server may take to greet: a busy one answers late, and one that is gone is asked again later anyway."""

_GOODBYE_S = 5
"""How long the end of a transaction is waited for that only read."""

SERVER_SHARE = 0.9
"""Part of the time a query may take after which the server ends it itself; at the end of it the client breaks off."""

_URL_OPTIONS = {"ssl_mode", "ssl_ca", "ssl_capath", "ssl_cert", "ssl_key", "ssl_crl", "ssl_crlpath", "ssl_cipher"}
_SSL_MODES = {"disabled", "preferred", "required", "verify_ca", "verify_identity"}

_SCANNER = {
    "mysql_session_time_zone": "'+00:00'",
    "mysql_tinyint1_as_boolean": "false",
    "mysql_bit1_as_boolean": "false",
    "mysql_time_as_time": "false",
    "mysql_incomplete_dates_as_nulls": "false",
    "mysql_pool_acquire_mode": "'force'",
}
"""A value that the scanner would bend is to be an error: what has no exact form is sorted out before it is read."""

_SESSION = (
    "sql_mode = 'NO_BACKSLASH_ESCAPES'",
    "sql_select_limit = 18446744073709551615",
    "sql_big_selects = 1",
    "net_write_timeout = 600",
    "wait_timeout = 28800",
    "lock_wait_timeout = 60",
    "TRANSACTION ISOLATION LEVEL REPEATABLE READ",
)
"""What a query answers must not depend on how the server or the role is set up, nor a reader wait behind a DDL, nor a
session end because a batch is gated meanwhile."""

_REFUSED = re.compile(
    r"Access denied for user|command denied to user|Unknown database|is not allowed to connect|is blocked because|"
    r"insecure transport|requires secure connection|SSL is required[\w ]{0,40}|"
    r"account is locked|password has expired|Authentication plugin",
    re.IGNORECASE,
)
_TLS = re.compile(r"(?:TLS/)?SSL (?:connection )?error: [\w ,:-]{1,80}")
"""Of a connection that is being made: a certificate is not believed. Of one that stood: it broke off."""

_MD5_OF_NOTHING = "d41d8cd98f00b204e9800998ecf8427e"
_NO_MD5 = re.compile(r"(?:for routine '|FUNCTION )\S*\bMD5\b", re.IGNORECASE)
"""MySQL from 9.6 on has none unless a component is installed; in FIPS mode it is null, and all keys would be one."""

_UNAVAILABLE = re.compile(
    r"Can't connect to|Lost connection|server has gone away|Unknown MySQL server host|Too many connections|"
    r"more than 'max_user_connections'|Query execution was interrupted|max_statement_time exceeded|"
    r"maximum statement execution time exceeded|shutdown in progress|Lock wait timeout|Deadlock found|"
    r"(?:TLS/)?SSL (?:connection )?error|Connection was killed|Current transaction is aborted|malformed packet|"
    r"Commands out of sync|disconnected by the server because of inactivity",
    re.IGNORECASE,
)

_NOT_NOW = re.compile(
    r"exceeded the 'max_\w+' resource|currently in offline mode|Table definition has changed", re.IGNORECASE
)
"""What passes: by the hour, by who runs the server, by a new snapshot."""


class MysqlSession:
    """One read-only transaction; everything read through it sees the same moment.

    Raises:
        SettingsError: the URL is none.
        SourceRefused, SourceUnavailable: the server does not let us in, or does not answer.
    """

    def __init__(self, spec: SourceSpec, url: SecretStr, lake: Lake) -> None:
        self._spec = spec
        self._url = url
        settings = lake.settings
        self._address, self._server, secret = _connection_parts(url, spec)
        addresses = check_connection(url, spec, settings)
        if len(addresses) == 1:
            secret = _connection_parts(url, spec, address=addresses[0])[2]
        self._limit_s = settings.statement_timeout_s
        self._sockets = Sockets(self._address[1])
        self._knock()
        self.connection = open_scanner(settings)
        try:
            self.connection.execute("SET TimeZone = 'UTC'")
            self.connection.execute(f"LOAD {literal(str(extension_path('mysql_scanner')))}")
            for name, value in _SCANNER.items():
                self.connection.execute(f"SET {name} = {value}")
            for statement in prepare_statements(settings):
                self.connection.execute(statement)
            self.connection.execute(secret)
            with self._sockets.connecting(min(CONNECT_TIMEOUT_S, self._limit_s)):
                self.connection.execute("ATTACH '' AS my (TYPE mysql, SECRET penstock_source)")
                self.connection.execute("BEGIN")
                [(version, digest)] = self.rows("SELECT VERSION() AS version, MD5('') AS digest")
            self.version = str(version)
            if digest != _MD5_OF_NOTHING:
                self.close()
                raise self._without_md5(where_of(spec, None, None))
            for setting in (*_SESSION, *self._own_settings(self._limit_s * SERVER_SHARE)):
                self._execute(f"SET SESSION {setting}")
            self._execute("COMMIT")
            self._execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        except duckdb.Error as error:
            self.close()
            raise self.translated(error, None, None) from None

    def close(self) -> None:
        """End the transaction and the session."""
        with suppress(duckdb.Error), self._sockets.bounded(_GOODBYE_S):
            self.connection.execute("ROLLBACK")
        self._sockets.close()
        self.connection.close()

    def bounded(self) -> AbstractContextManager[None]:
        """See :class:`ingestion.databases.dialect.Breakable`."""
        return self._sockets.bounded(self._limit_s)

    def sever(self) -> None:
        """See :class:`ingestion.databases.dialect.Breakable`."""
        self._sockets.sever()

    def relation(self, query: str) -> str:
        """See :class:`ingestion.databases.dialect.Session`. The whole answer is held in memory while it is read."""
        return f"mysql_query('my', {literal(query)}, stream_results=false)"

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """All rows of a query in the database's own SQL."""
        with self.bounded():
            return self.connection.execute(f"SELECT * FROM {self.relation(query)}").fetchall()

    @property
    def is_mariadb(self) -> bool:
        """Whether the server is a MariaDB and no MySQL."""
        return "mariadb" in self.version.lower()

    def _execute(self, statement: str) -> None:
        with self.bounded():
            self.connection.execute(f"CALL mysql_execute('my', {literal(statement)})")

    def _own_settings(self, timeout_s: float) -> tuple[str, ...]:
        """Settings that only one of the two systems has."""
        if self.is_mariadb:
            idle = ("idle_transaction_timeout = 0", "idle_readonly_transaction_timeout = 0")
            return (f"max_statement_time = {timeout_s:.3f}", *idle)
        # MySQL answers a table's size of up to a day ago, by which a piece may be far too large.
        return (f"max_execution_time = {int(timeout_s * 1000)}", "information_schema_stats_expiry = 0")

    def _knock(self) -> None:
        """See whether anybody listens: the scanner's client would wait for minutes, and cannot be told otherwise."""
        try:
            with socket.create_connection(self._address, timeout=CONNECT_TIMEOUT_S):
                pass
        except OSError:
            raise self._unavailable(where_of(self._spec, None, None)) from None

    def _unavailable(self, where: Where) -> SourceUnavailable:
        return SourceUnavailable(
            f"MySQL at {self._server} does not answer or broke off.",
            **where,
            remedy=f"check that it runs and that connection {self._spec.connection!r} names its host and port",
        )

    def _without_md5(self, where: Where) -> SourceRefused:
        return SourceRefused(
            f"MySQL at {self._server} has no MD5, by which its rows would be compared with those of the lake.",
            **where,
            remedy="have its owner run INSTALL COMPONENT 'file://component_classic_hashing', or leave FIPS mode",
        )

    def translated(self, error: duckdb.Error, table: TableSpec | None, interval: Interval | None) -> PenstockError:
        """DuckDB's error as ours; the server's own words come last, behind the query that the scanner repeats."""
        where, server = where_of(self._spec, table, interval), f"MySQL at {self._server}"
        if self._sockets.timed_out:
            return SourceUnavailable(
                f"{server} said nothing more: it did not answer within {self._limit_s:g} s.",
                **where,
                remedy="check the network between; for a query that needs longer raise PENSTOCK_STATEMENT_TIMEOUT_S",
            )
        judge = partial(self._judged, where)
        return translated(error, judge, server=server, url=self._url, where=where, words_last=True)

    def _judged(self, where: Where, text: str) -> PenstockError | None:
        if _NO_MD5.search(text):
            return self._without_md5(where)
        found = _REFUSED.search(text) or ("Failed to connect" in text and _TLS.search(text))
        if found:
            return SourceRefused(
                f"MySQL at {self._server} refused: {found[0]}.",
                **where,
                remedy=f"correct the user, password, grants or TLS options of connection {self._spec.connection!r}",
            )
        passing = _NOT_NOW.search(text)
        if passing:
            return SourceUnavailable(
                f"MySQL at {self._server} cannot be read now: {passing[0]}.",
                **where,
                remedy="run again: a limit was reached, or a table was altered or emptied after the run had connected",
            )
        return self._unavailable(where) if _UNAVAILABLE.search(text) else None


def _connection_parts(
    url: SecretStr, spec: SourceSpec, *, address: str | None = None
) -> tuple[tuple[str, int], str, str]:
    """Address, printable server name, and the statement that stores the secret.

    Args:
        url: the connection's.
        spec: the source.
        address: what the host has been resolved to; connected to, unless the server must prove its name.
    """
    try:
        parts = urlsplit(url.get_secret_value())
        host, port, database = parts.hostname, parts.port or 3306, decode_url_part(parts.path.lstrip("/"))
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    except ValueError:
        parts, host, port, database, query = urlsplit(""), None, 0, "", {}
    if parts.scheme not in {"mysql", "mariadb"} or not host or not database:
        raise SettingsError(
            f"Connection {spec.connection!r} is not a MySQL URL.",
            source=spec.source,
            remedy="write it as mysql://user:password@host:port/database, special characters percent-encoded",
        )
    unknown = sorted(set(query) - _URL_OPTIONS)
    if unknown:
        raise SettingsError(
            f"Connection {spec.connection!r} has the unknown option {unknown[0]!r} in its URL.",
            source=spec.source,
            remedy=f"leave it out, or use one of {', '.join(sorted(_URL_OPTIONS))}",
        )
    if query.get("ssl_mode", "preferred").lower() not in _SSL_MODES:
        raise SettingsError(
            f"Connection {spec.connection!r} has an unknown ssl_mode.",
            source=spec.source,
            remedy=f"use one of {', '.join(sorted(_SSL_MODES))}",
        )
    # The client would take "localhost" for a Unix socket, whatever the port: another server than the URL names.
    proves_name = query.get("ssl_mode", "").lower() == "verify_identity"
    target = host if proves_name or address is None else address
    options = {
        "HOST": literal("127.0.0.1" if target == "localhost" else target),
        "PORT": str(port),
        "DATABASE": literal(database),
        "USER": literal(decode_url_part(parts.username)),
        "PASSWORD": literal(decode_url_part(parts.password)),
        **{name.upper(): literal(value) for name, value in query.items()},
    }
    listed = ", ".join(f"{name} {value}" for name, value in options.items())
    secret = f"CREATE OR REPLACE SECRET penstock_source (TYPE mysql, {listed})"
    return (host, port), f"{host}:{port}/{database}", secret
