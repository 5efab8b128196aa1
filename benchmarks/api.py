"""What HTTP adds to DuckDB: requests a second, latency, an export of a million rows, a publish under load.

``make bench-api``, or some of it: ``make bench-api PARTS="export publishing"``. The server is a process of its own over
releases made here: a mart of 12,000 rows and a fact of a million. The load comes from this process, so both share the
machine's processors. Ratios are of one run.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import psutil

from benchmarks.api_client import Load, get, load
from common.settings import process_environment
from warehouse.inspect import describe_tables
from warehouse.releases import Releases
from warehouse.serve.tokens import LocalIssuer

CLIENTS = 32
PARTS = ("latency", "throughput", "export", "publishing")
EXPORT = "/v1/datasets/fct/rows"
AGGREGATE = "/v1/datasets/mart/aggregate?group=origin_code&measure=sum:flights&measure=max:delay_min"
AGGREGATE_SQL = "SELECT origin_code, sum(flights), max(delay_min) FROM mart GROUP BY 1 ORDER BY 1"
_POLICY = "roles:\n  all:\n    scopes: [read, sql]\n    datasets:\n      '*': {columns: all}\n"


def publish(warehouse: Path, number: int, rows: int) -> None:
    """A release whose mart says its number in every row."""
    releases = Releases(warehouse)
    candidate = releases.new_candidate(from_scratch=True)
    with duckdb.connect(str(candidate.database)) as connection:
        connection.execute(
            "CREATE TABLE mart AS SELECT date '2013-01-01' + (i // 40)::INTEGER AS scheduled_on, "
            "'A' || (i % 40) AS origin_code, (i * 7) % 300 AS flights, (i % 100)::DECIMAL(9, 2) AS delay_min, "
            f"{number} AS version FROM range(12000) AS r(i)"
        )
        connection.execute(
            "CREATE TABLE fct AS SELECT i AS flight_id, date '2013-01-01' + (i // 3000)::INTEGER AS scheduled_on, "
            "'A' || (i % 40) AS origin_code, 'N' || (i % 4000) AS tail_number, (i % 500)::DECIMAL(9, 2) AS delay_min, "
            f"timestamptz '2013-01-01' + to_minutes(i) AS departed_at, i % 3 = 0 AS is_late FROM range({rows}) AS r(i)"
        )
    releases.seal(candidate, {"tables": describe_tables(candidate.database, {})})
    releases.publish(candidate)


def main() -> int:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of each load (default 10)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the export (default 1000000)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what is measured (default: all)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-api-") as folder:
        home = Path(folder)
        (home / "policy.yml").write_text(_POLICY)
        publish(home / "warehouse", 1, arguments.rows)
        token, _ = LocalIssuer(home / "serve").issue(
            "all", ["read", "sql"], subject="bench", audience="penstock", expires_in_s=86_400
        )
        server = subprocess.Popen(
            [sys.executable, "-m", "penstock", "serve"],
            env=process_environment(PENSTOCK_HOME=str(home), PENSTOCK_REQUESTS_PER_MIN="1000000000"),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().split()[1].split(":")[2].split("/")[0])
            process, seconds = psutil.Process(server.pid), arguments.seconds
            ways: dict[str, Callable[[], dict[str, Any]]] = {
                "latency": lambda: _latency(home, port, token),
                "throughput": lambda: _throughput(port, token, seconds, process),
                "export": lambda: _export(home, port, token, process),
                "publishing": lambda: _publishing(home, port, token, seconds, arguments.rows),
            }
            figures = {name: value for part in PARTS if part in arguments.parts for name, value in ways[part]().items()}
        finally:
            server.terminate()
            server.wait()
    print(json.dumps(figures, indent=1))
    return 0


def _median_ms(times: int, work: Callable[[], object]) -> float:
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(1000 * (time.perf_counter() - began))
    return statistics.median(found)


def _latency(home: Path, port: int, token: str) -> dict[str, float]:
    """A small aggregate that was never asked before, by HTTP and in process, in turns."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"Authorization": f"Bearer {token}"}
    number = 0

    def by_http() -> None:
        nonlocal number
        number += 1
        connection.request("GET", f"{AGGREGATE}&filter=flights:ge:-{number}", headers=headers)
        assert connection.getresponse().read()[:1] == b"{"

    with Releases(home / "warehouse").connect() as warehouse:
        asked = [
            (_median_ms(1, by_http), _median_ms(1, lambda: warehouse.execute(AGGREGATE_SQL).fetchall()))
            for _ in range(300)
        ]
    http_ms, own_ms = (statistics.median(each) for each in zip(*asked, strict=True))
    return {
        "aggregate_http_p50_ms": round(http_ms, 2),
        "aggregate_duckdb_p50_ms": round(own_ms, 2),
        "aggregate_added_p50_ms": round(http_ms - own_ms, 2),
    }


