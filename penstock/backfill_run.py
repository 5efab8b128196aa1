"""``penstock backfill``: the plan shown, then run by Airflow where there is one, else in this process.

Following a backfill that Airflow runs is only looking: this command may be interrupted, Airflow goes on; the same
command again finds it and looks on.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from common import logs
from common.errors import SettingsError, TerminalError, TransientError, UnknownName, UsageError
from common.settings import decode_url_part
from penstock.backfill_plan import Wish
from penstock.cli_options import print_json
from penstock.show import progress_bars

if TYPE_CHECKING:
    from common.settings import Settings
    from penstock.airflow_api import AirflowApi, Run
    from penstock.backfill import Plan
    from penstock.pipeline import Pipeline

_POLL_S = 2.0
_PATIENCE_S = 180.0


def airflow_of(settings: Settings) -> AirflowApi | None:
    """The Airflow to use: the connection ``airflow``, else the local one that is up; None if there is neither.

    Raises:
        SettingsError: the connection's URL is none of an Airflow.
        UsageError: the local Airflow is up in parts only.
    """
    from penstock.airflow_api import AirflowApi
    from penstock.scheduler import Scheduler

    if "airflow" in settings.connections:
        url = urlsplit(settings.connection("airflow").get_secret_value())
        if url.scheme not in {"http", "https"} or not url.hostname or not url.username:
            raise SettingsError(
                "Connection 'airflow' is no address of an Airflow.",
                remedy="write it as https://user:password@host:port",
            )
        address = f"{url.scheme}://{url.hostname}" + (f":{url.port}" if url.port else "") + url.path.rstrip("/")
        return AirflowApi(address, user=decode_url_part(url.username), password=decode_url_part(url.password))
    scheduler = Scheduler(settings.home)
    if scheduler.is_running():
        return scheduler.api
    if scheduler.was_started():
        raise UsageError(
            f"The Airflow under {scheduler.folder} is up in parts only.",
            remedy="start the rest with 'penstock up', end it with 'penstock down', or run with --local",
        )
    return None


def run_backfill(settings: Settings, wish: Wish, *, dry_run: bool, local: bool, unpause: bool, as_json: bool) -> int:
    """Plan, show, run, account. The exit code: 0, or 1 if an interval was not done.

    Raises:
        See ``common/errors.py``.
    """
    from penstock import backfill_airflow
    from penstock.backfill import plan_backfill
    from penstock.backfill_local import run_local
    from penstock.pipeline import Pipeline
    from penstock.show_backfill import show_plan, show_summary

    pipeline = Pipeline(settings)
    api = None if local or dry_run else airflow_of(settings)
    running = backfill_airflow.find(api, wish) if api else None
    plan = plan_backfill(pipeline, wish)
    if not as_json and running is None:
        show_plan(plan)
    if dry_run or (plan.is_empty and running is None):
        if as_json:
            print_json(plan.to_dict())
        return 0
    if api is None:
        with progress_bars() as progress:
            summary = run_local(pipeline, plan, progress)
    else:
        running = running or _start(pipeline, api, plan, unpause=unpause)
        logs.say(f"backfill {running.run_id}: Airflow runs it, {api.url}/dags/backfill")
        summary = {"id": running.run_id, **follow(api, running.run_id)}
    if as_json:
        print_json(summary)
    else:
        show_summary(summary)
    return 1 if summary["not_done"] or summary.get("stopped") else 0


def start_in_airflow(
    pipeline: Pipeline, api: AirflowApi, wish: Wish, *, unpause: bool
) -> tuple[Run | None, Plan | None]:
    """Have Airflow run a backfill, unless it runs exactly this one already.

    Args:
        pipeline: lake, specs and releases.
        api: Airflow.
        wish: what is asked for.
        unpause: unpause the DAGs that it needs.

    Returns:
        The run, None if there is nothing to do; and the plan, None for a run that was found at work.

    Raises:
        UnknownName: a target, or a DAG of it, is not known.
        UsageError: a DAG that it needs is paused.
        TransientError, TerminalError: Airflow did not answer, or refused.
    """
    from penstock import backfill_airflow
    from penstock.backfill import plan_backfill

    running = backfill_airflow.find(api, wish)
    if running is not None:
        return running, None
    plan = plan_backfill(pipeline, wish)
    return (None if plan.is_empty else _start(pipeline, api, plan, unpause=unpause)), plan


def _start(pipeline: Pipeline, api: AirflowApi, plan: Plan, *, unpause: bool) -> Run:
    from penstock import backfill_airflow

    _ready(api, plan, unpause=unpause)
    return backfill_airflow.start(api, plan.wish, pipeline.clock())


def follow(api: AirflowApi, backfill_id: str) -> dict[str, Any]:
    """Look on until a backfill has ended; its summary.

    Raises:
        TransientError: Airflow has not answered for some minutes.
        TerminalError: it ended without an account: cancelled, or a task of it failed.
    """
    from penstock import backfill_airflow
    from penstock.airflow_api import FINISHED

    answered, shown = time.monotonic(), dict[str, tuple[int, int, int]]()
    with progress_bars() as progress:
        while True:
            asked = time.monotonic()
            try:
                run = backfill_airflow.run_of(api, backfill_id)
                found = backfill_airflow.progress_of(api, backfill_id)
                for stage, (done, failed, total) in found.items():
                    if shown.get(stage) != found[stage]:
                        progress(stage, done, total, f"{failed} failed" if failed else "")
                shown = found
                answered = time.monotonic()
                if run.state in FINISHED:
                    break
            except TransientError:
                if time.monotonic() - answered > _PATIENCE_S:
                    raise
            time.sleep(max(_POLL_S, 9 * (time.monotonic() - asked)))
    summary = backfill_airflow.summary_of(api, backfill_id)
    if summary is None and run.note:
        raise TerminalError(
            f"Backfill {backfill_id} was {run.note}; no release was built, what it ingested stays.",
            remedy="run the same command again: it goes on from there",
        )
    if summary is None:
        logs = "\n".join(f"{task}:\n{text}" for task, text in api.failures(run).items())
        raise TerminalError(
            f"Backfill {backfill_id} is {run.note or run.state} and gave no account.\n{logs}",
            remedy="mend the cause and run the same command again: it goes on from there",
        )
    return summary


def show_status(settings: Settings, backfill_id: str | None, *, as_json: bool) -> None:
    """Print the backfills that Airflow knows, or one of them with its account."""
    from penstock import backfill_airflow
    from penstock.show_backfill import show_backfills, show_summary

    found = backfill_airflow.status(_needed(settings), backfill_id)
    if as_json:
        print_json(found)
        return
    show_backfills(found)
    if backfill_id is not None and found[0]["summary"]:
        show_summary(found[0]["summary"])


def control(settings: Settings, action: Any, backfill_id: str | None) -> dict[str, Any]:
    """Pause, resume or cancel a backfill; its status then."""
    from penstock import backfill_airflow

    return backfill_airflow.control(_needed(settings), action, backfill_id)


def _needed(settings: Settings) -> AirflowApi:
    api = airflow_of(settings)
    if api is None:
        raise UsageError(
            "There is no Airflow; a backfill in a process of its own is followed where it runs.",
            remedy="start one with 'penstock up', or set the connection 'airflow'",
        )
    return api


def _ready(api: AirflowApi, plan: Plan, *, unpause: bool) -> None:
    """See that Airflow knows the DAGs and may run them."""
    from penstock import backfill_airflow

    sources = list(plan.sources)
    unknown = {backfill_airflow.DAG_ID, *map(backfill_airflow.dag_of, sources)} - set(api.dag_ids())
    if unknown:
        raise UnknownName(
            f"Airflow does not know {', '.join(sorted(unknown))}.",
            remedy="wait until it has read the DAG files, or look for import errors on its web page",
        )
    for dag_id in backfill_airflow.paused_dags(api, sources):
        if dag_id == backfill_airflow.DAG_ID or unpause:  # the DAG backfill has no schedule: nothing starts by itself
            api.unpause(dag_id)
        else:
            raise UsageError(
                f"{dag_id} is paused, so its days would wait.",
                remedy="unpause it on Airflow's web page, or add --unpause: a live source's latest due run starts then",
            )
