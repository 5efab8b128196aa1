"""25 checks on TPC-H ``lineitem`` as a staged Parquet file: our gate, the floor under everybody, and its peers.

``make bench-gates``. Every round runs each way once, in a process of its own, in turn and from another first one;
reported are medians and ratios. CPU seconds are those of the checks with all libraries loaded, because a worker loads
them once (Great Expectations takes six); peak memory is the whole process's, libraries included.

``floor``           the same checks as one hand-written DuckDB query, which finds no rows and gives no results
``penstock``        our gate: verdict and Great Expectations' results
``penstock-bad``    the same on rows of which one in a hundred is bad, and all of those written as quarantine keeps them
``penstock-small``  our gate on a batch of a thousand rows
``gx-pandas``       Great Expectations as its documentation shows it, on a pandas data frame

The peers make as many of the checks as they have words for; the number stands beside them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from benchmarks import gate_checks, tpch
from benchmarks.measure import run_measured
from common.settings import process_environment

PEER_PACKAGES = {
    "pandera": ("pandera[polars]==0.35.0",),
    "pointblank": ("pointblank==1.1.1", "ibis-framework[duckdb]==12.0.0", "polars==2.1.0", "pyarrow"),
    "soda": ("soda-core-duckdb==3.5.6", "setuptools<81"),
}
"""An environment for each: Soda Core wants DuckDB 1.0."""

OURS = ("floor", "penstock", "penstock-bad", "penstock-small", "gx-pandas")
RATIO_OF_FLOOR, RATIO_OF_PANDAS, EXTRA_FOR_BAD, SMALL_CPU_S, MEMORY_BYTES = 1.3, 0.15, 0.3, 0.3, 1_000_000_000


@dataclass(frozen=True)
class Sample:
    """One way in one round."""

    cpu_s: float
    wall_s: float
    peak_rss_bytes: int
    checks: int


def main() -> int:
    """Run the benchmark; returns 1 if our gate misses one of its limits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="TPC-H scale factor; 1 has 6,001,215 rows (default)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each way runs (default 3)")
    parser.add_argument("--without-peers", action="store_true", help="only our gate, the floor and stock pandas")
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    arguments = parser.parse_args()
    with tpch.scratch_folder("penstock-gates-") as folder:
        generator = tpch.make_environment(folder / "generator", [tpch.GENERATOR]).parent / "tpchgen-cli"
        wanted = {} if arguments.without_peers else PEER_PACKAGES
        peers = {name: tpch.make_environment(folder / name, packages) for name, packages in wanted.items()}
        rows = make_files(folder, generator, arguments.scale)
        samples = _measure(folder, peers, arguments.rounds)
    report = summarize(samples, rows)
    print(json.dumps(report) if arguments.json else _as_text(report))
    return 1 if report["missed"] else 0


def make_files(folder: Path, generator: Path, scale: float) -> int:
    """The good rows, the bad ones, and a thousand of each, written as batches are staged; the rows of the first."""
    tpch.say(f"generating {tpch.TABLE} at scale factor {scale:g} ...")
    command = [str(generator), "parquet", "--scale-factor", f"{scale:g}", "--tables", tpch.TABLE]
    subprocess.run([*command, "--output-dir", str(folder)], check=True, stdout=subprocess.DEVNULL)
    columns = ", ".join(f"{column.name}::{column.duckdb} as {column.name}" for column in tpch.LAKE_COLUMNS)
    made = f"read_parquet('{folder / 'lineitem.parquet'}')"
    queries = {
        "good": f"from {made}",
        "bad": f"from ({gate_checks.BAD_ROWS.format(rows=made)})",
        "small": f"from {made} limit 1000",
        "small-bad": f"from ({gate_checks.BAD_ROWS.format(rows=f'(from {made} limit 1000)')})",
    }
    with duckdb.connect(config={"memory_limit": "2GB", "threads": 2}) as connection:
        for name, rows in queries.items():
            to = folder / f"{name}.parquet"
            connection.execute(f"copy (select {columns} {rows}) to '{to}' (format parquet, compression zstd)")
        found = connection.execute(f"select count(*) {queries['good']}").fetchone()
    return int(found[0]) if found else 0


def _measure(folder: Path, peers: Mapping[str, Path], rounds: int) -> dict[str, list[Sample]]:
    ways = {name: [sys.executable, "-m", "benchmarks.gate_ways", name, str(folder)] for name in OURS}
    script = str(Path(__file__).with_name("gate_peers.py"))
    ways |= {name: [str(python), script, name, str(folder)] for name, python in peers.items()}
    found: dict[str, list[Sample]] = {}
    names = list(ways)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            usage = run_measured(ways[name], env=process_environment(GX_ANALYTICS_ENABLED="false"))
            if usage.exit_code:
                tpch.say(f"round {number + 1}: {name} ended with exit code {usage.exit_code}")
                continue
            told: dict[str, Any] = json.loads(usage.output.splitlines()[-1])
            sample = Sample(told["cpu_s"], usage.wall_s, usage.peak_rss_bytes, told["checks"])
            found.setdefault(name, []).append(sample)
            tpch.say(
                f"round {number + 1}: {name:<15} CPU {sample.cpu_s:7.2f} s  peak {sample.peak_rss_bytes / 1e6:6.0f} MB"
            )
    return found


def summarize(samples: dict[str, list[Sample]], rows: int) -> dict[str, Any]:
    """Medians of each way, the limits with what was found, and the names of the limits that were missed."""
    ways = {
        name: {
            "rounds": len(each),
            "checks": each[0].checks,
            "cpu_s": round(statistics.median(sample.cpu_s for sample in each), 3),
            "peak_rss_mb": round(statistics.median(sample.peak_rss_bytes for sample in each) / 1e6),
        }
        for name, each in samples.items()
    }
    cpu_s = {name: way["cpu_s"] for name, way in ways.items()}
    gate = cpu_s["penstock"]
    limits = {
        "CPU of the floor": (gate / cpu_s["floor"], RATIO_OF_FLOOR),
        "bad rows found and written, in CPU of the gate": ((cpu_s["penstock-bad"] - gate) / gate, EXTRA_FOR_BAD),
        "CPU s for a batch of 1,000 rows": (cpu_s["penstock-small"], SMALL_CPU_S),
        "GB of peak memory": (ways["penstock"]["peak_rss_mb"] / 1000, MEMORY_BYTES / 1e9),
    }
    if "gx-pandas" in cpu_s:
        limits["CPU of Great Expectations on pandas"] = (gate / cpu_s["gx-pandas"], RATIO_OF_PANDAS)
    told = {name: {"found": round(found, 3), "limit": limit} for name, (found, limit) in limits.items()}
    return {"rows": rows, "ways": ways, "limits": told, "missed": [n for n, (f, limit) in limits.items() if f > limit]}


def _as_text(report: dict[str, Any]) -> str:
    floor = report["ways"]["floor"]["cpu_s"]
    lines = [f"{report['rows']:,} rows; medians; x is the ratio to the floor", ""]
    lines.append(f"{'way':<16}{'rounds':>7}{'checks':>8}{'CPU s':>9}{'x':>7}{'peak MB':>9}")
    for name, way in report["ways"].items():
        lines.append(
            f"{name:<16}{way['rounds']:>7}{way['checks']:>8}{way['cpu_s']:>9.2f}{way['cpu_s'] / floor:>7.2f}"
            f"{way['peak_rss_mb']:>9,}"
        )
    lines.append("")
    lines += [f"{each['found']:.2f} {name} (limit {each['limit']})" for name, each in report["limits"].items()]
    lines += [f"missed: {name}" for name in report["missed"]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
