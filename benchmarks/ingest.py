"""Bring TPC-H ``lineitem`` from PostgreSQL into Parquet: Penstock, the floor under everybody, and its peers.

``make bench-ingest``. Every round runs each way once, in turn and from another first one, so that whatever else the
machine does falls on all alike; reported are medians and their ratios, never a wall time by itself. The floors:

``copy``     ``psql`` with ``COPY (FORMAT binary)`` to nowhere: what it costs to receive the bytes and do nothing
``duckdb``   a bare DuckDB ``COPY (SELECT * FROM postgres_query(...)) TO`` zstd Parquet: no types checked, no commit

Penstock's seconds and memory are those of a whole process that has no gate: start, extract, checksum, commit, end. The
gate is measured in a process of its own, with the peak memory of gate and commit; "it, warm" is the second ingest of
that one, its gate left out. The limits are judged on the whole process. Python's bytecode is cached for Penstock as pip
does it for the peers; the first round writes it. A way that does not bring every row is told and left out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks import tpch
from benchmarks.measure import Usage, cached_bytecode, run_measured
from common.settings import decode_url_part, process_environment
from lake.engine import extension_path
from penstock.embedded import EmbeddedServices
from penstock.psql import wheel_programs

PEER_PACKAGES = (
    "dlt[sql_database,parquet]==1.31.0",
    "connectorx==0.4.6",
    "adbc-driver-postgresql==1.13.0",
    "psycopg2-binary==2.9.13",
    "sqlalchemy<2.1",
    "pyarrow",
)
PEERS = ("dlt-pyarrow", "dlt-connectorx", "connectorx", "adbc")
_LIMITS = (
    ("client CPU of the best dlt", "penstock", "best dlt", "cpu_s", 0.5),
    ("client CPU of bare DuckDB", "penstock", "duckdb", "cpu_s", 1.15),
    ("wall of COPY to nowhere", "penstock", "copy", "wall_s", 1.8),
)
MEMORY_LIMIT_BYTES = 250_000_000


@dataclass(frozen=True)
class Sample:
    """One way in one round."""

    wall_s: float
    cpu_s: float
    peak_rss_bytes: int
    size_bytes: int
    rows: int


Way = Callable[[Path], dict[str, Sample]]


def main() -> int:
    """Run the benchmark; returns 1 if Penstock misses one of its limits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="TPC-H scale factor; 1 has 6,001,215 rows (default)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each way runs (default 5)")
    parser.add_argument("--without-peers", action="store_true", help="only Penstock and the floors; installs no peers")
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    arguments = parser.parse_args()
    with tpch.scratch_folder("penstock-bench-") as folder:
        generator = tpch.make_environment(folder / "generator", [tpch.GENERATOR]).parent / "tpchgen-cli"
        peers = None if arguments.without_peers else tpch.make_environment(folder / "peers", PEER_PACKAGES)
        with EmbeddedServices.start(folder / "home") as services:
            rows = tpch.load_lineitem(services, generator, arguments.scale)
            samples = _measure(_ways(folder, services.connections["flightops"], peers), rows, arguments.rounds, folder)
    report = summarize(samples, rows)
    print(json.dumps(report) if arguments.json else _as_text(report))
    return 1 if report["missed"] else 0


