"""Laws of schema drift on a real MariaDB: the cells of the drift table in which it differs from PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ingestion.databases.dialect import DatabaseColumn
from tests.integration.ingestion.drift_cases import CASES, Case
from tests.integration.ingestion.mysql_source import MysqlSource
from tests.integration.ingestion.shops import Shop
from tests.integration.ingestion.test_drift import DECLARED, LIKE, Row, run_case

TABLE = "CREATE TABLE t (id int PRIMARY KEY, note text, amount decimal(10,2), qty int, code varchar(9) NOT NULL);"
FIRST = "INSERT INTO t VALUES (1, 'a', 1.25, 10, 'x'), (2, 'b', 2.50, 20, 'y'), (3, NULL, NULL, NULL, 'z');"
CHANGES = {
    ("renamed", "evolve"): "ALTER TABLE t RENAME COLUMN note TO notes;",
    ("widened", "evolve"): "ALTER TABLE t MODIFY qty bigint; INSERT INTO t VALUES (4, 'd', 4, 5000000000, 'w');",
    ("widened", "quarantine"): "ALTER TABLE t MODIFY qty bigint; INSERT INTO t VALUES (4, 'd', 4, 5000000000, 'w');",
    ("narrowed (another type)", "quarantine"): "ALTER TABLE t MODIFY qty varchar(20);",
    ("key_changed", "quarantine"): "ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (id, code);"
    "INSERT INTO t VALUES (1, 'e', 5, 50, 'w');",
}
CELLS = [case for case in CASES if case.reader == "database" and (case.kind, case.policy) in CHANGES]


def rows(mysql: MysqlSource) -> list[Row]:
    """All rows of the table as MariaDB's own client prints them."""
    names = [row[0] for row in mysql.run("SHOW COLUMNS FROM t")]
    like: dict[str, Any] = {**LIKE, "extra": int, "notes": str}
    values = [dict(zip(names, row, strict=True)) for row in mysql.run("SELECT * FROM t")]
    return [{name: None if value == "NULL" else like[name](value) for name, value in row.items()} for row in values]


@pytest.mark.parametrize("case", CELLS, ids=str)
def test_what_a_policy_does_with_the_drift_of_a_mariadb(
    mysql: MysqlSource, case: Case, figures: Callable[..., None]
) -> None:
    """Fault 9: wrong values 0, silent drops 0."""
    shop = Shop(mysql.folder, mysql.url, "t")

    def declare(on_drift: str) -> None:
        shop.declare(
            "source: shop\nkind: mysql\nconnection: shop\nowner: me@example.org\ntables:\n  - name: t\n"
            f"    mode: snapshot\n    primary_key: [id]\n    volume: {{min_share: 0}}\n    on_drift: {on_drift}\n"
            f"    columns:\n{DECLARED}"
        )

    mysql.run(TABLE + FIRST)
    run_case(case, shop, declare, lambda: mysql.run(CHANGES[case.kind, case.policy]), lambda: rows(mysql), figures)


def test_keys_are_the_primary_key_and_the_unique_ones_without_nulls(mysql: MysqlSource) -> None:
    mysql.run(
        "CREATE TABLE t (b int NOT NULL, id int, c int NOT NULL, maybe int, word varchar(90) NOT NULL, "
        "UNIQUE KEY a_two (c, b), UNIQUE KEY with_null (b, maybe), UNIQUE KEY beginning (word(9)), KEY plain (c), "
        "PRIMARY KEY (id));"
        "CREATE TABLE `T` (other int PRIMARY KEY); CREATE VIEW v AS SELECT * FROM t;"
    )
    found = {}
    for name in ("t", "T", "v"):
        spec = mysql.spec_of([mysql.table("id: int32", table="t", source_name=name)])
        session = mysql.session(spec)
        found[name] = mysql.dialect.keys(session, spec.tables[0])
        session.close()
    assert found == {"t": (("id",), ("c", "b"), ("word",)), "T": (("other",),), "v": ()}


def test_doubles_that_no_float_holds_are_told_apart(mysql: MysqlSource) -> None:
    fits = ["0", "-0.0", "0.5", "16777216", "3.4028234663852886e38", "-2.25", "0.10000000149011612", "NULL"]
    beyond = ["0.1", "16777217", "1e39", "-1e39", "1.7976931348623157e308", "1e-45", "2.2250738585072014e-308"]
    mysql.run(f"CREATE TABLE t (v double); INSERT INTO t VALUES ({'), ('.join([*fits, *beyond])});")
    spec = mysql.spec("v: float64")
    condition = mysql.dialect.outside(DatabaseColumn("v", "double", "b", nullable=True), "float32")
    session = mysql.session(spec)
    outside = {row[0] for row in session.rows(f"SELECT v FROM t WHERE {condition}")}
    session.close()
    assert outside == {float(value) for value in beyond}
