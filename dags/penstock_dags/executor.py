"""Airflow's local executor that loads the heavy modules once, before it forks its workers.

``scheduler process: import -> fork workers -> each worker forks a process per task``

Great Expectations, PyIceberg, dbt and Polars take seconds of CPU to import, and a task is a fresh process. On Linux the
local executor forks, so what the scheduler has imported before it starts its workers every task inherits for nothing.
Chosen over a plugin: a plugin's ``on_starting`` hook runs before Airflow knows which component it is in, and would load
250 MB into the API server as well. Here the one process that forks loads them, at the moment before it forks.

Only imports happen before the fork: no connection, no query, no thread pool. (Allocators own a thread after an import
and are written for forks; OpenBLAS would start a pool and is held to one thread by the harness's environment.)
Where this executor is not configured, or a module fails to load, tasks import by themselves as ever.

Configured by ``AIRFLOW__CORE__EXECUTOR=dags.penstock_dags.executor.LocalExecutor`` (leave it out for Airflow's own).
"""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Iterable

from airflow.executors import local_executor

PRELOADED = (
    "penstock.pipeline",
    "penstock.build",
    "penstock.backfill",
    "penstock.backfill_airflow",
    "penstock.backfill_run",
    "ingestion.objects.reader",
    "ingestion.databases.reader",
    "quality.audit",
    "quality.engine",
    "quality.gate",
    "transformations.refine.stage",
    "transformations.dbt_runner",
    "great_expectations",
    "duckdb_engine",
    "duckdb_extension_mysql_scanner",
    "duckdb_extension_postgres_scanner",
    "pyiceberg.avro.file",
    "pyiceberg.catalog.sql",
    "pyiceberg.io.pyarrow",
    "lake.local_io",
    "dbt.cli.main",
    "dbt.adapters.duckdb",
    "dbt.task.build",
    "dbt.task.docs.generate",
    "duckdb",
    "polars",
    "pyarrow.parquet",
    "pyarrow.dataset",
    "boto3.s3.inject",
)
"""Modules that tasks need and that are dear to import."""

log = logging.getLogger(__name__)


class LocalExecutor(local_executor.LocalExecutor):  # named like its parent: Airflow recognises it as local by name
    """Airflow's local executor, its workers forked from a process that has the pipeline's modules loaded."""

    def start(self) -> None:
        """Load the modules, then start the workers."""
        if self.is_mp_using_fork:
            preload(PRELOADED)
        super().start()


def preload(modules: Iterable[str]) -> list[str]:
    """Import ``modules``; those that could be imported. A failure is logged, never raised: tasks will meet it."""
    started, loaded = time.process_time(), []
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception:
            log.exception("could not load %s before forking; tasks will import it themselves", name)
        else:
            loaded.append(name)
    log.info("loaded %d modules before forking in %.1f CPU-s", len(loaded), time.process_time() - started)
    return loaded
