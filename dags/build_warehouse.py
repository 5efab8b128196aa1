"""The DAG that turns raw days into a new release of the warehouse.

``every raw.<source>__<table> for one key --refine--> refined lake --build--> candidate --publish--> release``

It runs for a partition key when every table of every source is announced for it, and again when an event reopens it.
Several keys may be refined at once (they touch different partitions). To build and to publish takes every slot of the
pool, so one task at a time does, and it builds *everything* that changed since the last release. So the keys of a
backfill share builds: those that come later find nothing left to do and end in success without a release. They go
before keys that are still to be refined, so that they make room for as many of those at once as the pool holds; and a
finished candidate goes before everything.

At the end incidents are brought in step, whether the run succeeded or not.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import AssetAll, AssetAny, PartitionedAssetTimetable, dag, task

from dags.penstock_dags import steps
from dags.penstock_dags.assets import (
    mart_assets,
    raw_assets,
    refined_assets,
    release_asset,
    reopened_asset,
    tell_receipts,
    tell_release,
)
from dags.penstock_dags.defaults import (
    DAG_DEFAULTS,
    RERUN_CLASS,
    TAG,
    TASK_DEFAULTS,
    WAREHOUSE_POOL,
    WAREHOUSE_TASK,
    WATCH,
    require_key,
)
from dags.penstock_dags.specs import load_schedules

DAG_ID = "build_warehouse"


@dag(
    dag_id=DAG_ID,
    description="Refine one day of every source, build the warehouse, publish it as a release.",
    doc_md=f"{__doc__}\n{RERUN_CLASS}\n",
    schedule=PartitionedAssetTimetable(
        assets=AssetAny(
            AssetAll(*(asset for source in load_schedules() for asset in raw_assets(source))), reopened_asset()
        )
    ),
    max_active_runs=8,
    default_args={**TASK_DEFAULTS, "owner": "penstock", "pool": WAREHOUSE_POOL, "weight_rule": "absolute"},
    tags={TAG, "warehouse"},
    **DAG_DEFAULTS,
)
def build_warehouse() -> None:
    """Refine, build, publish."""

    @task(priority_weight=1, outlets=refined_assets())
    def refine(partition_key: str | None = None, outlet_events: Any = None) -> list[dict[str, Any]]:
        receipts = steps.refine(require_key(partition_key, DAG_ID))
        tell_receipts(outlet_events, receipts)
        return receipts

    @task.short_circuit(**WAREHOUSE_TASK, priority_weight=10)
    def build() -> str | None:
        return steps.build()

    @task(**WAREHOUSE_TASK, priority_weight=100, outlets=[release_asset(), *mart_assets()], multiple_outputs=False)
    def publish(candidate: Any, outlet_events: Any = None) -> dict[str, Any]:
        release = steps.publish(candidate)
        tell_release(outlet_events, release)
        return release

    @task(task_id=WATCH, pool="default_pool")
    def watch(ti: Any = None, dag_run: Any = None) -> None:
        states = ti.get_task_states(dag_id=DAG_ID, run_ids=[dag_run.run_id])
        steps.watch(DAG_ID, dag_run.run_id, states.get(dag_run.run_id, {}))

    candidate = build()
    refine() >> candidate
    publish(candidate) >> watch().as_teardown()


build_warehouse()
