"""Laws of objects that come, change and go: a run never deletes rows that nobody gave up, nor doubles any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.errors import EmptyBatch, VolumeRefused
from lake.batches import Receipt
from tests.integration.ingestion.folders import FolderSource
from tests.integration.ingestion.shops import Shop

SPEC = """\
source: shop
kind: objects
connection: shop
owner: me@example.org
tables:
  - name: orders
    mode: append
    primary_key: [a]
    volume: {{min_share: 0}}
    objects:
      path: "{{part}}/{{key}}.dat"
      on_vanished: {policy}
    columns:
      - {{name: a, type: int32, nullable: false}}
      - {{name: b, type: string}}
"""


@pytest.fixture
def files(tmp_path: Path) -> FolderSource:
    return FolderSource(tmp_path)


def shop_of(files: FolderSource, policy: str) -> Shop:
    shop = Shop(files.home, files.url, "orders")
    shop.declare(SPEC.format(policy=policy))
    return shop


def published(shop: Shop, files: FolderSource) -> Receipt:
    """Two objects, each with two good rows, a row that a gate rejects, a value of no such type and no record."""
    files.put("a,b\n1,x\n2,y\nbad,z\n3\n", part="p1")
    files.put("a,b\n4,x\n5,y\nworse,z\n6\n", part="p2")
    return shop.ingest()


def account(receipt: Receipt) -> tuple[int, int, int]:
    assert receipt.balanced
    return receipt.rows_in, receipt.published, receipt.quarantined


def rows(shop: Shop) -> list[tuple[Any, ...]]:
    return shop.rows("a", "b", "object_key", "object_line")


def test_a_vanished_object_is_refused_unless_the_spec_says_what_becomes_of_its_rows(files: FolderSource) -> None:
    shop = shop_of(files, "refuse")
    assert account(published(shop, files)) == (8, 4, 4)
    before, waiting = rows(shop), shop.quarantined()
    (files.folder / files.key("p2")).unlink()
    with pytest.raises(VolumeRefused, match=f"have vanished: {files.key('p2')}"):
        shop.ingest()
    assert (rows(shop), shop.quarantined()) == (before, waiting)


def test_kept_rows_of_a_vanished_object_stay_exactly_as_they_are_and_so_do_those_in_quarantine(
    files: FolderSource,
) -> None:
    shop = shop_of(files, "keep")
    published(shop, files)
    before, waiting = rows(shop), shop.quarantined()
    gone = files.folder / files.key("p2")
    content = gone.read_bytes()
    gone.unlink()
    files.put("a,b\n1,x\n2,changed\nbad,z\n3\n", part="p1")
    receipt = shop.ingest()
    assert account(receipt) == (8, 4, 4)
    assert receipt.warnings == (
        "objects since the live batch: 0 new, 1 changed, 1 vanished",
        f"objects have vanished and their rows are kept: {files.key('p2')}",
    )
    assert [entry[0] for entry in receipt.source_state["kept"]] == [files.key("p2")]
    changed = [("changed" if a == 2 else b) for a, b, _, _ in before]
    assert rows(shop) == [(a, b, key, line) for (a, _, key, line), b in zip(before, changed, strict=True)]
    assert shop.quarantined() == waiting
    assert shop.ingest().state == "unchanged"
    (files.folder / files.key("p1")).unlink()
    assert account(shop.ingest()) == (8, 4, 4)
    gone.write_bytes(content.replace(b"4,x", b"7,x"))
    assert account(shop.ingest()) == (8, 4, 4)
    assert [a for a, *_ in rows(shop)] == [1, 2, 5, 7]


def test_dropped_rows_of_a_vanished_object_go_with_a_warning_that_names_it(files: FolderSource) -> None:
    shop = shop_of(files, "drop")
    published(shop, files)
    (files.folder / files.key("p2")).unlink()
    receipt = shop.ingest()
    assert account(receipt) == (4, 2, 2)
    assert f"objects have vanished and their rows are dropped: {files.key('p2')}" in receipt.warnings
    assert [a for a, *_ in rows(shop)] == [1, 2]
    assert shop.ingest().state == "unchanged"
    (files.folder / files.key("p1")).unlink()
    with pytest.raises(EmptyBatch):
        shop.ingest()
    assert [a for a, *_ in rows(shop)] == [1, 2]


def test_a_new_object_is_told_and_reading_an_interval_again_and_again_doubles_nothing(files: FolderSource) -> None:
    shop = shop_of(files, "refuse")
    first = published(shop, files)
    assert first.warnings == ()
    assert [shop.ingest().state for _ in range(3)] == ["unchanged"] * 3
    files.put("a,b\n9,z\n", part="p3")
    receipt = shop.ingest()
    assert receipt.warnings == ("objects since the live batch: 1 new, 0 changed, 0 vanished",)
    assert [a for a, *_ in rows(shop)] == [1, 2, 4, 5, 9]
    assert account(receipt) == (9, 5, 4)
