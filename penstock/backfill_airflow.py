"""A backfill that Airflow runs: one run of the DAG ``backfill``, which makes Airflow's own backfills of the sources.

::

    wish ──> run of DAG backfill ──plan──> spans ──advance──> Airflow backfill of ingest_<source>, one span each
                                                               └─ its runs carry {"penstock_backfill": <run id>}
                     └──────────────────> one refine pass ──> one release ──> report

Airflow lets a DAG have one active backfill, and one backfill has no holes; so the spans of a source follow one another,
and sources run side by side. There is no record of progress: what was tried is the runs that carry the id, what is left
is the plan without them. So the command may die, the scheduler may be killed, and whoever comes next goes on.

Pausing and cancelling are written on the run as its note, where people see it on the web page, and to Airflow's
backfills.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import quote, urlencode

from common.errors import BuildFailed, PenstockError, TerminalError, UnknownName, UsageError
from lake.paths import WHOLE
from penstock.airflow_api import FINISHED, AirflowApi, Run, patiently
from penstock.backfill_plan import Span, Wish, allowance, day_after, next_span, remaining

DAG_ID = "backfill"
CARRIED = "penstock_backfill"
"""Key under which the runs of a backfill carry its id."""

_LISTED = 20
"""How many backfills are listed; each costs some requests."""

Action = Literal["pause", "resume", "cancel"]

_NOTES: Mapping[str, str] = {"pause": "paused", "resume": "", "cancel": "cancelled"}


def dag_of(source: str) -> str:
    """The DAG that ingests a source."""
    return f"ingest_{source}"


def find(api: AirflowApi, wish: Wish) -> Run | None:
    """The backfill of exactly this wish that has not ended yet; None if there is none."""
    return next((run for run in _backfills(api) if _is_active(run) and Wish.from_dict(run.conf) == wish), None)


def start(api: AirflowApi, wish: Wish, now: datetime) -> Run:
    """Start a backfill in Airflow; it goes on by itself.

    Raises:
        TerminalError, TransientError: Airflow refused, or did not answer.
    """
    run_id = f"{now:%Y%m%d-%H%M}-{uuid.uuid4().hex[:4]}"
    return patiently(lambda: api.trigger(DAG_ID, run_id=run_id, conf={**wish.to_dict(), "dry_run": False}))


def paused_dags(api: AirflowApi, sources: list[str]) -> list[str]:
    """DAGs that a backfill of these sources needs and that are paused."""
    wanted = {DAG_ID, *(dag_of(source) for source in sources)}
    return sorted(
        dag["dag_id"] for dag in api.pages("/api/v2/dags", "dags") if dag["is_paused"] and dag["dag_id"] in wanted
    )


def status(api: AirflowApi, backfill_id: str | None = None) -> list[dict[str, Any]]:
    """Backfills that Airflow knows, the newest first: id, state, wish, and days of each source.

    Raises:
        UnknownName: there is no backfill of that id.
    """
    runs = [run for run in _backfills(api) if backfill_id in {None, run.run_id}]
    if backfill_id is not None and not runs:
        raise UnknownName(f"There is no backfill {backfill_id!r}.", remedy="see 'penstock backfill status'")
    return [_status(api, run) for run in runs[:_LISTED]]


def control(api: AirflowApi, action: Action, backfill_id: str | None = None) -> dict[str, Any]:
    """Pause, resume or cancel a backfill, the newest that has not ended by default; its status then.

    Raises:
        UnknownName: there is no such backfill.
        UsageError: it has ended.
    """
    runs = [run for run in _backfills(api) if backfill_id == run.run_id or (not backfill_id and _is_active(run))]
    if not runs:
        raise UnknownName(
            f"There is no backfill {backfill_id!r}." if backfill_id else "No backfill is active.",
            remedy="see 'penstock backfill status'",
        )
    run = runs[0]
    if not _is_active(run):
        raise UsageError(f"Backfill {run.run_id} has ended.", remedy="start it again: the same wish goes on from there")
    body: dict[str, object] = {"note": _NOTES[action]}
    patiently(lambda: api.call("PATCH", f"{_path(run)}?update_mask=note", body))  # first: advance() looks at it
    if action == "cancel":
        patiently(lambda: api.call("PATCH", f"{_path(run)}?update_mask=state", {"state": "failed"}))
    for source in (plan_of(api, run.run_id) or {"sources": {}})["sources"]:
        for backfill in _active(api, dag_of(source)):
            if backfill["dag_run_conf"].get(CARRIED) == run.run_id:
                _tell(api, backfill["id"], action)
    return status(api, run.run_id)[0]


def advance(api: AirflowApi, backfill_id: str, plan: Mapping[str, Any], now: datetime) -> bool:
    """Start what may start now; whether every planned day has been tried and nothing is at work.

    Args:
        api: Airflow.
        backfill_id: run id of the DAG ``backfill``.
        plan: :meth:`penstock.backfill.Plan.to_dict`.
        now: the time now.

    Raises:
        BuildFailed: an interval failed, and the wish says to stop then.
        TransientError, TerminalError: Airflow did not answer, or refused.
    """
    wish = Wish.from_dict(plan["wish"])
    done = True
    for source, planned in plan["sources"].items():
        dag_id = dag_of(source)
        runs = _runs(api, source, backfill_id)
        at_work = [run for run in runs if run.state not in FINISHED]
        failed = [run for run in runs if run.state == "failed"]
        active = _active(api, dag_id)
        mine = [each for each in active if each["dag_run_conf"].get(CARRIED) == backfill_id]
        if failed and wish.stop_on_failure:
            for each in mine:
                api.close_backfill(each["id"])
            raise BuildFailed(
                f"{dag_id} {failed[0].partition_key} failed, and the backfill was to stop then.",
                source=source,
                interval=failed[0].partition_key,
                remedy="mend the cause and start the same backfill again: it goes on from there",
            )
        if mine and not at_work:
            api.close_backfill(mine[0]["id"])
            active = [each for each in active if each["id"] != mine[0]["id"]]
        left = remaining(
            [Span.from_dict(each) for each in planned],
            {run.partition_key or "" for run in runs},
            newest_first=wish.newest_first,
        )
        done = done and not at_work and not left
        if active or not left or _note(api, backfill_id):
            continue
        started = [run.queued_at for run in runs if run.queued_at is not None]
        span = next_span(left, allowed=allowance(wish.max_per_hour, started, now), newest_first=wish.newest_first)
        if span is not None:
            conf = {CARRIED: backfill_id, "tables": list(span.tables), "skip": unwanted(plan, source, span)}
            _create(api, dag_id, span, wish, conf)
    return done


def _create(api: AirflowApi, dag_id: str, span: Span, wish: Wish, conf: Mapping[str, object]) -> None:
    """One backfill of Airflow, unless somebody else's has become the active one of the DAG since we looked."""
    try:
        api.create_backfill(
            dag_id,
            span.first,
            day_after(span.last),
            max_active_runs=wish.parallel,
            reprocess="completed",
            newest_first=wish.newest_first,
            conf=conf,
        )
    except TerminalError:
        if not _active(api, dag_id):
            raise


