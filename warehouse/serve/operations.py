"""What a server is told about work, and may be asked to do, by whoever starts it: runs, quarantine, incidents,
backfills, rollback.

The warehouse imports no other stage, so all of it comes through this protocol, as JSON-compatible documents
(:mod:`warehouse.serve.operation_documents` says what is in them).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, Protocol

from common.errors import (
    CommitConflict,
    IntervalError,
    LeaseHeld,
    PenstockError,
    SettingsError,
    SpecError,
    TransientError,
    UnknownName,
    UsageError,
)
from warehouse.serve.problems import Problem

Action = Literal["pause", "resume", "cancel"]
Document = dict[str, Any]


class Operations(Protocol):
    """Work on the lake and the warehouse. Every method is called in a thread and may take a moment.

    Raises:
        PenstockError: any method; :func:`as_problem` says what the caller is told of it.
    """

    def runs(self) -> Sequence[Document]:
        """Runs that were recorded, the newest first."""
        ...

    def quarantine(self) -> Sequence[Document]:
        """How many rows wait, by table, interval and rules."""
        ...

    def quarantined_rows(self, table: str, limit: int) -> Sequence[Document]:
        """Rows that wait, as they came."""
        ...

    def incidents(self) -> Sequence[Document]:
        """All incidents, those that are open first, the gravest of them first."""
        ...

    def plan_backfill(self, wish: Mapping[str, Any]) -> Document:
        """What a backfill would do; nothing is done."""
        ...

    def backfills(self, backfill_id: str | None = None) -> Sequence[Document]:
        """Backfills that the scheduler knows, the newest first, or the one of that id."""
        ...

    def start_backfill(self, wish: Mapping[str, Any], *, unpause: bool) -> Document:
        """Start a backfill, or find the one of exactly this wish that is active: its ``id``, and ``started``."""
        ...

    def control_backfill(self, action: Action, backfill_id: str) -> Document:
        """Pause, resume or cancel a backfill; its status then."""
        ...

    def roll_back(self, release_id: str) -> None:
        """Make an earlier release the current one, in every door."""
        ...


def runs_about(runs: Sequence[Document], tables: Collection[str]) -> list[Document]:
    """Runs as somebody is told of them who may know of these tables: without the others, and without reasons."""
    found = []
    for run in runs:
        mine = [{**each, "reasons": []} for each in run["tables"] if each["table"] in tables]
        if mine:
            figures = {name: sum(each[name] for each in mine) for name in ("batches", "refused", *ROW_FIGURES)}
            state = "refused" if figures["refused"] else "published"
            found.append({**run, **figures, "tables": mine, "failures": [], "state": state, "cpu_s": None})
    return found


def incidents_about(incidents: Sequence[Document], tables: Collection[str]) -> list[Document]:
    """Incidents that touch one of these tables, without what only those need who mend them."""
    found = []
    for incident in incidents:
        affected = [each for each in incident["affected"] if each in tables]
        if affected or any(each in tables for each in incident["tables"]):
            own = [each for each in incident["tables"] if each in tables]
            hidden = {"cause": None, "reason": None, "command": None, "owner": None, "part_of": None, "subject": None}
            found.append({**incident, **hidden, "affected": affected, "tables": own, "acknowledged_by": None})
    return found


def backfills_about(backfills: Sequence[Document], tables: Collection[str]) -> list[Document]:
    """Backfills that were asked for one of these tables, without their accounts."""
    found = []
    for backfill in backfills:
        targets = [each for each in backfill["wish"]["targets"] if each in tables]
        if targets:
            wish = {**backfill["wish"], "targets": targets}
            found.append({**backfill, "wish": wish, "sources": {}, "summary": None})
    return found


ROW_FIGURES = ("rows_in", "published", "quarantined", "rejected", "deduplicated")
"""Figures of a run's rows: the first is the sum of the others."""


def as_problem(error: PenstockError) -> Problem | None:
    """What a caller is told of an error; None for one that is ours to look into: its text may name files."""
    remedy = error.remedy or "correct the request"
    if isinstance(error, Problem):
        return error
    if isinstance(error, UnknownName):
        return Problem("unknown_name", error.problem, remedy=remedy)
    if isinstance(error, IntervalError):
        return Problem("bad_body", error.problem, remedy=remedy)
    if isinstance(error, LeaseHeld | CommitConflict):
        return Problem("busy", "The warehouse is being built or published.", remedy="come again", retry_after_s=10)
    if isinstance(error, UsageError) and not isinstance(error, SettingsError | SpecError):
        return Problem("conflict", error.problem, remedy=remedy)
    if isinstance(error, TransientError):
        return Problem("busy", "The lake or the scheduler does not answer.", remedy="come again", retry_after_s=10)
    return None
