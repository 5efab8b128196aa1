"""One task of a run holds a snapshot of the source, and the tasks that read its tables join it.

::

    hold_snapshot   tells the snapshot by XCom, and holds it until no table is left to be read
    join_snapshot   lets the tables begin when the snapshot is told, or will not be
    ingest_*        read in it; where it is gone, in one of their own, with a warning

The holder helps, and nothing depends on it. Whatever is wrong with the source, the tasks that read it say so; the
holder warns and ends in success. It is a teardown, so that not even its death decides what became of its run.

It takes a worker without using it. Were all workers taken so, the tasks it holds for could never begin; hence a pool
with fewer slots than there are workers. Where somebody chose otherwise, a holder sees that nothing moves, and lets go.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from common.errors import PenstockError

if TYPE_CHECKING:
    from penstock.held_snapshot import Holder
    from penstock.pipeline import Pipeline

States = Mapping[str, str | None]
"""By task, with its map index, the state it is in; None: it has none yet."""

LOOKS: Final = 8
"""How often the gate looks before it gives its worker back: a process costs more than to wait for some seconds."""

LOOK_PAUSE_S: Final = 0.5

POLL_S: Final = (2.0, 10.0)
"""How often the holder looks, at first and at last: a tenth of the time that it has held, within these bounds."""

STARVED_S: Final = 600.0
"""After how long without anything at work the holder lets go."""

_ENDED: Final = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
_AT_WORK: Final = frozenset({"running", "restarting", "up_for_retry", "deferred"})

log = logging.getLogger(__name__)


def shares_nothing(conf: Mapping[str, Any]) -> bool:
    """Whether a run of this configuration reads one table at most, so that there is nobody to share a snapshot with."""
    return "tables" in conf and len(set(conf["tables"])) < 2


def hold(
    source: str, key: str, *, connection: str, limit_s: float, tell: Callable[[Any], None], states: Callable[[], States]
) -> None:
    """Hold a snapshot of a source until its tables are read (:func:`hold_while`); it fails nothing.

    Args:
        source: the source.
        key: partition key of the run.
        connection: name of the source's connection.
        limit_s: longest time it is held, in s.
        tell: tells others of it (:meth:`penstock.held_snapshot.HeldSnapshot.to_dict`).
        states: of the tasks that read the source's tables, now.
    """
    from dags.penstock_dags.steps import pipeline_for

    try:
        hold_while(pipeline_for({connection}), source, key, limit_s=limit_s, tell=tell, states=states)
    except PenstockError as error:
        log.warning("no snapshot of %s is held, each table is read in one of its own: %s", source, error)


def hold_while(
    pipeline: Pipeline,
    source: str,
    key: str,
    *,
    limit_s: float,
    tell: Callable[[Any], None],
    states: Callable[[], States],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """Hold a snapshot while tables are left to be read; why it ended, empty if none is left.

    Args:
        pipeline: the stages.
        source: the source.
        key: partition key of the run.
        limit_s: longest time it is held, in s.
        tell: tells others of it.
        states: of the tasks that read the source's tables, now.
        sleep: of seconds; injectable for tests.
        clock: seconds; injectable for tests.

    Raises:
        UsageError, IntervalError, SettingsError, SourceUnavailable, SourceRefused: see ``common/errors.py``.
    """
    from penstock.held_snapshot import holding

    if not _left(states()):
        return ""
    with holding(pipeline, source, key) as holder:
        tell(holder.held.to_dict())
        log.info("%s: snapshot %s at %s is held", source, holder.held.snapshot.name, holder.held.snapshot.moment)
        began_s = clock()
        reason = _waited(holder, limit_s=limit_s, states=states, sleep=sleep, clock=clock)
        held_s = clock() - began_s
    if reason:
        log.warning("%s: the snapshot is let go after %.0f s: %s", source, held_s, reason)
    else:
        log.info("%s: all tables are read, the snapshot was held for %.0f s", source, held_s)
    return reason


def _waited(
    holder: Holder,
    *,
    limit_s: float,
    states: Callable[[], States],
    sleep: Callable[[float], None],
    clock: Callable[[], float],
) -> str:
    began_s = moved_s = clock()
    before: States = {}
    while _left(now := states()):
        held_s = clock() - began_s
        if now != before or any(state in _AT_WORK for state in now.values()):
            before, moved_s = now, clock()
        if held_s >= limit_s:
            return "it may be held no longer (PENSTOCK_SNAPSHOT_HOLD_S); what is not read yet reads in one of its own"
        if clock() - moved_s >= STARVED_S:
            return "no table begins to be read; give Airflow more slots than its pools of snapshots have together"
        if not holder.reader.is_alive():
            return "the source ended its session; what has not begun reads in a snapshot of its own"
        sleep(min(POLL_S[1], max(POLL_S[0], held_s / 10)))
    return ""


def _left(states: States) -> bool:
    return any(state not in _ENDED for state in states.values())


def may_read(look: Callable[[], tuple[str | None, bool]], *, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Whether the tables may begin to be read.

    Args:
        look: the holder's state, and whether it has told a snapshot.
        sleep: of seconds; injectable for tests.
    """
    for _ in range(LOOKS):
        state, is_told = look()
        if state in _ENDED:
            if not is_told:
                log.warning("no snapshot is held: each table is read in one of its own")
            return True
        if state == "running" and is_told:
            return True
        if state in {None, "scheduled"}:
            return False  # it waits for a slot, perhaps for long
        sleep(LOOK_PAUSE_S)
    return False
