"""Incidents: a look at what is wrong, one commit that opens, updates and resolves, and the messages that follow.

::

    what is wrong now ─▶ root causes ─▶ fold into ops.incidents, claim messages ─▶ deliver ─▶ record what became of it
                                        ONE commit                                 Apprise    ONE commit

Runs and DAGs do it at their end, ``penstock incidents check`` at any time. Nothing is told by the code that fails: it
leaves its trace in the lake, and what a trace means is decided here, in view of all of them. So a source that breaks
under fifty tasks is looked at once, when the last of them has ended.

To tell must never fail the work: :func:`try_to_sync` lets nothing out but a notice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from common.errors import PenstockError, SettingsError, SpecError, UnknownName, UsageError
from common.hashing import digest
from common.notify_routes import NotifyRoute
from lake.failures import failures
from lake.incidents import Rows, change_incidents, incident_rows
from lake.lake import Lake
from penstock.incident import Incident, fold
from penstock.incident_causes import find_causes
from penstock.notify_plan import Event, Receiver, claim, claims_of, settle

if TYPE_CHECKING:
    from pydantic import SecretStr

    from common.settings import Settings
    from penstock.pipeline import Pipeline

_LOG = logging.getLogger(__name__)

TASK = "task"
"""Stage of what is noted of a task of Airflow that could not note anything itself."""

EVERYTHING = "notify_urls"
"""Name of the route that is told of everything."""


@dataclass(frozen=True)
class Synced:
    """What a look came to.

    Attributes:
        opened, resolved: ids of incidents that were opened (or opened again) and resolved by it.
        open: all that are open now.
        messages: messages that were delivered.
        undelivered: receivers that did not take one, and why.
    """

    opened: tuple[str, ...]
    resolved: tuple[str, ...]
    open: tuple[Incident, ...]
    messages: int
    undelivered: tuple[str, ...]


def sync(pipeline: Pipeline) -> Synced:
    """Look, bring ``ops.incidents`` in step, and tell whoever is to be told.

    Raises:
        CommitConflict, StateCorrupt, StoreUnavailable: the next look does it.

    Side effects: at most two commits; messages. One that is not taken raises nothing: it is tried at the next look.
    """
    from penstock.incident_problems import find_problems, lineage_of, unjudged

    settings, now = pipeline.settings, pipeline.clock()
    look = digest(pipeline.run_id, now.isoformat())
    unseen = unjudged(pipeline)
    causes, consequences = find_causes(find_problems(pipeline), lineage_of(pipeline))
    routes = receivers(settings)
    changed: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def looked(rows: Rows) -> Rows:
        nonlocal changed
        before = [Incident.from_row(row) for row in rows]
        again = timedelta(seconds=settings.incident_reopen_within_s)
        after = fold(before, causes, consequences, now, reopen_within=again, unjudged=unseen)
        was_open = {each.incident_id for each in before if each.is_open}
        is_open = {each.incident_id for each in after if each.is_open}
        changed = (tuple(sorted(is_open - was_open)), tuple(sorted(was_open - is_open)))
        return [each.to_row() for each in claim(after, routes, look, now)]

    rows = change_incidents(pipeline.lake, looked, run_id=pipeline.run_id)
    incidents = [Incident.from_row(row) for row in rows]
    outcomes = _deliver(incidents, routes, look)
    if outcomes:
        done = partial(_settled, outcomes=outcomes, look=look, pipeline=pipeline)
        change_incidents(pipeline.lake, done, run_id=pipeline.run_id)
    return Synced(
        *changed,
        open=tuple(each for each in incidents if each.is_open),
        messages=sum(error is None for error in outcomes.values()),
        undelivered=tuple(f"{name}: {error}" for (name, _), error in outcomes.items() if error is not None),
    )


def try_to_sync(pipeline: Pipeline) -> list[str]:
    """The same at the end of other work, which it must not fail; what people should know of it.

    Side effects: see :func:`sync`.
    """
    try:
        found = sync(pipeline)
    except PenstockError as error:
        return [f"Incidents could not be brought in step: {error}"]
    except Exception as error:  # noqa: BLE001 - logged; the work is done by now, and must not fail for it
        _LOG.exception("incidents could not be brought in step")
        return [f"Incidents could not be brought in step: {type(error).__name__}, see the log"]
    notices = [f"incident {each.incident_id} is open: {each.subject}; run next: {each.command}" for each in found.open]
    return notices + [f"A message about incidents was not delivered: {each}" for each in found.undelivered]


@contextmanager
def watching(pipeline: Pipeline, interval: str, notices: list[str]) -> Iterator[None]:
    """Bring incidents in step at the end of a run, however it ends; a run that is stopped by its caller leaves it.

    Args:
        pipeline: the run's.
        interval: ``first..end`` of the run's days.
        notices: gets what people should know.

    Side effects: see :func:`sync`; what fails outside of any stage is noted in the lake.
    """
    try:
        with pipeline.failures.noting("run", key=interval):
            yield
    except Exception as error:
        if not isinstance(error, UsageError) or isinstance(error, SettingsError | SpecError):
            for notice in try_to_sync(pipeline):
                _LOG.info("%s", notice)
        raise
    notices.extend(try_to_sync(pipeline))


def note_deaths(pipeline: Pipeline, dag_id: str, run_id: str, failed: Sequence[str]) -> None:
    """Note that tasks of a run of Airflow failed, if none of them left a word in the lake.

    Args:
        pipeline: of the task that looks.
        dag_id: the DAG.
        run_id: its run.
        failed: its tasks that failed; none takes back what was noted of an earlier run of the DAG.

    Side effects: a small file in the lake, written or deleted.
    """
    scope = (f"{TASK}.{dag_id}",)
    if not failed:
        pipeline.failures.works(scope)
    elif not any(f"/{run_id}[" in failure.job for failure in failures(pipeline.lake)):
        died = PenstockError(
            f"{', '.join(failed)} of run {run_id} failed without a word: killed, out of memory or time, or misused.",
            remedy="read the task's log in Airflow, then clear it",
        )
        pipeline.failures.note(died, TASK, scope=scope, error_name="TaskDied")


def receivers(settings: Settings) -> dict[Receiver, SecretStr]:
    """Everybody who is told of incidents, each with its URL: a route with several URLs is as many receivers."""
    from penstock.notify_send import split

    routes = dict(settings.notify)
    if settings.notify_urls.get_secret_value().strip():
        routes[EVERYTHING] = NotifyRoute(url=settings.notify_urls)
    found = {}
    for name, route in routes.items():
        urls = split(route.url)
        remind_s = settings.notify_remind_after_s if route.remind_after_s is None else route.remind_after_s
        one = Receiver(
            name,
            route.severities,
            route.owners,
            route.quiet_hours or settings.notify_quiet_hours,
            timedelta(seconds=remind_s) if remind_s else None,
        )
        for url in urls:  # each by a name of its own: what one has been told says nothing of the other
            own = one if len(urls) == 1 else replace(one, name=f"{name}-{digest(url.get_secret_value())[:8]}")
            found[own] = url
    return found


def incidents_of(lake: Lake) -> list[Incident]:
    """All incidents, the oldest first."""
    return [Incident.from_row(row) for row in incident_rows(lake)]


def incident_of(lake: Lake, incident_id: str) -> Incident:
    """The incident of that name.

    Raises:
        UnknownName: there is none; the message lists those that are open.
    """
    return _find(incidents_of(lake), incident_id)


def acknowledge(pipeline: Pipeline, incident_id: str, *, by: str, note: str) -> Incident:
    """Say that somebody is at it: no reminders come any more, until it is resolved and comes back.

    Raises:
        UnknownName: there is no such incident.
        UsageError: it is not open, or nobody is named.

    Side effects: one commit.
    """
    if not by.strip():
        raise UsageError("Nobody is named who takes the incident on.", remedy='write --by "name"')
    now = pipeline.clock()

    def taken_on(rows: Rows) -> Rows:
        incidents = [Incident.from_row(row) for row in rows]
        found = _find(incidents, incident_id)
        if not found.is_open:
            raise UsageError(f"Incident {incident_id} is resolved.", remedy="there is nothing to take on")
        taken = replace(found, acknowledged_at=now, acknowledged_by=by.strip(), acknowledged_note=note.strip())
        return [(taken if each is found else each).to_row() for each in incidents]

    rows = change_incidents(pipeline.lake, taken_on, run_id=pipeline.run_id)
    return _find([Incident.from_row(row) for row in rows], incident_id)


def _deliver(
    incidents: Sequence[Incident], routes: dict[Receiver, SecretStr], look: str
) -> dict[tuple[str, Event], str | None]:
    """One message per receiver and event; what became of each."""
    from penstock.notify_send import send
    from penstock.notify_words import message

    urls = {receiver.name: url for receiver, url in routes.items()}
    outcomes: dict[tuple[str, Event], str | None] = {}
    for (name, event), told in claims_of(incidents, look).items():
        outcomes[name, event] = send(urls[name], *message(event, told))
        if outcomes[name, event] is not None:
            _LOG.warning("a message about incidents was not delivered: %s: %s", name, outcomes[name, event])
    return outcomes


def _settled(rows: Rows, *, outcomes: dict[tuple[str, Event], str | None], look: str, pipeline: Pipeline) -> Rows:
    incidents = [Incident.from_row(row) for row in rows]
    return [each.to_row() for each in settle(incidents, outcomes, look, pipeline.clock())]


def _find(incidents: Sequence[Incident], incident_id: str) -> Incident:
    for each in incidents:
        if each.incident_id == incident_id:
            return each
    known = ", ".join(each.incident_id for each in incidents if each.is_open) or "none"
    raise UnknownName(
        f"There is no incident {incident_id!r}.", remedy=f"open are: {known}; all: penstock incidents --all"
    )