def _tell(api: AirflowApi, airflow_id: int, action: Action) -> None:
    if action == "cancel":
        api.close_backfill(airflow_id)
        return
    verb = "pause" if action == "pause" else "unpause"
    patiently(lambda: api.request("PUT", f"/api/v2/backfills/{airflow_id}/{verb}"))


def _runs(api: AirflowApi, source: str, backfill_id: str) -> list[Run]:
    """The runs of a source that were made for a backfill."""
    runs = api.runs(dag_of(source), carrying=backfill_id)
    return [run for run in runs if run.conf.get(CARRIED) == backfill_id]


def unwanted(plan: Mapping[str, Any], source: str, span: Span) -> list[str]:
    """Tasks of a source's DAG with nothing to do for a span: what closes a day comes at the end, whole tables once."""
    whole = {each["table"] for each in plan["ingest"] if each["keys"] == [WHOLE]}
    has_whole = any(f"raw.{source}__{table}" in whole for table in span.tables)
    return [*([] if has_whole else ["ingest_snapshots"]), "announce", "watch"]


def plan_of(api: AirflowApi, backfill_id: str) -> dict[str, Any] | None:
    """The plan that a backfill made when it began; None if it has not yet."""
    return _returned(api, backfill_id, "plan", "return_value")


def summary_of(api: AirflowApi, backfill_id: str) -> dict[str, Any] | None:
    """The account a backfill gave at its end; None if it gave none."""
    return _returned(api, backfill_id, "report", "summary")


