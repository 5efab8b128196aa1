"""Fault 24: publishes and rollbacks at once, and a publisher that wakes behind its lease, in many orders; with readers.

How long the pointer's move takes is measured by 300 rollbacks and forth while a reader reads.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.campaign.campaign import Campaign
from tests.campaign.trial import Trial
from tests.oracle.enumerated import enumerated
from tests.oracle.interleavings import Bench, prepare
from tests.oracle.reader import ReaderLoop
from tests.oracle.world import FACT, opened_world
from warehouse.releases import Releases

PARTS = ("plain", "swap")
QUICK_PARTS = ("plain",)
ORDERS = 6
"""Tried of each case, spread over all there are; and a quarter as many drawn ones."""

CASES = (
    "publish and publish",
    "publish and refine",
    "publish and rollback",
    "rollback and publish",
    "a publisher whose lease expires, and publish",
    "a publisher whose lease expires, and rollback",
)


def trials(campaign: Campaign) -> Iterator[Trial]:
    """One trial for each of some orders of each case; or one of many moves."""
    if campaign.part == "swap":
        yield _moved(campaign)
    else:
        yield from enumerated(campaign, "24", CASES, orders=ORDERS)


def _moved(campaign: Campaign) -> Trial:
    took_ms = []
    with opened_world(campaign.services, campaign.folder) as world:
        bench = Bench(world)
        bench.begin("plain", prepare)
        releases = Releases(world.home / "warehouse")
        ids = [release.id for release in releases.all()]
        moves = campaign.seeds(whole=300, quick=30)
        with ReaderLoop(world.home / "warehouse", FACT) as reader:
            for number in moves:
                began = time.perf_counter()
                releases.rollback(ids[number % len(ids)])
                took_ms.append((time.perf_counter() - began) * 1000)
        partial = reader.partial_reads(bench.model.seen()["releases"])
    p99_ms = sorted(took_ms)[int(len(took_ms) * 0.99) - 1]
    return Trial(
        "24",
        seed=campaign.seed,
        stage="swap",
        action="rollback",
        n=len(took_ms),
        partial_reads=partial,
        failed_reads=len(reader.failures),
        extra={"reads": reader.reads, "swap_ms_p99": round(p99_ms, 2)},
    )
