"""Fault 23: the same interval ingested, refined or replayed twice at once, in many orders; policies are its parts."""

from __future__ import annotations

from collections.abc import Iterator

from tests.campaign.campaign import Campaign
from tests.campaign.trial import Trial
from tests.oracle.enumerated import enumerated

PARTS = ("plain", "marks", "moves")
QUICK_PARTS = ("plain",)
ORDERS = 6
"""Tried of each case, spread over all there are; and a quarter as many drawn ones."""

CASES = (
    "ingest and ingest",
    "refine and ingest",
    "refine, ingest and refine",
    "ingest and replay",
    "replay and ingest",
    "replay and replay",
    "replay and discard",
    "reconcile and ingest",
    "reconcile and replay",
    "history and history",
    "ingest and compaction",
    "ingest and expiry",
    "ingest and sweep",
)


def trials(campaign: Campaign) -> Iterator[Trial]:
    """One trial for each of some orders of each case."""
    yield from enumerated(campaign, "23", CASES, orders=ORDERS)