def run_of(api: AirflowApi, backfill_id: str) -> Run:
    """The run of a backfill as it is now.

    Raises:
        UnknownName: there is none.
    """
    for run in _backfills(api):
        if run.run_id == backfill_id:
            return run
    raise UnknownName(f"There is no backfill {backfill_id!r}.", remedy="see 'penstock backfill status'")


def progress_of(api: AirflowApi, backfill_id: str) -> dict[str, tuple[int, int, int]]:
    """Stage -> how many of its steps have ended, how many of those not well, how many there are."""
    found = {}
    plan = plan_of(api, backfill_id)
    for source, planned in (plan["sources"] if plan else {}).items():
        runs = _runs(api, source, backfill_id)
        ended = [run for run in runs if run.state in FINISHED]
        total = len({key for span in planned for key in Span.from_dict(span).keys})
        found[f"ingest {source}"] = (len(ended), sum(run.state == "failed" for run in ended), total)
    tasks = api.task_instances(DAG_ID, backfill_id)
    refine = [task for task in tasks if task.task_id.startswith("refine") and task.map_index >= 0]
    if refine:
        ended_tasks = [task for task in refine if task.state in {"success", "failed", "upstream_failed"}]
        failed = sum(task.state != "success" for task in ended_tasks)
        found["refine"] = (len(ended_tasks), failed, len(refine))
    built = [task for task in tasks if task.task_id in {"build", "publish"} and task.state is not None]
    if built and refine:
        found["build"] = (sum(task.state in {"success", "skipped"} for task in built), 0, 2)
    return found


def _status(api: AirflowApi, run: Run) -> dict[str, Any]:
    sources = {
        stage.removeprefix("ingest "): {"done": done, "failed": failed, "total": total}
        for stage, (done, failed, total) in progress_of(api, run.run_id).items()
        if stage.startswith("ingest ")
    }
    state = run.note if run.note in _NOTES.values() and run.note else run.state
    return {
        "id": run.run_id,
        "state": state,
        "wish": Wish.from_dict(run.conf).to_dict(),
        "started_at": run.queued_at.isoformat() if run.queued_at else "",
        "sources": sources,
        "summary": summary_of(api, run.run_id) if run.state in FINISHED else None,
    }


def _backfills(api: AirflowApi) -> list[Run]:
    """Runs of the DAG ``backfill`` that were to do something, the newest first."""
    found = []
    for run in api.runs(DAG_ID):
        with contextlib.suppress(UsageError):  # a form that was filled in wrongly: its task ``plan`` failed
            Wish.from_dict(run.conf)
            found += [] if run.conf.get("dry_run") else [run]
    return sorted(found, key=lambda run: str(run.queued_at), reverse=True)


def _is_active(run: Run) -> bool:
    return run.state not in FINISHED


def _active(api: AirflowApi, dag_id: str) -> list[dict[str, Any]]:
    """Airflow's backfills of a DAG that it has not marked as completed."""
    path = f"/api/v2/backfills?{urlencode({'dag_id': dag_id, 'order_by': '-id'})}"
    newest = api.call("GET", f"{path}&limit=5")["backfills"]  # one can be active, and it is the newest
    return [{**each, "dag_run_conf": each["dag_run_conf"] or {}} for each in newest if each["completed_at"] is None]


def _note(api: AirflowApi, backfill_id: str) -> str:
    note = api.call("GET", f"/api/v2/dags/{DAG_ID}/dagRuns/{quote(backfill_id, safe='')}")["note"] or ""
    return note if note in _NOTES.values() else ""


def _path(run: Run) -> str:
    return f"/api/v2/dags/{run.dag_id}/dagRuns/{quote(run.run_id, safe='')}"


def _returned(api: AirflowApi, backfill_id: str, task_id: str, key: str) -> dict[str, Any] | None:
    path = f"/api/v2/dags/{DAG_ID}/dagRuns/{quote(backfill_id, safe='')}/taskInstances/{task_id}/xcomEntries/{key}"
    status_code, answer = api.request("GET", path)
    if status_code == HTTPStatus.NOT_FOUND:
        return None
    if status_code != HTTPStatus.OK:
        raise PenstockError(f"Airflow answered {status_code} to GET {path}.", remedy="see its api-server log")
    value = answer["value"]
    found: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
    return found
