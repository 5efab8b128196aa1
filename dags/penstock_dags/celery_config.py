"""Celery's configuration as Airflow makes it, for workers that load the heavy modules once (``preloading.py``).

``celery worker: import -> fork pool -> each pool process forks a process per task``

Configured by ``AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS=dags.penstock_dags.celery_config.CELERY_CONFIG``. The scheduler
reads it as well, to send tasks; only a worker starts a pool, and only it loads the modules.
"""

from __future__ import annotations

from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG
from celery.signals import worker_init

from dags.penstock_dags.preloading import PRELOADED, preload

CELERY_CONFIG = DEFAULT_CELERY_CONFIG
"""What Airflow configures by itself."""


def load_modules(**_: object) -> None:
    """Load the modules, before the worker forks its pool."""
    preload(PRELOADED)


worker_init.connect(load_modules)
