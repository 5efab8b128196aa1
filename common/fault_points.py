"""Named points at which a test can disturb the process, to prove that the end is the old version or the new one.

A point does nothing unless it is armed. ``PENSTOCK_FAULT_POINT`` arms points of a process from its start,
:func:`arm` from then on; both take rules, separated by commas, each ``point[:when][:action]``::

    lake.publish.before_commit                     kill -9 when it is reached for the first time
    lake.publish.before_commit:3                   ... at the third
    lake.publish.before_commit:2+:retryable        a retryable error at the second time and each later one
    lake.*:p=0.05/17:kill                          any point of the lake, with probability 0.05 from the seed 17
    ingest.extract.after_chunk:1:delay=2.5         wait 2.5 s
    lake.publish.after_commit:1:lost-reply         what was done is done, its answer is lost: a connection error
    refine.write.before_write:1:disk-full          OSError ENOSPC
    warehouse.build.before_models:1:clock=-3600    the process's clock steps back an hour
    lake.publish.before_commit:1:terminal          a terminal error
    refine.write.before_write:1:kill=0.05          kill it 0.05 s later, wherever it is then
    *:1+:trace                                     tell on standard error which points are reached, and when

Stages call :func:`reach` where state is about to change or has just changed.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from common import clock
from common.errors import SettingsError, StateCorrupt, StoreUnavailable

POINTS = (
    "backup.prune.before_objects",
    "backup.take.after_copy",
    "backup.take.before_publish",
    "ingest.extract.before_read",
    "ingest.extract.after_chunk",
    "ingest.extract.after_write",
    "gate.batch.before_judge",
    "gate.batch.after_judge",
    "lake.deletes.before_commit",
    "lake.history.before_commit",
    "lake.incidents.before_commit",
    "lake.merge.before_commit",
    "lake.ops.before_commit",
    "lake.quarantine.before_commit",
    "lake.rework.before_receipt",
    "lake.rework.before_commit",
    "lake.stage.before_identify",
    "lake.stage.before_receipt",
    "lake.stage.after_receipt",
    "lake.publish.before_commit",
    "lake.publish.after_commit",
    "maintain.sweep.before_note",
    "maintain.sweep.before_delete",
    "maintain.expire.before_commit",
    "maintain.compact.before_commit",
    "restore.after_file",
    "restore.before_catalog",
    "restore.before_pointer",
    "refine.write.before_write",
    "refine.write.after_write",
    "warehouse.build.before_models",
    "warehouse.build.after_models",
    "warehouse.gate.after_judge",
    "warehouse.seal.before_manifest",
    "warehouse.seal.after_manifest",
    "warehouse.publish.before_folder",
    "warehouse.publish.before_swap",
    "warehouse.publish.after_swap",
    "warehouse.retain.before_remove",
    "warehouse.store.before_pointer",
    "warehouse.bi.before_swap",
)
"""Every point there is; a test arms each of them."""


@dataclass
class Rule:
    """One rule of what is armed.

    Attributes:
        point: a point, or the beginning of several and ``*``.
        first, last: at which times it is reached it acts; ``last`` None means each from ``first`` on.
        chance: gives a number in [0, 1) each time it is reached; it acts below ``probability``. None: by count.
        probability: see ``chance``.
        action: its name.
        amount_s: seconds, of ``delay`` and ``clock``.
    """

    point: str
    first: int = 1
    last: int | None = 1
    chance: Callable[[], float] | None = None
    probability: float = 0.0
    action: str = "kill"
    amount_s: float = 0.0
    reached: int = field(default=0, init=False)

    def matches(self, point: str) -> bool:
        """Whether this rule is about that point."""
        return point.startswith(self.point[:-1]) if self.point.endswith("*") else point == self.point

    def is_due(self) -> bool:
        """Count that it was reached once more, and say whether it acts now."""
        self.reached += 1
        if self.chance is not None:
            return self.chance() < self.probability
        return self.reached >= self.first and (self.last is None or self.reached <= self.last)


def _kill(rule: Rule, _point: str) -> None:
    if rule.amount_s:
        # Nobody handles this signal, so the kernel ends the process at that instruction, as SIGKILL does.
        signal.setitimer(signal.ITIMER_REAL, rule.amount_s)
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def _retryable(_rule: Rule, point: str) -> None:
    raise StoreUnavailable(f"The fault point {point} is armed.", remedy="run it again")


def _terminal(_rule: Rule, point: str) -> None:
    raise StateCorrupt(f"The fault point {point} is armed.", remedy="arm nothing")


def _lost_reply(_rule: Rule, point: str) -> None:
    raise ConnectionResetError(errno.ECONNRESET, f"the reply was lost at the fault point {point}")


def _disk_full(_rule: Rule, point: str) -> None:
    raise OSError(errno.ENOSPC, f"no space left on device, at the fault point {point}")


def _delay(rule: Rule, _point: str) -> None:
    time.sleep(rule.amount_s)


def _clock(rule: Rule, _point: str) -> None:
    clock.step(rule.amount_s)


def _trace(_rule: Rule, point: str) -> None:
    sys.stderr.write(f"fault point {point} {time.monotonic():.6f}\n")
    sys.stderr.flush()


_ACTIONS: dict[str, Callable[[Rule, str], None]] = {
    "kill": _kill,
    "retryable": _retryable,
    "terminal": _terminal,
    "lost-reply": _lost_reply,
    "disk-full": _disk_full,
    "delay": _delay,
    "clock": _clock,
    "trace": _trace,
}
ACTIONS = tuple(_ACTIONS)
"""What an armed point can do; ``kill``, ``delay`` and ``clock`` take seconds."""

_armed: list[Rule] = []
_counting = threading.Lock()


def parse(text: str) -> list[Rule]:
    """Rules from their text (see the module).

    Raises:
        SettingsError: a rule cannot be read, or names no point there is: it would prove nothing.
    """
    return [_rule(each.strip()) for each in text.split(",") if each.strip()]


def _rule(text: str) -> Rule:
    point, *words = text.split(":")
    rule = Rule(point)
    if not any(rule.matches(each) for each in POINTS):
        raise _unreadable(text, "there is no such point")
    try:
        for word in words:
            _take_word(rule, word)
    except (ValueError, KeyError):
        raise _unreadable(text, "it is not point[:when][:action]") from None
    return rule


def _take_word(rule: Rule, word: str) -> None:
    name, _, amount = word.partition("=")
    if name == "p":
        probability, _, seed = amount.partition("/")
        rule.probability, rule.chance = float(probability), random.Random(f"{seed}/{rule.point}").random  # noqa: S311
    elif name.rstrip("+").isdecimal():
        rule.first = int(name.rstrip("+"))
        rule.last = None if name.endswith("+") else rule.first
    else:
        rule.action = name
        _ACTIONS[name]  # a KeyError is an action that there is not
        rule.amount_s = float(amount or 0.0)


def _unreadable(text: str, why: str) -> SettingsError:
    return SettingsError(
        f"PENSTOCK_FAULT_POINT holds {text!r}: {why}.",
        remedy=f"name a point of common/fault_points.py, when, and one of {', '.join(ACTIONS)}; or unset it",
    )


def arm(text: str) -> None:
    """Arm this process as ``PENSTOCK_FAULT_POINT=text`` does, in place of what was armed; ``""`` disarms it.

    Raises:
        SettingsError: as in :func:`parse`.
    """
    _armed[:] = parse(text)


def reach(point: str) -> None:
    """Do what is armed for this point and this time; otherwise nothing.

    Raises:
        StoreUnavailable, StateCorrupt, ConnectionResetError, OSError: if that is what is armed.
    """
    if not _armed:
        return
    with _counting:
        due = [rule for rule in _armed if rule.matches(point) and rule.is_due()]
    for rule in due:
        _ACTIONS[rule.action](rule, point)


arm(os.environ.get("PENSTOCK_FAULT_POINT", ""))  # noqa: TID251 - must work before any settings exist
