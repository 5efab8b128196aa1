"""Two or three at once, each law at the one order that breaks it; every order is tried by ``make faults`` (23, 24, 25).

The first actor is interrupted where its work is half done; the others then do all of theirs, and it goes on.
"""

from __future__ import annotations

from functools import cached_property

import pytest

from tests.oracle.interleavings import Bench, interrupt, prepare
from tests.oracle.reader import ReaderLoop
from tests.oracle.scheduler import Actor, Scheduler
from tests.oracle.world import FACT


@pytest.fixture(params=["plain", "moves"])
def begun(request: pytest.FixtureRequest, bench: Bench) -> Bench:
    """Three releases, rows that wait, and a source that has gone on since."""
    bench.begin(str(request.param), prepare)
    return bench


def test_an_actor_that_stops_while_it_opens_something_of_its_own_holds_up_no_other() -> None:
    class Opens:
        @cached_property
        def opened(self) -> bool:
            scheduler._stop("opening")
            return True

    actors = [Actor(name, lambda: Opens().opened) for name in "ab"]
    scheduler = Scheduler(actors, [0, 1, 1, 0])
    scheduler.run()
    assert [actor.outcome for actor in actors] == [True, True]


def test_what_is_done_at_once_ends_as_if_one_had_come_after_the_other(begun: Bench) -> None:
    """An interval that a run read before another one published a newer state of it is read again; a replay that was
    recorded meanwhile is not undone; a replay that work on another day overtakes keeps its receipt; what is refined is
    accounted for by the raw rows that were read.
    """
    for name, stop, nth in (
        ("ingest, a newer version, and ingest", "ingest.extract.after_write", 1),
        ("ingest and replay", "lake.publish.before_commit", 1),
        ("replay and ingest of another day", "lake.rework.before_commit", 1),
        ("refine and ingest", "refine.write.after_write", 1),
        ("refine, ingest and refine", "refine.write.after_write", 1),
    ):
        errors = [actor.error for actor in interrupt(begun, name, stop, nth)]
        assert errors == [None] * len(errors), name


def test_a_publisher_whose_lease_has_expired_takes_no_release_from_who_came_after_it(bench: Bench) -> None:
    bench.begin("plain", prepare)
    for name, stop in (
        ("a publisher whose lease expires, and publish", "warehouse.build.after_models"),
        ("a publisher whose lease expires, and rollback", "warehouse.build.after_models"),
        ("a publisher whose lease expires, and rollback", "warehouse.retain.before_remove"),
        ("publish and publish", "warehouse.publish.before_swap"),
        ("publish and rollback", "warehouse.publish.after_swap"),
    ):
        reader = ReaderLoop(bench.world.home / "warehouse", FACT)
        actors = interrupt(bench, name, stop, reader=reader)
        legal = [*bench.model.seen()["releases"], bench.model.fact()]
        assert (reader.partial_reads(legal), reader.failures) == (0, []), name
        outcomes = [actor.outcome for actor in actors if actor.error is None]
        assert any(outcomes), f"{name}: nobody won"
