"""The proof of several hosts: days of flights through CeleryExecutor, a worker killed on the way, and the same.

``make prove-celery``. What ``deploy/compose.yml`` describes, as processes of this machine (``celery_cluster.py``):
Redis, PostgreSQL as Airflow's database, the lake on S3, its catalog in PostgreSQL, two workers and a builder, each with
folders of its own:

1. the same days in this process, undisturbed, in a local lake: the reference;
2. a live day of both sources, through the DAGs ``ingest_*`` and ``build_warehouse``;
3. the backfill, by the DAG ``backfill``; after a third of it one worker is killed, every process of it, with SIGKILL
   while it runs a task, and started again;
4. every table of the lake and of the release compared with the reference.

Exits with 1 if a table differs, an interval is not published, a worker ran nothing, a build ran elsewhere than on the
builder, a host but the builder holds a file of lake or warehouse, a task handed over more than a reference, or the
lineage that the hosts told together is not that of the reference.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from benchmarks.celery_cluster import CONTROL, WORKERS, Cluster
from benchmarks.year import checksums, scratch_home
from common.settings import Settings
from penstock.airflow_api import FINISHED, AirflowApi, wait_for
from penstock.backfill import plan_backfill
from penstock.backfill_airflow import find
from penstock.backfill_local import run_local
from penstock.backfill_plan import Wish
from penstock.demo import expected_dags
from penstock.embedded import EmbeddedServices
from penstock.lineage import Graph, graph_of
from penstock.pipeline import Pipeline
from warehouse.releases import Releases

LIVE_DAY = "2013-12-28"
SOURCES = ("flightops", "stations")
KILLED = "worker-2"
REFERENCE_BYTES = 65_536
"""What a task may hand over: a plan of a year with its keys is 30 kB, rows of a day are millions."""


def main() -> int:
    """Run the proof; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=14, help="days from 2013-01-01 (default: 14)")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):  # whoever ends this program ends all that it started
        signal.signal(number, lambda *_: sys.exit("ended by a signal"))
    end = date(2013, 1, 1) + timedelta(days=min(arguments.days, 360))
    wish = Wish(SOURCES, "2013-01-01", end.isoformat())
    figures: dict[str, Any] = {"days": len(wish.days), "hosts": list(WORKERS)}
    with scratch_home(None) as home, _root() as root:
        services = EmbeddedServices.attach(home)
        reference = Pipeline(Settings.load({}, home=root / "reference", connections=services.connections))
        began = time.monotonic()
        for each in (Wish(SOURCES, LIVE_DAY, "2013-12-29"), wish):
            run_local(reference, plan_backfill(reference, each), lambda *_: None)
        figures["local_wall_s"] = round(time.monotonic() - began, 1)
        _say("the reference is there")
        with Cluster(root, services) as cluster:
            _say(f"Airflow is up at {cluster.url}")
            figures |= _through_celery(cluster, wish)
            figures |= _account(cluster)
            logs = {host: (root / host / f"{host}.log").read_text(errors="replace") for host in WORKERS}
            figures["preloaded"] = sum("modules before forking" in log for log in logs.values())
            pipeline = Pipeline(Settings.load(cluster.environment("cli")))
            figures["releases"] = len(Releases(pipeline.settings.warehouse).all())
            expected, found = checksums(reference), checksums(pipeline)
            figures["tables_compared"] = len(expected)
            figures["tables_different"] = sorted(
                name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
            )
            figures["files_out_of_place"] = _out_of_place(root)
            told, known = (_made(graph_of(each.settings)) for each in (pipeline, reference))
            figures |= {"tables_in_lineage": len(told), "lineage_differs": told != known}
    print(json.dumps(figures))
    problems = _problems(figures)
    print("\n".join(problems) or "proven", file=sys.stderr)
    return 1 if problems else 0


def _through_celery(cluster: Cluster, wish: Wish) -> dict[str, Any]:
    api, total = cluster.api, len(wish.days) * len(SOURCES)
    api.wait_for_dags(expected_dags(Settings.load({})), timeout_s=600)
    for dag_id in expected_dags(Settings.load({})):
        api.unpause(dag_id)
    began = time.monotonic()
    _live_day(api)
    found: dict[str, Any] = {"live_day_s": round(time.monotonic() - began, 1)}
    began = time.monotonic()
    command = _command(cluster, wish)
    try:
        run = _until(lambda: find(api, wish), "the backfill started", command)
        _until(lambda: _ended(api, run.run_id) >= total / 3, "a third of the days ran", command)
        _until(lambda: _running(cluster, KILLED), f"{KILLED} runs a task", command)
        found["memory_mb"] = cluster.memory_mb()
        found["running_when_killed"] = _running(cluster, KILLED)
        found["processes_killed"] = cluster.kill(KILLED)
        found["intervals_before_kill"] = _ended(api, run.run_id)
        _say(f"killed {KILLED} after {found['intervals_before_kill']} of {total} runs")
        time.sleep(10)
        cluster.start(KILLED)
        restarted = cluster.query("select now()")[0][0]
        output, _ = command.communicate()
    finally:
        command.kill()
    summary = json.loads(output) if output else {"not_done": ["no account"], "tables": []}
    after = f"select count(*) from task_instance where hostname = '{KILLED}' and start_date > '{restarted}'"
    return found | {
        "exit_code": command.returncode,
        "celery_wall_s": round(time.monotonic() - began, 1),
        "not_done": len(summary["not_done"]),
        "rows": sum(each["rows"] for each in summary["tables"] if each["table"].startswith("raw.")),
        "tasks_of_killed_after_restart": int(cluster.query(after)[0][0]),
    }