def _ways(folder: Path, url: str, peers: Path | None) -> dict[str, Way]:
    sources, suites = tpch.write_spec(folder)

    env = cached_bytecode(folder, PENSTOCK_CONNECTIONS__FLIGHTOPS=url)

    def penstock(work: Path) -> dict[str, Sample]:
        command = [sys.executable, "-m", "benchmarks.ingest_penstock", str(work), str(sources), str(suites)]
        usage, told = _run([*command, "no-gate"], env)
        tpch.say(f"  CPU by step: {_rounded(told['cpu_s'], 1)}; peak MB by step: {_rounded(told['rss'], 1e6)}")
        return {"penstock": Sample(usage.wall_s, usage.cpu_s, _peak(usage, told["rss"]), told["bytes"], told["rows"])}

    def warm(work: Path) -> dict[str, Sample]:
        command = [sys.executable, "-m", "benchmarks.ingest_penstock", str(work), str(sources), str(suites)]
        usage, told = _run(command, env)
        cpu_s, rss, again = told["cpu_s"], told["rss"], told["warm"]
        warm_cpu_s = cpu_s["warm start"] + cpu_s["warm extract"] + cpu_s["warm commit"]
        gate_peak = max(rss["commit"], rss["gate"]) or usage.peak_rss_bytes
        return {
            "it, warm": Sample(again["wall_s"] - again["gate_s"], warm_cpu_s, 0, told["bytes"], again["rows"]),
            "its gate": Sample(told["seconds"]["gate"], cpu_s["gate"], gate_peak, 0, told["rows"]),
        }

    def copy(work: Path) -> dict[str, Sample]:  # noqa: ARG001
        statement = f"\\copy (SELECT * FROM {tpch.TABLE}) TO '/dev/null' WITH (FORMAT binary)"
        command = [str(wheel_programs() / "psql"), "-X", "-c", statement]
        usage = run_measured(command, env=_psql_environment(url))
        return {"copy": Sample(usage.wall_s, usage.cpu_s, usage.peak_rss_bytes, 0, int(usage.output.split()[-1]))}

    def duckdb(work: Path) -> dict[str, Sample]:
        script = _DUCKDB.format(extension=extension_path("postgres_scanner"), table=tpch.TABLE)
        return {"duckdb": _sample([sys.executable, "-c", script, str(work / "lineitem.parquet")], url)}

    def peer(name: str) -> Way:
        script = Path(__file__).with_name("ingest_peers.py")
        return lambda work: {name: _sample([str(peers), str(script), name, str(work)], url)}

    ways: dict[str, Way] = {"penstock": penstock, "warm": warm, "copy": copy, "duckdb": duckdb}
    return ways | ({name: peer(name) for name in PEERS} if peers else {})


def _peak(usage: Usage, steps: dict[str, int]) -> int:
    """Peak memory of a process that put its own counter back between steps."""
    return max(usage.peak_rss_bytes, *steps.values())


def _rounded(figures: dict[str, float], unit: float) -> str:
    return ", ".join(f"{step} {value / unit:.1f}" for step, value in figures.items())


def _psql_environment(url: str) -> dict[str, str]:
    parts = urlsplit(url)
    return process_environment(
        PGHOST=parts.hostname or "",
        PGPORT=str(parts.port),
        PGDATABASE=parts.path.lstrip("/"),
        PGUSER=decode_url_part(parts.username),
        PGPASSWORD=decode_url_part(parts.password),
    )


_DUCKDB = """
import duckdb, json, os, sys
connection = duckdb.connect(config={{"threads": 1}})
connection.execute("LOAD '{extension}'")
connection.execute(f"ATTACH '{{os.environ['BENCHMARK_URL']}}' AS pg (TYPE postgres, READ_ONLY)")
rows = connection.execute(
    "COPY (SELECT * FROM postgres_query('pg', 'SELECT * FROM {table}')) TO '" + sys.argv[1] + "' (COMPRESSION zstd)"
).fetchone()[0]
print(json.dumps({{"rows": rows, "bytes": os.path.getsize(sys.argv[1])}}))
"""


def _sample(command: list[str], url: str) -> Sample:
    quiet = {"DO_NOT_TRACK": "1", "RUNTIME__DLTHUB_TELEMETRY": "false"}
    usage, told = _run(command, process_environment(BENCHMARK_URL=url, **quiet))
    return Sample(usage.wall_s, usage.cpu_s, usage.peak_rss_bytes, told["bytes"], told["rows"])


def _run(command: list[str], env: dict[str, str]) -> tuple[Usage, dict[str, Any]]:
    usage = run_measured(command, env=env)
    if usage.exit_code:
        raise RuntimeError(f"{' '.join(command[:3])} ended with exit code {usage.exit_code}")
    return usage, json.loads(usage.output.splitlines()[-1])


