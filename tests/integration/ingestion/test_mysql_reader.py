"""Laws of reading a real MariaDB: one snapshot, pieces without gap or overlap, one day, names of any characters."""

from __future__ import annotations

import json
import re

import pytest

from common.errors import TerminalError
from common.intervals import day_interval
from ingestion.databases.mysql_sql import quoted
from tests.chinook import chinook_script
from tests.integration.ingestion.conftest import rejects
from tests.integration.ingestion.mysql_source import MysqlSource
from tests.integration.ingestion.shops import Shop
from tests.mariadb_server import READER


def disturb(mysql: MysqlSource, statements: list[str]) -> None:
    """Somebody writes to the source before each piece is read."""

    def write(_piece: int) -> None:
        if statements:
            mysql.run(statements.pop(0))

    mysql.before_piece = write


# -- one snapshot -----------------------------------------------------------------------------------------------------


def test_all_tables_of_a_run_are_seen_at_the_moment_it_connected(mysql: MysqlSource) -> None:
    mysql.run("CREATE TABLE a (id int PRIMARY KEY, v int); CREATE TABLE b LIKE a; CREATE TABLE c LIKE a;")
    mysql.run("INSERT INTO a VALUES (1, 10); INSERT INTO b VALUES (1, 10); INSERT INTO c VALUES (1, 10);")
    spec = mysql.spec_of([mysql.table("id: int32; v: int32", table=name) for name in "abc"])
    with mysql.open(spec) as reader:
        change = "START TRANSACTION; {}; COMMIT;"
        mysql.run(change.format("; ".join(f"UPDATE {t} SET v = 11; INSERT INTO {t} VALUES (2, 20)" for t in "abc")))
        assert (reader.shared_snapshot(), reader.moment, reader.is_alive()) == (None, "", False), "nobody can join it"
        first = reader.stage(spec.table("a"), day_interval("2013-01-01"), code="code")
        mysql.run(change.format("; ".join(f"DELETE FROM {t} WHERE id = 1; UPDATE {t} SET v = 21" for t in "abc")))
        second = reader.stage(spec.table("b"), day_interval("2013-01-01"), code="code")
        checked = reader.source_checksums(spec.table("c")) or {}
    assert mysql.rows(first) == mysql.rows(second) == [(1, 10)]
    assert checked["rows"] == 1
    assert mysql.rows(mysql.stage(spec)) == [(2, 21)]


def test_rows_that_change_between_two_pieces_are_seen_as_they_were(mysql: MysqlSource) -> None:
    mysql.run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT seq, 0 FROM seq_1_to_20;")
    mysql.most_rows = 6
    statements = [
        "UPDATE t SET v = 1; DELETE FROM t WHERE id % 2;",
        "INSERT INTO t SELECT seq, 2 FROM seq_21_to_90;",
        "UPDATE t SET id = id + 1000 WHERE id < 15;",
    ]
    disturb(mysql, statements)
    staged = mysql.stage(mysql.spec("id: int32; v: int32"))
    assert statements == []
    assert len(staged.files) == 4
    assert sorted(mysql.rows(staged)) == [(n, 0) for n in range(1, 21)]


def test_a_table_whose_engine_has_no_snapshot_is_refused_when_it_changes_while_it_is_read(mysql: MysqlSource) -> None:
    mysql.run("CREATE TABLE t (id int PRIMARY KEY) ENGINE = MyISAM; INSERT INTO t SELECT seq FROM seq_1_to_20;")
    disturb(mysql, ["DELETE FROM t WHERE id = 20;"])
    with pytest.raises(TerminalError, match="counts 20 rows and gave 19"):
        mysql.stage(mysql.spec("id: int32"))
    assert mysql.staged_files() == []
    assert len(mysql.rows(mysql.stage(mysql.spec("id: int32")))) == 19


_OF_MARIADB = {"tx_isolation": "'READ-UNCOMMITTED'", "max_statement_time": "0.001"}
_OF_MYSQL = {
    "transaction_isolation": "'READ-UNCOMMITTED'",
    "max_execution_time": "1",
    "default_collation_for_utf8mb4": "utf8mb4_general_ci",
}


