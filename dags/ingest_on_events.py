"""The DAG that turns events into runs of the ingest DAGs.

``new object, or message on a queue --trigger--> asset events.<what> --start--> run of ingest_<source> for its day``

There is one for all sources whose specs have ``events``, and none if no spec has. The triggers are in
``penstock_dags/triggers.py``; they work while this DAG is not paused. Events that came together become one run per
source and day, which ingests the tables they name. A run is named by what came, so an event that is told again finds
its run; one told again in other company finds that there is nothing to do.

The schedule goes on as ever: it finds the work of events done. At the end incidents are brought in step.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import AssetAny, AssetWatcher, dag, task

from dags.penstock_dags import event_steps, steps
from dags.penstock_dags.defaults import DAG_DEFAULTS, RERUN_CLASS_EVENTS, TAG, TASK_DEFAULTS, WATCH
from dags.penstock_dags.specs import SourceSchedule, load_schedules

DAG_ID = "ingest_on_events"


def event_assets(sources: list[SourceSchedule]) -> list[Any]:
    """An asset for each bucket table and each queue that is watched."""
    tables = [(source, name, outline) for source in sources for name, outline in source.outlines.items()]
    if not any(outline.events for _, _, outline in tables):
        return []
    from dags.penstock_dags.assets import event_asset
    from dags.penstock_dags.triggers import BucketTrigger, QueueTrigger

    found, queues = [], dict[tuple[tuple[str, str], ...], list[str]]()
    for source, name, outline in tables:
        if outline.events.get("watch"):
            poll_interval_s = float(outline.events.get("poll_interval_s", 60))
            look = BucketTrigger(source.name, name, poll_interval_s, outline.version)
            found.append(event_asset(f"{source.name}__{name}", AssetWatcher(name="bucket", trigger=look)))
        if outline.events.get("queue"):
            queues.setdefault(tuple(sorted(outline.events["queue"].items())), []).append(outline.version)
    for queue, versions in queues.items():
        fields = dict(queue)
        name = f"{fields['connection']}__{fields['stream']}__{fields.get('durable', 'penstock')}"
        trigger = QueueTrigger(fields, event_steps.version_of(versions))
        found.append(event_asset(name, AssetWatcher(name="queue", trigger=trigger)))
    return found


_watched = event_assets(load_schedules(mentioning="events:"))


@dag(
    dag_id=DAG_ID,
    description="Start the ingest of what buckets and queues tell of.",
    doc_md=f"{__doc__}\n{RERUN_CLASS_EVENTS}\n",
    schedule=AssetAny(*_watched),
    max_active_runs=1,
    default_args={**TASK_DEFAULTS, "owner": "penstock", "pool": "default_pool"},
    tags={TAG, "ingest", "events"},
    **DAG_DEFAULTS,
)
def ingest_on_events() -> None:
    """Start runs."""

    @task(multiple_outputs=False)
    def start(triggering_asset_events: Any = None) -> list[str]:
        events = [event for found in triggering_asset_events.values() for event in found]
        return event_steps.start(events)

    @task(task_id=WATCH)
    def watch(ti: Any = None, dag_run: Any = None) -> None:
        states = ti.get_task_states(dag_id=DAG_ID, run_ids=[dag_run.run_id])
        steps.watch(DAG_ID, dag_run.run_id, states.get(dag_run.run_id, {}))

    start() >> watch().as_teardown()


if _watched:
    ingest_on_events()