def _throughput(port: int, token: str, seconds: float, server: psutil.Process) -> dict[str, object]:
    """Requests a second, and what one costs the server in processor time, which a busy machine changes little."""
    page = "/v1/datasets/mart/rows?limit=50"
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", page, headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    answer.read()
    tag = answer.headers["etag"]
    ways: dict[str, Callable[[int], bytes]] = {
        "unchanged_304": lambda _: get(page, token, If_None_Match=tag),
        "cached": lambda _: get(page, token),
        "uncached": lambda n: get(f"{AGGREGATE}&filter=flights:ge:-{n + 1000}", token),
    }
    found: dict[str, object] = {}
    for name, make in ways.items():
        before = sum(server.cpu_times()[:2])
        answered = asyncio.run(load(port, make, clients=CLIENTS, duration_s=seconds))
        cpu_s = sum(server.cpu_times()[:2]) - before
        found[f"{name}_server_cpu_ms"] = round(1000 * cpu_s / len(answered.latencies_ms), 3)
        found[f"{name}_per_s"] = round(answered.per_s)
        found[f"{name}_p99_ms"] = round(answered.percentile_ms(0.99), 1)
        found[f"{name}_statuses"] = dict(answered.statuses)
    return found


def _export(home: Path, port: int, token: str, server: psutil.Process) -> dict[str, float]:
    idle_mb = server.memory_info().rss / 1e6
    peaks = [idle_mb]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            peaks.append(server.memory_info().rss / 1e6)

    def by_http(form: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", f"{EXPORT}?format={form}", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        size = 0
        while chunk := answer.read(1 << 20):
            size += len(chunk)
        assert answer.status == 200
        return size

    warehouse = Releases(home / "warehouse").connect()

    def own() -> None:
        assert warehouse.execute("SELECT * FROM fct").to_arrow_table().num_rows

    watcher = threading.Thread(target=watch)
    watcher.start()
    turns = [(_median_ms(1, own), _median_ms(1, lambda: by_http("arrow"))) for _ in range(5)]
    others = {}
    for form in ("csv", "parquet"):
        began = time.perf_counter()
        by_http(form)
        others[f"export_{form}_s"] = round(time.perf_counter() - began, 2)
    done.set()
    watcher.join()
    warehouse.close()
    own_ms, http_ms = (statistics.median(each) for each in zip(*turns, strict=True))
    return {
        "export_in_process_s": round(own_ms / 1000, 2),
        "export_arrow_s": round(http_ms / 1000, 2),
        "export_arrow_ratio": round(http_ms / own_ms, 2),
        **others,
        "export_rss_over_idle_mb": round(max(peaks) - idle_mb),
    }


def _publishing(home: Path, port: int, token: str, seconds: float, rows: int) -> dict[str, object]:
    """The same load twice: undisturbed, and with publishes beside it."""

    def one_release(headers: dict[str, str], body: bytes) -> str | None:
        document = json.loads(body)
        versions = {row["version"] for row in document["rows"]}
        release = headers["penstock-release"]
        return None if versions == {int(release[1:])} and document["release"] == release else f"{release}: {versions}"

    def request(number: int) -> bytes:
        return get(f"/v1/datasets/mart/rows?limit=50&select=version&filter=flights:ge:{number % 9}", token)

    async def run_load() -> Load:
        return await load(port, request, clients=CLIENTS, duration_s=seconds, check=one_release)

    quiet = asyncio.run(run_load())
    ended = threading.Event()
    published = [1]

    def publishing() -> None:
        while not ended.is_set():
            published.append(published[-1] + 1)
            publish(home / "warehouse", published[-1], rows)
            ended.wait(1.0)

    publisher = threading.Thread(target=publishing)
    publisher.start()
    busy = asyncio.run(run_load())
    ended.set()
    publisher.join()
    return {
        "publishes": len(published) - 1,
        "publish_failed": sum(count for status, count in busy.statuses.items() if status != 200),
        "publish_mixed": len(busy.problems) + len(quiet.problems),
        "publish_requests": len(busy.latencies_ms),
        "publish_added_p99_ms": round(busy.percentile_ms(0.99) - quiet.percentile_ms(0.99), 1),
    }


if __name__ == "__main__":
    sys.exit(main())
