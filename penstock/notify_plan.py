"""What is to be said to whom now: one message when an incident opens, one when it is resolved, a reminder in between.

What a route has been told stands in the incident itself, so every run, on whatever machine, decides alike. To say
something is three steps: **claim** it in the commit that changes the incidents, deliver it, record what became of it.
Of two runs at once only one holds the claim. A run that dies in between leaves a claim that ends by itself, and the
next run says it, perhaps for the second time: at least once, never not at all.

Pure: no clock, no network, no settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from common.notify_routes import QuietHours
from penstock.incident import Incident

Event = Literal["opened", "resolved", "reminder"]

EVENTS: tuple[Event, ...] = ("opened", "reminder", "resolved")

CLAIM_FOR = timedelta(minutes=10)
"""How long a run may take to deliver before another one may try: longer than all timeouts of a delivery together."""


@dataclass(frozen=True)
class Receiver:
    """A route as far as planning goes: everything but its URL.

    Attributes:
        name: its name.
        severities, owners: which incidents it is told of; no owners means all.
        quiet_hours: when only critical ones are told.
        remind_after: after how long an open incident is told again; None never.
    """

    name: str
    severities: tuple[str, ...]
    owners: tuple[str, ...] = ()
    quiet_hours: QuietHours | None = None
    remind_after: timedelta | None = None

    def wants(self, incident: Incident) -> bool:
        """Whether it is told of an incident."""
        return incident.severity in self.severities and (not self.owners or incident.owner in self.owners)


def due(incident: Incident, receiver: Receiver, now: datetime) -> Event | None:
    """What a receiver must be told of an incident now; None: nothing, or not yet.

    A receiver that was told of an incident hears of its end, even if it would no longer be told of its beginning.
    """
    told = incident.told.get(receiver.name, {})
    if "claimed_until" in told and datetime.fromisoformat(told["claimed_until"]) > now:
        return None
    said = told.get("said") if told.get("episode") == incident.episode else None
    if said is None and not receiver.wants(incident):
        return None
    if incident.severity != "critical" and receiver.quiet_hours is not None and receiver.quiet_hours.holds(now):
        return None
    if not incident.is_open:
        unheard = said is None and told.get("failed_episode") == incident.episode  # it opened, and could not be told
        return "resolved" if not incident.part_of and (said == "opened" or unheard) else None
    if said is None:
        return "opened"
    silent = incident.acknowledged_at is not None or receiver.remind_after is None
    if not silent and receiver.remind_after is not None:
        return "reminder" if now - datetime.fromisoformat(told["at"]) >= receiver.remind_after else None
    return None


def claim(incidents: Sequence[Incident], receivers: Iterable[Receiver], run_id: str, now: datetime) -> list[Incident]:
    """The incidents with everything that is due claimed by this run."""
    claimed = list(incidents)
    for receiver in receivers:
        for position, incident in enumerate(claimed):
            event = due(incident, receiver, now)
            if event is not None:
                claims = {
                    "claimed_by": run_id,
                    "claimed_until": (now + CLAIM_FOR).isoformat(),
                    "claimed_for": event,
                    "claimed_episode": incident.episode,
                }
                claimed[position] = _told(incident, receiver.name, claims)
    return claimed


def claims_of(incidents: Iterable[Incident], run_id: str) -> dict[tuple[str, Event], list[Incident]]:
    """What a run has claimed: by receiver and event, the incidents that go into one message."""
    found: dict[tuple[str, Event], list[Incident]] = {}
    for incident in incidents:
        for name, told in incident.told.items():
            if told.get("claimed_by") == run_id:
                found.setdefault((name, told["claimed_for"]), []).append(incident)
    return dict(sorted(found.items(), key=lambda each: (each[0][0], EVENTS.index(each[0][1]))))


def settle(
    incidents: Sequence[Incident], outcomes: Mapping[tuple[str, Event], str | None], run_id: str, now: datetime
) -> list[Incident]:
    """The incidents after a run has delivered what it claimed.

    Args:
        incidents: those there are.
        outcomes: by receiver and event, None: delivered, or why it was not.
        run_id: the run.
        now: the time now.
    """
    settled = []
    for before in incidents:
        after = before
        for name, told in before.told.items():
            if told.get("claimed_by") == run_id and (name, told["claimed_for"]) in outcomes:
                after = _settled(after, name, outcomes[name, told["claimed_for"]], now)
        settled.append(after)
    return settled


def undelivered(incident: Incident) -> list[str]:
    """What could not be said of an incident, by receiver, in words."""
    return [
        f"{name}: {told['failures']} times, last at {told['failed_at']}: {told['error']}"
        for name, told in sorted(incident.told.items())
        if told.get("failures")
    ]


def _settled(incident: Incident, name: str, error: str | None, now: datetime) -> Incident:
    told = dict(incident.told[name])
    event, episode = told.pop("claimed_for"), told.pop("claimed_episode")
    del told["claimed_by"], told["claimed_until"]
    if error is None:
        said = "resolved" if event == "resolved" else "opened"
        return replace(
            incident,
            told={**incident.told, name: {"said": said, "episode": episode, "at": now.isoformat()}},
        )
    failed = {"failures": told.get("failures", 0) + 1, "failed_at": now.isoformat(), "failed_episode": episode}
    told |= {**failed, "error": error}
    return replace(incident, told={**incident.told, name: told})


def _told(incident: Incident, name: str, more: Mapping[str, Any]) -> Incident:
    return replace(incident, told={**incident.told, name: {**incident.told.get(name, {}), **more}})
