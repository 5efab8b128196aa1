"""What the tests on a real Airflow do to it and ask of it."""

from __future__ import annotations

import contextlib
import gzip
import os
import signal
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ingestion.objects.client import Bucket
from lake.paths import TableId
from penstock.airflow_api import FINISHED, AirflowApi, Run, TaskRun
from penstock.build import pin_lake
from penstock.pipeline import Pipeline
from warehouse.releases import Releases

ROOT = Path(__file__).resolve().parents[2]
INGEST = ("ingest_flightops", "ingest_stations")
BUILD = "build_warehouse"
BACKFILL = "backfill"
WATCH = "watch_incidents"
EVENTS = "ingest_on_events"
MAINTENANCE = "penstock_maintenance"
BACKUP = "penstock_backup"
DAGS = (*INGEST, BUILD, BACKFILL, EVENTS, WATCH, MAINTENANCE, BACKUP)
LAST = "2013-12-31"
"""The last day of flights, of which the demo's bucket has no object."""
QUEUE = "queue: {connection: bus, stream: IN, subject: in.days, dead_letter: dead.days}"


def specs_with_events(folder: Path) -> Path:
    """The demo's specs in a folder, each with events of a bucket or a queue."""
    folder.mkdir()
    watch = f'watch: bucket, poll_interval_s: 1, from: "{LAST}"'
    for spec in (ROOT / "ingestion" / "sources").glob("*.yml"):
        text = spec.read_text()
        text = text.replace(
            "    cursor: {column: time_hour", f"    events: {{{QUEUE}}}\n    cursor: {{column: time_hour"
        )
        text = text.replace(f"      to: {LAST}\n", "      to: 2014-01-01\n")
        text = text.replace("    coverage:\n", f"    events: {{{watch}, {QUEUE}}}\n    coverage:\n")
        (folder / spec.name).write_text(text)
    return folder


def put_weather(bucket: Bucket, origin: str) -> int:
    """Put the observations of the day before as those of the last day; their number."""
    lines = gzip.decompress(bucket.read(f"weather/origin={origin}/date=2013-12-30.csv.gz")).decode()
    moved = lines.replace("2013-12-30", LAST).replace(f"{origin},2013,12,30,", f"{origin},2013,12,31,")
    bucket.put(f"weather/origin={origin}/date={LAST}.csv.gz", gzip.compress(moved.encode()))
    return len(lines.splitlines()) - 1


@contextlib.contextmanager
def removed(bucket: Bucket, ending: str) -> Iterator[None]:
    """The session's bucket is lent: what was put there is removed."""
    try:
        yield
    finally:
        for found in list(bucket.objects("weather/")):
            if ending in found.key:
                bucket.delete(found.key)


def backfill(api: AirflowApi, keys: list[str]) -> list[Run]:
    """Back-fill both sources; the builds that followed."""
    end = f"{keys[-1][:-2]}{int(keys[-1][-2:]) + 1:02d}"
    backfills = [api.create_backfill(dag_id, keys[0], end, reprocess="completed") for dag_id in INGEST]
    for backfill in backfills:
        assert list(backfill.keys) == keys
        runs = succeeded(api, api.wait_backfill(backfill, timeout_s=120))
        assert [run.partition_key for run in runs] == keys
    since = min(backfill.created_at for backfill in backfills)
    return succeeded(api, api.wait_runs(BUILD, keys, timeout_s=120, since=since))


def pools(api: AirflowApi, runs: list[Run]) -> dict[tuple[str, str | None], set[str]]:
    """Pools of the ingest tasks of some runs that did anything."""
    found: dict[tuple[str, str | None], set[str]] = {}
    for run in runs:
        for task in api.task_instances(run.dag_id, run.run_id):
            if task.task_id == "ingest_intervals":
                found.setdefault((task.task_id, task.state), set()).add(task.pool)
    return found


def holders(api: AirflowApi, runs: list[Run]) -> set[tuple[str | None, str, bool]]:
    """State and pool of the tasks that hold the snapshots of some runs, and whether they had a process."""
    tasks = [task for run in runs for task in api.task_instances(run.dag_id, run.run_id)]
    return {(task.state, task.pool, task.pid is not None) for task in tasks if task.task_id == "hold_snapshot"}


def succeeded(api: AirflowApi, runs: list[Run]) -> list[Run]:
    """The runs, which have all succeeded."""
    for run in runs:
        assert run.state == "success", api.failures(run)
    return runs


def state(pipeline: Pipeline) -> tuple[dict[str, str], dict[str, str]]:
    """Checksums of every lake table and of every table of the current release."""
    declare(pipeline)
    tables = [table for namespace in ("raw", "refined") for table in pipeline.lake.tables(namespace)]
    current = Releases(pipeline.settings.warehouse).current()
    assert current is not None
    lake = {str(table): pipeline.lake.checksum(table) for table in tables}
    return lake, {table["name"]: table["checksum"] for table in current.manifest["tables"]}


def ended(api: AirflowApi, dag_id: str, run_id: str) -> Run:
    """A run without a key, when it has ended."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        run = next(run for run in api.runs(dag_id) if run.run_id == run_id)
        if run.state in FINISHED:
            return run
        time.sleep(0.5)
    raise AssertionError(f"{run_id} has not ended")


def rows_of(pipeline: Pipeline, table: TableId, key: str) -> int:
    """Rows of one interval of a lake table."""
    declare(pipeline)
    return int(pipeline.lake.checksum(table, [key]).split(":")[0])


def declare(pipeline: Pipeline) -> None:
    """Tell the lake of this process the columns of all its tables."""
    pipeline.declare_raw()
    pin_lake(pipeline)


def kill_one_task(api: AirflowApi, run: Run, task_id: str) -> TaskRun:
    """Kill the process of the first task of a run that is seen at work and whose id begins like this."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for task in api.task_instances(run.dag_id, run.run_id):
            if task.state == "running" and task.pid and task.task_id.startswith(task_id):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(task.pid, signal.SIGKILL)
                    return task
        time.sleep(0.02)
    raise AssertionError("no task was seen running")


def store_connection(api: AirflowApi, url: str) -> None:
    """Keep a source's URL as a connection of Airflow."""
    parts = urlsplit(url)
    body = {
        "connection_id": "flightops",
        "conn_type": "postgres",
        "host": parts.hostname,
        "port": parts.port,
        "schema": parts.path.lstrip("/"),
        "login": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
    }
    assert api.request("POST", "/api/v2/connections", body)[0] == HTTPStatus.CREATED
