"""What it costs to tell: small daily intervals with nothing told, with costs kept as always, and with everything on.

``make bench-telemetry``. The same 60 intervals of 1,000 rows are extracted, checksummed and committed by the real
pipeline, in turn and in one warm process: without any account (its scopes do nothing), as it is by default, and with
JSON log lines, spans and metrics sent to a collector in a process of its own. The gate, which costs the same each time,
is left out (``no_gate.py``). Reported is CPU of this process, medians of the rounds; for scale also one bare interval
of the account alone.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import tpch
from benchmarks.no_gate import NoGate
from common import logs, work
from common.intervals import day_keys
from common.settings import Settings
from common.work import Scope, What, Work
from lake.together import publishing_together
from penstock.embedded import EmbeddedServices
from penstock.pipeline import Pipeline
from penstock.psql import run_psql

DAYS = day_keys("2013-01-01", "2013-03-02")
LIMIT = 1.03
"""What the account may cost by default, against none."""

_ROWS = """
create table told as select n as id, date '2013-01-01' + (n % 60)::int as at, 'note ' || n as note
    from generate_series(1, 60000) as n order by at;
create index on told (at);
vacuum analyze told;
grant select on told to penstock_reader;
"""
_SPEC = """\
source: bench
kind: postgresql
connection: flightops
owner: benchmarks
tables:
  - name: told
    mode: incremental
    primary_key: [id]
    cursor: {column: at}
    columns:
      - {name: id, type: int64, nullable: false}
      - {name: at, type: date, nullable: false}
      - {name: note, type: string}
"""
_SUITE = """\
suite: raw/bench__told
description: What the source declares.
expectations:
  - id: id_is_given
    expect: expect_column_values_to_not_be_null
    kwargs: {column: id}
    severity: critical
    why: It is the key.
"""
_COLLECTOR = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


class Untold(Work):
    """Work of which nothing is noted."""

    @contextlib.contextmanager
    def _nothing(self) -> Iterator[Scope]:
        started = time.perf_counter()
        scope = Scope(What("", ""))
        yield scope
        scope.seconds = time.perf_counter() - started

    def batch(self, *_: Any, **__: Any) -> Any:
        """Nothing."""
        return self._nothing()

    step = shared = batch


def main() -> int:
    """Run the benchmark; returns 1 if the account costs more than :data:`LIMIT` times nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    arguments = parser.parse_args()
    with tpch.scratch_folder("penstock-bench-") as folder, EmbeddedServices.start(folder / "home") as services:
        run_psql(services.postgres_url, [_ROWS.encode()], timeout_s=600)
        report = measure(services.connections["flightops"], folder, arguments.rounds)
    if arguments.json:
        print(json.dumps(report))
    else:
        for way, cpu_ms in report["interval_cpu_ms"].items():
            print(f"{way:<10} {cpu_ms:6.2f} ms an interval, {report['ratio'][way]:.3f} x")
        print(f"the account alone: {report['account_us']} us an interval; limit {LIMIT:g} x for 'default'")
    return 1 if report["ratio"]["default"] > LIMIT else 0


def measure(url: str, folder: Path, rounds: int) -> dict[str, Any]:
    """All ways in turn, each round beginning with another one."""
    collector = subprocess.Popen([sys.executable, "-c", _COLLECTOR], stdout=subprocess.PIPE, text=True)
    assert collector.stdout is not None
    try:
        endpoint = f"http://127.0.0.1:{collector.stdout.readline().strip()}"
        ways = ("untold", "default", "everything")
        found: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(-1, rounds):  # the first one warms up
            for way in (*ways[number % 3 :], *ways[: number % 3]):
                cpu_s = _ingest(url, folder / f"{way}{number}", way, endpoint)
                if number >= 0:
                    found[way].append(cpu_s)
    finally:
        collector.kill()
        collector.wait()
    medians = {way: statistics.median(values) for way, values in found.items()}
    ratios = {way: statistics.median(a / b for a, b in zip(found[way], found["untold"], strict=True)) for way in ways}
    return {
        "interval_cpu_ms": {way: round(1000 * value / len(DAYS), 2) for way, value in medians.items()},
        "ratio": {way: round(value, 3) for way, value in ratios.items()},
        "account_us": round(_account_s() * 1e6, 1),
        "limit": LIMIT,
    }


def _ingest(url: str, folder: Path, way: str, endpoint: str) -> float:
    """CPU seconds of all intervals into a lake of their own."""
    (folder / "sources").mkdir(parents=True)
    (folder / "suites" / "raw").mkdir(parents=True)
    (folder / "sources" / "bench.yml").write_text(_SPEC)
    (folder / "suites" / "raw" / "bench__told.yml").write_text(_SUITE)
    settings = Settings.load(
        {"PENSTOCK_OTLP_ENDPOINT": endpoint if way == "everything" else ""},
        home=folder / "home",
        sources=folder / "sources",
        suites=folder / "suites",
        connections={"flightops": url},
    )
    with contextlib.redirect_stderr(io.StringIO()):
        logs.configure("json" if way == "everything" else "text")
        work.begin("bench")
        pipeline = Pipeline(settings)
        if way == "untold":
            pipeline.work = pipeline.lake.work = Untold("untold")
        pipeline.__dict__["gate"] = NoGate()
        began_s = time.process_time()
        with pipeline.reading("bench") as reader, publishing_together(pipeline.lake) as together:
            for day in DAYS:
                pipeline.ingest("bench", "told", day, reader=reader, together=together)
        for receipt in together.take():
            pipeline.teller.tell(receipt)
        work.end()
        took_s = time.process_time() - began_s
        logs.configure("text")
    return took_s


def _account_s() -> float:
    """CPU seconds of the scopes of one interval with nothing inside them."""
    work.begin("bench")
    of, count = Work("bench"), 2_000
    began_s = time.process_time()
    for _ in range(count):
        with of.batch("ingest", "raw.bench__told", "2013-01-01", source="bench"):
            for step in ("extract", "gate", "publish"):
                with of.step(step):
                    pass
    return (time.process_time() - began_s) / count


if __name__ == "__main__":
    sys.exit(main())
