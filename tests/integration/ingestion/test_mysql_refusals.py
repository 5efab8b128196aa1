"""Laws of refusing a MariaDB source: wrong login, no answer, TLS, time, a connection that breaks; nothing is left."""

from __future__ import annotations

import re
import uuid

import pytest

from common.errors import PenstockError, SettingsError, SourceRefused, SourceSchemaError, SourceUnavailable
from common.intervals import day_interval
from ingestion.spec import SourceSpec
from tests.integration.ingestion.conftest import new_lake
from tests.integration.ingestion.mysql_source import MysqlSource
from tests.mariadb_server import PASSWORD, READER

CANARY = "CanaryPassword0123456789"


@pytest.fixture
def table(mysql: MysqlSource) -> SourceSpec:
    """The spec of a table of one row."""
    mysql.run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);")
    return mysql.spec("id: int32")


def refuses(mysql: MysqlSource, spec: SourceSpec, kind: type[PenstockError], match: str, url: str = "") -> str:
    """Staging fails with this error, nothing is left, and no password shows. Returns the message."""
    with pytest.raises(kind, match=match) as refused:
        mysql.stage(spec, url=url or None)
    assert mysql.staged_files() == []
    message = f"{refused.value} {refused.value.__cause__} {refused.value.__context__ or ''}"
    assert CANARY not in message
    assert PASSWORD not in message
    assert "source=shop" in message
    assert "Remedy: " in message
    return message


# -- login ------------------------------------------------------------------------------------------------------------


def test_a_wrong_login_is_refused_and_an_address_without_an_answer_is_told_apart(
    mysql: MysqlSource, table: SourceSpec
) -> None:
    server, wrong = mysql.server, mysql.server.url(mysql.name, password=CANARY)
    refuses(mysql, table, SourceRefused, "Access denied for user", wrong)
    refuses(mysql, table, SourceRefused, "Access denied for user", server.url(mysql.name, user="nobody_of_that_name"))
    refuses(mysql, table, SourceRefused, "Access denied|Unknown database", server.url("no_such_database"))
    refuses(mysql, table, SourceUnavailable, "does not answer", wrong.replace(str(server.port), "9"))
    refuses(mysql, table, SourceUnavailable, "does not answer", wrong.replace("127.0.0.1", "no-such-host.invalid"))


def test_a_table_and_a_column_that_the_role_may_not_read_are_refused(mysql: MysqlSource) -> None:
    user = f"u_{uuid.uuid4().hex[:8]}"
    mysql.run(
        "CREATE TABLE t (id int PRIMARY KEY, secret int); CREATE TABLE hidden (id int PRIMARY KEY);"
        f"CREATE USER {user}@'%' IDENTIFIED BY '{CANARY}'; GRANT SELECT (id) ON t TO {user}@'%';"
    )
    url = mysql.server.url(mysql.name, user=user, password=CANARY)
    try:
        refuses(mysql, mysql.spec("id: int32", table="hidden"), SourceSchemaError, "that this role can see", url)
        refuses(
            mysql, mysql.spec("id: int32; secret: int32"), SourceSchemaError, "column secret is not in the source", url
        )
        assert mysql.rows(mysql.stage(mysql.spec("id: int32"), url=url)) == []
    finally:
        mysql.run(f"DROP USER {user}@'%';")


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{CANARY}@127.0.0.1/x",
        f"mysql://u:{CANARY}@/x",
        f"mysql://u:{CANARY}@127.0.0.1",
        f"mysql://u:{CANARY}@127.0.0.1:port/x",
        f"mysql://u:{CANARY}@127.0.0.1/x?init_command=DROP",
        f"mysql://u:{CANARY}@127.0.0.1/x?ssl_mode=perhaps",
        CANARY,
    ],
)
def test_a_url_that_is_none_is_refused_without_being_repeated(mysql: MysqlSource, url: str) -> None:
    refuses(mysql, mysql.spec("id: int32"), SettingsError, "Connection 'shop'", url)


@pytest.mark.parametrize("password", ["p@ss/w:rd?#", 'it\'s "q" \\ {x} $$ %', "ü ñ ' OR 1=1 --"])
def test_a_password_of_any_characters_logs_in(mysql: MysqlSource, table: SourceSpec, password: str) -> None:
    user = f"u_{uuid.uuid4().hex[:8]}"
    quoted = password.replace("\\", "\\\\").replace("'", "''")
    mysql.run(f"CREATE USER {user}@'%' IDENTIFIED BY '{quoted}'; GRANT SELECT ON {mysql.name}.* TO {user}@'%';")
    try:
        url = mysql.server.url(mysql.name, user=user, password=password)
        assert mysql.rows(mysql.stage(table, url=url)) == [(1,)]
    finally:
        mysql.run(f"DROP USER {user}@'%';")