def test_no_setting_of_the_server_changes_what_is_read(mysql: MysqlSource) -> None:
    mysql.run(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamp(6), c char(4), v varchar(9) DEFAULT 'a''\\\\\"');"
        "INSERT INTO t (id, at, c) SELECT seq, '2013-01-01 12:00:00.5', 'ab' FROM seq_1_to_3;"
    )
    strange = {
        "time_zone": "'+09:00'",
        "sql_mode": "'ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH,PIPES_AS_CONCAT,HIGH_NOT_PRECEDENCE'",
        "sql_select_limit": "1",
        "character_set_server": "latin1",
        **(_OF_MYSQL if mysql.server.is_mysql else _OF_MARIADB),
    }
    before = {name: mysql.run(f"SELECT @@GLOBAL.{name}")[0][0] for name in strange}
    spec = mysql.spec("id: int32; at: timestamptz; c: string; v: string")
    plain = mysql.rows(mysql.stage(spec))
    for name, value in strange.items():
        mysql.run(f"SET GLOBAL {name} = {value};")
    try:
        staged = mysql.stage(spec)
    finally:
        for name, value in before.items():
            shown = value if value.replace(".", "").isdigit() else f"'{value}'"
            unlimited = "" if mysql.server.is_mysql else "SET SESSION max_statement_time = 0;"
            mysql.run(f"{unlimited} SET GLOBAL {name} = {shown};")
    assert mysql.rows(staged) == plain
    assert [(row[0], str(row[1]), *row[2:]) for row in plain] == [
        (n, "2013-01-01 12:00:00.500000+00:00", "ab", "a'\\\"") for n in (1, 2, 3)
    ]


# -- pieces -----------------------------------------------------------------------------------------------------------

KEYS = {
    "int": ("id", "id int PRIMARY KEY", "seq"),
    "bigint unsigned": ("id", "id bigint unsigned PRIMARY KEY", "18446744073709551615 - seq * seq"),
    "decimal": ("id", "id decimal(30,5) PRIMARY KEY", "CAST(seq AS SIGNED) / 3 - 4"),
    "text, case-blind": ("id", "id varchar(20) PRIMARY KEY", "CONCAT(IF(seq % 2, 'k', 'K'), '''\"\\\\', seq)"),
    "text, whose last blanks count": ("id", "id varchar(90) COLLATE {no_pad} PRIMARY KEY", "RPAD('k', seq, ' ')"),
    "text, binary": ("id", "id varchar(20) COLLATE utf8mb4_bin PRIMARY KEY", "CONCAT(IF(seq % 2, 'a', 'B '), seq)"),
    "text, latin1": ("id", "id varchar(20) CHARACTER SET latin1 PRIMARY KEY", "CONCAT('é', seq)"),
    "text, its beginning": ("id", "id text NOT NULL, PRIMARY KEY (id(3))", "CONCAT(LPAD(seq, 3, '0'), 'behind')"),
    "bytes": ("id", "id varbinary(20) PRIMARY KEY", "UNHEX(CONCAT('00FF', LPAD(HEX(seq), 4, '0')))"),
    "uuid": ("id", "id uuid PRIMARY KEY", "CONCAT('123e4567-e89b-12d3-a456-4266554400', LPAD(seq, 2, '0'))"),
    "time": ("id", "id time(6) PRIMARY KEY", "SEC_TO_TIME(CAST(seq AS SIGNED) * 40000 - 300000)"),
    "bit": ("id", "id bit(40) PRIMARY KEY", "seq * 1000000007"),
    "two columns": ("id, k", "id int, k varchar(9) NOT NULL, PRIMARY KEY (k, id)", "seq, CONCAT('k', seq % 4)"),
    "three columns": (
        "id, k, l",
        "id int, k int, l datetime(6), PRIMARY KEY (k, l, id)",
        "seq, seq % 2, '2013-01-01' + INTERVAL seq % 3 MICROSECOND",
    ),
    "a float, so the spec's": ("id", "id double PRIMARY KEY", "seq / 7"),
    "none, so the spec's": ("id", "id int", "seq % 7"),
    "none, and the spec's may be null": ("id", "id int, n int NULL", "seq % 7"),
}
"""Columns of the database's own key, their declaration, and 40 values for them."""

_NOT_IN_MYSQL = {"uuid"}
"""Keys of types that MySQL does not have."""


