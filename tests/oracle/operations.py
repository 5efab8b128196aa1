"""What is done, twice: to the real system, and to the model. One :class:`Operation` says both."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from common.errors import PenstockError, UnknownName
from penstock.doors import roll_back
from penstock.maintenance import compact_tables, expire, sweep_lake
from penstock.pipeline import Pipeline
from tests.oracle.model import Model, Shape
from tests.oracle.world import RAW, REFINED, World
from warehouse.releases import Releases

States = Callable[[Model, Any], Iterator[Model]]


@dataclass(frozen=True)
class Operation:
    """Something that people or schedulers do.

    Attributes:
        name: for messages.
        real: does it, through a pipeline of its own; what it gives is its outcome.
        states: the model's states from before it to behind it, given the outcome.
    """

    name: str
    real: Callable[[World, Pipeline], Any]
    states: States

    def __repr__(self) -> str:
        return self.name


def _still(model: Model, _outcome: Any) -> Iterator[Model]:
    yield model


def ingest(day: str) -> Operation:
    """Bring one interval in."""
    return Operation(
        f"ingest {day}", lambda _, pipeline: pipeline.ingest("shop", "t", day).state, lambda model, _: model.ingest(day)
    )


def refine(day: str) -> Operation:
    """Refine one interval."""

    def real(_world: World, pipeline: Pipeline) -> Any:
        receipt = pipeline.refine("orders", day)
        return receipt and receipt.state

    return Operation(f"refine {day}", real, lambda model, _: model.refine(day))


def reconcile() -> Operation:
    """Mark what vanished from the source."""
    return Operation(
        "reconcile", lambda _, pipeline: pipeline.reconcile_deletes("shop", "t").marked, lambda m, _: m.reconcile()
    )


def sync_history() -> Operation:
    """Bring the history in step."""
    return Operation("history", lambda _, pipeline: pipeline.sync_history("shop", "t"), lambda m, _: m.sync_history())


def repair(stage: str, decisions: dict[str, dict[Shape, int | None]]) -> Operation:
    """Repair and replay waiting rows, and discard those whose amount is None."""
    named = {(day, row[0], row[1]): amount for day, rows in decisions.items() for row, amount in rows.items()}
    table = RAW if stage == "raw" else REFINED
    return Operation(
        f"repair {stage} {named}",
        lambda world, pipeline: world.repair(pipeline, table, named),
        lambda model, _: model.decide(stage, decisions),
    )


def change(id_: int, day: str, seq: int, amount: int | None) -> Operation:
    """A row of the source appears, or gets a new version."""

    def states(model: Model, _outcome: Any) -> Iterator[Model]:
        yield model
        after = model.copy()
        after.source[id_] = (day, seq, amount)
        yield after

    return Operation(f"put {id_} {day} {seq} {amount}", lambda world, _: world.put(id_, day, seq, amount), states)


def remove(id_: int) -> Operation:
    """A row of the source vanishes."""

    def states(model: Model, _outcome: Any) -> Iterator[Model]:
        yield model
        after = model.copy()
        after.source.pop(id_, None)
        yield after

    return Operation(f"delete {id_}", lambda world, _: world.sql(f"DELETE FROM {{s}}.t WHERE id = {id_}"), states)


def build_and_publish() -> Operation:
    """Build a release and publish it."""

    def states(model: Model, outcome: Any) -> Iterator[Model]:
        if outcome is not None:
            yield from model.publish(model.fact())
            return
        yield model

    def real(_world: World, pipeline: Pipeline) -> Any:
        release = pipeline.build_and_publish()
        return release and release.id

    return Operation("build and publish", real, states)


def build() -> Operation:
    """Build a candidate, for later."""

    def states(model: Model, outcome: Any) -> Iterator[Model]:
        yield model
        after = model.copy()
        after.built = None if outcome is None else (model.pointer, model.fact())
        yield after

    def real(_world: World, pipeline: Pipeline) -> Any:
        candidate = pipeline.build()
        return candidate and candidate.id

    return Operation("build", real, states)


def publish() -> Operation:
    """Publish the candidate that waits."""

    def states(model: Model, _outcome: Any) -> Iterator[Model]:
        assert model.built is not None
        yield from model.publish(model.built[1])

    return Operation("publish", lambda _, pipeline: pipeline.publish().id, states)


def rollback(position: int) -> Operation:
    """Point to one of the releases, counted from the oldest."""

    def real(_world: World, pipeline: Pipeline) -> str:
        releases = Releases(pipeline.settings.warehouse).all()
        if not releases:
            raise UnknownName("Nothing has been published.", remedy="publish")
        return roll_back(pipeline.settings, releases[position % len(releases)].id).id

    return Operation(f"rollback {position}", real, lambda m, _: m.rollback(position % len(m.releases)))


def let_the_lease_expire() -> Operation:
    """Two minutes pass in which the holder of the lease shows no sign of life."""

    def real(_world: World, pipeline: Pipeline) -> None:
        path = pipeline.settings.warehouse / "lease.json"
        found = json.loads(path.read_text())
        path.write_text(json.dumps({**found, "expires_at": 0.0}))

    return Operation("the lease expires", real, _still)


def compact() -> Operation:
    """Merge small files."""
    return Operation("compact", lambda _, pipeline: len(compact_tables(pipeline)), _still)


def expire_all_but(keep: int) -> Operation:
    """Take old snapshots out."""
    return Operation(f"expire all but {keep}", lambda _, pipeline: expire(pipeline, keep=keep), _still)


def sweep(grace_h: float) -> Operation:
    """Delete what nothing names; with no grace only while nobody else works."""
    return Operation(f"sweep {grace_h} h", lambda _, pipeline: sweep_lake(pipeline, grace_h=grace_h).files, _still)


# -- several at once ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """An operation that was done beside others.

    Attributes:
        operation: what was done.
        outcome: what it gave.
        error: the error it ended with, if it did: any part of it may have happened that a crash might have left.
        began, ended: when, by one count of steps.
    """

    operation: Operation
    outcome: Any
    error: PenstockError | None
    began: int
    ended: int


def serial_ends(model: Model, done: Sequence[Done]) -> list[Model]:
    """Where the model ends if these operations come one after the other.

    In any order, but that what had ended before another began comes before it.
    """
    ends: list[Model] = []
    for order in permutations(done):
        if all(one.began < other.ended for n, one in enumerate(order) for other in order[n + 1 :]):
            ends += _ends(model, order)
    return ends


def _ends(model: Model, order: Sequence[Done]) -> Iterator[Model]:
    if not order:
        yield model
        return
    first, *rest = order
    states = list(first.operation.states(model, first.outcome))
    for state in states[-1:] if first.error is None else states:
        yield from _ends(state, rest)