def _measure(ways: dict[str, Way], rows: int, rounds: int, folder: Path) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    names = list(ways)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            work = folder / "work"
            work.mkdir(mode=0o755)
            try:
                samples = ways[name](work)
            except RuntimeError as error:
                tpch.say(f"round {number + 1}: {name} failed: {error}")
                continue
            finally:
                shutil.rmtree(work)
            for step, sample in samples.items():
                if sample.rows != rows:
                    tpch.say(f"round {number + 1}: {step} brought {sample.rows:,} of {rows:,} rows")
                    continue
                found.setdefault(step, []).append(sample)
                tpch.say(
                    f"round {number + 1}: {step:<15} wall {sample.wall_s:6.1f} s  CPU {sample.cpu_s:6.1f} s  "
                    f"peak {sample.peak_rss_bytes / 1e6:6.0f} MB"
                )
    return found


def summarize(samples: dict[str, list[Sample]], rows: int) -> dict[str, Any]:
    """Medians of each way, the limits with the ratios found, and the names of the limits that were missed."""
    ways = {
        name: {
            "rounds": len(each),
            "wall_s": round(statistics.median(sample.wall_s for sample in each), 2),
            "cpu_s": round(statistics.median(sample.cpu_s for sample in each), 2),
            "peak_rss_mb": round(statistics.median(sample.peak_rss_bytes for sample in each) / 1e6),
            "size_mb": round(statistics.median(sample.size_bytes for sample in each) / 1e6),
            "rows_per_s": round(rows / statistics.median(sample.wall_s for sample in each)),
        }
        for name, each in samples.items()
    }
    compared = dict(ways)
    dlt = [figures for name, figures in ways.items() if name.startswith("dlt")]
    if dlt:
        compared["best dlt"] = min(dlt, key=lambda figures: figures["cpu_s"])
    limits = {
        name: {"ratio": round(compared[ours][figure] / compared[theirs][figure], 2), "limit": limit}
        for name, ours, theirs, figure, limit in _LIMITS
        if ours in compared and theirs in compared
    }
    missed = [name for name, each in limits.items() if each["ratio"] > each["limit"]]
    if max((sample.peak_rss_bytes for sample in samples.get("penstock", ())), default=0) > MEMORY_LIMIT_BYTES:
        missed.append(f"peak memory of {MEMORY_LIMIT_BYTES // 1_000_000} MB")
    return {"rows": rows, "ways": ways, "limits": limits, "missed": missed}


def _as_text(report: dict[str, Any]) -> str:
    lines = [f"{report['rows']:,} rows; medians; x is the ratio to penstock without its gate", ""]
    lines.append(
        f"{'way':<15}{'rounds':>7}{'wall s':>9}{'x':>6}{'CPU s':>9}{'x':>6}{'peak MB':>9}{'x':>6}{'size MB':>9}{'x':>6}"
        f"{'rows/s':>12}{'x':>6}"
    )
    ours = report["ways"].get("penstock")
    for name, way in report["ways"].items():
        compared = ("wall_s", "cpu_s", "peak_rss_mb", "size_mb", "rows_per_s")
        wall, cpu, peak, size, rate = (
            f"{way[k] / ours[k]:.2f}" if ours and ours[k] and way[k] else "" for k in compared
        )
        lines.append(
            f"{name:<15}{way['rounds']:>7}{way['wall_s']:>9.1f}{wall:>6}{way['cpu_s']:>9.1f}{cpu:>6}"
            f"{way['peak_rss_mb']:>9,}{peak:>6}{way['size_mb']:>9,}{size:>6}{way['rows_per_s']:>12,}{rate:>6}"
        )
    lines.append("")
    lines += [f"{each['ratio']:.2f} x {name} (limit {each['limit']})" for name, each in report["limits"].items()]
    lines += [f"missed: {name}" for name in report["missed"]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
