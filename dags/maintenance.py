"""The DAG that keeps the state in order: once a day, one step after the other.

``retain releases --> compact small files --> expire snapshots --> sweep files that nothing names``

Each step is what ``penstock maintain`` does ([maintenance](docs/maintenance.md)): safe beside the runs of all other
DAGs, so it waits for none of them and holds none of their slots. A step that fails keeps none of the later ones from
being done: what it would have made room for is done the next day.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import chain, dag, task

from dags.penstock_dags import maintenance_steps
from dags.penstock_dags.defaults import (
    DAG_DEFAULTS,
    MAINTENANCE_POOL,
    RERUN_CLASS_MAINTENANCE,
    TAG,
    TASK_DEFAULTS,
)

DAG_ID = "penstock_maintenance"


@dag(
    dag_id=DAG_ID,
    description="Retire old releases, merge small files, expire snapshots, delete files that nothing names.",
    doc_md=f"{__doc__}\n{RERUN_CLASS_MAINTENANCE}\n",
    schedule="30 3 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    max_active_runs=1,
    default_args={**TASK_DEFAULTS, "owner": "penstock", "pool": MAINTENANCE_POOL},
    tags={TAG, "maintenance"},
    **DAG_DEFAULTS,
)
def penstock_maintenance() -> None:
    """Retain, compact, expire, sweep."""

    @task(multiple_outputs=False)
    def retain() -> dict[str, Any]:
        return maintenance_steps.retain()

    @task(trigger_rule="all_done", multiple_outputs=False)
    def compact() -> dict[str, Any]:
        return maintenance_steps.compact()

    @task(trigger_rule="all_done", multiple_outputs=False)
    def expire() -> dict[str, Any]:
        return maintenance_steps.expire()

    @task(trigger_rule="all_done", multiple_outputs=False)
    def sweep() -> dict[str, Any]:
        return maintenance_steps.sweep()

    chain(retain(), compact(), expire(), sweep())


penstock_maintenance()
