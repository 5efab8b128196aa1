"""A disk that is full while rejected rows or the gate's results are written: nothing is published, nothing is left."""

from __future__ import annotations

import json
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

import pytest

from common.errors import DiskFull
from lake.lake import Lake
from lake.publish import find_same, identify, publish
from lake.quarantine import quarantined
from tests.doubles.disk import file_limit
from tests.integration.lake.lakes import NOW, TABLE, Bench, verdict

DAY = "2013-01-01"
LONG = [(number, f"{number:x}" * 2000) for number in (1, 2, 3)] + [(-1, "".join(map(str, range(60_000))))]
"""The last row is rejected, and larger than what is left of the disk."""


@contextmanager
def disk_that_fills_up(lake: Lake, *, at_look: int, free_bytes: int) -> Iterator[None]:
    """From the n-th look at the lake's clock on, the kernel lets no file of this process grow beyond some bytes."""
    before, clock, looks = resource.getrlimit(resource.RLIMIT_FSIZE), lake.clock, 0

    def filling() -> datetime:
        nonlocal looks
        looks += 1
        if looks == at_look:
            resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, before[1]))
        return clock()

    lake.clock = filling
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        lake.clock = clock


# The clock is looked at for the receipt, and then for the quarantined rows just before they are written.
@pytest.mark.parametrize(("at_look", "free_bytes"), [(2, 50_000), (1, 1_000)], ids=["quarantine", "validation"])
def test_a_full_disk_publishes_nothing_and_the_same_batch_passes_when_there_is_room(
    local: Bench, at_look: int, free_bytes: int
) -> None:
    local.publish([(7, "old")])
    before = local.state()
    staged = local.stage(LONG)
    judged = replace(verdict(4, [3]), validation_json=json.dumps({"results": "x" * 20_000}))
    with (
        disk_that_fills_up(local.lake, at_look=at_look, free_bytes=free_bytes),
        pytest.raises(DiskFull) as full,
    ):
        publish(local.lake, staged, judged, identity=identify(local.lake, staged), stage="ingest", run_id="run")
    assert full.value.exit_code == 3
    assert re.search(r"The disk of /\S+ is full: .*bytes are needed.*make room", str(full.value))
    assert local.state() == before
    assert quarantined(local.open(), TABLE).num_rows == 0
    assert local.lake.storage.list_files(f"file://{local.settings.lake_uri}/ops/validations") == []
    staged = local.stage(LONG)
    receipt = publish(local.lake, staged, judged, identity=identify(local.lake, staged), stage="ingest", run_id="run")
    assert (receipt.published, receipt.quarantined) == (3, 1)
    [row] = quarantined(local.open(), TABLE).to_pylist()
    assert json.loads(row["row"]) == {"ds": DAY, "id": -1, "note": LONG[-1][1]}
    assert row["quarantined_at"] == NOW


def test_a_live_receipt_that_finds_no_room_for_what_is_new_in_it_stays_what_it_was(local: Bench) -> None:
    local.publish([(1, "a")])
    live = local.lake.receipt(TABLE, DAY)
    staged = replace(local.stage([(1, "a")]), upstream={f"raw.t{number}": "batch" for number in range(2_000)})
    identity = identify(local.lake, staged)
    with file_limit(10_000), pytest.raises(DiskFull):
        find_same(local.lake, staged, identity)
    assert local.open().receipt(TABLE, DAY) == live
    staged = replace(local.stage([(1, "a")]), upstream=staged.upstream)
    find_same(local.lake, staged, identity)
    now = local.open().receipt(TABLE, DAY)
    assert now is not None
    assert now.upstream == staged.upstream


def test_a_refused_batch_keeps_great_expectations_own_result(local: Bench) -> None:
    staged = local.stage([(1, "a")])
    refused = replace(verdict(1, passed=False), validation_json='{"success": false}')
    with pytest.raises(Exception, match="refused the batch"):
        publish(local.lake, staged, refused, identity=identify(local.lake, staged), stage="ingest", run_id="run")
    [account] = local.refusal_files()
    root = local.settings.lake_uri
    assert account["verdict"]["validation"] == f"ops/validations/{TABLE}/{DAY}/{staged.attempt}.json"
    assert local.lake.storage.read_json(f"file://{root}/{account['verdict']['validation']}") == {"success": False}
