"""Laws of schema drift: every kind, policy and reader; no wrong value, no row and no column lost in silence."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from psycopg.rows import dict_row  # noqa: TID251 - the tests own the source's tables

from common.errors import SourceSchemaError, SpecError
from lake.batches import Receipt
from lake.quarantine import quarantined
from tests.architecture.source_tree import ROOT
from tests.integration.ingestion.conftest import BucketSource, DatabaseSource
from tests.integration.ingestion.drift_cases import CASES, HEAD, ROWS, Case, table
from tests.integration.ingestion.shops import Shop, bucket_shop, database_shop

Row = dict[str, Any]
LIKE = {"id": int, "note": str, "amount": Decimal, "qty": int, "code": str}
DECLARED = """\
      - {name: id, type: int32, nullable: false}
      - {name: note, type: string}
      - {name: amount, type: "decimal(10,2)"}
      - {name: qty, type: int32}
      - {name: code, type: string, nullable: false}
"""
TABLE = "CREATE TABLE {s}.t (id int PRIMARY KEY, note text, amount numeric(10,2), qty int, code text NOT NULL)"
FIRST = "INSERT INTO {s}.t VALUES (1, 'a', 1.25, 10, 'x'), (2, 'b', 2.50, 20, 'y'), (3, NULL, NULL, NULL, 'z')"


def declare_table(
    database: DatabaseSource, shop: Shop, on_drift: str = "{}", columns: str = DECLARED, more: str = ""
) -> None:
    """A spec of the database table ``t``, which any number of rows may replace."""
    shop.declare(
        "source: shop\nkind: postgresql\nconnection: shop\nowner: me@example.org\ntables:\n  - name: t\n"
        f"    mode: snapshot\n    schema: {json.dumps(database.schema)}\n    primary_key: [id]\n{more}"
        f"    volume: {{min_share: 0}}\n    on_drift: {on_drift}\n    columns:\n{columns}"
    )


def declare_objects(bucket: BucketSource, shop: Shop, on_drift: str = "{}") -> None:
    """A spec of the objects of ``orders``."""
    shop.declare(
        "source: shop\nkind: objects\nconnection: shop\nowner: me@example.org\ntables:\n  - name: orders\n"
        f"    mode: append\n    primary_key: [id]\n    volume: {{min_share: 0}}\n    on_drift: {on_drift}\n"
        f'    objects:\n      path: "{bucket.prefix}/{{part}}/{{key}}.csv"\n    columns:\n{DECLARED}'
    )


def database_rows(database: DatabaseSource) -> list[Row]:
    """All rows of the table as PostgreSQL's own driver reads them."""
    with database.admin.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(f'SELECT * FROM "{database.schema}".t').fetchall()


def text_rows(text: str) -> list[Row]:
    """All rows of a CSV text; a value that is none of its type stays text."""
    rows: list[Row] = []
    for record in csv.DictReader(io.StringIO(text)):
        row: Row = {}
        for name, value in record.items():
            try:
                row[name] = LIKE.get(name, str)(value) if value else None
            except (ValueError, ArithmeticError):
                row[name] = value
        rows.append(row)
    return rows


