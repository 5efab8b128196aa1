"""Laws of batches that are odd against their table's past: warned of, refused where the suite says so, never mute."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from common.errors import VolumeRefused
from lake.batches import StagedBatch
from lake.catalog import LiveFile
from lake.ops import LEDGER
from lake.paths import TableId
from penstock.anomalies import Anomalies
from penstock.records import record
from quality.suite import Suite
from tests.integration.lake.lakes import TABLE, Bench
from tests.integration.penstock.test_records import pipeline, rows, shop

__all__ = ["shop"]

LAST = date(2013, 3, 1)
USUAL = [(n, "x") for n in range(40)]


def suite(**anomaly: float) -> Suite:
    rule = {"id": "a", "expect": "expect_column_to_exist", "kwargs": {"column": "id"}, "severity": "info", "why": "."}
    return Suite.model_validate({"suite": "raw/shop__orders", "anomaly": anomaly or None, "expectations": [rule]})


def past_of_sixteen_days(bench: Bench) -> None:
    for n in range(1, 17):
        bench.publish(USUAL, (LAST - timedelta(days=n)).isoformat())


def checked(bench: Bench, count: int, *, accepted: frozenset[str] = frozenset(), **anomaly: float) -> StagedBatch:
    anomalies = Anomalies(bench.lake, lambda _name: suite(**anomaly), accepted=accepted, run_id="run")
    return anomalies.check(bench.stage([(n, "y") for n in range(count)], LAST.isoformat()))


def test_an_unusual_batch_is_warned_of_refused_and_let_pass_as_it_was_asked_for(shop: Bench) -> None:
    past_of_sixteen_days(shop)
    assert checked(shop, 38).warnings == ()
    (warning,) = checked(shop, 4).warnings
    assert warning == (
        "2013-03-01: unusual volume: 4 rows on a Friday; the last 19 days had 1 to 40, median 40: 90% below"
    )
    before = shop.state()
    with pytest.raises(VolumeRefused, match=r"4 rows on a Friday.*--accept-volume raw\.shop__orders") as refused:
        checked(shop, 4, warn=2.0, refuse=5.0)
    assert shop.state()[:3] == before[:3]
    assert refused.value.exit_code == 1
    (warning,) = checked(shop, 4, accepted=frozenset([str(TABLE)]), warn=2.0, refuse=5.0).warnings
    assert "unusual volume" in warning
    record(pipeline(shop))
    told = [
        row for row in rows(shop, LEDGER, "outcome, partition_key, rows_in, rejected, reason") if row[0] == "refused"
    ]
    reason = "anomaly: 4 rows on a Friday; the last 19 days had 1 to 40, median 40: 90% below"
    assert told == [("refused", "2013-03-01", 4, 4, reason)]


def test_too_short_a_past_and_rows_that_are_there_already_are_no_news(shop: Bench) -> None:
    assert checked(shop, 4).warnings == ()
    past_of_sixteen_days(shop)
    shop.publish([(1, "y")], LAST.isoformat())
    assert checked(shop, 1).warnings == ()


def test_the_past_is_read_once_a_run_and_grows_with_it(shop: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    anomalies = Anomalies(shop.lake, lambda _name: suite(), accepted=frozenset(), run_id="run")
    read: list[TableId] = []
    real = shop.lake.live

    def noted(table: TableId) -> list[LiveFile]:
        read.append(table)
        return real(table)

    monkeypatch.setattr(shop.lake, "live", noted)
    for n in range(16):
        staged = anomalies.check(shop.stage(USUAL, (LAST - timedelta(days=n + 1)).isoformat()))
        assert staged.warnings == ()
    assert anomalies.check(shop.stage(USUAL[:4], LAST.isoformat())).warnings
    assert read == [TABLE]
