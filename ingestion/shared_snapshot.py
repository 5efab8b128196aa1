"""A database's snapshot that one session holds and other sessions join: other threads, processes, machines.

::

    session.shared_snapshot() -> SharedSnapshot -> another session, which sees the very same rows

The name is PostgreSQL's (``pg_export_snapshot``), and says nothing by itself: after a restart, or on another server,
the same name may mean another snapshot. So what the snapshot sees goes with it, and whoever joins compares. The two
come from outside - through Airflow - and one of them goes into SQL: both have a strict form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from common.errors import UsageError
from common.hashing import digest

_NAME = re.compile(r"[0-9A-F]{8}-[0-9A-F]{8}-[0-9]{1,10}")
_MOMENT = re.compile(r"([0-9]{1,20}):([0-9]{1,20}):([0-9,]{0,64}|#[0-9a-f]{20})(\??)")
_MOST_LISTED = 64

SEEN = "txid_current_snapshot()::text || CASE WHEN pg_is_in_recovery() THEN '?' ELSE '' END"
"""SQL of what a session's snapshot sees. A standby does not tell which transactions were running: hence the mark."""


@dataclass(frozen=True)
class SharedSnapshot:
    """A snapshot that others can join while the transaction that holds it lasts.

    Attributes:
        name: by which the server lets others join it.
        moment: which transactions it sees (:func:`moment_of`): sessions of one moment see the same rows.

    Raises:
        UsageError: one of them has not the form that PostgreSQL gives it.
    """

    name: str
    moment: str

    def __post_init__(self) -> None:
        if not (_NAME.fullmatch(self.name) and _MOMENT.fullmatch(self.moment)):
            raise UsageError(
                f"{self.name[:60]!r} at {self.moment[:60]!r} is no snapshot of PostgreSQL.",
                remedy="clear the run's task 'hold_snapshot': it tells another one",
            )


def moment_of(seen: str) -> str:
    """What a snapshot sees, short enough for logs and receipts.

    Args:
        seen: PostgreSQL's text of it (:data:`SEEN`): oldest running transaction, first to come, those that ran in
            between. Of thousands of the last only a digest is kept.
    """
    bounds, _, rest = seen.rpartition(":")
    running = rest.removesuffix("?")
    return seen if len(running) <= _MOST_LISTED else f"{bounds}:#{digest(running)}{rest[len(running) :]}"


def follows(now: str, before: str) -> bool:
    """Whether one snapshot surely sees whatever another one saw to its end: it is the same one, or a later one.

    Args:
        now: the moment of the one.
        before: the moment of the other, perhaps of an earlier Penstock that told none.
    """
    this, that = _MOMENT.fullmatch(now), _MOMENT.fullmatch(before)
    if this is None or that is None:
        return False
    if int(this[1]) >= int(that[2]):
        return True  # whatever may have run then has ended
    if "#" in this[3] + that[3] or this[4] or that[4]:
        return now == before and not this[4]
    running, ran = ({int(each) for each in found[3].split(",") if each} for found in (this, that))
    return int(this[2]) >= int(that[2]) and {each for each in running if each < int(that[2])} <= ran
