"""The DAG that saves the state: once a day, where there is a place for backups.

``take a backup --> read it back --> keep the newest``

Each step is what ``penstock backup`` does ([backups](docs/backup.md)): safe beside the runs of all other DAGs, so it
waits for none of them. Without ``PENSTOCK_BACKUP_URI`` it has no schedule. Files of releases lie on the builder's disk,
so the backup runs where builds run; to read it back needs no more than the place.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import chain, dag, task

from dags.penstock_dags import backup_steps
from dags.penstock_dags.defaults import (
    BACKUP_SCHEDULE,
    DAG_DEFAULTS,
    MAINTENANCE_POOL,
    RERUN_CLASS_BACKUP,
    TAG,
    TASK_DEFAULTS,
    WAREHOUSE_TASK,
)

DAG_ID = "penstock_backup"


@dag(
    dag_id=DAG_ID,
    description="Save catalog, lake, history and releases; read it back; keep the newest backups.",
    doc_md=f"{__doc__}\n{RERUN_CLASS_BACKUP}\n",
    schedule=BACKUP_SCHEDULE,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    max_active_runs=1,
    default_args={**TASK_DEFAULTS, "owner": "penstock", "pool": MAINTENANCE_POOL},
    tags={TAG, "maintenance"},
    **DAG_DEFAULTS,
)
def penstock_backup() -> None:
    """Take, verify, prune."""

    @task(**{**WAREHOUSE_TASK, "pool": MAINTENANCE_POOL, "pool_slots": 1}, multiple_outputs=False)
    def take() -> dict[str, Any]:
        return backup_steps.take()

    @task(multiple_outputs=False)
    def verify(taken: dict[str, Any]) -> dict[str, Any]:
        return backup_steps.verify(str(taken["id"]))

    @task(multiple_outputs=False)
    def prune() -> dict[str, Any]:
        return backup_steps.prune()

    chain(verify(take()), prune())  # type: ignore[arg-type]  # what a task returns is its task here


penstock_backup()
