"""Laws of judging what is live: a snapshot is judged by the suite of now, interval by interval, and nothing moves."""

from __future__ import annotations

import pytest

from common.errors import GateCrashed, UnknownName
from penstock.suite_check import Checked, check_table
from tests.integration.ingestion.conftest import DatabaseSource
from tests.integration.ingestion.shops import Shop, database_shop

FIRST, SECOND = "2013-01-01", "2013-01-02"
RULE = "  - {{id: {id}, expect: {expect}, kwargs: {{{kwargs}}}, severity: critical, why: It must.}}\n"


@pytest.fixture
def shop(database: DatabaseSource) -> Shop:
    """Two days of three rows; a column came with the second day."""
    made = database_shop(database)
    database.spec_of([database.table("id: int32, at: timestamptz", cursor="at")])
    made.declare((database.folder / "shop.yml").read_text())
    database.run(
        "CREATE TABLE {s}.t AS SELECT n AS id, '2013-01-01 17:00+00'::timestamptz + "
        "((n - 1) / 3) * interval '1 day' AS at "
        "FROM generate_series(1, 6) AS n"
    )
    assert made.ingest(FIRST).published == 3
    database.run("ALTER TABLE {s}.t ADD COLUMN price int; UPDATE {s}.t SET price = id")
    database.spec_of([database.table("id: int32, at: timestamptz, price: int32", cursor="at")])
    made.declare((database.folder / "shop.yml").read_text())
    assert made.ingest(SECOND).published == 3
    return made


def ask(shop: Shop, rule_id: str, expect: str, kwargs: str) -> None:
    """Add a critical rule to the suite."""
    suite = shop.folder / "suites" / "raw" / f"{shop.raw.name}.yml"
    suite.write_text(suite.read_text() + RULE.format(id=rule_id, expect=expect, kwargs=kwargs))


def told(checked: list[Checked]) -> list[tuple[str, int, int, bool, list[tuple[str, int | None]]]]:
    """Interval, rows, rows that would be rejected, whether it is good, the rules that fail."""
    return [
        (
            each.interval,
            each.verdict.rows_checked,
            each.verdict.rejects.num_rows,
            each.is_good,
            [(failed["rule"], failed["rows_unexpected"]) for failed in each.to_dict()["failed"]],
        )
        for each in checked
    ]


def test_a_changed_suite_judges_each_live_interval_and_nothing_moves(shop: Shop) -> None:
    assert told(list(check_table(shop.pipeline(), shop.raw))) == [
        (FIRST, 3, 0, True, []),
        (SECOND, 3, 0, True, []),
    ]
    ask(shop, "id_is_small", "expect_column_values_to_be_between", "column: id, max_value: 4")
    ask(shop, "price_is_given", "expect_column_values_to_not_be_null", "column: price")
    before = shop.pipeline().lake.snapshot_id(shop.raw), sorted((shop.home / "lake").rglob("*"))
    found = list(check_table(shop.pipeline(), shop.raw))
    assert told(found) == [
        (FIRST, 3, 3, False, [("price_is_given", 3)]),  # the column came later: null in older files
        (SECOND, 3, 2, False, [("id_is_small", 2)]),
    ]
    assert found[0].to_dict()["would_refuse"], "no row would be left"
    assert told(list(check_table(shop.pipeline(), shop.raw, SECOND))) == told(found)[1:]
    assert told(list(check_table(shop.pipeline(), shop.raw, end=SECOND))) == told(found)[:1]
    assert (shop.pipeline().lake.snapshot_id(shop.raw), sorted((shop.home / "lake").rglob("*"))) == before
    assert shop.quarantined() == []


def test_what_cannot_be_judged_is_told_and_never_good(shop: Shop) -> None:
    with pytest.raises(UnknownName, match=r"Nothing of raw\.shop__t is live"):
        list(check_table(shop.pipeline(), shop.raw, "2013-02-01"))
    ask(shop, "nobody_knows", "unexpected_rows_expectation", 'unexpected_rows_query: "select nope from {batch}"')
    (first, _) = check_table(shop.pipeline(), shop.raw)
    assert not first.is_good
    assert "could not be judged" in first.to_dict()["reasons"][0]
    (shop.folder / "suites" / "raw" / f"{shop.raw.name}.yml").unlink()
    with pytest.raises(GateCrashed, match="suite"):
        list(check_table(shop.pipeline(), shop.raw))
