"""Laws of the volume guard: an empty but successful answer wipes nothing, unless somebody says that it may."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from common.errors import GateRefused, UnknownName, VolumeRefused
from lake.paths import receipt_location
from tests.integration.ingestion.conftest import BucketSource, DatabaseSource
from tests.integration.ingestion.shops import DAY, Shop, bucket_shop, database_shop


def declared(database: DatabaseSource, *, cursor: str | None = None, more: str = "") -> Shop:
    """A shop with ten rows published, of a table that is replaced as a whole or by day."""
    shop = database_shop(database)
    columns = "id: int32, at: timestamptz"
    table = database.table(columns, cursor=cursor).replace("    columns:\n", f"{more}    columns:\n")
    database.spec_of([table])
    shop.declare((database.folder / "shop.yml").read_text())
    database.run(
        "CREATE TABLE {s}.t AS "
        "SELECT n AS id, '2013-01-01 12:00+00'::timestamptz AS at FROM generate_series(1, 10) AS n"
    )
    assert shop.ingest().published == 10
    return shop


@pytest.mark.parametrize("cursor", [None, "at"], ids=["snapshot", "interval"])
@pytest.mark.parametrize("left", [0, 4])
def test_an_answer_below_the_floor_is_refused_and_every_live_row_stays(
    database: DatabaseSource, cursor: str | None, left: int, figures: Callable[..., None]
) -> None:
    """Fault R1: empty and truncated "successful" answers; rows lost = 0 of 10."""
    shop = declared(database, cursor=cursor)
    before = shop.pipeline().lake.snapshot_id(shop.raw)
    database.run(f"DELETE FROM {{s}}.t WHERE id > {left}")
    with pytest.raises(VolumeRefused, match=f"{left} rows would replace 10, less than 50% of them") as refused:
        shop.ingest()
    assert f"--accept-volume {shop.raw}" in str(refused.value)
    rows = shop.rows("id")
    lost = len({(n,) for n in range(1, 11)} - set(rows))
    figures(action=f"{left} of 10 rows", rows_expected=10, rows_lost=lost, rows_duplicated=len(rows) - 10 + lost)
    assert rows == [(n,) for n in range(1, 11)]
    assert shop.pipeline().lake.snapshot_id(shop.raw) == before
    assert len(list((shop.home / "lake" / "raw").rglob("*.parquet"))) == 1  # the refused batch left no file
    (account,) = (shop.home / "lake" / "ops" / "refusals" / str(shop.raw)).iterdir()
    assert json.loads(account.read_text())["volume"] == {"rows": left, "rows_live": 10, "min_share": 0.5}


def test_an_answer_at_the_floor_passes_without_a_word(database: DatabaseSource) -> None:
    shop = declared(database)
    database.run("DELETE FROM {s}.t WHERE id > 5")
    receipt = shop.ingest()
    assert (receipt.published, receipt.warnings) == (5, ())


def test_the_override_lets_one_run_through_and_its_receipt_says_so(
    database: DatabaseSource, caplog: pytest.LogCaptureFixture
) -> None:
    shop = declared(database)
    database.run("DELETE FROM {s}.t WHERE id > 1")
    receipt = shop.ingest(accept_volume=[str(shop.raw)])
    said = "volume accepted by --accept-volume: 1 rows would replace 10, less than 50% of them"
    assert receipt.warnings == (said,)
    assert said in caplog.text
    kept = shop.pipeline().lake.receipt(shop.raw, "whole")
    assert kept is not None
    assert kept.warnings == (said,)
    assert shop.rows("id") == [(1,)]
    database.run("DELETE FROM {s}.t")
    with pytest.raises(GateRefused, match="has_rows"):  # the suite's own judgement is not overridden
        shop_with_rule(shop).ingest(accept_volume=[str(shop.raw)])


def shop_with_rule(shop: Shop) -> Shop:
    """The same shop; its suite asks for a row."""
    suite = shop.folder / "suites" / "raw" / f"{shop.raw.name}.yml"
    rule = (
        "  - {id: has_rows, expect: expect_table_row_count_to_be_between, kwargs: {min_value: 1}, severity: critical, "
    )
    suite.write_text(f"{suite.read_text()}{rule}why: It must.}}\n")
    return shop


def test_an_override_for_a_table_that_does_not_exist_is_refused(database: DatabaseSource) -> None:
    shop = declared(database)
    with pytest.raises(UnknownName, match=r"no raw table 'raw\.shop__typo'.*raw\.shop__t"):
        shop.pipeline(accept_volume=["raw.shop__typo"])


@pytest.mark.parametrize(("share", "left", "passes"), [(0, 0, True), (1, 9, False), (0.9, 9, True)])
def test_the_floor_is_the_share_that_the_spec_declares(
    database: DatabaseSource, share: float, left: int, passes: bool
) -> None:
    shop = declared(database, more=f"    volume: {{min_share: {share}}}\n")
    database.run(f"DELETE FROM {{s}}.t WHERE id > {left}")
    if passes:
        assert shop.ingest().published == left
    else:
        with pytest.raises(VolumeRefused):
            shop.ingest()


def test_a_lost_receipt_does_not_disarm_the_guard(database: DatabaseSource) -> None:
    shop = declared(database)
    lake = shop.pipeline().lake
    (attempt,) = lake.live_attempts(shop.raw).values()
    lake.storage.delete(receipt_location(lake.settings.lake_uri, shop.raw, "whole", attempt))
    database.run("DELETE FROM {s}.t")
    with pytest.raises(VolumeRefused):
        shop.ingest()


def test_an_object_that_was_cut_to_its_header_does_not_empty_its_day(bucket: BucketSource) -> None:
    """Fault 5: a torn upload whose bytes are whole and whose content is not; detected / injected = 1 / 1."""
    shop = bucket_shop(bucket)
    bucket.spec()
    shop.declare((bucket.folder / "shop.yml").read_text())
    bucket.put("a,b\n1,x\n2,y\n3,z\n")
    assert shop.ingest().published == 3
    bucket.put("a,b\n")
    with pytest.raises(VolumeRefused, match="0 rows would replace 3"):
        shop.ingest(DAY)
    assert shop.rows("a", "b") == [("1", "x"), ("2", "y"), ("3", "z")]
