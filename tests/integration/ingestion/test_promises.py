"""Laws of what a spec promises: its gate holds the source to it without a word in the suite."""

from __future__ import annotations

import pytest

from common.errors import GateRefused
from tests.integration.ingestion.conftest import DatabaseSource
from tests.integration.ingestion.shops import SUITE, Shop, database_shop

PROMISES = "    freshness: {max_lag_s: 3600}\n    foreign_keys: [{columns: [kind], references: kinds, key: [code]}]\n"
"""Of a day's rows: the newest is of its last hour, and every kind is in the table of kinds."""


def declared(database: DatabaseSource) -> Shop:
    """Orders of a day, and the kinds that they refer to."""
    shop = database_shop(database)
    kinds = database.table("code: string", table="kinds")
    orders = database.table("id: int32, kind: string, at: timestamptz", cursor="at", more=PROMISES)
    database.spec_of([kinds, orders])
    shop.declare((database.folder / "shop.yml").read_text())
    for table, key in (("shop__kinds", "code"), ("shop__t", "id")):
        (shop.folder / "suites" / "raw" / f"{table}.yml").write_text(SUITE.format(table=table, column=key))
    database.run("CREATE TABLE {s}.kinds (code text PRIMARY KEY)")
    database.run("CREATE TABLE {s}.t (id int, kind text, at timestamptz)")
    database.run("INSERT INTO {s}.kinds VALUES ('a'), ('b')")
    assert shop.pipeline().ingest("shop", "kinds", "2013-01-01").published == 2
    return shop


def test_a_row_whose_reference_leads_nowhere_is_rejected_and_one_that_refers_to_nothing_is_not(
    database: DatabaseSource,
) -> None:
    shop = declared(database)
    database.run(  # the day of New York ends at 05:00 UTC
        "INSERT INTO {s}.t SELECT n, kind, '2013-01-02 04:30+00' "
        "FROM (VALUES (1, 'a'), (2, 'b'), (3, 'nowhere'), (4, NULL)) AS v (n, kind)"
    )
    receipt = shop.ingest()
    assert (receipt.published, receipt.quarantined) == (3, 1)
    assert [rules for rules, _ in shop.quarantined()] == ["derived_kind_in_raw__shop__kinds"]
    assert shop.rows("id") == [(1,), (2,), (4,)]


@pytest.mark.parametrize(("newest", "passes"), [("2013-01-02 04:00:00+00", True), ("2013-01-02 03:59:59+00", False)])
def test_a_batch_whose_newest_row_lags_behind_its_interval_is_refused(
    database: DatabaseSource, newest: str, passes: bool
) -> None:
    shop = declared(database)
    database.run(f"INSERT INTO {{s}}.t VALUES (1, 'a', '2013-01-01 06:00+00'), (2, 'a', '{newest}')")
    if passes:
        assert shop.ingest().published == 2
    else:
        with pytest.raises(GateRefused, match=r"derived_at_is_fresh .*shop\.yml:\d+"):
            shop.ingest()
