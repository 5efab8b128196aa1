"""Several actors, one at a time: each stops at every place that can be seen by others, until it is told to go on.

::

    actor A ──●────────●──●───▶          an order such as A B B A B says who goes on from one stop to its next;
    actor B ──────●──●──────●─▶          whoever is left over at its end goes on alone, in turn

Stops are the named fault points and, where asked for, each single use of the shared state: the catalog, small files,
deletions, the warehouse's folders. Actors are threads of one process, each with a pipeline of its own. As only one of
them ever runs, an order is an exact interleaving and repeats; a lock that another actor holds is waited for by letting
that one go on.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest

from common import fault_points
from common.errors import PenstockError
from lake import commit, expiry, sqlite_catalog, storage
from warehouse import lease, releases

_SHARED = (
    (sqlite_catalog.SqliteCatalog, "_location", "catalog.load"),
    (sqlite_catalog.SqliteCatalog, "_move", "catalog.commit"),
    (storage.Storage, "write_text", "storage.write"),
    (storage.Storage, "read_json", "storage.read"),
    (storage.Storage, "delete", "storage.delete"),
    (storage.Storage, "delete_many", "storage.delete_many"),
    (releases.Releases, "all", "warehouse.list"),
    (releases.Releases, "current_id", "warehouse.pointer"),
    (releases.Releases, "_point_to", "warehouse.move"),
    (releases, "remove_folder", "warehouse.remove"),
)
"""What else can be seen by others: owner, name, and what the stop before it is called."""

PATIENCE_S = 600.0
"""After this an actor that neither stops nor ends is taken for a defect of the test."""


@contextmanager
def reaching(hook: Callable[[str], None], *, shared: bool = False) -> Iterator[None]:
    """Call ``hook`` with a name wherever a fault point is reached; and, ``shared``, before shared state is used."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):  # each that has imported it by name; getattr wakes lazy modules
            if vars(module).get("reach") is fault_points.reach and name != fault_points.__name__:
                patch.setattr(module, "reach", hook)
        for owner, name, stop in _SHARED if shared else ():
            patch.setattr(owner, name, _stopping(getattr(owner, name), hook, stop))
        yield


def _stopping(real: Callable[..., Any], hook: Callable[[str], None], stop: str) -> Callable[..., Any]:
    def stopped(*arguments: Any, **options: Any) -> Any:
        hook(stop)
        return real(*arguments, **options)

    return stopped


def _cached(self: functools.cached_property[Any], instance: Any, _owner: type | None = None) -> Any:
    """A cached property without the lock that Python 3.11 takes for all instances of a class at once.

    An actor that stops while it opens its lake would hold it, and the others, which open lakes of their own, could
    neither stop nor end. From Python 3.12 on there is none.
    """
    if instance is None:
        return self
    name = str(self.attrname)
    if name not in instance.__dict__:
        instance.__dict__[name] = self.func(instance)
    return instance.__dict__[name]


@dataclass
class Actor:
    """One of those who work at once.

    Attributes:
        name: for messages.
        work: what it does.
        at: where it stands; empty before it begins and when it has ended.
        trace: every stop it has come to.
        outcome: what ``work`` gave.
        error: the error it ended with, if it is one that a user would be told of.
        failure: any other error: a defect.
        began, ended: after how many steps of all actors together it began and ended; None as long as it has not.
    """

    name: str
    work: Callable[[], Any]
    at: str = "begin"
    trace: list[str] = field(default_factory=list)
    outcome: Any = None
    error: PenstockError | None = None
    failure: BaseException | None = None
    waits: bool = False
    began: int | None = None
    ended: int | None = None
    go: threading.Event = field(default_factory=threading.Event)


class Scheduler:
    """Runs actors in a given order.

    Args:
        actors: who; none of them has begun.
        order: indices of actors, each to go on from its stop to its next one. One that has ended is passed over, and
            so is one that waits for a lock as long as another can go on.
        wanted: whether a stop counts; all do by default.
        shared: whether each use of shared state is a stop as well.
    """

    def __init__(
        self,
        actors: Sequence[Actor],
        order: Sequence[int],
        *,
        wanted: Callable[[str], bool] = lambda _stop: True,
        shared: bool = False,
    ) -> None:
        self._actors, self._order, self._wanted, self._shared = actors, list(order), wanted, shared
        self._mine = threading.local()
        self._arrived = threading.Event()
        self._steps = 0

    def run(self) -> None:
        """Run all to their ends.

        Raises:
            AssertionError: an actor ended with an error that is no user's, or all wait for each other.
        """
        threads = [threading.Thread(target=self._act, args=(actor,), daemon=True) for actor in self._actors]
        with reaching(self._stop, shared=self._shared), pytest.MonkeyPatch.context() as patch:
            patch.setattr(functools.cached_property, "__get__", _cached)
            for module in (lease, commit, expiry):
                patch.setattr(module, "time", _Time(self._sleep, module.time))
            for thread in threads:
                thread.start()
            for index in self._order:
                self._go_on(self._actors[index])
            while left := [actor for actor in self._actors if actor.ended is None]:
                free = [actor for actor in left if not actor.waits]
                self._go_on((free or left)[0])
        for actor in self._actors:
            if actor.failure is not None:
                raise AssertionError(f"{actor.name} failed behind {actor.trace}") from actor.failure

    def _go_on(self, actor: Actor) -> None:
        if actor.ended is not None:
            return
        self._steps += 1
        actor.began = actor.began or self._steps
        self._arrived.clear()
        actor.go.set()
        assert self._arrived.wait(PATIENCE_S), f"{actor.name} does not come from {actor.at} to its next stop"
        if not actor.waits:
            for other in self._actors:
                other.waits = False  # what it did may be what the others wait for

    def _act(self, actor: Actor) -> None:
        self._mine.actor = actor
        actor.go.wait()
        actor.go.clear()
        try:
            actor.outcome = actor.work()
        except PenstockError as error:
            actor.error = error
        except BaseException as error:  # noqa: BLE001 - told by run()
            actor.failure = error
        actor.at, actor.ended, actor.waits = "", self._steps, False
        self._arrived.set()

    def _stop(self, stop: str, *, waits: bool = False) -> None:
        actor: Actor | None = getattr(self._mine, "actor", None)
        if actor is None or not (waits or self._wanted(stop)):
            return
        actor.at, actor.waits = stop, waits
        actor.trace.append(stop)
        self._arrived.set()
        actor.go.wait()
        actor.go.clear()

    def _sleep(self, real: Callable[[float], None], seconds: float) -> None:
        """Who sleeps waits for somebody else: that one goes on at once."""
        if getattr(self._mine, "actor", None) is None:
            real(min(seconds, 0.01))
        else:
            self._stop("wait", waits=True)


class _Time:
    """The module ``time``, but who sleeps lets others go on."""

    def __init__(self, sleep: Callable[[Callable[[float], None], float], None], real: ModuleType) -> None:
        self._sleep, self._real = sleep, real

    def sleep(self, seconds: float) -> None:
        """See :meth:`Scheduler._sleep`."""
        self._sleep(self._real.sleep, seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
