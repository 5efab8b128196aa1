"""The text of a message about incidents: what, since when, what is affected, and what to run next."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from common.notify_routes import SEVERITIES
from penstock.incident import Incident
from penstock.notify_plan import Event

SHOWN = 20
"""Incidents that one message describes, the gravest; the others are counted."""

_NAMES = 12
_ENDS: dict[Event, str] = {"opened": "", "reminder": "still open: ", "resolved": "resolved: "}


def message(event: Event, incidents: Sequence[Incident]) -> tuple[str, str]:
    """Subject and body of one message.

    Args:
        event: what happened.
        incidents: to which, at least one.
    """
    ordered = sorted(incidents, key=lambda each: (SEVERITIES.index(each.severity), each.incident_id))
    worst = ordered[0]
    if len(ordered) == 1:
        again = "back again: " if event == "opened" and worst.episode > 1 else _ENDS[event]
        subject = f"[{worst.severity}] {again}{worst.subject}"
    else:
        counted = [(name, sum(each.severity == name for each in ordered)) for name in SEVERITIES]
        parts = ", ".join(f"{count} {name}" for name, count in counted if count)
        what = {"opened": "new incidents", "reminder": "incidents are still open", "resolved": "incidents are resolved"}
        subject = f"[{worst.severity}] {len(ordered)} {what[event]}: {parts}"
    bodies = [_resolved(each) if event == "resolved" else _open(each) for each in ordered[:SHOWN]]
    if len(ordered) > SHOWN:
        bodies.append(f"... and {len(ordered) - SHOWN} more: penstock incidents")
    return f"Penstock {subject}", "\n\n".join(bodies)


def _open(incident: Incident) -> str:
    lines = [
        f"{incident.incident_id} [{incident.severity}] {incident.subject}",
        incident.reason,
        f"Since {_at(incident.first_seen_at)}, seen {incident.occurrences} times; owner: {incident.owner or 'nobody'}.",
        f"Affected: {_list(incident.affected)}.",
        f"Run next: {incident.command}",
    ]
    return "\n".join(lines)


def _resolved(incident: Incident) -> str:
    end = incident.resolved_at or incident.last_seen_at
    return (
        f"{incident.incident_id} resolved: {incident.subject}\n"
        f"From {_at(incident.first_seen_at)} to {_at(end)}, seen {incident.occurrences} times.\n"
        f"It was: {incident.reason}"
    )


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _list(names: Sequence[str]) -> str:
    if not names:
        return "nothing downstream"
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more
