"""How soon a statement that takes too much is gone, what it took meanwhile, and what its neighbours notice.

``make bench-sandbox``. Each hog is ended by its limit; the time is that of the whole call, from the question to the
problem that tells of it. Neighbours are small statements that run beside a hog, and before it alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

import duckdb
import psutil

from warehouse.releases import Release, Releases
from warehouse.serve.problems import Problem
from warehouse.serve.sandbox import Limits, Sandbox, Statement

WALL_S = 2.0
MEMORY_MB = 512
HOGS = {
    "memory": "select list(range(100000000)) from range(1000)",
    "memory, one value": "select repeat('x', 2000000000)",
    "processor": "select sum(hash(range)) from range(1000000000000)",
    "recursion": "with recursive r as (select 1 n union all select n + 1 from r) select max(n) from r",
    "join": "select count(*) from range(1000000) a, range(1000000) b where a.range + b.range = 7",
    "output": "select range, repeat('x', 1000) from range(100000000)",
}
VIEWS = {"mart": "SELECT * FROM warehouse.main.mart"}
SMALL = "select origin, sum(flights) as flights from mart group by 1"


def main() -> int:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50, help="statements of each kind (default 50)")
    trials = parser.parse_args().trials
    with tempfile.TemporaryDirectory(prefix="penstock-bench-sandbox-") as folder:
        release = _release(Path(folder) / "warehouse")
        sandbox = Sandbox(Limits(wall_s=WALL_S, cpu_s=int(WALL_S) + 1, memory_mb=MEMORY_MB))
        try:
            figures: dict[str, object] = {"walls": sandbox.warm_up(release.folder), "limit_s": WALL_S}
            alone = [_run(sandbox, release, SMALL)[1] for _ in range(200)]
            figures |= {"small_p50_ms": _at(alone, 0.5), "small_p95_ms": _at(alone, 0.95)}
            beside: list[float] = []
            watch = _Watch()
            for kind, sql in HOGS.items():
                figures[kind] = _trials(sandbox, release, sql, trials, beside)
            figures["small_beside_a_hog_p95_ms"] = _at(beside, 0.95)
            figures["largest_process_mb"] = watch.end()
        finally:
            sandbox.close()
    print(json.dumps(figures, indent=1))
    return 0


class _Watch:
    """The largest resident memory of any process below this one."""

    def __init__(self) -> None:
        self._largest = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        own = psutil.Process()
        while not self._done.wait(0.005):
            for process in own.children(recursive=True):
                try:
                    self._largest = max(self._largest, process.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue

    def end(self) -> int:
        """What it was, in MB."""
        self._done.set()
        self._thread.join()
        return round(self._largest / 1e6)


def _release(warehouse: Path) -> Release:
    releases = Releases(warehouse)
    candidate = releases.new_candidate(from_scratch=True)
    with duckdb.connect(str(candidate.database)) as connection:
        connection.execute(
            "CREATE TABLE mart AS SELECT 'A' || (i % 40) AS origin, i % 300 AS flights FROM range(12000) AS r(i)"
        )
    releases.seal(candidate, {"tables": []})
    return releases.publish(candidate)


def _run(sandbox: Sandbox, release: Release, sql: str) -> tuple[str, float]:
    began = time.perf_counter()
    try:
        sandbox.run(release.folder, Statement(sql, VIEWS))
        code = "answered"
    except Problem as problem:
        code = problem.code
    return code, 1000 * (time.perf_counter() - began)


def _trials(sandbox: Sandbox, release: Release, sql: str, trials: int, beside: list[float]) -> dict[str, object]:
    ended = threading.Event()

    def neighbour() -> None:
        while not ended.is_set():
            code, took_ms = _run(sandbox, release, SMALL)
            assert code == "answered", code
            beside.append(took_ms)

    thread = threading.Thread(target=neighbour)
    thread.start()
    found = [_run(sandbox, release, sql) for _ in range(trials)]
    ended.set()
    thread.join()
    times = [took_ms for _, took_ms in found]
    codes = sorted({code for code, _ in found})
    return {"codes": codes, "p50_ms": _at(times, 0.5), "p99_ms": _at(times, 0.99), "trials": trials}


def _at(times: list[float], share: float) -> float:
    ordered = sorted(times)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)


if __name__ == "__main__":
    sys.exit(main())
