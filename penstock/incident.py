"""One incident: its row in ``ops.incidents``, and the book-keeping from one look at the lake to the next.

::

    incidents so far ─┐
    causes found now ─┼─▶ fold ─▶ incidents now
    consequences now ─┘

A look is complete: what is wrong is derived anew each time, so a cause that is not found again is gone, whoever mended
it and however. :func:`fold` is pure and may be asked twice: the same look at the same time changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any

from common.notify_routes import SEVERITIES
from penstock.incident_causes import Cause

_JSON = {"intervals", "affected", "told"}

SHOWN_INTERVALS = 400
"""Keys of an incident that its row lists, the newest: more than a year of days nobody reads."""


@dataclass(frozen=True)
class Incident:
    """One row of ``ops.incidents``; what the columns mean is said there (``lake/ops.py``)."""

    incident_id: str
    cause: str
    kind: str
    subject: str
    severity: str
    owner: str
    reason: str
    command: str
    first_seen_at: datetime
    last_seen_at: datetime
    last_evidence_at: datetime
    intervals: tuple[str, ...] = ()
    affected: tuple[str, ...] = ()
    occurrences: int = 1
    episode: int = 1
    resolved_at: datetime | None = None
    part_of: str = ""
    acknowledged_at: datetime | None = None
    acknowledged_by: str = ""
    acknowledged_note: str = ""
    told: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether it still stands."""
        return self.resolved_at is None

    @property
    def state(self) -> str:
        """``open`` or ``resolved``."""
        return "open" if self.is_open else "resolved"

    def to_row(self) -> dict[str, Any]:
        """As the lake stores it."""
        values = asdict(self)
        lists = {name: json.dumps(values[name], sort_keys=True, default=str) for name in _JSON}
        return {**values, **lists, "month": f"{self.first_seen_at:%Y-%m}", "state": self.state}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Incident:
        """As the lake stored it."""
        values = {each.name: row[each.name] for each in fields(cls)}
        values |= {name: json.loads(row[name]) for name in _JSON}
        return cls(**{**values, "intervals": tuple(values["intervals"]), "affected": tuple(values["affected"])})

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form for people; of what was told, nothing that a URL could be read from is in it."""
        return {**asdict(self), "state": self.state}


def gravest_first(incidents: Iterable[Incident]) -> list[Incident]:
    """Those that are open first, the gravest of them first."""
    return sorted(incidents, key=lambda each: (each.state, SEVERITIES.index(each.severity), each.incident_id))


def fold(
    incidents: Sequence[Incident],
    causes: Iterable[Cause],
    consequences: Mapping[str, str],
    now: datetime,
    *,
    reopen_within: timedelta,
    unjudged: Set[str] = frozenset(),
) -> list[Incident]:
    """The incidents after a look at the lake.

    Args:
        incidents: those there are, the oldest first.
        causes: what is wrong now, one per cause.
        consequences: causes that turned out to follow from others: which from which.
        now: when it was looked.
        reopen_within: a cause that is back so soon after its incident was resolved opens that one again.
        unjudged: causes that could not be looked at from here: their incidents stay as they are.
    """
    found = {cause.key: cause for cause in causes}
    newest = {incident.cause: incident.incident_id for incident in incidents}
    after: list[Incident] = []
    for incident in incidents:
        cause = found.get(incident.cause) if newest[incident.cause] == incident.incident_id else None
        if cause is not None and (incident.is_open or now - _resolved(incident) <= reopen_within):
            after.append(_seen(incident, cause, now))
            del found[incident.cause]
        elif incident.is_open and incident.cause not in unjudged:
            after.append(replace(incident, resolved_at=now, part_of=consequences.get(incident.cause, "")))
        else:
            after.append(incident)
    last = max((int(incident.incident_id[1:]) for incident in incidents), default=0)
    anew = sorted(found.values(), key=lambda each: each.key)
    return after + [_opened(f"i{number:06d}", cause, now) for number, cause in enumerate(anew, start=last + 1)]


def _resolved(incident: Incident) -> datetime:
    return incident.resolved_at or incident.last_seen_at


def _opened(incident_id: str, cause: Cause, now: datetime) -> Incident:
    return Incident(
        incident_id=incident_id,
        first_seen_at=min(min(cause.seen, default=now), now),
        last_seen_at=now,
        occurrences=max(len(set(cause.seen)), 1),
        last_evidence_at=max(cause.seen, default=now),
        **_told_of(cause),
    )


def _seen(incident: Incident, cause: Cause, now: datetime) -> Incident:
    """The same incident, seen again; what is older than the newest evidence of before has been counted."""
    anew = {moment for moment in cause.seen if moment > incident.last_evidence_at}
    back = not incident.is_open
    return replace(
        incident,
        last_seen_at=max(now, incident.last_seen_at),
        occurrences=incident.occurrences + max(len(anew), int(back)),
        last_evidence_at=max([incident.last_evidence_at, *anew]),
        episode=incident.episode + back,
        resolved_at=None,
        part_of="",
        acknowledged_at=None if back else incident.acknowledged_at,
        acknowledged_by="" if back else incident.acknowledged_by,
        acknowledged_note="" if back else incident.acknowledged_note,
        **_told_of(cause),
    )


def _told_of(cause: Cause) -> dict[str, Any]:
    return {
        "cause": cause.key,
        "kind": cause.kind,
        "subject": cause.subject,
        "severity": cause.severity,
        "owner": cause.owner,
        "reason": cause.reason,
        "intervals": cause.intervals[-SHOWN_INTERVALS:],
        "affected": cause.affected,
        "command": cause.command,
    }
