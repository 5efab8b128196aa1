"""365 daily intervals of an incremental table beside one whole load of the same rows: what an interval costs itself.

``make bench-intervals``. TPC-H ``lineitem`` with a day for each row, spread over a year, indexed. Both are extracted,
checksummed and committed by the real pipeline in one warm process; the gate, which costs the same wherever it is
called, is left out (``no_gate.py``). The intervals share their commits as those of a run do. Reported is CPU of this
process.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import tpch
from benchmarks.no_gate import NoGate
from common.intervals import day_keys
from common.settings import Settings
from lake.together import publishing_together
from penstock.embedded import EmbeddedServices
from penstock.pipeline import Pipeline
from penstock.psql import run_psql

DAYS = day_keys("1995-01-01", "1996-01-01")
LIMIT = 2.0
_SPREAD = f"""
create table {tpch.TABLE}_by_day as
    select *, date '1995-01-01' + (l_orderkey % 365)::int as l_loaded_on from {tpch.TABLE} order by l_loaded_on;
create index on {tpch.TABLE}_by_day (l_loaded_on);
vacuum (freeze, analyze) {tpch.TABLE}_by_day;
grant select on {tpch.TABLE}_by_day to penstock_reader;
"""


def main() -> int:
    """Run the benchmark; returns 1 if the intervals cost more than :data:`LIMIT` times the whole load."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="TPC-H scale factor; 1 has 6,001,215 rows (default)")
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    arguments = parser.parse_args()
    with tpch.scratch_folder("penstock-bench-") as folder:
        generator = tpch.make_environment(folder / "generator", [tpch.GENERATOR]).parent / "tpchgen-cli"
        with EmbeddedServices.start(folder / "home") as services:
            tpch.load_lineitem(services, generator, arguments.scale)
            tpch.say("spreading the rows over a year ...")
            run_psql(services.postgres_url, [_SPREAD.encode()], timeout_s=3_600)
            report = measure(services.connections["flightops"], folder)
    if arguments.json:
        print(json.dumps(report))
    else:
        print(f"{report['rows']:,} rows, CPU seconds: whole {report['whole_cpu_s']}, {len(DAYS)} intervals ", end="")
        print(f"{report['intervals_cpu_s']} ({report['interval_ms']} ms each): {report['ratio']} x (limit {LIMIT:g})")
    return 1 if report["ratio"] > LIMIT else 0


def measure(url: str, folder: Path) -> dict[str, Any]:
    """Both ways from a table that lies there already."""
    whole = _pipeline(url, folder / "whole", "mode: snapshot")
    daily = _pipeline(url, folder / "daily", "mode: incremental\n    cursor: {column: l_loaded_on}")
    _ingest(_pipeline(url, folder / "warm", "mode: incremental\n    cursor: {column: l_loaded_on}"), DAYS[:2])
    whole_cpu_s, whole_rows = _ingest(whole, DAYS[-1:])
    intervals_cpu_s, rows = _ingest(daily, DAYS)
    if rows != whole_rows:
        raise RuntimeError(f"The intervals brought {rows} of {whole_rows} rows.")
    return {
        "rows": rows,
        "whole_cpu_s": round(whole_cpu_s, 2),
        "intervals_cpu_s": round(intervals_cpu_s, 2),
        "interval_ms": round(1000 * intervals_cpu_s / len(DAYS), 1),
        "ratio": round(intervals_cpu_s / whole_cpu_s, 2),
        "limit": LIMIT,
    }


def _pipeline(url: str, folder: Path, mode: str) -> Pipeline:
    folder.mkdir(parents=True)
    sources, suites = tpch.write_spec(folder, mode=f"{mode}\n    source_name: {tpch.TABLE}_by_day")
    spec = sources / "tpch.yml"
    spec.write_text(spec.read_text() + "      - {name: l_loaded_on, type: date, nullable: false}\n")
    pipeline = Pipeline(
        Settings.load({}, home=folder / "home", sources=sources, suites=suites, connections={"flightops": url})
    )
    pipeline.__dict__["gate"] = NoGate()
    return pipeline


def _ingest(pipeline: Pipeline, days: Sequence[str]) -> tuple[float, int]:
    began_s = time.process_time()
    with pipeline.reading("tpch") as reader, publishing_together(pipeline.lake) as together:
        for day in days:
            pipeline.ingest("tpch", tpch.TABLE, day, reader=reader, together=together)
    rows = sum(receipt.published for receipt in together.take())
    gate: Any = pipeline.gate
    return time.process_time() - began_s - gate.cpu_s, rows


if __name__ == "__main__":
    sys.exit(main())
