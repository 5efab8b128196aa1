"""Small worlds in which two or three work at once, and every order in which they can be let go.

One trial is one exact interleaving: the world is put back to its beginning, the actors run in that order, and what they
leave must be what the model says of some serial order of them. Orders are enumerated by how often an actor is
interrupted: with one interruption an order is a stop of one actor at which all others do their whole work.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.oracle import operations as ops
from tests.oracle.machine import run_at_once
from tests.oracle.model import Model
from tests.oracle.operations import Operation
from tests.oracle.scheduler import Actor
from tests.oracle.world import DAYS, POLICIES, World

TO_THE_END = 500
"""More steps than any actor has stops."""


@dataclass
class Bench:
    """A world that can be put back to where it began.

    Iceberg's metadata hold absolute paths, so the state folder stays where it is and its content comes and goes.
    """

    world: World
    model: Model = field(init=False)
    saved: Path = field(init=False)

    def begin(self, policy: str, prepare: Callable[[Bench], None]) -> None:
        """Make the world's beginning."""
        self.model = Model(POLICIES[policy])
        self.world.begin(POLICIES[policy])
        prepare(self)
        assert self.world.seen() == self.model.seen()
        self.saved = self.world.folder / "saved"
        shutil.rmtree(self.saved, ignore_errors=True)
        shutil.copytree(self.world.home, self.saved, symlinks=True)
        self.world.sql("DROP TABLE IF EXISTS {s}.saved")
        self.world.sql("CREATE TABLE {s}.saved AS SELECT * FROM {s}.t")

    def restore(self) -> None:
        """Put it back."""
        shutil.rmtree(self.world.home)
        shutil.copytree(self.saved, self.world.home, symlinks=True)
        self.world.sql("TRUNCATE {s}.t")
        self.world.sql("INSERT INTO {s}.t SELECT * FROM {s}.saved")

    def do(self, *operations: Operation) -> None:
        """Do operations one after the other."""
        for operation in operations:
            outcome = operation.real(self.world, self.world.pipeline())
            *_, self.model = operation.states(self.model, outcome)


def prepare(bench: Bench) -> None:
    """Three releases and what is refined since, rows in both quarantines, and a source that has gone on."""
    rows = ((1, 0, 10), (2, 0, 20), (3, 0, -5), (4, 1, 30), (5, 1, 950), (6, 1, -6))
    bench.do(*(ops.change(id_, DAYS[day], id_, amount) for id_, day, amount in rows))
    bench.do(*map(ops.ingest, DAYS[:2]))
    if bench.model.policy.marks:
        bench.do(ops.sync_history())
    bench.do(*map(ops.refine, DAYS[:2]), ops.build_and_publish())
    bench.do(ops.change(7, DAYS[0], 7, 70), ops.ingest(DAYS[0]), ops.refine(DAYS[0]), ops.build_and_publish())
    bench.do(ops.rollback(0), ops.build_and_publish())
    bench.do(ops.change(9, DAYS[1], 9, 90), ops.ingest(DAYS[1]), ops.refine(DAYS[1]))
    bench.do(ops.change(10, DAYS[0], 10, 100), ops.ingest(DAYS[0]))
    bench.do(ops.change(1, DAYS[0], 11, 11), ops.change(4, DAYS[2], 14, 31), ops.change(8, DAYS[1], 8, 80))
    bench.do(ops.remove(2))


def waiting(model: Model, stage: str, amount: int | None) -> Operation:
    """A decision on every row of a stage that waits in its first or only day: of several, each has its own commit."""
    held = model.held[stage]
    chosen = {day: {row: amount for row, gone in rows.items() if not gone} for day, rows in sorted(held.items())}
    day, rows = next((day, rows) for day, rows in chosen.items() if rows)
    return ops.repair(stage, {day: rows})


Actors = Callable[[Model], Sequence[Operation]]


@dataclass(frozen=True)
class Case:
    """Who works at once.

    Attributes:
        name: a word.
        policies: the tables' policies for which it is tried.
        actors: given the model, what each does. The first is the one that is interrupted.
    """

    name: str
    actors: Actors
    policies: tuple[str, ...] = tuple(POLICIES)


def _newer(model: Model) -> Operation:
    del model
    return ops.change(1, DAYS[0], 21, 12)


