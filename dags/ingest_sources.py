"""One daily ingest DAG per source spec.

``source --ingest (one mapped task per table)--> raw lake --announce--> assets raw.<source>__<table>, key = the day``

Snapshot tables are ingested before interval tables, because gates of interval tables may look things up in them.

The run of a day starts on the day after it, on the source's own clock, and is named by the day's key. Only when every
table of the source is published for the key are its assets announced: whoever waits for one never sees half a day.

At the end incidents are brought in step, whether the run succeeded or not.

Runs that the DAG ``backfill`` had made carry its id and the tables it wants: they ingest those, and announce nothing.
Runs that an event started (``dags/ingest_on_events.py``) ingest the tables it named. If the day was refined before,
they say that it is reopened, which builds it again; else the scheduled run of the day will announce it.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, CronPartitionTimetable, chain, dag, get_parsing_context, task
from airflow.sdk.exceptions import AirflowSkipException

from dags.penstock_dags import steps
from dags.penstock_dags.assets import raw_assets, reopened_asset, source_asset, tell_receipts
from dags.penstock_dags.defaults import (
    DAG_DEFAULTS,
    KEY_FORMAT,
    RERUN_CLASS,
    SOURCE_POOL,
    TAG,
    TASK_DEFAULTS,
    WATCH,
    require_key,
)
from dags.penstock_dags.specs import SourceSchedule, load_schedules


def ingest_dag(source: SourceSchedule) -> DAG:
    """The ingest DAG of one source."""
    raw = raw_assets(source)
    reopened = reopened_asset()

    @dag(
        dag_id=source.dag_id,
        description=source.description,
        doc_md=_documentation(source),
        schedule=CronPartitionTimetable(source.cron, timezone=source.time_zone, run_offset=-1, key_format=KEY_FORMAT),
        start_date=source.starts_at,
        end_date=source.ends_at,
        max_active_runs=4,
        default_args={**TASK_DEFAULTS, "owner": source.owner, "pool": SOURCE_POOL},
        tags={TAG, "ingest", source.name},
        **DAG_DEFAULTS,
    )
    def build_dag() -> None:
        @task(map_index_template="{{ task.op_kwargs['table'] }}", multiple_outputs=False)
        def ingest(table: str, partition_key: str | None = None, dag_run: Any = None) -> dict[str, Any]:
            key = require_key(partition_key, source.dag_id)
            if table not in dag_run.conf.get("tables", [table]):
                raise AirflowSkipException(f"This backfill does not want {table} for {key}.")
            if dag_run.run_type == "backfill":
                steps.give_way()
            late = dag_run.run_type == "scheduled"  # a backfill or a manual run replaces its own key and nothing else
            return steps.ingest(source.name, table, key, connection=source.connection, late=late)

        @task(outlets=raw, pool="default_pool")
        def announce(receipts: Any, outlet_events: Any = None, dag_run: Any = None) -> None:
            if "penstock_backfill" in dag_run.conf:
                raise AirflowSkipException("The DAG backfill refines and releases once, when all its days are in.")
            if set(dag_run.conf.get("tables", source.outlines)) != set(source.outlines):
                raise AirflowSkipException("This run was started for some tables, and announcing speaks for all.")
            # A slice fetches all of a group's receipts in one request; to iterate asks for them one by one.
            tell_receipts(outlet_events, (receipt for group in receipts for receipt in group[:]))

        @task(outlets=[reopened], pool="default_pool", trigger_rule="none_failed")
        def reopen(receipts: Any, partition_key: str | None = None, dag_run: Any = None) -> None:
            came = [receipt for group in receipts for receipt in group[:]]
            if "event" not in dag_run.conf or not steps.changes_refined(came, partition_key):
                raise AirflowSkipException("No event brought rows for a day that was refined before.")

        @task(task_id=WATCH, pool="default_pool")
        def watch(ti: Any = None, dag_run: Any = None) -> None:
            states = ti.get_task_states(dag_id=source.dag_id, run_ids=[dag_run.run_id])
            steps.watch(source.dag_id, dag_run.run_id, states.get(dag_run.run_id, {}))

        snapshots = [name for name, mode in source.tables.items() if mode == "snapshot"]
        intervals = [name for name in source.tables if name not in snapshots]
        groups = [
            # Tables that a backfill does not want are skipped; what follows them is not, unless something failed.
            ingest.override(
                task_id=task_id, trigger_rule="none_failed", inlets=[source_asset(source, table) for table in tables]
            ).expand(table=tables)
            for task_id, tables in (("ingest_snapshots", snapshots), ("ingest_intervals", intervals))
            if tables
        ]
        chain(*groups)
        last = announce(groups)
        if any(outline.events for outline in source.outlines.values()):
            last = last >> reopen(groups)
        last >> watch().as_teardown()

    return build_dag()


def _documentation(source: SourceSchedule) -> str:
    tables = "\n".join(f"- `{name}` ({mode})" for name, mode in source.tables.items())
    return (
        f"# Ingest {source.name}\n\n{source.description}\n\nTables:\n\n{tables}\n\nRuns daily at cron `{source.cron}` "
        f"on the clock of {source.time_zone} for the calendar day before; the partition key names that day. When all "
        f"tables are published for a key, an asset of each, as `{raw_assets(source)[0].name}`, is announced for it."
        f"\n\n{RERUN_CLASS}\n"
    )


_wanted = get_parsing_context().dag_id  # a task's process needs its own DAG only
for _schedule in load_schedules(mentioning=(_wanted or "").removeprefix("ingest_")):
    if _wanted in (None, _schedule.dag_id):
        globals()[_schedule.dag_id] = ingest_dag(_schedule)