def test_pieces_hold_every_row_once_whatever_the_key(mysql: MysqlSource) -> None:
    keys = {name: key for name, key in KEYS.items() if name not in (_NOT_IN_MYSQL if mysql.server.is_mysql else ())}
    tables = {name: f"t{number}" for number, name in enumerate(keys)}
    for name, (columns, key, value) in keys.items():
        number = "" if " n int" in key else "n int NOT NULL, "
        made = key.format(no_pad="utf8mb4_0900_ai_ci" if mysql.server.is_mysql else "utf8mb4_general_nopad_ci")
        mysql.run(
            f"CREATE TABLE {tables[name]} ({number}d date, {made}); INSERT INTO {tables[name]} (n, d, {columns}) "
            f"SELECT seq, IF(seq % 5 = 0, '0000-00-00', '2013-01-01'), {value} FROM seq_1_to_40;"
        )
    mysql.most_rows = 7
    drift = {"key_changed": "evolve"}  # the declared key names one row, whatever the table's own is
    spec = mysql.spec_of([mysql.table("n: int32; d: date", table=table, on_drift=drift) for table in tables.values()])
    read = {}
    with mysql.open(spec) as reader:
        for name, table in tables.items():
            staged = reader.stage(spec.table(table), day_interval("2013-01-01"), code="code")
            numbers = sorted(n for (n,) in mysql.rows(staged, "n"))
            apart = sorted(int(re.sub(r"\D", "", position)) for _, _, position in rejects(staged))
            read[name] = (len(staged.files), numbers, apart)
    kept, apart = [n for n in range(1, 41) if n % 5], list(range(5, 41, 5))
    assert read == {name: (1 if "null" in name else 6, kept, apart) for name in keys}


def test_a_piece_is_smaller_where_rows_are_large(mysql: MysqlSource) -> None:
    mysql.run(
        "CREATE TABLE t (id int PRIMARY KEY, v longblob);"
        "INSERT INTO t SELECT seq, REPEAT('x', 4000000) FROM seq_1_to_20; ANALYZE TABLE t;"
    )
    staged = mysql.stage(mysql.spec("id: int32; v: binary"))
    assert 3 <= len(staged.files) <= 20
    assert sorted(n for (n,) in mysql.rows(staged, "id")) == list(range(1, 21))


def test_a_size_that_was_looked_up_while_the_table_was_empty_does_not_make_a_piece_of_all_of_it(
    mysql: MysqlSource,
) -> None:
    """MySQL remembers for a day what a table's size was, unless a session wants to know."""
    if not mysql.server.is_mysql:
        pytest.skip("MariaDB remembers no sizes")
    spec = mysql.spec("id: int32; v: binary")
    mysql.run("CREATE TABLE t (id int PRIMARY KEY, v longblob);")
    mysql.run("SELECT AVG_ROW_LENGTH, TABLE_ROWS FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE();")
    mysql.run(
        "INSERT INTO t SELECT seq, REPEAT('x', 4000000) FROM seq_1_to_8;"
        # What InnoDB writes there by itself some seconds later.
        "UPDATE mysql.innodb_table_stats SET n_rows = 8, clustered_index_size = 2017 "
        "WHERE database_name = DATABASE() AND table_name = 't'; FLUSH TABLE t;"
    )
    assert len(mysql.stage(spec).files) >= 2


# -- intervals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "word", "instants", "inside"),
    [
        (
            "timestamp(6)",
            "timestamptz",
            [
                *("2013-01-01 04:59:59.999999", "2013-01-01 05:00:00"),  # New York's midnight
                *("2013-01-02 04:59:59.999999", "2013-01-02 05:00:00"),
            ],
            [1, 2],
        ),
        (
            "datetime(6)",
            "timestamp",
            ["2012-12-31 23:59:59.999999", "2013-01-01 00:00:00", "2013-01-01 23:59:59.999999", "2013-01-02 00:00:00"],
            [1, 2],
        ),
        ("date", "date", ["2012-12-31", "2013-01-01", "2013-01-02"], [1]),
    ],
)
def test_an_interval_is_half_open_on_the_clock_of_its_type(
    mysql: MysqlSource, kind: str, word: str, instants: list[str], inside: list[int]
) -> None:
    rows = ", ".join(f"({n}, '{instant}')" for n, instant in enumerate(instants))
    mysql.run(f"CREATE TABLE t (id int PRIMARY KEY, at {kind}, KEY (at)); INSERT INTO t VALUES {rows};")
    spec = mysql.spec(f"id: int32; at: {word}", cursor="at")
    staged = mysql.stage(spec)
    assert [n for (n,) in mysql.rows(staged, "id")] == inside
    assert len(mysql.rows(mysql.stage(spec, day="2012-11-05"))) == 0