CASES = (
    Case("ingest and ingest", lambda _: (ops.ingest(DAYS[0]), ops.ingest(DAYS[0]))),
    Case("ingest, a newer version, and ingest", lambda m: (ops.ingest(DAYS[0]), _newer(m), ops.ingest(DAYS[0]))),
    Case("ingest and backfill of another day", lambda _: (ops.ingest(DAYS[2]), ops.ingest(DAYS[1]))),
    Case("refine and ingest", lambda _: (ops.refine(DAYS[0]), ops.ingest(DAYS[0]))),
    Case("refine, ingest and refine", lambda _: (ops.refine(DAYS[0]), ops.ingest(DAYS[0]), ops.refine(DAYS[0]))),
    Case("ingest and replay", lambda m: (ops.ingest(DAYS[0]), waiting(m, "raw", 7))),
    Case("replay and ingest", lambda m: (waiting(m, "raw", 7), ops.ingest(DAYS[0]))),
    Case("replay and ingest of another day", lambda m: (waiting(m, "raw", 7), ops.ingest(DAYS[1]))),
    Case("replay and replay", lambda m: (waiting(m, "raw", 7), waiting(m, "raw", 8))),
    Case("replay and discard", lambda m: (waiting(m, "raw", 7), waiting(m, "raw", None))),
    Case("refined replay and refine", lambda m: (waiting(m, "refined", 9), ops.refine(DAYS[1]))),
    Case("refine and refined replay", lambda m: (ops.refine(DAYS[1]), waiting(m, "refined", 9))),
    Case("reconcile and ingest", lambda _: (ops.reconcile(), ops.ingest(DAYS[0])), ("marks", "moves")),
    Case("ingest and reconcile", lambda _: (ops.ingest(DAYS[0]), ops.reconcile()), ("marks", "moves")),
    Case("reconcile and replay", lambda m: (ops.reconcile(), waiting(m, "raw", 7)), ("marks", "moves")),
    Case("replay and reconcile", lambda m: (waiting(m, "raw", 7), ops.reconcile()), ("marks", "moves")),
    Case("history and ingest", lambda _: (ops.sync_history(), ops.ingest(DAYS[0])), ("marks", "moves")),
    Case("history and history", lambda _: (ops.sync_history(), ops.sync_history()), ("marks", "moves")),
    Case("ingest and compaction", lambda _: (ops.ingest(DAYS[0]), ops.compact())),
    Case("compaction and ingest", lambda _: (ops.compact(), ops.ingest(DAYS[0])), ("plain", "moves")),
    Case("expiry and ingest", lambda _: (ops.expire_all_but(1), ops.ingest(DAYS[0])), ("moves",)),
    Case("ingest and expiry", lambda _: (ops.ingest(DAYS[0]), ops.expire_all_but(1)), ("plain", "moves")),
    Case("sweep and ingest", lambda _: (ops.sweep(24), ops.ingest(DAYS[0])), ("moves",)),
    Case("ingest and sweep", lambda _: (ops.ingest(DAYS[0]), ops.sweep(24)), ("plain", "moves")),
    Case("publish and publish", lambda _: (ops.build_and_publish(), ops.build_and_publish()), ("plain",)),
    Case("publish and refine", lambda _: (ops.build_and_publish(), ops.refine(DAYS[1])), ("plain",)),
    Case("publish and rollback", lambda _: (ops.build_and_publish(), ops.rollback(0)), ("plain",)),
    Case("rollback and publish", lambda _: (ops.rollback(0), ops.build_and_publish()), ("plain",)),
    Case(
        "a publisher whose lease expires, and publish",
        lambda _: (ops.build_and_publish(), ops.let_the_lease_expire(), ops.build_and_publish()),
        ("plain",),
    ),
    Case(
        "a publisher whose lease expires, and rollback",
        lambda _: (ops.build_and_publish(), ops.let_the_lease_expire(), ops.rollback(0)),
        ("plain",),
    ),
)


def interrupted(actors: int, stops: int) -> Iterator[list[int]]:
    """Orders in which the first actor is interrupted once, at each of its stops, by all the others in their order."""
    others = [index for index in range(1, actors) for _ in range(TO_THE_END)]
    for stop in range(stops + 1):
        yield [0] * (stop + 1) + others


def sampled(actors: int, stops: int, seed: int, orders: int) -> Iterator[list[int]]:
    """Orders drawn by a seed: actors change at a few places, as they do on a real machine."""
    drawn = random.Random(seed)
    for _ in range(orders):
        order: list[int] = []
        while len(order) < stops:
            order += [drawn.randrange(actors)] * drawn.choice((1, 2, 4, 8, 16, 32))
        yield order


def trial(
    bench: Bench,
    case: Case,
    order: list[int],
    *,
    wanted: Callable[[str], bool] = lambda _stop: True,
    reader: AbstractContextManager[Any] | None = None,
) -> list[Actor]:
    """One interleaving; the actors as they ended.

    Args:
        bench: where; it is put back to its beginning first.
        case: who.
        order: see :class:`tests.oracle.scheduler.Scheduler`.
        wanted: the same.
        reader: reads meanwhile; not while the world is put back, which no reader is promised anything of.

    Raises:
        AssertionError: no serial order ends so, or something contradicts itself.
    """
    bench.restore()
    actors: list[Actor] = []
    with reader or nullcontext():
        run_at_once(bench.world, bench.model, list(case.actors(bench.model)), order, wanted=wanted, actors=actors)
    problems = bench.world.problems()
    assert problems == [], "; ".join(problems)
    return actors


def interrupt(
    bench: Bench, name: str, stop: str, nth: int = 1, *, reader: AbstractContextManager[Any] | None = None
) -> list[Actor]:
    """Run a case whose first actor is interrupted when it comes to a stop for the n-th time."""
    case = next(each for each in CASES if each.name == name)
    reached = 0

    def wanted(at: str) -> bool:
        nonlocal reached
        reached += at == stop
        return at == stop and reached == nth

    actors = trial(bench, case, list(range(len(case.actors(bench.model)))), wanted=wanted, reader=reader)
    assert actors[0].trace[:1] == [stop], f"{name}: {stop} was reached fewer than {nth} times"
    return actors
