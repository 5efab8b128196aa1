"""A real Airflow on real services runs the real pipeline. The tests of this module share one and run in order."""

from __future__ import annotations

import asyncio
import json
import shutil
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import psutil
import pytest

from common.errors import TerminalError, UsageError
from common.settings import Settings
from dags.penstock_dags.lineage_ids import dated_uuid
from ingestion.objects.client import Bucket
from lake.backup_place import FolderPlace
from lake.paths import TableId
from penstock import backfill_airflow
from penstock.airflow_api import FINISHED, AirflowApi, wait_for
from penstock.backfill_plan import Wish
from penstock.backfill_run import run_backfill
from penstock.backup_keep import listed
from penstock.costs import account
from penstock.embedded import EmbeddedServices
from penstock.embedded_process import port_is_free
from penstock.incidents import incidents_of
from penstock.pipeline import Pipeline
from penstock.restore import restore
from penstock.run import run as run_days
from penstock.scheduler import Scheduler
from tests.canaries import Search
from tests.dags.airflow_runs import (
    BACKFILL,
    BACKUP,
    BUILD,
    DAGS,
    EVENTS,
    INGEST,
    LAST,
    MAINTENANCE,
    WATCH,
    backfill,
    ended,
    holders,
    kill_one_task,
    pools,
    put_weather,
    removed,
    rows_of,
    state,
    succeeded,
)
from tests.dags.http_door import Operator
from tests.integration.penstock.collector import Collector
from tests.nats_server import PASSWORD, NatsServer
from tests.upgrade.contents import contents
from warehouse.releases import Releases

RAW = [TableId("raw", f"flightops__{name}") for name in ("flights", "planes", "airlines", "airports")]


