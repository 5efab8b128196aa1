"""The proof of backfills: days of flights through a real Airflow from an empty lake, killed on the way, and the same.

``make prove-backfill``. In scratch folders, on real services:

1. the same days in this process, undisturbed: the reference, and what the work costs on the command line;
2. Airflow, one live day of both sources on an otherwise idle machine: its duration;
3. the backfill through Airflow; while it runs, the next live day: its duration again;
4. halfway the scheduler and the command are killed with SIGKILL, Airflow is started anew, the command given again;
5. every table of the lake and of the release compared with the reference;
6. CPU to parse the DAG folder with 10 and with 200 sources.

Exits with 1 if a table differs, an interval is not published, more than one release came of it, or the live day was
delayed by more than its own duration.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psutil

from benchmarks.picture import grid_picture
from benchmarks.year import checksums, scratch_home
from common.settings import Settings, process_environment
from penstock.airflow_api import FINISHED, AirflowApi, wait_for
from penstock.backfill import plan_backfill
from penstock.backfill_airflow import find
from penstock.backfill_local import run_local
from penstock.backfill_plan import Wish
from penstock.demo import expected_dags
from penstock.pipeline import Pipeline
from penstock.scheduler import Scheduler
from warehouse.releases import Releases

LIVE_DAYS = ("2013-12-27", "2013-12-28", "2013-12-29")
"""Days that come in as live ones: the first warms Airflow up, the second is measured idle, the third meanwhile."""

SOURCES = ("flightops", "stations")
ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run the proof; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=360, help="days from 2013-01-01 (default: 360)")
    parser.add_argument("--picture", type=Path, help="where to put a picture of Airflow's grid after it")
    arguments = parser.parse_args()
    end = date(2013, 1, 1) + timedelta(days=min(arguments.days, 360))
    wish = Wish(SOURCES, "2013-01-01", end.isoformat())
    figures: dict[str, Any] = {"days": len(wish.days)}
    with scratch_home(None) as home, tempfile.TemporaryDirectory(prefix="penstock-reference-") as other:
        connections = json.loads((home / "services" / "connections.json").read_text())
        reference = Pipeline(Settings.load({}, home=Path(other), connections=connections))
        figures |= _reference(reference, wish)
        with _airflow(home) as airflow:
            figures |= _through_airflow(airflow, wish)
            pipeline = Pipeline(Settings.load({}, home=home, connections=connections))
            figures["releases_of_the_backfill"] = len(Releases(pipeline.settings.warehouse).all()) - len(LIVE_DAYS)
            expected, found = checksums(reference), checksums(pipeline)
            different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
            figures |= {"tables_compared": len(expected), "tables_different": different}
            if arguments.picture:
                grid_picture(airflow, "ingest_flightops", arguments.picture)
    figures |= {f"parse_{count}_sources_cpu_s": round(_parse_cpu_s(count), 3) for count in (1, 10, 200)}
    figures["parse_per_source_cpu_ms"] = round(
        (figures["parse_200_sources_cpu_s"] - figures["parse_10_sources_cpu_s"]) / 190 * 1000, 2
    )
    print(json.dumps(figures, indent=2))
    delay_s = figures["live_day_meanwhile_s"] - figures["live_day_idle_s"]
    problems = [
        *(["a table differs"] if different else []),
        *(["intervals are missing"] if figures["not_done"] else []),
        *(["not one release"] if figures["releases_of_the_backfill"] != 1 else []),
        *(["the live day was delayed by more than its duration"] if delay_s > figures["live_day_idle_s"] else []),
    ]
    print("\n".join(problems) or "proven", file=sys.stderr)
    return 1 if problems else 0


def _reference(pipeline: Pipeline, wish: Wish) -> dict[str, Any]:
    """The same days and the live ones in this process."""
    began, cpu_s = time.monotonic(), time.process_time()
    plan = plan_backfill(pipeline, wish)
    run_local(pipeline, plan, _told)
    found = {"local_wall_s": round(time.monotonic() - began, 1), "local_cpu_s": round(time.process_time() - cpu_s, 1)}
    last = (date.fromisoformat(LIVE_DAYS[-1]) + timedelta(days=1)).isoformat()
    seconds = [sum(r.seconds.values()) for r in pipeline.lake.receipts(pipeline.source("flightops").raw("flights"))]
    run_local(pipeline, plan_backfill(pipeline, Wish(SOURCES, LIVE_DAYS[0], last)), _told)
    return {**found, "local_ingest_flights_s": round(sum(seconds) / len(seconds), 3)}


def _through_airflow(airflow: Scheduler, wish: Wish) -> dict[str, Any]:
    api = airflow.api
    _live_day(api, LIVE_DAYS[0])
    found: dict[str, Any] = {"live_day_idle_s": _live_day(api, LIVE_DAYS[1])}
    began, cpu_s = time.monotonic(), _cpu_s(airflow)
    command = _command(airflow.home, wish)
    run = _until(lambda: find(api, wish), "the backfill started")
    _until(lambda: _ended(api, run.run_id) > len(wish.days) * len(SOURCES) * 0.25, "a quarter ran")
    found["live_day_meanwhile_s"] = _live_day(api, LIVE_DAYS[2])
    _until(lambda: _ended(api, run.run_id) > len(wish.days) * len(SOURCES) * 0.5, "half ran")
    ended = _ended(api, run.run_id)
    found["airflow_cpu_s_per_interval"] = round((_cpu_s(airflow) - cpu_s) / ended, 2)
    found["airflow_ingest_flights_s"] = _mean_task_s(api, run.run_id)
    command.kill()
    command.wait()
    state = json.loads((airflow.folder / "sessions.json").read_text())
    os.kill(int(state["sessions"]["scheduler"]["pid"]), signal.SIGKILL)
    found["intervals_before_kill"] = ended
    _say(f"killed the scheduler and the command after {ended} intervals")
    time.sleep(5)
    restarted = time.monotonic()
    airflow.start()
    found["restart_s"] = round(time.monotonic() - restarted, 1)
    again = _command(airflow.home, wish)
    output, _ = again.communicate()
    summary = json.loads(output)
    found |= {
        "exit_code": again.returncode,
        "same_backfill": summary["id"] == run.run_id,
        "airflow_wall_s": round(time.monotonic() - began, 1),
        "not_done": len(summary["not_done"]),
        "rows": sum(each["rows"] for each in summary["tables"] if each["table"].startswith("raw.")),
        "intervals_run_twice": _ended(api, run.run_id) - len(wish.days) * len(SOURCES),
    }
    return found


def _live_day(api: AirflowApi, day: str) -> float:
    """Ingest a day of both sources as the schedule would, up to its release; seconds from first to last."""
    began = time.monotonic()
    for source in SOURCES:
        api.trigger(f"ingest_{source}", partition_key=day)
    runs = api.wait_runs("build_warehouse", [day], timeout_s=1800)
    if any(each.state != "success" for each in runs):
        raise SystemExit(f"the live day {day} failed: {api.failures(runs[0])}")
    _say(f"live day {day}: {time.monotonic() - began:.1f} s")
    return round(time.monotonic() - began, 1)


def _ended(api: AirflowApi, backfill_id: str) -> int:
    runs = [run for source in SOURCES for run in api.runs(f"ingest_{source}", carrying=backfill_id)]
    return sum(run.state in FINISHED for run in runs)


def _mean_task_s(api: AirflowApi, backfill_id: str) -> float:
    """Mean duration of the tasks that ingested flights, first days left out: they compile and connect."""
    runs = [run for run in api.runs("ingest_flightops", carrying=backfill_id) if run.state == "success"][-20:]
    path = "/api/v2/dags/ingest_flightops/dagRuns/~/taskInstances?task_id=ingest_intervals"
    tasks = {each["dag_run_id"]: each for each in api.pages(path, "task_instances")}
    durations = [float(tasks[run.run_id]["duration"]) for run in runs if run.run_id in tasks]
    return round(sum(durations) / len(durations), 3)


def _cpu_s(airflow: Scheduler) -> float:
    """CPU time of all of Airflow's processes and of every child they waited for."""
    total = 0.0
    for process in airflow.processes():
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _command(home: Path, wish: Wish) -> subprocess.Popen[str]:
    """The command, as somebody would give it; it does not outlive this program."""
    days = ["--from", wish.start, "--to", wish.end]
    process = subprocess.Popen(
        [sys.executable, "-m", "penstock", "backfill", "run", *wish.targets, *days, "--json"],
        env=process_environment(PENSTOCK_HOME=str(home)),
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(process.kill)
    return process


@contextmanager
def _airflow(home: Path) -> Iterator[Scheduler]:
    airflow = Scheduler(home)
    airflow.start()
    try:
        airflow.api.wait_for_dags(expected_dags(Settings.load({}, home=home)))
        for dag_id in expected_dags(Settings.load({}, home=home)):
            airflow.api.unpause(dag_id)
        yield airflow
    finally:
        airflow.stop()


def _parse_cpu_s(count: int) -> float:
    """CPU time that Airflow's parser needs for the DAG folder with that many sources, in s."""
    with tempfile.TemporaryDirectory(prefix="penstock-parse-") as folder:
        sources = Path(folder) / "sources"
        sources.mkdir()
        spec = (ROOT / "ingestion" / "sources" / "flightops.yml").read_text()
        for number in range(count):
            text = spec.replace("source: flightops", f"source: shop{number:03d}", 1)
            (sources / f"shop{number:03d}.yml").write_text(text)
        environment = process_environment(AIRFLOW_HOME=f"{folder}/airflow", PENSTOCK_SOURCES=str(sources))
        command = [sys.executable, str(ROOT / "tests" / "dags" / "describe_dags.py"), str(ROOT / "dags")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=True)
        return float(json.loads(done.stdout)["cpu_s"])


def _until(happened: Any, what: str, *, timeout_s: float = 7200.0) -> Any:
    """What a question answers once the answer is something."""
    answer: list[Any] = [None]

    def asked() -> bool:
        answer[0] = happened()
        return bool(answer[0])

    if not wait_for(asked, timeout_s):
        raise SystemExit(f"waited in vain until {what}")
    _say(what)
    return answer[0]


def _told(stage: str, done: int, total: int, label: str) -> None:
    if done == total:
        _say(f"{stage}: {done} of {total} {label}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
