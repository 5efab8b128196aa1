"""Enumerated interleavings as trials of a fault campaign: cases of :mod:`tests.oracle.interleavings`, one per order."""

from __future__ import annotations

import json
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.campaign.campaign import Campaign
from tests.campaign.reader import FileThere, look_until
from tests.campaign.trial import Trial
from tests.forked import start
from tests.oracle.interleavings import CASES, TO_THE_END, Bench, Case, interrupted, prepare, sampled, trial
from tests.oracle.reader import ReaderLoop, digest_of
from tests.oracle.world import FACT, opened_world
from warehouse.releases import Releases

_READ_EVERY_S = 0.02


def enumerated(campaign: Campaign, fault: str, names: Sequence[str], *, orders: int) -> Iterator[Trial]:
    """Orders in which the first actor is interrupted once, some of all there are, and some that are drawn.

    Args:
        campaign: its part is the policy of the table whose rows change. A quick one makes two trials of one case.
        fault: number of the fault.
        names: names of the cases.
        orders: how many of the enumerated orders of a case are tried, spread over all of them; and a quarter as many
            drawn ones.
    """
    drawn = campaign.random(campaign.seed)
    policy = campaign.part
    cases = [each for each in CASES if each.name in names and policy in each.policies]
    with opened_world(campaign.services, campaign.folder) as world:
        bench = Bench(world)
        bench.begin(policy, prepare)
        for case in [drawn.choice(cases)] if campaign.quick else cases:
            count = len(case.actors(bench.model))
            alone = [index for index in range(count) for _ in range(TO_THE_END)]
            stops = len(trial(bench, case, alone)[0].trace)
            most = 1 if campaign.quick else orders
            chosen = [(campaign.seed, order) for order in _spread(list(interrupted(count, stops)), most, drawn)]
            for seed in campaign.seeds(whole=orders // 4, quick=1):
                chosen += [(seed, order) for order in sampled(count, count * stops, seed, 1)]
            for number, (seed, order) in enumerate(chosen):
                yield _tried(campaign, bench, fault, case, seed, number, order)


def _spread(orders: list[list[int]], most: int, drawn: random.Random) -> list[list[int]]:
    """So many of the orders at the most, at even distances from a drawn beginning."""
    if len(orders) <= most:
        return orders
    begins = drawn.random()
    return [orders[int((number + begins) * len(orders) / most)] for number in range(most)]


def _tried(campaign: Campaign, bench: Bench, fault: str, case: Case, seed: int, number: int, order: list[int]) -> Trial:
    error = ""
    reader = ForkedReader(bench.world.home / "warehouse", FACT, folder=campaign.folder)
    try:
        trial(bench, case, order, reader=reader)
    except AssertionError as found:
        error = f"no serial order ends so: {found}"[:500]
    legal = [*bench.model.seen()["releases"], bench.model.fact(), *bench.world.seen()["releases"]]
    expected = 0 if not error else None
    return Trial(
        fault,
        seed=seed,
        stage=case.name,
        point=f"order {number}",
        action="interrupt",
        rows_lost=expected,
        rows_duplicated=expected,
        wrong_values=expected,
        partial_reads=reader.partial_reads(legal),
        failed_reads=len(reader.failures),
        error=error,
        extra={"reads": reader.reads},
    )


class ForkedReader(ReaderLoop):
    """The reader in a process forked from one that has loaded everything: a trial takes less than Python's start.

    Args:
        warehouse, table: as of :class:`tests.oracle.reader.ReaderLoop`.
        folder: where it is told to stop, and answers.
    """

    def __init__(self, warehouse: Path, table: str, *, folder: Path) -> None:
        super().__init__(warehouse, table)
        self._folder, self._stop = folder, folder / "stop"

    def __enter__(self) -> Self:
        self._stop.unlink(missing_ok=True)
        arguments = [str(self.warehouse), self.table, str(self._stop), os.getpid()]
        self._forked = start(
            arguments,
            environment={"HOME": str(self._folder)},
            folder=self._folder,
            function="tests.oracle.enumerated:read",
        )
        assert self._forked.stdout.readline() == "ready\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.touch()
        out, err = self._forked.communicate(timeout=600)
        assert self._forked.wait() == 0, err
        found = json.loads(out)
        self.reads, self.answers, self.failures = found["reads"], Counter(found["answers"]), found["failures"]


def read(warehouse: str, table: str, stop: str, starter: int) -> None:
    """Read the current release until a file is there, then say what was seen. Runs in a process of its own."""
    releases, columns = Releases(Path(warehouse)), "SELECT * REPLACE (ds::VARCHAR AS ds) FROM"
    sys.stdout.write("ready\n")
    sys.stdout.flush()

    def look() -> str:
        with releases.connect() as connection:
            return digest_of(connection.execute(f"{columns} {table}").fetchall())

    looks = look_until(FileThere(Path(stop), starter), look, pause_s=_READ_EVERY_S)
    answers = Counter(answer for _, answer, _ in looks.seen)
    json.dump({"reads": answers.total(), "answers": answers, "failures": looks.failed}, sys.stdout)
