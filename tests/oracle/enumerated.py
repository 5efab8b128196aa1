"""Enumerated interleavings as trials of a fault campaign: cases of :mod:`tests.oracle.interleavings`, one per order."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from tests.campaign.campaign import Campaign
from tests.campaign.trial import Trial
from tests.oracle.interleavings import CASES, TO_THE_END, Bench, interrupted, prepare, sampled, trial
from tests.oracle.reader import ReaderLoop
from tests.oracle.world import FACT, opened_world


def enumerated(campaign: Campaign, fault: str, names: Sequence[str]) -> Iterator[Trial]:
    """Every order in which the first actor is interrupted once, and some that are drawn; quick: a few of each case.

    Args:
        campaign: its part is the policy of the table whose rows change; the plain one if it has none.
        fault: number of the fault.
        names: names of the cases.
    """
    seeds = campaign.seeds(whole=10, quick=1)
    policy = campaign.part or "plain"
    with opened_world(campaign.services, campaign.folder) as world:
        bench = Bench(world)
        bench.begin(policy, prepare)
        for case in (each for each in CASES if each.name in names and policy in each.policies):
            count = len(case.actors(bench.model))
            alone = [index for index in range(count) for _ in range(TO_THE_END)]
            stops = len(trial(bench, case, alone)[0].trace)
            orders = list(interrupted(count, stops))
            orders = orders[:: max(1, len(orders) // 4)] if campaign.quick else orders
            drawn = [order for seed in seeds for order in sampled(count, count * stops, seed, 1)]
            for number, order in enumerate([*orders, *drawn]):
                seed = seeds[max(0, number - len(orders))]
                yield _tried(bench, fault, case.name, seed, number, order)


def _tried(bench: Bench, fault: str, name: str, seed: int, number: int, order: list[int]) -> Trial:
    case = next(each for each in CASES if each.name == name)
    began, error = time.monotonic(), ""
    reader = ReaderLoop(bench.world.home / "warehouse", FACT)
    try:
        trial(bench, case, order, reader=reader)
    except AssertionError as found:
        error = f"no serial order ends so: {found}"[:500]
    legal = [*bench.model.seen()["releases"], bench.model.fact(), *bench.world.seen()["releases"]]
    expected = 0 if not error else None
    return Trial(
        fault,
        seed=seed,
        stage=name,
        point=f"order {number}",
        action="interrupt",
        rows_lost=expected,
        rows_duplicated=expected,
        wrong_values=expected,
        partial_reads=reader.partial_reads(legal),
        failed_reads=len(reader.failures),
        recovery_s=round(time.monotonic() - began, 2),
        error=error,
        extra={"reads": reader.reads},
    )
