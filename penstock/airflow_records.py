"""What Airflow's API answers, as frozen records; and how to read its JSON into them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

FINISHED = frozenset({"success", "failed"})
"""States a run does not leave by itself."""


@dataclass(frozen=True)
class Run:
    """One run of a DAG.

    Attributes:
        dag_id: the DAG.
        run_id: Airflow's id of the run.
        state: ``queued``, ``running``, ``success`` or ``failed``.
        partition_key: the day the run is for; None for a run that was started without one.
        run_type: ``scheduled``, ``backfill``, ``asset_triggered`` or ``manual``.
        queued_at: when it was created.
        ended_at: when it ended, None until then.
        conf: what it was started with.
        note: what somebody wrote on it.
    """

    dag_id: str
    run_id: str
    state: str
    partition_key: str | None
    run_type: str
    queued_at: datetime | None
    ended_at: datetime | None
    conf: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class TaskRun:
    """One task of a run, as it is now.

    Attributes:
        task_id: the task.
        map_index: position among the mapped tasks; -1 when not mapped.
        label: readable name of a mapped task, for ingest its table; the task's name otherwise.
        state: Airflow's state of it; None when not scheduled yet.
        try_number: attempt, from 1.
        pool: the pool it takes its slots from.
        pid: process of the attempt on its machine, where known.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    label: str
    state: str | None
    try_number: int
    pool: str
    pid: int | None


@dataclass(frozen=True)
class Backfill:
    """A backfill that was created: its DAG, its keys, and when it began."""

    id: int
    dag_id: str
    keys: tuple[str, ...]
    created_at: datetime


@dataclass(frozen=True)
class Progress:
    """How far a wait has come: ``done`` of ``total`` runs have ended, ``failed`` of them not well."""

    done: int
    failed: int
    total: int


def read_run(answer: Mapping[str, Any]) -> Run:
    """One run, from Airflow's JSON."""
    return Run(
        dag_id=answer["dag_id"],
        run_id=answer["dag_run_id"],
        state=answer["state"],
        partition_key=answer["partition_key"],
        run_type=answer["run_type"],
        queued_at=_instant(answer["queued_at"]),
        ended_at=_instant(answer["end_date"]),
        conf=answer.get("conf") or {},
        note=answer.get("note") or "",
    )


def read_task(answer: Mapping[str, Any]) -> TaskRun:
    """One task of a run, from Airflow's JSON."""
    return TaskRun(
        dag_id=answer["dag_id"],
        run_id=answer["dag_run_id"],
        task_id=answer["task_id"],
        map_index=answer["map_index"],
        label=answer["rendered_map_index"] or answer["task_id"],
        state=answer["state"],
        try_number=answer["try_number"],
        pool=answer["pool"],
        pid=answer["pid"],
    )


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def read_line(entry: object) -> str:
    """One line of a task's log, from Airflow's JSON."""
    if not isinstance(entry, dict):
        return str(entry)
    details = " ".join(str(error.get("exc_value", "")) for error in entry.get("error_detail") or ())
    return f"{entry.get('timestamp', '')} {entry.get('event', '')} {details}".strip()