def _live_day(api: AirflowApi) -> None:
    """A day of both sources as the schedule would run it, up to its release."""
    for source in SOURCES:
        api.trigger(f"ingest_{source}", partition_key=LIVE_DAY)
    runs = api.wait_runs("build_warehouse", [LIVE_DAY], timeout_s=3600)
    if any(run.state != "success" for run in runs):
        raise SystemExit(f"the live day failed: {api.failures(runs[0])}")
    _say("the live day is published")


def _account(cluster: Cluster) -> dict[str, Any]:
    """Which host ran what, as Airflow wrote it down."""
    columns = "hostname, queue, dag_id, task_id, state, try_number"
    tasks = cluster.query(f"select {columns} from task_instance where hostname <> ''")
    built = [task for task in tasks if task[1] == "warehouse"]
    largest = cluster.query("select coalesce(max(length(value::text)), 0) from xcom")
    return {
        "tasks_by_host": dict(sorted(Counter(task[0] for task in tasks).items())),
        "tasks_by_queue": dict(sorted(Counter(task[1] for task in tasks).items())),
        "tasks_tried_again": sum(int(task[5]) > 1 for task in tasks),
        "tasks_failed": sorted({f"{task[2]}.{task[3]}" for task in tasks if task[4] in {"failed", "upstream_failed"}}),
        "built_elsewhere": sum(task[0] != "builder" for task in built),
        "build_tasks": len(built),
        "largest_xcom_bytes": int(largest[0][0]),
    }


def _out_of_place(root: Path) -> list[str]:
    """Files of the lake or the catalog on any host, and files of the warehouse elsewhere than on the builder."""
    hosts = [root / host / "penstock" for host in (*CONTROL, *WORKERS)]
    found = [path for host in hosts for name in ("lake", "catalog.db") for path in host.glob(name)]
    found += [path for host in hosts if host.parent.name != "builder" for path in host.glob("warehouse")]
    return [str(path.relative_to(root)) for path in found]


def _made(graph: Graph) -> dict[str, frozenset[str]]:
    """What every table that was made was made of."""
    return {name: node.reads for name, node in graph.tables.items() if node.job}


def _problems(figures: dict[str, Any]) -> list[str]:
    wrong = {
        "a table differs": figures["tables_different"],
        "intervals are missing": figures["not_done"],
        "the command failed": figures["exit_code"],
        "a worker ran nothing": set(WORKERS) - figures["tasks_by_host"].keys(),
        "the killed worker ran nothing after its restart": figures["tasks_of_killed_after_restart"] == 0,
        "nothing was tried again": figures["tasks_tried_again"] == 0,
        "tasks failed": figures["tasks_failed"],
        "a build ran elsewhere than on the builder": figures["built_elsewhere"],
        "files lie where they should not": figures["files_out_of_place"],
        "a worker did not load the modules before it forked": figures["preloaded"] != len(WORKERS),
        "the lineage is not whole": figures["lineage_differs"],
        "a task handed over more than a reference": figures["largest_xcom_bytes"] > REFERENCE_BYTES,
        "not one release for the live day and one for the backfill": figures["releases"] != 2,
    }
    return [problem for problem, found in wrong.items() if found]


def _ended(api: AirflowApi, backfill_id: str) -> int:
    runs = [run for source in SOURCES for run in api.runs(f"ingest_{source}", carrying=backfill_id)]
    return sum(run.state in FINISHED for run in runs)


def _running(cluster: Cluster, host: str) -> int:
    """Tasks that run on a host now."""
    rows = cluster.query(f"select count(*) from task_instance where hostname = '{host}' and state = 'running'")
    return int(rows[0][0])


def _command(cluster: Cluster, wish: Wish) -> subprocess.Popen[str]:
    """The command as somebody would give it, in the container ``cli``."""
    days = ["--from", wish.start, "--to", wish.end]
    return subprocess.Popen(
        [sys.executable, "-m", "penstock", "backfill", "run", *wish.targets, *days, "--json"],
        cwd=cluster.root,
        env=cluster.environment("cli"),
        stdout=subprocess.PIPE,
        text=True,
    )


def _until(happened: Callable[[], Any], what: str, command: subprocess.Popen[str]) -> Any:
    """What a question answers once the answer is something, while the command runs."""
    answer: list[Any] = [None]

    def asked() -> bool:
        answer[0] = happened()
        return bool(answer[0]) or command.poll() is not None

    if not wait_for(asked, 3600.0) or not answer[0]:
        raise SystemExit(f"waited in vain until {what}")
    _say(what)
    return answer[0]


@contextmanager
def _root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="penstock-celery-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
