"""Laws of schema drift beyond one batch: evolutions that last, guesses that are not followed, rows that tell."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from common.errors import SourceSchemaError
from ingestion.drift import Observed, compare
from ingestion.spec import ColumnSpec, TableSpec
from penstock import drift as drifts
from penstock import ledger as books
from tests.integration.ingestion.conftest import BucketSource, DatabaseSource
from tests.integration.ingestion.shops import Shop, bucket_shop, database_shop
from tests.integration.ingestion.test_drift import (
    FIRST,
    TABLE,
    by_id,
    database_rows,
    declare_objects,
    declare_table,
    lake_rows,
    waiting,
)

EVOLVE = "{added: evolve, dropped: evolve, renamed: evolve, widened: evolve}"
BIG = 5_000_000_000


def plain(value: Any) -> str | None:
    """A number, whatever its type and its zeros behind the point."""
    return None if value is None else str(Decimal(str(value)).normalize())


def shop_of(database: DatabaseSource, columns: str, table: str, on_drift: str = EVOLVE, more: str = "") -> Shop:
    """A shop with a table of its own."""
    shop = database_shop(database)
    declare_table(database, shop, on_drift, columns, more)
    database.run(table)
    return shop


def test_what_evolved_lasts_without_the_spec_and_falls_silent_once_the_spec_says_it(database: DatabaseSource) -> None:
    shop = database_shop(database)
    declare_table(database, shop, EVOLVE)
    database.run(TABLE)
    database.run(FIRST)
    shop.ingest()
    database.run(
        f"ALTER TABLE {{s}}.t ADD extra int DEFAULT 7; ALTER TABLE {{s}}.t ALTER qty TYPE bigint; "
        f"ALTER TABLE {{s}}.t RENAME note TO notes; UPDATE {{s}}.t SET qty = {BIG} WHERE id = 1"
    )
    receipt = shop.ingest()
    assert {(finding["kind"], finding["outcome"]) for finding in receipt.drift} == {
        ("renamed", "evolved"),
        ("widened", "evolved"),
        ("added", "evolved"),
    }
    evolved = lake_rows(shop)
    assert [(row["id"], row["qty"], row["note"], row["extra"]) for row in sorted(evolved, key=by_id)] == [
        (1, BIG, "a", 7),
        (2, 20, "b", 7),
        (3, None, None, 7),
    ]
    pipeline = shop.pipeline()
    assert books.problems(books.entries(pipeline), books.verify(pipeline)) == []  # with the source's own checksums
    # The lines that the findings offer, written into the spec:
    lines = {finding["kind"]: finding["write"] for finding in receipt.drift}
    assert lines == {
        "added": "- {name: extra, type: int32}",
        "widened": "- {name: qty, type: int64}",
        "renamed": "- {name: note, source_name: notes, type: string}",
    }
    columns = (
        "      - {name: id, type: int32, nullable: false}\n"
        '      - {name: amount, type: "decimal(10,2)"}\n      - {name: code, type: string, nullable: false}\n'
    ) + "".join(f"      {line}\n" for line in lines.values())
    declare_table(database, shop, "{}", columns)
    receipt = shop.ingest()
    assert [finding for finding in receipt.drift if finding["kind"] not in {"reordered"}] == []
    assert receipt.warnings == ()
    assert sorted(lake_rows(shop), key=by_id) == sorted(evolved, key=by_id)
    # And taken out again: the lake keeps the column, null from now on.
    declare_table(database, shop, "{}", columns.replace(f"      {lines['added']}\n", ""))
    database.run("UPDATE {s}.t SET qty = 1")
    shop.ingest()
    assert {(row["qty"], row["extra"]) for row in lake_rows(shop)} == {(1, None)}


@pytest.mark.parametrize(
    ("declared", "kind", "fits", "beyond"),
    [
        ("decimal(10,2)", "numeric(14,2)", "99999999.99", "123456789012.25"),
        ("decimal(10,2)", "bigint", "99999999", "9223372036854775807"),
        ("float32", "double precision", "0.5", "0.1"),
        ("float32", "double precision", "'NaN'", "1e300"),
    ],
)
def test_a_wider_number_is_kept_whole_or_set_apart(
    database: DatabaseSource, declared: str, kind: str, fits: str, beyond: str
) -> None:
    columns = f'      - {{name: id, type: int32, nullable: false}}\n      - {{name: v, type: "{declared}"}}\n'
    old = declared.replace("decimal", "numeric").replace("float32", "real")
    shop = shop_of(database, columns, f"CREATE TABLE {{s}}.t (id int PRIMARY KEY, v {old})", "{widened: quarantine}")
    database.run("INSERT INTO {s}.t VALUES (1, 0.5)")
    shop.ingest()
    database.run(f"ALTER TABLE {{s}}.t ALTER v TYPE {kind}")
    database.run(f"INSERT INTO {{s}}.t VALUES (2, {fits}), (3, {beyond}), (4, NULL)")
    receipt = shop.ingest()
    assert [row["id"] for row in waiting(shop)] == [3]
    assert (receipt.rows_in, receipt.published, receipt.quarantined) == (4, 3, 1)
    kept = {row["id"]: row["v"] for row in database_rows(database) if row["id"] != 3}
    assert {row["id"]: plain(row["v"]) for row in lake_rows(shop)} == {n: plain(v) for n, v in kept.items()}
    declare_table(database, shop, "{widened: evolve}", columns)
    receipt = shop.ingest()
    assert (receipt.published, receipt.quarantined) == (4, 0)
    source = {row["id"]: plain(row["v"]) for row in database_rows(database)}
    assert {row["id"]: plain(row["v"]) for row in lake_rows(shop)} == source


@pytest.mark.parametrize(
    ("declared", "kind"), [("decimal(10,2)", "numeric(12,3)"), ("int64", "numeric(25,0)"), ("int32", "numeric(10,1)")]
)
def test_a_widening_that_old_files_cannot_follow_is_refused_with_a_way_out(
    database: DatabaseSource, declared: str, kind: str
) -> None:
    columns = f'      - {{name: id, type: int32, nullable: false}}\n      - {{name: v, type: "{declared}"}}\n'
    shop = shop_of(database, columns, f"CREATE TABLE {{s}}.t (id int PRIMARY KEY, v {kind})")
    database.run("INSERT INTO {s}.t VALUES (1, 5)")
    with pytest.raises(SourceSchemaError, match="cannot become") as refused:
        shop.ingest()
    assert "name: v_2, source_name: v, type: " in str(refused.value)


def test_days_before_and_after_a_widening_read_as_one_table(database: DatabaseSource) -> None:
    columns = "      - {name: id, type: int32, nullable: false}\n      - {name: on_day, type: date, nullable: false}\n"
    shop = shop_of(database, columns, "CREATE TABLE {s}.t (id int PRIMARY KEY, on_day date NOT NULL)")
    window = (shop.folder / "sources" / "shop.yml").read_text()
    shop.declare(window.replace("mode: snapshot", "mode: window\n    window: {column: on_day}"))
    database.run("INSERT INTO {s}.t VALUES (1, '2013-01-01')")
    shop.ingest("2013-01-01")
    database.run(f"ALTER TABLE {{s}}.t ALTER id TYPE bigint; INSERT INTO {{s}}.t VALUES ({BIG}, '2013-01-02')")
    database.run("ALTER TABLE {s}.t ADD note text DEFAULT 'n'")
    shop.ingest("2013-01-02")
    assert [tuple(row.values()) for row in sorted(lake_rows(shop), key=by_id)] == [
        (1, date(2013, 1, 1), None),
        (BIG, date(2013, 1, 2), "n"),
    ]


def test_rows_without_a_day_are_never_passed_over(database: DatabaseSource) -> None:
    columns = "      - {name: id, type: int32, nullable: false}\n      - {name: at, type: date, nullable: false}\n"
    shop = shop_of(database, columns, "CREATE TABLE {s}.t (id int PRIMARY KEY, at date)", "{nullability: quarantine}")
    spec = (shop.folder / "sources" / "shop.yml").read_text()
    shop.declare(spec.replace("mode: snapshot", "mode: window\n    window: {column: at}"))
    database.run("INSERT INTO {s}.t VALUES (1, '2013-01-01')")
    assert shop.ingest().published == 1
    database.run("INSERT INTO {s}.t VALUES (2, NULL)")
    with pytest.raises(SourceSchemaError, match="a null there, which belong to no interval"):
        shop.ingest()


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        ("ALTER TABLE {s}.t ADD PRIMARY KEY (id, code)", True),
        ("ALTER TABLE {s}.t ADD PRIMARY KEY (id, code); INSERT INTO {s}.t VALUES (1, 'e', 5, 50, 'w')", False),
        ("ALTER TABLE {s}.t ADD PRIMARY KEY (code); ALTER TABLE {s}.t ADD UNIQUE (id)", True),
    ],
)
def test_a_declared_key_goes_on_only_while_it_names_one_row(
    database: DatabaseSource, change: str, passes: bool
) -> None:
    shop = database_shop(database)
    declare_table(database, shop, "{key_changed: evolve}")
    database.run(TABLE)
    database.run(FIRST)
    database.run("ALTER TABLE {s}.t DROP CONSTRAINT t_pkey")
    database.run(change)
    if passes:
        assert shop.ingest().published == 3
    else:
        with pytest.raises(SourceSchemaError, match="rows of this batch share a declared key"):
            shop.ingest()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("ALTER TABLE {s}.t RENAME note TO remark", "not clear enough"),  # in its place, but not alike
        ("ALTER TABLE {s}.t DROP note; ALTER TABLE {s}.t ADD notes text", "not clear enough"),  # alike, elsewhere
        ("ALTER TABLE {s}.t RENAME note TO notes; ALTER TABLE {s}.t ADD note_2 text", "not clear enough"),  # two
        ("ALTER TABLE {s}.t DROP code", "it may not be null"),
        ("ALTER TABLE {s}.t DROP CONSTRAINT t_pkey; ALTER TABLE {s}.t RENAME id TO ds", "id is"),
    ],
)
def test_what_is_not_certain_is_refused_although_it_might_evolve(
    database: DatabaseSource, change: str, says: str
) -> None:
    shop = database_shop(database)
    declare_table(database, shop, EVOLVE)
    database.run(TABLE)
    database.run(FIRST)
    database.run(change)
    with pytest.raises(SourceSchemaError, match=says):
        shop.ingest()


def test_objects_of_one_day_may_differ_from_each_other(bucket: BucketSource) -> None:
    shop = bucket_shop(bucket)
    declare_objects(bucket, shop, EVOLVE)
    bucket.put("id,note,amount,qty,code\n1,a,1,1,x\n", part="a")
    bucket.put("id,amount,qty,code,extra\n2,2,2,y,E\n", part="b")
    bucket.put("code,id,notes,amount,qty\nz,3,c,3,3\n", part="c")
    receipt = shop.ingest()
    assert [(r["id"], r["note"], r["extra"], r["code"]) for r in sorted(lake_rows(shop), key=by_id)] == [
        (1, "a", None, "x"),
        (2, None, "E", "y"),
        (3, "c", None, "z"),
    ]
    assert {finding["kind"] for finding in receipt.drift} == {"added", "dropped", "renamed", "reordered"}


def test_drift_is_shown_as_recorded_and_as_the_source_is_now(database: DatabaseSource) -> None:
    shop = database_shop(database)
    declare_table(database, shop)
    database.run(TABLE)
    database.run(FIRST)
    shop.ingest()
    pipeline = shop.pipeline()
    sources = list(pipeline.sources().values())
    assert drifts.recorded(pipeline, sources) == []
    database.run("ALTER TABLE {s}.t ADD extra int")
    shop.ingest()
    database.run("ALTER TABLE {s}.t ALTER qty TYPE bigint")
    with pytest.raises(SourceSchemaError):
        shop.ingest()
    recorded = drifts.recorded(shop.pipeline(), sources)
    assert [(r["kind"], r["column"], r["outcome"], r["first"], r["last"], r["intervals"]) for r in recorded] == [
        ("added", "extra", "ignored", "whole", "whole", 1),
        ("widened", "qty", "refused", "whole", "whole", 1),
    ]
    now = drifts.live(shop.pipeline(), sources)
    assert sorted(line["kind"] for line in now) == ["added", "widened"]
    assert drifts.to_write([*recorded, *now]) == {
        "raw.shop__t": [line["write"] for line in recorded],
    }
    database.run("DROP TABLE {s}.t")
    assert "no table" in drifts.live(shop.pipeline(), sources)[0]["problem"]


def test_a_refusal_keeps_its_findings_for_people(database: DatabaseSource) -> None:
    shop = database_shop(database)
    declare_table(database, shop)
    database.run(TABLE.replace("qty int", "qty text"))
    with pytest.raises(SourceSchemaError) as refused:
        shop.ingest()
    [account] = (shop.home / "lake" / "ops" / "refusals" / str(shop.raw)).iterdir()
    assert str(account) in str(refused.value)
    [finding] = json.loads(account.read_text())["drift"]
    assert (finding["kind"], finding["declared"], finding["observed"]) == ("narrowed", "int32", "text")


def test_a_column_that_is_only_declared_under_another_name_is_no_drift() -> None:
    table = TableSpec(
        name="t",
        mode="snapshot",
        columns=(ColumnSpec(name="qty", source_name="Menge", type="int32"), ColumnSpec(name="menge", type="int32")),
    )
    observed = [
        Observed("Menge", "integer", "int32", nullable=True),
        Observed("menge", "integer", "int32", nullable=True),
    ]
    found = compare(table, observed, fit=lambda _observed, _column: "exact")
    assert found.findings == ()
    assert found.read == found.lake == table
