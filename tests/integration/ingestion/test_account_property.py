"""Property: whatever is ingested, refined, replayed and discarded in whatever order, every account adds up."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import DataRejected, GateRefused
from lake.quarantine import Chosen
from penstock.replay import discard
from tests.integration.ingestion.conftest import DatabaseSource
from tests.integration.ingestion.test_replay import DAY, Till, new_till

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 6), st.sampled_from([-1, 1, 2])),
        st.tuples(st.just("drop"), st.integers(1, 6), st.just(0)),
        st.tuples(st.just("ingest"), st.just(0), st.just(0)),
        st.tuples(st.just("replay"), st.integers(1, 6), st.sampled_from([-1, 5, 6])),
        st.tuples(st.just("discard"), st.integers(1, 6), st.just(0)),
        st.tuples(st.just("rule"), st.just(0), st.sampled_from([0, -1])),
    ),
    min_size=3,
    max_size=7,
)


def step(till: Till, name: str, key: int, amount: int) -> None:
    """One thing that people and schedules do; a refusal is an answer."""
    waiting = till.ids()
    match name:
        case "put":
            till.put(key, amount)
        case "drop":
            till.database.run(f"DELETE FROM {{s}}.t WHERE id = {key}")
        case "ingest":
            till.shop.ingest()
        case "replay" if key in waiting:
            till.replay({key: {"amount": str(amount)}})
        case "discard" if key in waiting:
            discard(till.shop.pipeline(), till.shop.raw, Chosen(ids=[waiting[key]]), by="ada", reason="test")
        case "rule":
            till.judge_by(amount)


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, on_update=st.sampled_from(["stays", "moves"]))
def test_every_account_adds_up_after_any_sequence_of_runs_replays_and_discards(
    made: Callable[[], Till], steps: list[tuple[str, int, int]], on_update: str
) -> None:
    till = made()
    till.declare(on_update=on_update)
    for name, key, amount in steps:
        try:
            step(till, name, key, amount)
        except DataRejected:
            continue
        till.assert_balanced()
        rows, waiting = [row[1] for row in till.rows()], till.waiting(discarded=None)
        assert len(set(rows)) == len(rows), "no key stands twice"
        assert len({row["row_id"] for row in waiting}) == len(waiting)
        assert all(json.loads(row["row"])["amount"] < 0 for row in waiting), "what waits is what came"


@pytest.fixture
def made(database: DatabaseSource) -> Callable[[], Till]:
    """Makes the same till again and again: an empty lake, the same rows."""

    def make() -> Till:
        database.run("DROP TABLE IF EXISTS {s}.t")
        folder = database.folder / f"state-{len(list(database.folder.iterdir()))}"
        folder.mkdir()
        return new_till(replace(database, folder=folder))

    return make


def test_a_receipt_that_does_not_add_up_cannot_be_written_whoever_writes_it(database: DatabaseSource) -> None:
    till = new_till(database)
    lake, receipt = till.shop.pipeline().lake, till.receipt()
    for wrong in (
        replace(receipt, published=receipt.published + 1),
        replace(receipt, discarded=receipt.quarantined + 1),
        replace(receipt, replayed=receipt.published + 1),
        replace(receipt, because={"a newer version is live": 1}),
    ):
        with pytest.raises(GateRefused, match="does not add up"):
            lake.write_receipt(till.shop.raw, wrong)
    assert lake.receipt(till.shop.raw, DAY) == receipt