def lake_rows(shop: Shop) -> list[Row]:
    """All live rows with all columns that the lake table has."""
    pipeline = shop.pipeline()
    pipeline.declare_raw()
    with pipeline.lake.connect() as connection:
        answer = connection.execute(f"SELECT * FROM {pipeline.lake.relation(shop.raw)}")
        names = [column[0] for column in answer.description or []]
        rows = [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
    return [{k: v for k, v in row.items() if k not in {"ds", "object_key", "object_line"}} for row in rows]


def waiting(shop: Shop) -> list[Row]:
    """All rows in quarantine as they came."""
    return [json.loads(row["row"]) for row in quarantined(shop.pipeline().lake, shop.raw).to_pylist()]


def as_text(row: Row) -> dict[str, str | None]:
    """A row as text, as JSON, CSV and PostgreSQL spell numbers differently."""
    return {name: None if value is None else _plain(str(value)) for name, value in row.items()}


def _plain(text: str) -> str:
    try:
        return f"{Decimal(text).normalize():f}"
    except ArithmeticError:
        return text


def by_id(row: Row) -> int:
    """Sorts rows by their key."""
    return int(str(row["id"]))


def account(case: Case, source: list[Row], shop: Shop, receipt: Receipt, figures: Callable[..., None]) -> None:
    """Every row of the source is published or in quarantine, once, with every value that the source has."""
    published, rejected = lake_rows(shop), waiting(shop)
    assert Counter(by_id(row) for row in rejected) == Counter(case.quarantined)
    assert (receipt.rows_in, receipt.published, receipt.quarantined) == (len(source), len(published), len(rejected))
    expected = [row for row in source if row["id"] not in case.quarantined]
    wanted = [{name: None if of is None else row[of] for name, of in case.columns.items()} for row in expected]
    order = sorted(published, key=by_id)
    if case.reader == "objects":  # an evolved column is text there
        wanted = [{n: str(v) if n == "extra" and v is not None else v for n, v in row.items()} for row in wanted]
    wanted.sort(key=by_id)
    dropped = set(source[0]) - set(case.columns.values()) - {finding["column"] for finding in receipt.drift}
    figures(
        action=str(case),
        rows_expected=len(source),
        rows_lost=max(0, len(source) - len(published) - len(rejected)),
        wrong_values=sum(row not in wanted for row in order),
        silent_drops=len(dropped),
    )
    assert order == wanted
    told = {of: name for name, of in case.columns.items() if of} | {"extra": "extra"}
    for row in rejected:
        own = {name: value for name, value in row.items() if name not in {"ds", "object_key", "object_line"}}
        [came] = [each for each in source if as_text({told[n]: v for n, v in each.items()}) == as_text(own)]
        assert came["id"] in case.quarantined
    # A source column that is in no row of the lake has been named: to the reader of the run, and in its receipt.
    for name in set(source[0]) - set(case.columns.values()):
        named = [finding for finding in receipt.drift if finding["column"] == name]
        assert named
        assert named[0]["outcome"] in {"ignored", "quarantined"}
        assert any(name in warning for warning in receipt.warnings)


def run_case(
    case: Case,
    shop: Shop,
    declare: Callable[[str], None],
    change: Callable[[], object],
    source: Callable[[], list[Row]],
    figures: Callable[..., None],
) -> None:
    """One cell of the table: publish, declare the policy, let the source drift, publish again, count every row."""
    policy = f"{{{case.key}: {case.policy}}}"
    if case.ends == "not loaded":
        declare(policy)
        with pytest.raises(SpecError, match=case.key):
            shop.pipeline().sources()
        return
    declare("{}")
    assert shop.ingest().published == 3
    before = lake_rows(shop), shop.pipeline().lake.snapshot_id(shop.raw)
    declare(policy)
    change()
    if case.ends == "refused":
        with pytest.raises(SourceSchemaError, match=r"source=shop table=\w+ interval=2013-01-01\] Remedy: "):
            shop.ingest()
        after = lake_rows(shop), shop.pipeline().lake.snapshot_id(shop.raw)
        figures(
            action=str(case), rows_expected=len(before[0]), wrong_values=sum(row not in before[0] for row in after[0])
        )
        assert after == before
        [kept] = (shop.home / "lake" / "ops" / "refusals" / str(shop.raw)).iterdir()
        findings = json.loads(kept.read_text())["drift"]
    else:
        receipt = shop.ingest()
        account(case, source(), shop, receipt, figures)
        findings = list(receipt.drift)
        assert shop.ingest().state == "unchanged"
    mine = [finding for finding in findings if finding["kind"] == case.key]
    assert bool(mine) == case.found
    assert {finding["policy"] for finding in mine} <= {case.policy}


@pytest.mark.parametrize("case", [case for case in CASES if case.reader == "database"], ids=str)
def test_what_a_policy_does_with_the_drift_of_a_database(
    database: DatabaseSource, case: Case, figures: Callable[..., None]
) -> None:
    """Fault 9: 8 kinds x 3 policies; wrong values 0, silent drops 0."""
    shop = database_shop(database)
    database.run(TABLE)
    database.run(FIRST)
    run_case(
        case,
        shop,
        lambda policy: declare_table(database, shop, policy),
        lambda: database.run(case.change),
        lambda: database_rows(database),
        figures,
    )


@pytest.mark.parametrize("case", [case for case in CASES if case.reader == "objects"], ids=str)
def test_what_a_policy_does_with_the_drift_of_objects(
    bucket: BucketSource, case: Case, figures: Callable[..., None]
) -> None:
    """Fault 9: 8 kinds x 3 policies; wrong values 0, silent drops 0."""
    shop = bucket_shop(bucket)
    bucket.put(f"{HEAD}\n{ROWS}")
    run_case(
        case,
        shop,
        lambda policy: declare_objects(bucket, shop, policy),
        lambda: bucket.put(case.change),
        lambda: text_rows(case.change),
        figures,
    )


def test_the_documented_table_is_this_one() -> None:
    page = (ROOT / "docs" / "drift.md").read_text()
    assert page.split("<!-- cases -->\n")[1].split("\n<!-- end -->")[0] == table()
    kinds = {case.key for case in CASES}
    assert len(kinds) == 8
    cells = {(case.key, case.policy, case.reader) for case in CASES}
    assert {
        (k, p, r) for k in kinds for p in ("evolve", "reject", "quarantine") for r in ("database", "objects")
    } <= cells
