"""Laws of proof: rows that rotted where they lie are refused before another stage works with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import StateCorrupt
from lake.lake import Lake
from lake.paths import engine_path
from lake.proof import prove
from lake.schema import Column
from tests.integration.lake.lakes import COLUMNS, TABLE, Bench

DAY = "2013-01-01"
ROWS = [(number, f"note {number * 7919 % 1000}") for number in range(400)]


@pytest.mark.parametrize("rejected", [[], [400]], ids=["all rows", "without a rejected one"])
def test_a_flipped_bit_of_a_published_file_is_refused_wherever_it_changes_a_row(
    local: Bench, rejected: list[int]
) -> None:
    local.publish([*ROWS, (-1, "x")] if rejected else ROWS, rejected=rejected)
    [live] = local.lake.live(TABLE)
    path = Path(engine_path(live.location))
    whole = path.read_bytes()
    lake = Lake(local.settings)
    prove(lake, TABLE)
    silent = 0
    for at in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        lake.proven.clear()
        try:
            read = local.rows()
        except StateCorrupt:
            read = []
        silent += read not in ([], ROWS)
        if read == ROWS:
            continue
        with pytest.raises(StateCorrupt) as told:
            prove(lake, TABLE, [DAY])
        assert "not those that were published" in str(told.value) or "missing or damaged" in str(told.value)
    assert silent > 10, "what nobody else would have noticed"
    path.write_bytes(whole)
    prove(lake, TABLE)


def test_a_column_that_was_added_since_changes_no_proof(local: Bench) -> None:
    local.publish(ROWS, parts=2)
    lake = Lake(local.settings)
    lake.ensure(TABLE, (*COLUMNS, Column("more", "float64", True, "Added.")), partition_by="ds")
    prove(lake, TABLE)
    assert len(lake.proven) == 1


def test_a_proof_of_another_engine_proves_nothing_and_refuses_nothing(local: Bench) -> None:
    receipt = local.publish(ROWS)
    named, engine, checksum = receipt.proof.split()
    object.__setattr__(receipt, "proof", f"{named} {engine}.other {checksum[:-1]}")
    local.lake.write_receipt(TABLE, receipt)
    prove(Lake(local.settings), TABLE)
