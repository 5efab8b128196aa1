"""The DAG that fills intervals: it plans, has Airflow backfill the sources, refines once and releases once.

``wish --plan--> spans --ingest--> Airflow's backfills of ingest_<source> --refine--> refined lake --build--> release``

Started from the form, by REST, or by ``penstock backfill run``. The task ``ingest`` makes one backfill of Airflow after
another for each source, and looks at them every few seconds; between looks it holds no slot. Only the build shares the
pool ``warehouse`` with live runs, as the last in its queue: there is one warehouse.

A backfill's ingest runs announce nothing, so they start no build of their own.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from dags.penstock_dags import backfill_steps, steps
from dags.penstock_dags.assets import mart_assets, release_asset, tell_release
from dags.penstock_dags.defaults import (
    BACKFILL_POOL,
    DAG_DEFAULTS,
    RERUN_CLASS_BACKFILL,
    TAG,
    TASK_DEFAULTS,
    WAREHOUSE_TASK,
)

DAG_ID = "backfill"

PARAMS: dict[str, Any] = {
    "targets": Param([], type="array", items={"type": "string"}, description="Sources, tables or models, one a line."),
    "start": Param("", type="string", description="First day, YYYY-MM-DD."),
    "end": Param("", type="string", description="The day after the last one, YYYY-MM-DD."),
    "mode": Param(
        "only-missing",
        enum=["only-missing", "stale", "all"],
        description="Intervals that are missing or failed; also those that are stale; or every one again.",
    ),
    "newest_first": Param(False, type="boolean", description="Begin with the latest day."),
    "parallel": Param(2, type="integer", minimum=1, description="Intervals of one source that run at once."),
    "max_per_hour": Param(
        None, type=["null", "integer"], minimum=1, description="Intervals of one source that may start within an hour."
    ),
    "stop_on_failure": Param(False, type="boolean", description="Start nothing more once an interval failed."),
    "dry_run": Param(False, type="boolean", description="Only plan: the log of the task plan says what would run."),
}


@dag(
    dag_id=DAG_ID,
    description="Fill intervals that are missing or stale, of sources, tables or models; one release at the end.",
    doc_md=f"{__doc__}\n{RERUN_CLASS_BACKFILL}\n",
    schedule=None,
    params=PARAMS,
    max_active_runs=4,
    default_args={
        **TASK_DEFAULTS,
        "owner": "penstock",
        "pool": BACKFILL_POOL,
        "weight_rule": "absolute",
        "priority_weight": 1,
    },
    tags={TAG, "backfill"},
    **DAG_DEFAULTS,
)
def backfill() -> None:
    """Plan, ingest, refine, release, report."""

    @task(multiple_outputs=False)
    def plan(params: Any = None) -> dict[str, Any]:
        return backfill_steps.plan(params)

    @task.sensor(mode="reschedule", poke_interval=10, timeout=timedelta(days=30).total_seconds())
    def ingest(planned: Any, params: Any = None, dag_run: Any = None) -> bool:
        if params["dry_run"]:
            raise AirflowSkipException("Only the plan was asked for.")
        return backfill_steps.advance(dag_run.run_id, planned)

    @task(multiple_outputs=False)
    def work(planned: Any, *, whole: bool) -> list[dict[str, Any]]:
        return backfill_steps.work(planned, whole=whole)

    @task(map_index_template="{{ task.op_kwargs['piece']['label'] }}", multiple_outputs=False)
    def refine(piece: Any) -> dict[str, int]:
        return backfill_steps.refine(piece)

    # From here on a failure stops nothing: the rest is released, and the report says what is not.
    @task(**WAREHOUSE_TASK, trigger_rule="all_done", multiple_outputs=False)
    def build(ti: Any = None) -> dict[str, Any]:
        if ti.xcom_pull(task_ids="work_days") is None:
            raise AirflowSkipException("There is nothing to build: ingest did not end.")
        return {"candidate": steps.build()}

    @task(**WAREHOUSE_TASK, outlets=[release_asset(), *mart_assets()], multiple_outputs=False)
    def publish(built: Any, outlet_events: Any = None) -> dict[str, Any]:
        if built["candidate"] is None:
            raise AirflowSkipException("Nothing changed since the current release.")
        release = steps.publish(built["candidate"])
        tell_release(outlet_events, release)
        return release

    @task(trigger_rule="all_done")
    def report(params: Any = None, ti: Any = None) -> None:
        planned, built = ti.xcom_pull(task_ids="plan"), ti.xcom_pull(task_ids="build")
        if params["dry_run"]:
            return
        released = ti.xcom_pull(task_ids="publish") or {}
        account = backfill_steps.summary(planned, released.get("release"), built=built is not None)
        ti.xcom_push(key="summary", value=account)
        backfill_steps.judge(account)

    planned = plan()
    of_whole = work.override(task_id="work_whole")(planned, whole=True)
    of_days = work.override(task_id="work_days")(planned, whole=False)
    whole = refine.override(task_id="refine_whole").expand(piece=of_whole)
    days = refine.override(task_id="refine_days", trigger_rule="all_done").expand(piece=of_days)
    built = build()
    ingest(planned) >> [of_whole, of_days]
    whole >> days >> built
    publish(built) >> report()


backfill()