# -- names ------------------------------------------------------------------------------------------------------------

PAYLOADS = (
    "a`b",
    "a``; DROP TABLE canary; -- x",
    "`; DROP TABLE canary; -- x",
    "x' OR '1'='1",
    'q"uo\\te\\',
    "\\'; DROP TABLE canary; -- x",
    "ü 日本",
    "select",
    "a/* c */b",
    "%s {x} $1 ?",
)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_name_of_any_characters_is_a_name_and_nothing_else(mysql: MysqlSource, payload: str) -> None:
    name, server = quoted(payload), mysql.server
    granted = re.sub(r"([\\_%])", r"\\\1", name)  # a grant is on a pattern
    server.run(f"CREATE DATABASE {name}; GRANT SELECT ON {granted}.* TO {READER}@'%';")
    try:
        server.run(
            f"CREATE TABLE canary (id int); CREATE TABLE {name} ({name} int PRIMARY KEY, d date, v text);"
            f"SET sql_mode = ''; INSERT INTO {name} "
            "SELECT seq, IF(seq = 3, '0000-00-00', '2013-01-01'), 'x' FROM seq_1_to_9;",
            database=payload,
        )
        mysql.most_rows = 4
        listed = (
            f"    columns:\n      - {{name: id, source_name: {json.dumps(payload)}, type: int32, nullable: false}}\n"
            "      - {name: d, type: date}\n      - {name: v, type: string}\n"
        )
        told = f"    source_name: {json.dumps(payload)}\n    schema: {json.dumps(payload)}\n"
        spec = mysql.spec_of([f"  - name: t\n    mode: snapshot\n    primary_key: [id]\n{told}{listed}"])
        staged = mysql.stage(spec)
        assert sorted(n for (n,) in mysql.rows(staged, "id")) == [1, 2, 4, 5, 6, 7, 8, 9]
        assert [position for _, _, position in rejects(staged)] == ['key {"id": 3}']
        with mysql.open(spec) as reader:
            assert (reader.source_checksums(spec.tables[0]) or {})["id"][0] == 9
        assert server.run("SELECT COUNT(*) FROM canary", database=payload) == [["0"]]
    finally:
        server.run(f"REVOKE SELECT ON {granted}.* FROM {READER}@'%'; DROP DATABASE {name};")


# -- what is set apart ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("charset", ["ascii", "hebrew"])
def test_a_text_that_has_no_form_in_utf8_is_set_apart_with_its_bytes(mysql: MysqlSource, charset: str) -> None:
    """Hebrew has no character for one of these bytes; MySQL stores nothing of a text that is no ascii."""
    file = mysql.server.folder / "stray.tsv"
    file.write_bytes(b"1\t\xa1t\xe9\n2\tplain\n")
    mysql.run(f"CREATE TABLE t (id int PRIMARY KEY, v varchar(9) CHARACTER SET {charset});")
    mysql.run(f"LOAD DATA INFILE '{file}' INTO TABLE t CHARACTER SET binary;")
    staged = mysql.stage(mysql.spec("id: int32; v: string"))
    if mysql.server.is_mysql and charset == "ascii":
        assert (mysql.rows(staged), rejects(staged)) == ([(1, ""), (2, "plain")], [])
        return
    assert mysql.rows(staged) == [(2, "plain")]
    assert rejects(staged) == [("exact_value", f"v is no text in {charset}", 'key {"id": 1}')]
    assert json.loads(staged.early_rejects["row"][0].as_py()) == {"id": 1, "v": "A174E9"}


