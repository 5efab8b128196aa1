"""Loads the heavy modules once, in a process that forks one process per task.

``executor or worker: import -> fork -> each task's process has them``

Great Expectations, PyIceberg, dbt and Polars take seconds of CPU to import, and a task is a fresh process. Only imports
happen before the fork: no connection, no query, no thread pool. (Allocators own a thread after an import and are
written for forks; OpenBLAS would start a pool: hold it to one thread with ``OPENBLAS_NUM_THREADS=1``.) Where nobody
preloads, or a module fails to load, tasks import by themselves as ever.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Iterable

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
