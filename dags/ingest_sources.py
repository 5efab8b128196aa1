"""One daily ingest DAG per source spec.

::

    source --ingest (one mapped task per table)--> raw lake --announce--> assets raw.<source>__<table>, key = the day
       └─hold_snapshot: where the database can, all tables of a run are read at one moment (``snapshot_steps.py``)

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

from dags.penstock_dags import snapshot_steps, steps
from dags.penstock_dags.assets import raw_assets, reopened_asset, source_asset, tell_receipts
from dags.penstock_dags.defaults import (
    DAG_DEFAULTS,
    HOLD,
    HOLD_TASK,
    JOIN_TASK,
    KEY_FORMAT,
    RERUN_CLASS,
    SNAPSHOT_HOLD_S,
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
        def ingest(table: str, partition_key: str | None = None, ti: Any = None, dag_run: Any = None) -> dict[str, Any]:
            key = require_key(partition_key, source.dag_id)
            if table not in dag_run.conf.get("tables", [table]):
                raise AirflowSkipException(f"This backfill does not want {table} for {key}.")
            if dag_run.run_type == "backfill":
                steps.give_way()
            late = dag_run.run_type == "scheduled"  # a backfill or a manual run replaces its own key and nothing else
            held = _told(ti) if _shares_snapshot(source) else None
            return steps.ingest(source.name, table, key, connection=source.connection, late=late, held=held)

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

        groups = _groups_of(source, ingest)
        _share_snapshot(source, groups)
        last = announce(groups)
        if any(outline.events for outline in source.outlines.values()):
            last = last >> reopen(groups)
        last >> watch().as_teardown()

    return build_dag()


def _groups_of(source: SourceSchedule, ingest: Any) -> list[Any]:
    """The mapped tasks of a source's tables, those that are read whole before those that are read by interval."""
    whole = [name for name, mode in source.tables.items() if mode == "snapshot"]
    by_interval = [name for name in source.tables if name not in whole]
    groups: list[Any] = []
    for task_id, tables in (("ingest_snapshots", whole), ("ingest_intervals", by_interval)):
        if tables:
            # The first waits for a snapshot, whatever becomes of that. Tables that a backfill does not want are
            # skipped; what follows them is not, unless something failed.
            rule = "none_failed" if groups else "all_done"
            inlets = [source_asset(source, table) for table in tables]
            groups.append(ingest.override(task_id=task_id, trigger_rule=rule, inlets=inlets).expand(table=tables))
    chain(*groups)
    return groups


def _shares_snapshot(source: SourceSchedule) -> bool:
    return source.shares_snapshot and SNAPSHOT_HOLD_S > 0


def _share_snapshot(source: SourceSchedule, groups: list[Any]) -> None:
    """Have all tables of a run read in one snapshot, where that can be."""
    if not _shares_snapshot(source):
        return
    readers = [group.operator.task_id for group in groups]

    @task(**HOLD_TASK, multiple_outputs=False)
    def hold_snapshot(partition_key: str | None = None, ti: Any = None, dag_run: Any = None) -> None:
        if partition_key is None or snapshot_steps.shares_nothing(dag_run.conf):
            raise AirflowSkipException("This run has no tables to be read at one moment.")
        snapshot_steps.hold(
            source.name,
            partition_key,
            connection=source.connection,
            limit_s=SNAPSHOT_HOLD_S,
            tell=lambda held: ti.xcom_push(key=HOLD, value=held),
            states=lambda: _states_of(ti, dag_run, readers),
        )

    @task.sensor(**JOIN_TASK, mode="reschedule")
    def join_snapshot(ti: Any = None, dag_run: Any = None) -> bool:
        return snapshot_steps.may_read(lambda: (_states_of(ti, dag_run, [HOLD]).get(HOLD), _told(ti) is not None))

    hold_snapshot().as_teardown()
    join_snapshot() >> groups[0]


def _states_of(ti: Any, dag_run: Any, task_ids: list[str]) -> dict[str, str | None]:
    """The states of some tasks of a run, by task and map index."""
    found = ti.get_task_states(dag_id=dag_run.dag_id, task_ids=task_ids, run_ids=[dag_run.run_id])
    states: dict[str, str | None] = found.get(dag_run.run_id, {})
    return states


def _told(ti: Any) -> dict[str, Any] | None:
    """What the task that holds a snapshot has told of it; None: nothing."""
    told: dict[str, Any] | None = ti.xcom_pull(task_ids=HOLD, key=HOLD, map_indexes=-1)
    return told


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
