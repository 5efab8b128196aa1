"""Random sequences of everything that is done to a table, compared with the model after each step."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import duckdb
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from common.errors import CommitConflict, GateRefused, PenstockError
from penstock.maintenance import maintain
from tests.oracle import operations as ops
from tests.oracle.model import Model, Shape
from tests.oracle.operations import Done, Operation, serial_ends
from tests.oracle.scheduler import Actor, Scheduler, reaching
from tests.oracle.world import DAYS, KEPT, POLICIES, World, read_fact
from warehouse.releases import Releases

IDS = st.integers(1, 4)
AMOUNTS = st.sampled_from([10, 20, -5, 950, None])
DAY = st.sampled_from(DAYS)
POINTS = (
    *("ingest.extract.before_read", "ingest.extract.after_write", "lake.merge.before_commit"),
    *("lake.publish.before_commit", "lake.publish.after_commit", "lake.deletes.before_commit"),
    *("lake.history.before_commit", "lake.rework.before_commit", "lake.ops.before_commit"),
    *("refine.write.before_write", "refine.write.after_write"),
    *("warehouse.build.before_models", "warehouse.build.after_models"),
    *("warehouse.publish.before_swap", "warehouse.publish.after_swap"),
    *("maintain.compact.before_commit", "maintain.expire.before_commit"),
    *("maintain.sweep.before_note", "maintain.sweep.before_delete"),
)


class Died(BaseException):
    """Stands for the end of a process."""


class Oracle(RuleBasedStateMachine):
    """The world, and the model that it must equal."""

    world: ClassVar[World]
    """Set by the test: services are started once."""

    def __init__(self) -> None:
        super().__init__()
        self.seq = 0
        self.readers: list[tuple[duckdb.DuckDBPyConnection, Any]] = []
        self.model = Model(POLICIES["plain"])

    def teardown(self) -> None:
        """Nothing is left over once it is swept, and nothing contradicts itself."""
        for connection, _ in self.readers:
            connection.close()
        self.readers = []
        assert maintain(self.world.pipeline()).errors == {}
        self.do(ops.sweep(0))
        self._assert_sound(swept=True)

    @initialize(policy=st.sampled_from(sorted(POLICIES)), rows=st.lists(st.tuples(IDS, DAY, AMOUNTS), max_size=5))
    def begin(self, policy: str, rows: list[tuple[int, str, int | None]]) -> None:
        """A source with some rows."""
        self.model = Model(POLICIES[policy])
        self.world.begin(POLICIES[policy])
        for id_, day, amount in rows:
            self.change(id_, day, amount)

    # -- the source ----------------------------------------------------------------------------------------------------

    @rule(id_=IDS, day=DAY, amount=AMOUNTS)
    def change(self, id_: int, day: str, amount: int | None) -> None:
        """A row appears, late perhaps, or gets a new version, perhaps in another interval."""
        self.seq += 1
        self.do(ops.change(id_, day, self.seq, amount))

    @rule(id_=IDS)
    def vanish(self, id_: int) -> None:
        """A row is deleted."""
        self.do(ops.remove(id_))

    @precondition(lambda self: not self.model.has_extra)
    @rule()
    def add_a_column(self) -> None:
        """The source drifts: a column that no spec names."""
        self.world.sql("ALTER TABLE {s}.t ADD COLUMN extra text")
        self.model.has_extra = True

    @rule()
    def change_a_type(self) -> None:
        """The source drifts: amounts become text, or numbers again."""
        self.model.as_text = not self.model.as_text
        kind = "text" if self.model.as_text else "int"
        self.world.sql(f"ALTER TABLE {{s}}.t ALTER amount TYPE {kind} USING amount::{kind}")

    # -- the lake ------------------------------------------------------------------------------------------------------

    @rule(day=DAY)
    def ingest(self, day: str) -> None:
        """A scheduled run or a backfill brings one interval in."""
        self.do(ops.ingest(day))

    @rule(day=DAY)
    def refine(self, day: str) -> None:
        """One interval is refined."""
        self.do(ops.refine(day))

    @rule()
    def bring_all(self) -> None:
        """A run over everything."""
        for operation in self._run():
            self.do(operation)

    def _run(self) -> list[Operation]:
        steps = [ops.ingest(day) for day in DAYS]
        if self.model.policy.marks:
            steps += [ops.reconcile(), ops.sync_history()]
        return [*steps, *(ops.refine(day) for day in DAYS), ops.build_and_publish()]

    @precondition(lambda self: self.model.policy.marks)
    @rule()
    def reconcile(self) -> None:
        """Vanished rows are marked."""
        self.do(ops.reconcile())

    @precondition(lambda self: self.model.policy.marks)
    @rule()
    def sync_history(self) -> None:
        """The history is brought in step."""
        self.do(ops.sync_history())

    @precondition(lambda self: any(self._waiting(stage) for stage in ("raw", "refined")))
    @rule(data=st.data())
    def repair(self, data: st.DataObject) -> None:
        """Somebody decides on waiting rows: repairs some, discards others."""
        self.do(self._draw_repair(data, alone=True))

    def _waiting(self, stage: str) -> list[tuple[str, Shape]]:
        held = self.model.held[stage]
        return sorted(((day, row) for day, rows in held.items() for row, gone in rows.items() if not gone), key=repr)

    def _draw_repair(self, data: st.DataObject, *, alone: bool) -> Operation:
        """A decision; beside others on rows of one day, for each day has its own commit."""
        stage = data.draw(st.sampled_from([stage for stage in ("raw", "refined") if self._waiting(stage)]))
        chosen = data.draw(st.lists(st.sampled_from(self._waiting(stage)), min_size=1, unique=True))
        decisions: dict[str, dict[Shape, int | None]] = {}
        for day, row in chosen if alone else [each for each in chosen if each[0] == chosen[0][0]]:
            decisions.setdefault(day, {})[row] = data.draw(st.sampled_from([7, None, -1, 951]))
        return ops.repair(stage, decisions)

    @rule(what=st.sampled_from(["compact", "expire", "sweep"]))
    def keep_house(self, what: str) -> None:
        """Maintenance changes nothing that anybody can see."""
        made = {"compact": ops.compact(), "expire": ops.expire_all_but(1), "sweep": ops.sweep(0)}
        self.do(made[what])

    # -- the warehouse -------------------------------------------------------------------------------------------------

    @rule()
    def build_and_publish(self) -> None:
        """A release is built and published, or the current one holds everything."""
        self.do(ops.build_and_publish())

    @rule()
    def build(self) -> None:
        """A candidate is built for later."""
        self.do(ops.build())

    @precondition(lambda self: self.model.built is not None)
    @rule()
    def publish(self) -> None:
        """It is published, unless another release has become current since it was built."""
        assert self.model.built is not None
        try:
            self.world.pipeline().publish()
        except CommitConflict:
            assert self.model.built[0] != self.model.pointer
        else:
            assert self.model.built[0] == self.model.pointer
            *_, self.model = self.model.publish(self.model.built[1])

    @precondition(lambda self: self.model.releases)
    @rule(position=st.integers(0, KEPT - 1))
    def rollback(self, position: int) -> None:
        """The pointer is moved back, or forth."""
        self.do(ops.rollback(position))

    @precondition(lambda self: self.model.pointer is not None and len(self.readers) < KEPT)
    @rule()
    def connect(self) -> None:
        """A reader connects; what it reads must never change, whatever becomes of its release."""
        connection = Releases(self.world.pipeline().settings.warehouse).connect()
        self.readers.append((connection, self.model.releases[self.model.pointer or 0]))

    # -- crashes and others --------------------------------------------------------------------------------------------

    def _draw(self, data: st.DataObject, *, alone: bool) -> Operation:
        kinds = [ops.ingest(data.draw(DAY)), ops.refine(data.draw(DAY)), ops.build_and_publish(), ops.compact()]
        kinds += [ops.expire_all_but(2), ops.sweep(0 if alone else 24)]
        if self.model.policy.marks:
            kinds += [ops.reconcile(), ops.sync_history()]
        if self.model.releases:
            kinds.append(ops.rollback(data.draw(st.integers(0, KEPT - 1))))
        if any(self._waiting(stage) for stage in ("raw", "refined")):
            kinds.append(self._draw_repair(data, alone=alone))
        return data.draw(st.sampled_from(kinds))

    @rule(data=st.data(), nth=st.integers(1, 8), again=st.booleans())
    def crash(self, data: st.DataObject, nth: int, again: bool) -> None:
        """A process dies at the n-th fault point it comes to; perhaps the same is done again."""
        operation, reached = self._draw(data, alone=True), Counter[str]()

        def die(point: str) -> None:
            reached["all"] += 1
            if reached["all"] == nth:
                raise Died(point)

        try:
            with reaching(die):
                outcome = operation.real(self.world, self.world.pipeline())
        except (GateRefused, CommitConflict):
            return
        except Died:
            legal = list(operation.states(self.model, "unknown"))
            seen = self.world.seen()
            matching = [state for state in legal if state.seen() == seen]
            assert matching, (operation, seen, [state.seen() for state in legal])
            if operation.name.startswith("build"):
                matching[0].built = None
            self.model = matching[0]
            if again and not operation.name.startswith("rollback"):
                self.do(operation)
            return
        self._take(operation, outcome)

    @rule(data=st.data(), seed=st.integers(0, 10_000), several=st.integers(2, 3))
    def at_once(self, data: st.DataObject, seed: int, several: int) -> None:
        """Several work at once, in an order that is drawn; what they leave is what some serial order leaves."""
        chosen = [self._draw(data, alone=False) for _ in range(several)]
        self.model = run_at_once(self.world, self.model, chosen, random.Random(seed).choices(range(several), k=60))

    # -- comparing -----------------------------------------------------------------------------------------------------

    def do(self, operation: Operation) -> None:
        """Do it, in the world and in the model."""
        try:
            outcome = operation.real(self.world, self.world.pipeline())
        except GateRefused:
            assert list(operation.states(self.model, None)) == [self.model], operation
            return
        self._take(operation, outcome)

    def _take(self, operation: Operation, outcome: Any) -> None:
        if operation.name == "build and publish":
            self.model.built = None
            if outcome is None:
                assert self.model.fact() == self.model.releases.get(self.model.pointer or 0, [])
        *_, self.model = operation.states(self.model, outcome)

    @invariant()
    def the_world_equals_the_model(self) -> None:
        """Rows, quarantine, history and releases; readers; accounts and the doctor."""
        seen, expected = self.world.seen(), self.model.seen()
        differing = {name: (seen[name], expected[name]) for name in seen if seen[name] != expected[name]}
        assert differing == {}, f"the world and the model: {differing}"
        for connection, rows in self.readers:
            found = read_fact(connection)
            assert found == rows, f"a reader that was there before reads {found}, not {rows}"
        self._assert_sound()

    def _assert_sound(self, *, swept: bool = False) -> None:
        problems = self.world.problems(swept=swept)
        assert problems == [], "; ".join(problems)


def run_at_once(
    world: World,
    model: Model,
    chosen: list[Operation],
    order: list[int],
    *,
    wanted: Callable[[str], bool] = lambda _stop: True,
    actors: list[Actor] | None = None,
) -> Model:
    """Run operations in an interleaving and find the serial order that it equals.

    Args:
        world: where.
        model: of the world before them.
        chosen: what each actor does.
        order: see :class:`Scheduler`.
        wanted: the same.
        actors: takes the actors, for those who look at their stops.

    Returns:
        The model behind it.

    Raises:
        AssertionError: there is none.
    """
    actors = [] if actors is None else actors
    actors += [Actor(operation.name, _work(world, operation)) for operation in chosen]
    Scheduler(actors, order, wanted=wanted, shared=True).run()
    done = [
        Done(operation, actor.outcome, actor.error, actor.began or 0, actor.ended or 0)
        for operation, actor in zip(chosen, actors, strict=True)
    ]
    seen = world.seen()
    ends = serial_ends(model, done)
    for end in ends:
        if end.seen() == seen:
            return end
    told = [(actor.name, actor.outcome, actor.error) for actor in actors]
    raise AssertionError((told, "seen", seen, "serial", [end.seen() for end in ends]))


def _work(world: World, operation: Operation) -> Any:
    def work() -> Any:
        return operation.real(world, world.pipeline())

    return work


__all__ = ["Oracle", "PenstockError", "run_at_once"]
