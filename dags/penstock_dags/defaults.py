"""What every DAG has in common, in one place: retries, timeouts, pools, tags, the partition key.

Retries follow the error tree of ``common/errors.py``: what may heal is tried again with growing pauses, what cannot
heal fails at once, so that a refused batch is red within seconds and not after five attempts. A task that was killed
raised nothing, and an error this code does not know is most often the machine's: both are tried again.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Final

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from common.errors import IntervalError
from common.settings import Settings
from dags.penstock_dags.policy import BACKFILL_POOL, HOLD, JOIN, SNAPSHOT_POOL, SOURCE_POOL

WAREHOUSE_POOL: Final = "warehouse"
"""Pool of the tasks between raw lake and release."""

WAREHOUSE_SLOTS: Final = 4
"""Slots of that pool. To refine takes one; to build or publish takes all, so that a build runs alone: DuckDB has one
writer, and the keys refined meanwhile wait for one build together. A pool with fewer slots never builds."""

MAINTENANCE_POOL: Final = "maintenance"
"""Pool of the one maintenance step that runs at a time."""

_SETTINGS: Final = Settings.load()

WAREHOUSE_TASK: Final[dict[str, Any]] = {
    "pool": WAREHOUSE_POOL,
    "pool_slots": WAREHOUSE_SLOTS,
    "queue": _SETTINGS.warehouse_queue,
    "executor_config": {"pod_template_file": str(_SETTINGS.warehouse_pod_template)}
    if _SETTINGS.warehouse_pod_template
    else None,
}
"""Arguments of every task that builds or publishes. Candidate and releases are files of one machine: where Airflow has
workers (Celery), only those of this queue get them; where every task has a pod (Kubernetes), theirs has the volume.
Executors without queues or pods ignore it."""

BACKUP_SCHEDULE: Final = "30 4 * * *" if _SETTINGS.backup_uri else None
"""When backups are taken: behind maintenance; never by themselves where there is no place for them."""

KEY_FORMAT: Final = "%Y-%m-%d"
"""A partition key is a calendar day in its source's time zone."""

TAG: Final = "penstock"

RETRY_POLICY: Final = ExceptionRetryPolicy(
    rules=[
        RetryRule("common.errors.TransientError", RetryAction.RETRY, reason="may heal by itself"),
        RetryRule("common.errors.PenstockError", RetryAction.FAIL, reason="trying again cannot help"),
        RetryRule(
            [
                f"builtins.{name}"
                for name in ("TypeError", "ValueError", "LookupError", "AttributeError", "ImportError")
            ],
            RetryAction.FAIL,
            reason="a programming error: trying again cannot help",
        ),
    ],
    default=RetryAction.DEFAULT,
)

TASK_DEFAULTS: Final[dict[str, Any]] = {
    "retries": 4,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": 3.0,  # about 5 s, 15 s, 45 s, 135 s
    "max_retry_delay": timedelta(minutes=10),
    "retry_policy": RETRY_POLICY,
    "execution_timeout": timedelta(hours=1),
}
"""``default_args`` of every DAG."""

DAG_DEFAULTS: Final[dict[str, Any]] = {
    "catchup": False,
    "is_paused_upon_creation": True,
    "max_consecutive_failed_dag_runs": 0,
}
"""Keyword arguments of every DAG."""

RERUN_CLASS: Final = (
    "**Rerun class: backfill-safe by partition key.** A rerun of a key replaces exactly that key's rows and nothing "
    "else; the same input gives the same result, so clear, rerun or backfill any key at any time, in any order."
)
"""Sentence in every DAG's documentation: what a rerun does."""

RERUN_CLASS_BACKFILL: Final = (
    "**Rerun class: backfill-safe by partition key.** What there is to do is derived from the lake when it runs, and "
    "what was tried from Airflow's runs that carry its id: clear its tasks at any time, or start the same wish again."
)
"""The same for the DAG that has no key of its own."""

RERUN_CLASS_MAINTENANCE: Final = (
    "**Rerun class: backfill-safe by partition key.** It has no key: what there is to do is derived from what is there "
    "when it runs, so clear its tasks or start it at any time; a second run finds nothing left to do."
)
"""The same for maintenance."""

RERUN_CLASS_BACKUP: Final = (
    "**Rerun class: backfill-safe by partition key.** It has no key: each run saves the state of its moment, copies "
    "what earlier backups do not have, and counts when it is whole; clear its tasks or start it at any time."
)
"""The same for backups."""

RERUN_CLASS_EVENTS: Final = (
    "**Rerun class: backfill-safe by partition key.** A run starts runs that are named by what came: clear it at any "
    "time, and what was started is found. What those do to their days is theirs, and safe in the same way."
)
"""The same for the DAG that only starts others."""

RERUN_CLASS_NOW: Final = (
    "**Rerun class: now.** It looks at what is wrong at the moment it runs, and a second look at the same changes "
    "nothing: clear it at any time, or let it be; the next look finds the same."
)
"""The same for the DAG that is about no day."""

WATCH: Final = "watch"
"""Task that brings incidents in step at the end of a run, whatever became of the other tasks. It is a teardown: the run
is as good or bad as the tasks before it."""

SNAPSHOT_HOLD_S: Final = _SETTINGS.snapshot_hold_s
"""Longest time that a snapshot is held, in s; 0: none is."""

HOLD_TASK: Final[dict[str, Any]] = {
    "task_id": HOLD,
    "pool": SNAPSHOT_POOL,
    # Before the tables, in whatever queue: they wait for it.
    "weight_rule": "absolute",
    "priority_weight": 100,
    "execution_timeout": timedelta(seconds=SNAPSHOT_HOLD_S) + timedelta(minutes=10),
}
"""Arguments of the task that holds a snapshot. It lets go by itself before its time is over."""

JOIN_TASK: Final[dict[str, Any]] = {
    "task_id": JOIN,
    "pool": "default_pool",
    "poke_interval": 3,
    "exponential_backoff": True,
    "max_wait": timedelta(seconds=10),
    # A holder that waits for a slot so long is given up: the gate is skipped, and tables are read.
    "timeout": 600,
    "soft_fail": True,
}
"""Arguments of the task for which the tables wait; between its looks it takes no worker."""

__all__ = ["BACKFILL_POOL", "HOLD", "JOIN", "SOURCE_POOL"]


def require_key(partition_key: str | None, dag_id: str) -> str:
    """The partition key of a run, which Airflow's API lets a manual run go without.

    Raises:
        IntervalError: no key, or not a calendar day.
    """
    if partition_key is None:
        raise IntervalError(
            f"This run of {dag_id} has no partition key, so it does not say which day to load.",
            remedy='trigger it with a key, for example "partition_key": "2013-01-31", or create a backfill',
        )
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", partition_key):
        raise IntervalError(
            f"The partition key of this run of {dag_id} is not a calendar day.",
            interval=partition_key,
            remedy="write it as YYYY-MM-DD",
        )
    return partition_key