def test_a_row_in_quarantine_is_told_as_the_database_prints_it(mysql: MysqlSource) -> None:
    mysql.run(
        "CREATE TABLE t (id int PRIMARY KEY, d date, tm time, b varbinary(4), n decimal(65,30), "
        "s text, f double, u bit(9));"
        "INSERT INTO t VALUES (1, '0000-00-00', '-30:00:01', x'00ff', '1.5', 'it''s \"ü\" \\\\', 0.1, b'101010101');"
    )
    staged = mysql.stage(
        mysql.spec("id: int32; d: date; tm: time; b: binary; n: string; s: string; f: float64; u: int32")
    )
    assert staged.rows_staged == 0
    [row] = staged.early_rejects.to_pylist()
    assert row["reason"] == "d is no day of the calendar; tm is no time of a day"
    assert json.loads(row["row"], parse_float=str) == {
        "id": 1,
        "d": "0000-00-00",
        "tm": "-30:00:01",
        "b": "00FF",
        "n": "1.500000000000000000000000000000",
        "s": 'it\'s "ü" \\',
        "f": "0.1",
        "u": 341,
    }


# -- the whole way ----------------------------------------------------------------------------------------------------


def test_a_run_publishes_what_the_database_has_and_verify_finds_no_difference(mysql: MysqlSource) -> None:
    from penstock.ledger import verify

    mysql.run(
        "CREATE TABLE t (id int PRIMARY KEY, amount decimal(20,0) unsigned, name varchar(20), f double, "
        "at timestamp(6) NULL);"
        "INSERT INTO t SELECT seq, CAST(18446744073709551615 AS DECIMAL(20,0)) + seq, CONCAT('n', seq), seq / 7, "
        "'2013-01-01 01:02:03.000004' FROM seq_1_to_500;"
    )
    shop = Shop(mysql.folder, mysql.url, "t")
    columns = "id: int32; amount: decimal(20,0); name: string; f: float64; at: timestamptz"
    mysql.spec_of([mysql.table(columns)])
    shop.declare((mysql.folder / "shop.yml").read_text())
    receipt = shop.ingest()
    assert (receipt.rows_in, receipt.published) == (500, 500)
    assert shop.ingest().state == "unchanged"
    [line] = verify(shop.pipeline())
    assert (line["source_rows"], line["columns_compared"], line["columns_that_differ"]) == (500, 5, [])
    mysql.run("UPDATE t SET f = f + 1e-9 WHERE id = 250;")
    assert verify(shop.pipeline())[0]["columns_that_differ"] == ["f"]


def test_a_database_that_nobody_here_made_is_read_as_it_is(mysql: MysqlSource) -> None:
    name = f"{mysql.name}_chinook"
    mysql.server.run(chinook_script("Chinook_MySql.sql").decode("utf-8-sig").replace("`Chinook`", quoted(name)))
    mysql.server.run(f"GRANT SELECT ON {name}.* TO {READER}@'%';")
    try:
        told = {"schema": name}
        tables = [
            mysql.table("InvoiceLineId: int32; UnitPrice: decimal(10,2); Quantity: int32", table="lines", **told),
            mysql.table("CustomerId: int32; FirstName: string; City: string", table="customers", **told),
        ]
        text = "".join(tables).replace("name: InvoiceLineId", "name: id, source_name: InvoiceLineId")
        for old, new in (
            ("UnitPrice", "price"),
            ("Quantity", "quantity"),
            ("FirstName", "first_name"),
            ("City", "city"),
        ):
            text = text.replace(f"name: {old}", f"name: {new}, source_name: {old}")
        text = text.replace("name: CustomerId", "name: id, source_name: CustomerId")
        text = text.replace("[InvoiceLineId]", "[id]").replace("[CustomerId]", "[id]")
        text = text.replace("name: lines\n", "name: lines\n    source_name: InvoiceLine\n")
        text = text.replace("name: customers\n", "name: customers\n    source_name: Customer\n")
        spec = mysql.spec_of([text])
        with mysql.open(spec) as reader:
            lines, customers = (reader.stage(t, day_interval("2013-01-01"), code="code") for t in spec.tables)
        [[rows, total]] = mysql.server.run(f"SELECT COUNT(*), SUM(UnitPrice * Quantity) FROM {name}.InvoiceLine")
        found = mysql.rows(lines, "price", "quantity")
        assert (len(found), str(sum(price * quantity for price, quantity in found))) == (int(rows), total)
        assert [rows, total] == ["2240", "2328.60"]
        cities = mysql.server.run(f"SELECT CustomerId, FirstName, City FROM {name}.Customer ORDER BY CustomerId")
        assert [[str(n), first, city] for n, first, city in sorted(mysql.rows(customers))] == cities
    finally:
        mysql.server.run(f"DROP DATABASE {name};")
