"""What the scheduler sees when it reads ``dags/``, asked of Airflow's own parser in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from common.settings import Settings, process_environment
from dags.penstock_dags.specs import load_schedules
from ingestion.spec import load_sources
from penstock.backfill_plan import Wish
from penstock.pools import pools, workers

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "ingestion" / "sources"
INGEST = ("ingest_flightops", "ingest_stations")
RAW = {
    f"ingest_{name}": [str(spec.raw(table.name)) for table in spec.tables]
    for name, spec in load_sources(SOURCES).items()
}
HEAVY = {"nats", "boto3", "dbt", "duckdb", "great_expectations", "numpy", "pandas", "polars", "pyarrow", "pyiceberg"}


EVENTS = "events: {watch: bucket, queue: {connection: bus, stream: IN, subject: in.shop, dead_letter: dead.shop}}"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What parsing the DAG folder gave (``describe_dags.py``), with the bundled specs, one of which has events."""
    sources = tmp_path_factory.mktemp("sources")
    for spec in SOURCES.glob("*.yml"):
        text = spec.read_text()
        (sources / spec.name).write_text(text.replace("    coverage:", f"    {EVENTS}\n    coverage:"))
    environment = process_environment(
        AIRFLOW_HOME=str(tmp_path_factory.mktemp("airflow")),
        PENSTOCK_HOME=str(sources / "state"),
        PENSTOCK_SOURCES=str(sources),
        PENSTOCK_CONNECTIONS__FLIGHTOPS="postgresql://reader:hunter2@db.example/flightops",
        PENSTOCK_CONNECTIONS__STATIONS="s3://AK:hunter2@stations?endpoint=http://127.0.0.1:8333",
    )
    command = [sys.executable, str(Path(__file__).with_name("describe_dags.py")), str(ROOT / "dags")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_dag_file_can_be_imported(seen: dict[str, Any]) -> None:
    assert seen["import_errors"] == {}


def test_there_is_one_ingest_dag_per_source_spec_and_one_of_each_other_kind(seen: dict[str, Any]) -> None:
    files = {dag_id: dag["file"] for dag_id, dag in seen["dags"].items()}
    assert files == {
        **dict.fromkeys(INGEST, "ingest_sources.py"),
        "build_warehouse": "build_warehouse.py",
        "backfill": "backfill.py",
        "penstock_backup": "backup.py",
        "penstock_maintenance": "maintenance.py",
        "ingest_on_events": "ingest_on_events.py",
        "watch_incidents": "watch_incidents.py",
    }
    assert set(INGEST) == {f"ingest_{spec.stem}" for spec in SOURCES.glob("*.yml")}


def test_parsing_costs_less_than_two_cpu_seconds(seen: dict[str, Any]) -> None:
    assert seen["cpu_s"] < 2.0


def test_parsing_loads_nothing_heavy(seen: dict[str, Any]) -> None:
    assert not HEAVY & set(seen["loaded"])


def test_every_dag_says_what_it_does_and_what_a_rerun_does(seen: dict[str, Any]) -> None:
    for dag_id, dag in seen["dags"].items():
        assert dag["description"], dag_id
        rerun_class = "now" if dag_id == "watch_incidents" else "backfill-safe by partition key"
        assert f"Rerun class: {rerun_class}." in dag["doc_md"], dag_id
        assert "penstock" in dag["tags"], dag_id


def test_every_dag_waits_for_a_person_and_never_catches_up_by_itself(seen: dict[str, Any]) -> None:
    assert all(dag["paused_at_creation"] and not dag["catchup"] for dag in seen["dags"].values())


def test_every_task_has_an_owner_a_timeout_and_growing_retries(seen: dict[str, Any]) -> None:
    for task_id, task in _tasks(seen):
        assert task["owner"] != "airflow", task_id
        assert task["execution_timeout_s"], task_id
        assert task["retries"] == 4, task_id
        assert task["retry_exponential_backoff"] > 1, task_id


def test_only_what_may_heal_is_tried_again(seen: dict[str, Any]) -> None:
    for task_id, task in _tasks(seen):
        assert task["decisions"] == {
            "SourceUnavailable": "retry",
            "CommitConflict": "retry",
            "GateRefused": "fail",
            "SettingsError": "fail",
            "KeyError": "fail",
            "ConnectionResetError": "default",
        }, task_id


def test_every_pool_exists_and_holds_its_tasks(seen: dict[str, Any]) -> None:
    slots = {name: size for name, (size, _) in pools(4).items()} | {"default_pool": 128}
    for task_id, task in _tasks(seen):
        assert task["pool_slots"] <= slots[task["pool"]], task_id


def test_one_task_at_a_time_builds_or_publishes(seen: dict[str, Any]) -> None:
    tasks = seen["dags"]["build_warehouse"]["tasks"]
    slots, _ = pools(4)["warehouse"]
    assert [tasks[name]["pool_slots"] for name in ("refine", "build", "publish")] == [1, slots, slots]
    assert tasks["publish"]["priority_weight"] > tasks["build"]["priority_weight"] > tasks["refine"]["priority_weight"]


def test_what_builds_or_publishes_has_a_queue_of_its_own(seen: dict[str, Any]) -> None:
    queues = {task_id: task["queue"] for task_id, task in _tasks(seen)}
    apart = {"build_warehouse.build", "build_warehouse.publish", "backfill.build", "backfill.publish"}
    apart.add("penstock_backup.take")  # releases lie on the builder's disk
    assert {task_id for task_id, queue in queues.items() if queue == "warehouse"} == apart
    assert {queue for task_id, queue in queues.items() if task_id not in apart} == {"default"}
    assert not any(task["executor_config"] for _, task in _tasks(seen))


def test_a_backfill_shares_no_pool_with_live_runs_but_that_of_the_one_warehouse_and_is_last_there(
    seen: dict[str, Any],
) -> None:
    tasks = seen["dags"]["backfill"]["tasks"]
    assert {name: task["pool"] for name, task in tasks.items() if task["pool"] != "backfill"} == {
        "build": "warehouse",
        "publish": "warehouse",
    }
    live = seen["dags"]["build_warehouse"]["tasks"]
    assert tasks["build"]["priority_weight"] <= min(task["priority_weight"] for task in live.values())
    assert "source_load" in {task["pool"] for task in seen["dags"]["ingest_flightops"]["tasks"].values()}


def test_maintenance_runs_daily_one_step_at_a_time_in_a_pool_of_its_own(seen: dict[str, Any]) -> None:
    dag = seen["dags"]["penstock_maintenance"]
    assert (dag["timetable"], dag["max_active_runs"], pools(4)["maintenance"][0]) == ("CronTriggerTimetable", 1, 1)
    assert {name: (task["upstream"], task["pool"]) for name, task in dag["tasks"].items()} == {
        "retain": ([], "maintenance"),
        "compact": (["retain"], "maintenance"),
        "expire": (["compact"], "maintenance"),
        "sweep": (["expire"], "maintenance"),
    }


def test_backups_have_no_schedule_without_a_place_and_are_taken_where_releases_lie(seen: dict[str, Any]) -> None:
    dag = seen["dags"]["penstock_backup"]
    assert (dag["timetable"], dag["max_active_runs"]) == ("NullTimetable", 1)
    assert {name: (task["upstream"], task["pool"], task["queue"]) for name, task in dag["tasks"].items()} == {
        "take": ([], "maintenance", "warehouse"),
        "verify": (["take"], "maintenance", "default"),
        "prune": (["verify"], "maintenance", "default"),
    }


def test_the_form_of_a_backfill_asks_for_what_the_command_line_asks_for(seen: dict[str, Any]) -> None:
    wish = Wish(("flights",), "2013-01-01", "2013-01-02").to_dict()
    assert set(seen["dags"]["backfill"]["params"]) == {*wish, "dry_run"}
    assert {name: value for name, value in seen["dags"]["backfill"]["params"].items() if name in wish} == {
        **wish,
        "targets": [],
        "start": "",
        "end": "",
    }


def test_a_source_is_announced_once_and_only_after_all_its_tables(seen: dict[str, Any]) -> None:
    for dag_id in INGEST:
        tasks = seen["dags"][dag_id]["tasks"]
        announcing = [name for name, task in tasks.items() if task["outlets"]]
        assert announcing == ["announce", "reopen"][: len(announcing)]
        assert set(tasks["announce"]["outlets"]) == set(RAW[dag_id])
        groups = set(tasks) - {"announce", "reopen", "watch", "hold_snapshot", "join_snapshot"}
        assert set(tasks["announce"]["upstream"]) == groups


def test_every_run_by_key_ends_with_a_look_for_incidents_that_decides_nothing(seen: dict[str, Any]) -> None:
    for dag_id in (*INGEST, "build_warehouse"):
        tasks = seen["dags"][dag_id]["tasks"]
        assert {name for name, task in tasks.items() if task["is_teardown"]} - {"hold_snapshot"} == {"watch"}
        assert not [name for name, task in tasks.items() if "watch" in task["upstream"]]
        assert tasks["watch"]["upstream"], dag_id


def test_a_snapshot_is_held_where_a_database_can_share_one_and_there_are_tables_to_share_it(
    seen: dict[str, Any],
) -> None:
    pair = {"hold_snapshot", "join_snapshot"}
    found = {dag_id: pair & set(dag["tasks"]) for dag_id, dag in seen["dags"].items()}
    assert {dag_id: tasks for dag_id, tasks in found.items() if tasks} == {"ingest_flightops": pair}


def test_the_holder_of_a_snapshot_decides_nothing_and_keeps_nobody_waiting(seen: dict[str, Any]) -> None:
    tasks = seen["dags"]["ingest_flightops"]["tasks"]
    assert tasks["hold_snapshot"]["upstream"] == []
    assert [name for name, task in tasks.items() if "hold_snapshot" in task["upstream"]] == []
    assert tasks["hold_snapshot"]["is_teardown"], "so the run is as good or bad as its other tasks"
    assert [name for name, task in tasks.items() if "join_snapshot" in task["upstream"]] == ["ingest_snapshots"]
    assert tasks["ingest_snapshots"]["trigger_rule"] == "all_done", "whatever becomes of the gate"
    assert tasks["hold_snapshot"]["execution_timeout_s"] > Settings.load({}).snapshot_hold_s


def test_holders_have_a_pool_of_their_own_that_leaves_workers_to_those_they_hold_for(seen: dict[str, Any]) -> None:
    tasks = seen["dags"]["ingest_flightops"]["tasks"]
    held = {name: task["pool"] for name, task in tasks.items() if task["pool"] == "snapshots"}
    assert held == {"hold_snapshot": "snapshots"}
    others = [task["priority_weight"] for name, task in tasks.items() if name != "hold_snapshot"]
    assert tasks["hold_snapshot"]["priority_weight"] > len(tasks) * max(others)
    for parallelism in range(1, 20):
        of = pools(parallelism)
        holders = of["snapshots"][0] + of["backfill_snapshots"][0]
        assert workers(parallelism) - holders >= 2 * parallelism


def test_tables_are_mapped_tasks_that_carry_their_names(seen: dict[str, Any]) -> None:
    tasks = {name: task for dag_id in INGEST for name, task in seen["dags"][dag_id]["tasks"].items()}
    mapped = {name: task["map_index_template"] for name, task in tasks.items() if task["mapped"]}
    assert set(mapped) == {"ingest_snapshots", "ingest_intervals"}
    assert all("table" in template for template in mapped.values())


def test_the_build_waits_for_every_source(seen: dict[str, Any]) -> None:
    build = seen["dags"]["build_warehouse"]
    assert build["timetable"] == "PartitionedAssetTimetable"
    [of_all, reopened] = build["waits_for"]["any"]
    assert sorted(of_all["all"]) == sorted(asset for assets in RAW.values() for asset in assets)
    assert reopened == "raw.reopened"


def test_only_sources_with_events_can_reopen_a_day(seen: dict[str, Any]) -> None:
    reopening = {dag_id for dag_id in INGEST if "reopen" in seen["dags"][dag_id]["tasks"]}
    assert reopening == {"ingest_stations"}
    assert seen["dags"]["ingest_stations"]["tasks"]["reopen"]["outlets"] == ["raw.reopened"]


def test_events_have_a_watcher_for_each_bucket_and_each_queue_on_assets_that_no_other_dag_names(
    seen: dict[str, Any],
) -> None:
    events = seen["dags"]["ingest_on_events"]
    assert events["waits_for"] == {"any": ["events.stations__weather", "events.bus__IN__penstock"]}
    named = [asset for _, task in _tasks(seen) for asset in (*task["inlets"], *task["outlets"])]
    assert not [asset for asset in named if asset.startswith("events.")]
    assert not any(outline.events for source in load_schedules(SOURCES) for outline in source.outlines.values())


def test_no_password_is_in_what_parsing_gives(seen: dict[str, Any]) -> None:
    assert "hunter2" not in json.dumps(seen)


def test_a_day_is_a_day_in_the_sources_own_time_zone(seen: dict[str, Any]) -> None:
    for schedule in load_schedules(SOURCES):
        dag = seen["dags"][schedule.dag_id]
        assert (dag["timetable"], dag["time_zone"]) == ("CronPartitionTimetable", schedule.time_zone)


def test_a_source_that_has_ended_gets_no_run_for_yesterday(seen: dict[str, Any]) -> None:
    # Both demo sources end with 2013. Unpausing a DAG without an end date would start its latest due run.
    assert [seen["dags"][dag_id]["end"][:10] for dag_id in INGEST] == ["2014-01-02", "2014-01-02"]


def _tasks(seen: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{dag_id}.{task_id}", task) for dag_id, dag in seen["dags"].items() for task_id, task in dag["tasks"].items()
    ]