def test_a_session_cannot_write_even_where_its_role_may(mysql: MysqlSource, table: SourceSpec) -> None:
    import duckdb

    mysql.run(f"GRANT INSERT, UPDATE, DELETE ON {mysql.name}.* TO {READER}@'%';")
    session = mysql.session(table)
    try:
        with pytest.raises(duckdb.Error, match="READ ONLY transaction"):
            session.connection.execute("CALL mysql_execute('my', 'DELETE FROM t')")
    finally:
        session.close()
        mysql.run(f"REVOKE INSERT, UPDATE, DELETE ON {mysql.name}.* FROM {READER}@'%';")
    assert mysql.run("SELECT COUNT(*) FROM t") == [["1"]]


# -- TLS --------------------------------------------------------------------------------------------------------------


def test_tls_is_verified_as_the_url_asks(mysql: MysqlSource, table: SourceSpec) -> None:
    server, folder = mysql.server, mysql.server.folder
    user = f"u_{uuid.uuid4().hex[:8]}"
    mysql.run(
        f"CREATE USER {user}@'%' IDENTIFIED BY '{CANARY}' REQUIRE SSL; GRANT SELECT ON {mysql.name}.* TO {user}@'%';"
    )

    def url(options: str) -> str:
        return server.url(mysql.name, user=user, password=CANARY, options=options)

    try:
        for options in (
            "?ssl_mode=required",
            f"?ssl_mode=verify_ca&ssl_ca={folder / 'ca.pem'}",
            f"?ssl_mode=verify_identity&ssl_ca={folder / 'ca.pem'}",
        ):
            session = mysql.session(table, url(options))
            try:
                ciphers = session.rows(
                    "SELECT VARIABLE_VALUE AS v FROM information_schema.SESSION_STATUS "
                    "WHERE VARIABLE_NAME = 'Ssl_cipher'"
                )
            finally:
                session.close()
            assert ciphers[0][0] != ""
        refuses(mysql, table, SourceRefused, "refused", url("?ssl_mode=disabled"))
        stranger = f"?ssl_mode=verify_ca&ssl_ca={folder / 'other.pem'}"
        refuses(mysql, table, SourceRefused, "TLS/SSL error: ", url(stranger))
        elsewhere = url(f"?ssl_mode=verify_identity&ssl_ca={folder / 'ca.pem'}").replace(
            "127.0.0.1", "127.1"
        )  # the same address by a name that the certificate does not have
        refuses(mysql, table, SourceRefused, "TLS/SSL error: ", elsewhere)
    finally:
        mysql.run(f"DROP USER {user}@'%';")


# -- time and breakage ------------------------------------------------------------------------------------------------


def test_a_statement_that_takes_too_long_is_ended_by_the_server(mysql: MysqlSource) -> None:
    mysql.run("CREATE VIEW v AS SELECT 1 AS id, SLEEP(30) AS slept;")
    mysql.lake = new_lake(mysql.folder / "short", statement_timeout_s=6)
    refuses(mysql, mysql.spec("id: int32; slept: int64", table="v"), SourceUnavailable, "does not answer or broke off")
    assert mysql.run("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '%SLEEP(30)%'") == [["1"]]


def test_a_connection_that_breaks_between_two_pieces_leaves_nothing(mysql: MysqlSource) -> None:
    mysql.run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT seq FROM seq_1_to_20;")
    reading = "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = '{}'"

    def kill(piece: int) -> None:
        if piece == 1:
            for (number,) in mysql.run(reading.format(READER)):
                mysql.run(f"KILL {number};")

    mysql.most_rows, mysql.before_piece = 5, kill
    spec = mysql.spec("id: int32")
    message = refuses(mysql, spec, SourceUnavailable, "does not answer or broke off")
    assert "table=t" in message
    mysql.before_piece = None
    assert len(mysql.rows(mysql.stage(spec))) == 20


def test_the_drivers_own_words_are_shown_without_the_password(mysql: MysqlSource, table: SourceSpec) -> None:
    """The scanner repeats its connection string in error texts; here it is a secret's name, so there is none."""
    import duckdb

    session = mysql.session(table)
    try:
        for broken in ("SELECT no_such_column FROM t", "SELECT 1 +"):
            with pytest.raises(duckdb.Error) as failed:
                session.rows(broken)
            shown = f"{failed.value} {session.translated(failed.value, table.tables[0], day_interval('2013-01-01'))}"
            assert PASSWORD not in shown
            assert not re.search(r"password|passwd", shown, re.IGNORECASE)
            session.connection.execute("ROLLBACK; BEGIN")
    finally:
        session.close()
