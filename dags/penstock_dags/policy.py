"""Airflow's cluster policy: tasks of backfills that read sources, or hold a snapshot, go into pools of their own.

``run of a backfill -> its ingest tasks -> pool backfill;   any other run -> pool source_load``

One DAG ingests a source, live and backfilled alike, so that the web page shows both and a day has one history. But a
task's pool is part of its DAG, and a backfill of a year in the pool of the live runs would keep them waiting. Airflow
asks its policies about every task instance it creates, with the run it belongs to: here the pool is chosen, and the
lowest priority, for when workers are scarce. A second DAG per source was the alternative; it would have a schedule of
its own, as only DAGs with one can be back-filled.

Airflow finds this module by the entry point ``airflow.policy`` of the installed package.
"""

from __future__ import annotations

from typing import Any, Final

from airflow import settings
from airflow.policies import hookimpl

from dags.penstock_dags.snapshot_steps import shares_nothing

SOURCE_POOL: Final = "source_load"
"""Pool of the tasks that read sources: its slots bound the connections open to them at once."""

BACKFILL_POOL: Final = "backfill"
"""Pool of everything that backfills do, but for the build of their release."""

SNAPSHOT_POOL: Final = "snapshots"
"""Pool of the tasks that hold a snapshot while others read. It has fewer slots than there are workers, or the holders
could take all of them; and it is not that of those others, or they could wait for a slot that their holder has."""

BACKFILL_SNAPSHOT_POOL: Final = "backfill_snapshots"
"""The same for the runs of backfills."""

HOLD: Final = "hold_snapshot"
"""Task that holds a snapshot of the source while the tables of its run are read."""

JOIN: Final = "join_snapshot"
"""Task for which the tables wait: until the snapshot is told, or will not be."""

_POOLS: Final = {SOURCE_POOL: BACKFILL_POOL, SNAPSHOT_POOL: BACKFILL_SNAPSHOT_POOL}

# Airflow inserts task instances in bulk, without asking anybody, while it believes that there is no such hook; and it
# looks only into airflow_local_settings.py to find out.
settings.task_instance_mutation_hook.is_noop = False  # type: ignore[attr-defined]


@hookimpl
def task_instance_mutation_hook(task_instance: Any, dag_run: Any) -> None:
    """Put an ingest task of a backfill's run into the pool of backfills, behind everything else.

    A task that the backfill does not want is skipped here, which saves the process that would find out; so are those
    that share a snapshot, in a run that wants one table. (The DAG skips them as well: its own check serves an Airflow
    that does not ask this policy.)
    """
    if not task_instance.dag_id.startswith("ingest_"):
        return
    conf = (dag_run.conf if dag_run is not None else None) or {}
    if task_instance.task_id in {HOLD, JOIN} and task_instance.state is None and shares_nothing(conf):
        task_instance.state = "skipped"
    # While a task instance is made it does not have its run yet, but the run's id.
    run_type = dag_run.run_type if dag_run is not None else str(task_instance.run_id).partition("__")[0]
    if run_type != "backfill":
        return
    if task_instance.pool in _POOLS:
        task_instance.pool = _POOLS[task_instance.pool]
        task_instance.priority_weight = 0
    if task_instance.state is None and task_instance.task_id in conf.get("skip", ()):
        task_instance.state = "skipped"
