"""Fault 25: a backfill during a scheduled run, in many orders, while the source goes on; policies are its parts."""

from __future__ import annotations

from collections.abc import Iterator

from tests.campaign.campaign import Campaign
from tests.campaign.trial import Trial
from tests.oracle.enumerated import enumerated

PARTS = ("plain", "marks", "moves")
QUICK_PARTS = ("plain",)
ORDERS = 12
"""Tried of each case, spread over all there are; and a quarter as many drawn ones."""

CASES = (
    "ingest, a newer version, and ingest",
    "ingest and backfill of another day",
    "replay and ingest of another day",
    "ingest and reconcile",
    "history and ingest",
)


def trials(campaign: Campaign) -> Iterator[Trial]:
    """One trial for each of some orders of each case."""
    yield from enumerated(campaign, "25", CASES, orders=ORDERS)
