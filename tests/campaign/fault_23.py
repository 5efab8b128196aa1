"""Fault 23: the same interval ingested, refined or replayed twice at once, in every order; policies are its parts."""

from __future__ import annotations

from collections.abc import Iterator

from tests.campaign.campaign import Campaign
from tests.campaign.trial import Trial
from tests.oracle.enumerated import enumerated

PARTS = ("plain", "marks", "moves")
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
    """One trial for each order of each case."""
    yield from enumerated(campaign, "23", CASES)
