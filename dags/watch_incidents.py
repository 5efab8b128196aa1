"""The DAG that looks for what is wrong when nothing else runs.

``lake, specs, release --look--> ops.incidents --Apprise--> whoever is to be told``

Every run looks at its own end. A run that never started, because its DAG is paused or its scheduler was away, cannot:
so this looks once an hour. It also says what had to wait for the end of the quiet hours, and tries again what a
receiver did not take.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import dag, task

from dags.penstock_dags import steps
from dags.penstock_dags.defaults import DAG_DEFAULTS, RERUN_CLASS_NOW, TAG, TASK_DEFAULTS

DAG_ID = "watch_incidents"


@dag(
    dag_id=DAG_ID,
    description="Open, update and resolve incidents once an hour, whatever else runs.",
    doc_md=f"{__doc__}\n{RERUN_CLASS_NOW}\n",
    schedule="10 * * * *",
    start_date=datetime(2020, 1, 1, tzinfo=UTC),
    max_active_runs=1,
    default_args={**TASK_DEFAULTS, "owner": "penstock"},
    tags={TAG, "incidents"},
    **DAG_DEFAULTS,
)
def watch_incidents() -> None:
    """Look."""

    @task
    def look() -> None:
        steps.check_incidents()

    look()


watch_incidents()
