"""Laws of refusing a MariaDB source: wrong login, no answer, TLS, time, a connection that breaks; nothing is left."""

from __future__ import annotations

import re
import time
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


@pytest.mark.parametrize("plugin", ["caching_sha2_password", "sha256_password", "mysql_native_password"])
@pytest.mark.parametrize("tls", ["preferred", "disabled"])
def test_every_way_of_mysql_to_check_a_password_logs_in_with_tls_and_without(
    mysql: MysqlSource, table: SourceSpec, plugin: str, tls: str
) -> None:
    """Twice: what the first login costs (a key of the server's, without TLS), the second is spared."""
    active = f"SELECT 1 FROM information_schema.PLUGINS WHERE PLUGIN_NAME = '{plugin}' AND PLUGIN_STATUS = 'ACTIVE'"
    if not mysql.run(active):
        pytest.skip(f"this server has no {plugin}: it is one of the other system, or given up")
    user, made = f"u_{uuid.uuid4().hex[:8]}", "WITH" if mysql.server.is_mysql else "VIA"
    by = f"BY '{CANARY}'" if mysql.server.is_mysql else f"USING PASSWORD('{CANARY}')"
    mysql.run(f"CREATE USER {user}@'%' IDENTIFIED {made} {plugin} {by}; GRANT SELECT ON {mysql.name}.* TO {user}@'%';")
    url = mysql.server.url(mysql.name, user=user, password=CANARY, options=f"?ssl_mode={tls}")
    try:
        assert [mysql.rows(mysql.stage(table, url=url)) for _ in range(2)] == [[(1,)], [(1,)]]
    finally:
        mysql.run(f"DROP USER {user}@'%';")


def test_what_a_role_may_read_by_its_default_role_is_read_and_by_no_other(
    mysql: MysqlSource, table: SourceSpec
) -> None:
    user, role = f"u_{uuid.uuid4().hex[:8]}", f"r_{uuid.uuid4().hex[:8]}"
    mysql.run(
        f"CREATE ROLE {role}; GRANT SELECT ON {mysql.name}.* TO {role};"
        f"CREATE USER {user}@'%' IDENTIFIED BY '{CANARY}'; GRANT {role} TO {user}@'%';"
    )
    url = mysql.server.url(mysql.name, user=user, password=CANARY)
    try:
        refuses(mysql, table, SourceRefused, "Access denied for user", url)
        mysql.run(f"SET DEFAULT ROLE {role} {'TO' if mysql.server.is_mysql else 'FOR'} {user}@'%';")
        assert mysql.rows(mysql.stage(table, url=url)) == [(1,)]
    finally:
        mysql.run(f"DROP USER {user}@'%'; DROP ROLE {role};")


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
                [(_, cipher)] = session.rows("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
            finally:
                session.close()
            assert cipher != ""
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


def test_a_session_outlives_a_server_that_soon_ends_idle_ones(mysql: MysqlSource, table: SourceSpec) -> None:
    wanted = {"wait_timeout": 28_800}
    if not mysql.server.is_mysql:
        wanted |= {"idle_transaction_timeout": 0, "idle_readonly_transaction_timeout": 0}
    before = {name: mysql.run(f"SELECT @@GLOBAL.{name}")[0][0] for name in wanted}
    mysql.run("".join(f"SET GLOBAL {name} = 60;" for name in wanted))
    try:
        session = mysql.session(table)
        try:
            asked = ", ".join(f"@@SESSION.{name} AS {name}" for name in wanted)
            assert session.rows(f"SELECT {asked}") == [tuple(wanted.values())]
        finally:
            session.close()
    finally:
        mysql.run("".join(f"SET GLOBAL {name} = {value};" for name, value in before.items()))


def test_a_session_that_the_server_has_ended_for_idling_is_unavailable(mysql: MysqlSource, table: SourceSpec) -> None:
    import duckdb

    session = mysql.session(table)
    told = None
    try:
        session.connection.execute("CALL mysql_execute('my', 'SET SESSION wait_timeout = 1')")
        for _ in range(20):  # a server that slept itself may have answered
            time.sleep(2)
            try:
                session.rows("SELECT 1 AS one")
            except duckdb.Error as error:
                told = session.translated(error, None, None)
                break
    finally:
        session.close()
    assert isinstance(told, SourceUnavailable)
    assert "broke off" in str(told)


@pytest.mark.parametrize("change", ["ALTER TABLE t ADD COLUMN more int, ALGORITHM = COPY", "TRUNCATE TABLE t"])
def test_a_table_that_was_changed_in_its_form_after_the_run_connected_can_be_read_by_the_next(
    mysql: MysqlSource, table: SourceSpec, change: str
) -> None:
    with mysql.open(table) as reader:
        mysql.run(f"{change};")
        with pytest.raises(SourceUnavailable, match="cannot be read now: Table definition has changed") as refused:
            reader.stage(table.tables[0], day_interval("2013-01-01"), code="code")
    assert "altered or emptied after the run had connected" in str(refused.value)
    assert mysql.staged_files() == []
    assert mysql.stage(table).rows_staged == int(mysql.run("SELECT COUNT(*) FROM t")[0][0])


def test_a_role_that_has_used_up_its_hour_is_refused_until_later(mysql: MysqlSource, table: SourceSpec) -> None:
    user = f"u_{uuid.uuid4().hex[:8]}"
    mysql.run(
        f"CREATE USER {user}@'%' IDENTIFIED BY '{CANARY}' WITH MAX_CONNECTIONS_PER_HOUR 1;"
        f"GRANT SELECT ON {mysql.name}.* TO {user}@'%';"
    )
    url = mysql.server.url(mysql.name, user=user, password=CANARY)
    try:
        mysql.lake.discard(mysql.stage(table, url=url))
        refuses(mysql, table, SourceUnavailable, "cannot be read now: exceeded the 'max_connections_per_hour'", url)
    finally:
        mysql.run(f"DROP USER {user}@'%';")


def test_a_mysql_that_is_offline_is_unavailable(mysql: MysqlSource, table: SourceSpec) -> None:
    if not mysql.server.is_mysql:
        pytest.skip("MariaDB has no offline mode")
    mysql.run("SET GLOBAL offline_mode = 1;")
    try:
        refuses(mysql, table, SourceUnavailable, "cannot be read now: currently in offline mode")
    finally:
        mysql.run("SET GLOBAL offline_mode = 0;")


def test_a_mysql_without_md5_is_refused_at_once_with_what_its_owner_must_do(
    mysql: MysqlSource, table: SourceSpec
) -> None:
    if not mysql.server.md5_is_a_component:
        pytest.skip("this server has MD5 built in: MySQL left it out with 9.6")
    mysql.run("UNINSTALL COMPONENT 'file://component_classic_hashing';")
    try:
        assert "INSTALL COMPONENT" in refuses(mysql, table, SourceRefused, "has no MD5")
        mysql.run(  # as null as it is in FIPS mode
            "CREATE FUNCTION MD5(value text) RETURNS char(32) DETERMINISTIC RETURN NULL;"
            f"GRANT EXECUTE ON {mysql.name}.* TO {READER}@'%';"
        )
        refuses(mysql, table, SourceRefused, "has no MD5")
    finally:
        mysql.run("DROP FUNCTION IF EXISTS MD5; INSTALL COMPONENT 'file://component_classic_hashing';")


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
