"""Airflow's local executor that loads the heavy modules once, before it forks its workers (``preloading.py``).

``scheduler process: import -> fork workers -> each worker forks a process per task``

Chosen over a plugin: a plugin's ``on_starting`` hook runs before Airflow knows which component it is in, and would load
250 MB into the API server as well. Here the one process that forks loads them, at the moment before it forks.

Configured by ``AIRFLOW__CORE__EXECUTOR=dags.penstock_dags.executor.LocalExecutor`` (leave it out for Airflow's own).
"""

from __future__ import annotations

from airflow.executors import local_executor

from dags.penstock_dags.preloading import PRELOADED, preload


class LocalExecutor(local_executor.LocalExecutor):  # named like its parent: Airflow recognises it as local by name
    """Airflow's local executor, its workers forked from a process that has the pipeline's modules loaded."""

    def start(self) -> None:
        """Load the modules, then start the workers."""
        if self.is_mp_using_fork:
            preload(PRELOADED)
        super().start()
