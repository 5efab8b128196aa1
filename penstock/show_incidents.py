"""Incidents for people: a list, one in full, and what a look came to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from penstock.cli_options import print_json
from penstock.incident import Incident, gravest_first
from penstock.incidents import Synced
from penstock.notify_plan import undelivered
from penstock.show import print_table, say


def show_incidents(incidents: Sequence[Incident], *, as_json: bool) -> None:
    """A list, the gravest first."""
    ordered = gravest_first(incidents)
    if as_json:
        print_json([each.to_dict() for each in ordered])
        return
    if not ordered:
        say("No incident is open.")
        return
    rows = [
        {
            "id": each.incident_id,
            "state": "acknowledged" if each.is_open and each.acknowledged_at else each.state,
            "severity": each.severity,
            "what": each.subject,
            "since": _at(each.first_seen_at),
            "seen": f"{each.occurrences} times",
            "affected": len(each.affected),
            "owner": each.owner,
        }
        for each in ordered
    ]
    print_table("Incidents", rows, tuple(rows[0]))
    for each in ordered:
        for failed in undelivered(each):
            say(f"{each.incident_id} could not be told to {failed}")
    say("One in full, with the command to run next: penstock incidents show <id>")


def show_incident(incident: Incident, *, as_json: bool) -> None:
    """One in full."""
    if as_json:
        print_json(incident.to_dict())
        return
    say(f"{incident.incident_id} [{incident.severity}] {incident.subject}")
    say(incident.reason)
    lines = {
        "state": incident.state + (f" at {_at(incident.resolved_at)}" if incident.resolved_at else ""),
        "part of": incident.part_of,
        "since": _at(incident.first_seen_at),
        "last seen": f"{_at(incident.last_seen_at)}, {incident.occurrences} times"
        + (f", back {incident.episode - 1} times" if incident.episode > 1 else ""),
        "owner": incident.owner or "nobody",
        "intervals": ", ".join(incident.intervals),
        "affected": ", ".join(incident.affected),
        "acknowledged": f"{_at(incident.acknowledged_at)} by {incident.acknowledged_by}: {incident.acknowledged_note}"
        if incident.acknowledged_at
        else "",
        "told": ", ".join(f"{name}: {told['said']}" for name, told in incident.told.items() if "said" in told),
        "not told": "; ".join(undelivered(incident)),
        "run next": incident.command,
    }
    for name, text in lines.items():
        if text:
            say(f"  {name:<13}{text}")


def show_synced(found: Synced, *, as_json: bool) -> None:
    """What a look came to."""
    if as_json:
        print_json(
            {
                "opened": found.opened,
                "resolved": found.resolved,
                "open": [each.to_dict() for each in found.open],
                "messages": found.messages,
                "undelivered": found.undelivered,
            }
        )
        return
    say(
        f"{len(found.opened)} opened, {len(found.resolved)} resolved, {len(found.open)} open; "
        f"{found.messages} messages."
    )
    for each in found.undelivered:
        say(f"Not delivered: {each}; it is tried again at the next look.")
    if found.open:
        show_incidents(found.open, as_json=False)


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