def test_all_components_listen_on_the_loopback_address_only(scheduler: Scheduler) -> None:
    ports = [
        connection.laddr
        for process in scheduler.processes()
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert [address.ip for address in ports] == ["127.0.0.1"]


def test_keys_and_passwords_are_private(scheduler: Scheduler) -> None:
    for name in ("airflow.cfg", "passwords.json", "sessions.json", "airflow.db"):
        assert (scheduler.folder / name).stat().st_mode & 0o077 == 0, name


def test_a_run_for_one_day_of_every_source_publishes_a_release(api: AirflowApi, pipeline: Pipeline) -> None:
    for dag_id in INGEST:
        api.trigger(dag_id, partition_key="2013-01-01")
    for dag_id in INGEST:
        succeeded(api, api.wait_runs(dag_id, ["2013-01-01"], timeout_s=120))
    built = succeeded(api, api.wait_runs(BUILD, ["2013-01-01"], timeout_s=120))
    assert [(run.partition_key, run.run_type) for run in built] == [("2013-01-01", "asset_triggered")]
    flights = pipeline.lake.receipt(TableId("raw", "flightops__flights"), "2013-01-01")
    assert flights is not None
    assert flights.rows_in == 842
    assert flights.balanced
    assert Releases(pipeline.settings.warehouse).current() is not None


def test_all_tables_of_a_run_are_read_in_one_snapshot_that_a_task_of_the_run_held(
    api: AirflowApi, pipeline: Pipeline
) -> None:
    (run,) = api.runs("ingest_flightops")
    tasks = {task.task_id: task for task in api.task_instances(run.dag_id, run.run_id)}
    assert [tasks[name].state for name in ("hold_snapshot", "join_snapshot")] == ["success", "success"]
    assert tasks["hold_snapshot"].pool == "snapshots"
    log = api.log(tasks["hold_snapshot"])
    assert "all tables are read, the snapshot was held for" in log
    receipts = [receipt for raw in RAW for receipt in pipeline.lake.receipts(raw)]
    (moment,) = {receipt.source_state["snapshot"] for receipt in receipts}
    assert f"at {moment} is held" in log
    events = api.call("GET", "/api/v2/assets/events?source_dag_id=ingest_flightops")["asset_events"]
    told = {event["name"]: event["extra"]["snapshot"] for event in events}
    assert told == {str(raw): moment for raw in RAW}
    assert not [warning for receipt in receipts for warning in receipt.warnings]


def test_the_result_of_each_model_is_in_the_builds_log_and_in_the_releases_asset(api: AirflowApi) -> None:
    (run,) = api.runs(BUILD)
    (build,) = [task for task in api.task_instances(BUILD, run.run_id) if task.task_id == "build"]
    assert "fct_flights: success, 842 rows" in api.log(build)
    events = api.call("GET", "/api/v2/assets/events?source_dag_id=build_warehouse")["asset_events"]
    told = {event["name"]: event["extra"] for event in events}
    models = {model["name"]: model for model in told["warehouse.release"]["models"]}
    assert models["fct_flights"]["rows"] == told["warehouse.fct_flights"]["rows"] == 842
    assert models["mart_weather_delay"]["seconds"] > 0
    assert told["warehouse.mart_weather_delay"]["seconds"] > 0
    assert told["refined.flights"]["published"] == 842
    raw = api.call("GET", "/api/v2/assets/events?source_dag_id=ingest_flightops")["asset_events"]
    assert {event["name"]: event["extra"]["rows_in"] for event in raw}["raw.flightops__flights"] == 842


def test_what_a_task_does_is_part_of_airflows_span_of_it_and_its_cost_is_kept(
    scheduler: Scheduler, api: AirflowApi, pipeline: Pipeline, collector: Collector
) -> None:
    (run,) = api.runs("ingest_flightops")
    batches = {s.trace_id: s for s in collector.spans if s.name.startswith("ingest raw.flightops__")}
    by_id = {span.span_id: span for span in collector.spans}
    tasks = [by_id[by_id[batch.parent_id].parent_id] for batch in batches.values()]
    assert {task.attributes["airflow.dag_run.run_id"] for task in tasks} == {run.run_id}
    assert {task.trace_id for task in tasks} == set(batches)
    logs = [path.read_text() for path in (scheduler.logs / "tasks").glob("dag_id=ingest_flightops/**/*.log")]
    told = [json.loads(line) for log in logs for line in log.splitlines() if '"table":' in line]
    assert {line["table"] for line in told if line.get("trace_id") in batches} == {
        f"raw.flightops__{name}" for name in ("flights", "planes", "airlines", "airports")
    }
    used = {(row["stage"], row["step"]) for row in account(pipeline, "stage")}
    assert {("ingest", "extract"), ("refine", "refine"), ("warehouse", "models")} <= used


def test_lineage_names_tasks_and_runs_by_the_ids_of_airflows_own_provider(
    scheduler: Scheduler, api: AirflowApi
) -> None:
    (run,) = api.runs("ingest_flightops")
    due = datetime.fromisoformat(api.call("GET", f"/api/v2/dags/{run.dag_id}/dagRuns/{quote(run.run_id)}")["run_after"])
    tasks = [task for task in api.task_instances(run.dag_id, run.run_id) if task.map_index >= 0]
    expected = {
        dated_uuid(due, f"default.{run.dag_id}.{task.task_id}.{task.try_number}.{task.map_index}") for task in tasks
    }
    lines = [line for path in (scheduler.home / "lineage").glob("*.ndjson") for line in path.read_text().splitlines()]
    parents = [json.loads(line)["run"]["facets"]["parent"] for line in lines]
    mine = [each for each in parents if each["root"]["run"]["runId"] == dated_uuid(due, f"default.{run.dag_id}.0")]
    assert {each["run"]["runId"] for each in mine} == expected


def test_mapped_tasks_are_called_by_their_tables(api: AirflowApi) -> None:
    (run,) = api.runs("ingest_flightops")
    labels = {task.label for task in api.task_instances(run.dag_id, run.run_id) if task.map_index >= 0}
    assert labels == {"flights", "planes", "airlines", "airports"}


def test_a_backfill_gives_every_day_its_own_key_and_one_build_and_twice_gives_the_same(
    api: AirflowApi, pipeline: Pipeline
) -> None:
    keys = ["2013-03-10", "2013-03-11"]  # the first is a day of 23 hours
    first = backfill(api, keys)
    lake, warehouse = state(pipeline)
    second = backfill(api, keys)
    assert {run.run_id for run in first}.isdisjoint(run.run_id for run in second)
    assert [run.partition_key for run in first] == [run.partition_key for run in second] == keys
    assert state(pipeline) == (lake, warehouse)
    assert rows_of(pipeline, TableId("raw", "stations__weather"), "2013-03-10") == 3 * 23  # stations, hours
    held = [run for run in api.runs("ingest_flightops") if run.run_type == "backfill"]
    assert holders(api, held) == {("success", "backfill_snapshots", True)}


def test_a_killed_task_is_tried_again_and_its_rows_are_there_once_though_its_snapshot_is_gone(
    api: AirflowApi, pipeline: Pipeline
) -> None:
    run = api.trigger("ingest_flightops", partition_key="2013-04-01")
    killed = kill_one_task(api, run, "ingest_")
    holder = kill_one_task(api, run, "hold_snapshot")
    succeeded(api, api.wait_runs("ingest_flightops", ["2013-04-01"], timeout_s=120))
    tasks = {(task.task_id, task.map_index): task for task in api.task_instances(run.dag_id, run.run_id)}
    for each in (killed, holder):
        assert tasks[each.task_id, each.map_index].try_number == each.try_number + 1
    receipt = pipeline.lake.receipt(TableId("raw", "flightops__flights"), "2013-04-01")
    assert receipt is not None
    assert rows_of(pipeline, TableId("raw", "flightops__flights"), "2013-04-01") == receipt.published


def test_a_backfill_asked_for_by_http_runs_exactly_three_holes_in_its_own_pool_and_releases_once(
    api: AirflowApi, pipeline: Pipeline, operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    run_days(pipeline, "2013-05-03", "2013-05-04", build=False)  # the good day between the holes
    good = pipeline.lake.live_attempts(TableId("raw", "flightops__flights"))
    releases = [release.id for release in Releases(pipeline.settings.warehouse).all()]
    wish = Wish(("flights",), "2013-05-01", "2013-05-05")
    api.trigger(BACKFILL, conf={"targets": ["flights"], "start": wish.start, "end": wish.end})  # as the form does
    asked = {"targets": ["flights"], "start": wish.start, "end": wish.end}
    started = operator.tell("/backfills", asked)
    assert operator.tell("/backfills", asked) == {"id": started["id"], "started": False, "plan": None}
    days = {"done": 0, "failed": 0, "total": 3}

    def has_come_in() -> bool:
        days.update(operator.ask(f"/backfills/{started['id']}")["sources"].get("flightops", {}))
        return days["done"] > 0

    assert wait_for(has_come_in, 120)
    # The command finds the same one, and looks on.
    assert run_backfill(pipeline.settings, wish, dry_run=False, local=False, unpause=False, as_json=True) == 0
    summary = json.loads(capsys.readouterr().out)
    told = operator.ask(f"/backfills/{started['id']}")
    assert (summary["id"], told["state"]) == (started["id"], "success")
    assert told["sources"] == {"flightops": {"done": 3, "failed": 0, "total": 3}}
    assert {**told["summary"], "id": started["id"]} == summary
    operator.tell(f"/backfills/{started['id']}/cancel", status=409)  # it has ended
    runs = api.runs("ingest_flightops", carrying=summary["id"])
    assert [(run.partition_key, run.run_type, run.state) for run in runs] == [
        (day, "backfill", "success") for day in ("2013-05-01", "2013-05-02", "2013-05-04")
    ]
    now = pipeline.lake.live_attempts(TableId("raw", "flightops__flights"))
    assert {key: now[key] for key in good} == good, "what was good was left alone"
    assert pools(api, runs) == {("ingest_intervals", "success"): {"backfill"}}
    assert {state for state, _, _ in holders(api, runs)} == {"skipped"}, "one table shares its snapshot with nobody"
    assert not any(had_process for _, _, had_process in holders(api, runs))
    live = [run for run in api.runs("ingest_flightops") if run.run_type == "manual"]
    assert pools(api, live)["ingest_intervals", "success"] == {"source_load"}
    after = Releases(pipeline.settings.warehouse).all()
    assert [release.id for release in after] == [*releases, summary["release"]]
    assert after[-1].manifest["changed_keys"]["flights"] == ["2013-05-01", "2013-05-02", "2013-05-03", "2013-05-04"]
    assert not [run for run in api.runs(BUILD) if str(run.partition_key).startswith("2013-05")]
    assert summary["not_done"] == []


def test_a_paused_backfill_starts_nothing_and_a_cancelled_one_ends_and_is_not_found_again(
    api: AirflowApi, operator: Operator
) -> None:
    wish = Wish(("flights",), "2013-06-01", "2013-06-03")
    run_id = operator.tell("/backfills", {"targets": ["flights"], "start": wish.start, "end": wish.end})["id"]
    assert operator.tell(f"/backfills/{run_id}/pause")["state"] == "paused"

    def has_looked() -> bool:
        tasks = api.task_instances(BACKFILL, run_id)
        return any(task.task_id == "ingest" and task.state == "up_for_reschedule" for task in tasks)

    assert wait_for(has_looked, 120)
    assert api.runs("ingest_flightops", carrying=run_id) == []
    assert operator.tell(f"/backfills/{run_id}/cancel")["state"] == "cancelled"
    assert "has ended" in operator.tell(f"/backfills/{run_id}/resume", status=409)["detail"]
    told = operator.ask("/backfills")["backfills"]
    assert [(each["id"], each["state"]) for each in told][:1] == [(run_id, "cancelled")]
    assert backfill_airflow.find(api, wish) is None


def test_a_new_object_is_ingested_without_the_schedule_and_a_later_one_reopens_the_day(
    api: AirflowApi, pipeline: Pipeline, services: EmbeddedServices
) -> None:
    with Bucket.open(services.connections["stations"]) as bucket, removed(bucket, f"date={LAST}"):
        rows = put_weather(bucket, "EWR")
        [first] = succeeded(api, api.wait_runs("ingest_stations", [LAST], timeout_s=180))
        weather = TableId("raw", "stations__weather")
        assert rows_of(pipeline, weather, LAST) == rows
        api.trigger("ingest_flightops", partition_key=LAST)
        [build] = succeeded(api, api.wait_runs(BUILD, [LAST], timeout_s=120))
        since = datetime.now(UTC)
        rows += put_weather(bucket, "LGA")
        [second] = succeeded(api, api.wait_runs("ingest_stations", [LAST], timeout_s=120, since=since))
        assert rows_of(pipeline, weather, LAST) == rows
        [again] = succeeded(api, api.wait_runs(BUILD, [LAST], timeout_s=120, since=since))
        assert len({first.run_id, second.run_id, build.run_id, again.run_id}) == 4
        assert rows_of(pipeline, TableId("refined", "weather"), LAST) == rows
        assert len(api.runs(EVENTS)) == 2, "each object is told once"


def test_a_message_on_the_queue_is_ingested_and_acknowledged_and_twice_the_same_is_one_batch(
    api: AirflowApi, pipeline: Pipeline, bus: NatsServer
) -> None:
    flights, since = TableId("raw", "flightops__flights"), datetime.now(UTC)
    before = len(pipeline.lake.load(flights).snapshots())

    async def put(*bodies: bytes) -> None:
        async with bus.client() as stream:
            for body in bodies:
                await stream.publish("in.days", body)

    async def left() -> tuple[int, int]:
        async with bus.client() as stream:
            consumer = await stream.consumer_info("IN", "penstock")
            kept = (await stream.stream_info("DEAD")).state.messages
        return int(consumer.num_pending) + int(consumer.num_ack_pending), int(kept)

    message = b'{"source": "flightops", "table": "flights", "interval": "2013-07-04"}'
    asyncio.run(put(message, b"not json", message))
    succeeded(api, api.wait_runs("ingest_flightops", ["2013-07-04"], timeout_s=120, since=since))
    asyncio.run(put(message))
    assert wait_for(lambda: asyncio.run(left()) == (0, 1), 120)
    assert wait_for(lambda: all(run.state in FINISHED for run in api.runs(EVENTS)), 120)
    succeeded(api, api.wait_runs("ingest_flightops", ["2013-07-04"], timeout_s=120, since=since))
    assert rows_of(pipeline, flights, "2013-07-04") == 737
    assert len(pipeline.lake.load(flights).snapshots()) == before + 1
    assert api.runs(BUILD, since=since) == [], "the scheduled run of the day will announce it"


def test_a_run_without_a_key_fails_at_once_says_why_and_is_an_incident(api: AirflowApi, pipeline: Pipeline) -> None:
    body: dict[str, object] = {"logical_date": None, "conf": {}}
    run_id = api.call("POST", "/api/v2/dags/ingest_stations/dagRuns", body)["dag_run_id"]
    run = ended(api, "ingest_stations", run_id)
    assert run.state == "failed"
    (task,) = [task for task in api.task_instances(run.dag_id, run_id) if task.state == "failed"]
    assert task.try_number == 1
    assert "has no partition key" in api.log(task)
    (incident,) = [each for each in incidents_of(pipeline.lake) if each.kind == "task" and each.is_open]
    assert incident.cause == "task:task.ingest_stations"
    assert f"{task.task_id}_0 of run {run_id} failed without a word" in incident.reason


def test_an_hourly_look_sees_what_stands_though_nothing_else_runs(api: AirflowApi, pipeline: Pipeline) -> None:
    before = {each.incident_id: each.last_seen_at for each in incidents_of(pipeline.lake) if each.is_open}
    run = api.trigger(WATCH)
    assert ended(api, WATCH, run.run_id).state == "success"
    after = {each.incident_id: each.last_seen_at for each in incidents_of(pipeline.lake) if each.is_open}
    assert before
    assert after.keys() == before.keys()
    assert all(after[each] > seen for each, seen in before.items())


def test_maintenance_runs_beside_everything_else_and_changes_nothing_that_is_read(
    api: AirflowApi, pipeline: Pipeline
) -> None:
    before = state(pipeline)
    run = api.trigger(MAINTENANCE)
    assert ended(api, MAINTENANCE, run.run_id).state == "success"
    assert {task.task_id for task in api.task_instances(MAINTENANCE, run.run_id)} >= {"retain", "compact", "sweep"}
    assert state(pipeline) == before


def test_a_backup_is_taken_read_back_and_kept_and_restores_what_every_reader_sees(
    api: AirflowApi, pipeline: Pipeline, backups: Path, tmp_path: Path
) -> None:
    run = api.trigger(BACKUP)
    assert ended(api, BACKUP, run.run_id).state == "success"
    place = FolderPlace(backups)
    taken = listed(place)[-1]  # its schedule may have taken one before
    restored = Settings.load({}, home=tmp_path / "restored")
    restore(restored, place, taken.id)
    found, there = contents(restored), contents(pipeline.settings)
    assert found.keys() == there.keys()
    of_days = [name for name in found if "ops." not in name]  # a look at incidents may come in between
    assert {name: found[name] for name in of_days} == {name: there[name] for name in of_days}


def test_a_viewer_may_look_and_not_touch(scheduler: Scheduler) -> None:
    viewer = scheduler.api_as("viewer")
    assert set(viewer.dag_ids()) == set(DAGS)
    body: dict[str, object] = {"logical_date": None, "partition_key": "2013-05-01", "conf": {}}
    assert viewer.request("POST", "/api/v2/dags/ingest_flightops/dagRuns", body)[0] == HTTPStatus.FORBIDDEN
    assert viewer.request("PATCH", f"/api/v2/dags/{BUILD}", {"is_paused": True})[0] == HTTPStatus.FORBIDDEN
    assert viewer.request("GET", "/api/v2/connections")[0] == HTTPStatus.FORBIDDEN


def test_unpausing_a_source_of_the_past_starts_nothing_by_itself(api: AirflowApi) -> None:
    assert {run.run_type for dag_id in INGEST for run in api.runs(dag_id)} == {"manual", "backfill"}


def test_the_modules_were_loaded_once_before_the_workers_were_forked(scheduler: Scheduler) -> None:
    log = (scheduler.logs / "scheduler.log").read_text()
    assert "modules before forking" in log
    assert "could not load" not in log


def test_no_secret_is_in_anything_that_airflow_keeps(
    scheduler: Scheduler, services: EmbeddedServices, backups: Path
) -> None:
    """Logs, its whole database (XCom, rendered templates, serialized DAGs, audit log), and the backup."""
    password = unquote(urlsplit(services.connections["flightops"]).password or "")
    assert password
    search = Search({"source": password, "queue": PASSWORD})
    search.folder(scheduler.folder)
    search.folder(backups)
    assert search.found == []
    assert len([*scheduler.logs.rglob("*.log")]) > len(DAGS)
    assert "airflow.db" in search.containers


def test_another_process_stops_everything_and_nothing_is_left(scheduler: Scheduler) -> None:
    processes = scheduler.processes()
    assert len(processes) > 3
    port = urlsplit(scheduler.url).port
    assert port is not None
    Scheduler.attach(scheduler.home).stop()
    assert scheduler.processes() == []
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)
    assert port_is_free(port)
    with pytest.raises(UsageError, match="No Airflow is running"):
        Scheduler.attach(scheduler.home)


def test_a_component_that_ends_while_starting_is_named_and_nothing_is_left(
    scheduler: Scheduler, tmp_path: Path
) -> None:
    folder = tmp_path / "airflow"
    folder.mkdir()
    for name in ("airflow.db", "migrated"):  # to make a database takes longer than all else here
        shutil.copy(scheduler.folder / name, folder / name)
    broken = Scheduler(tmp_path, environment={"AIRFLOW__CORE__AUTH_MANAGER": "no.such.AuthManager"})
    with pytest.raises(TerminalError, match=r"api-server ended while starting: .*api-server\.log"):
        broken.start()
    assert broken.processes() == []
    assert not broken.is_running()
