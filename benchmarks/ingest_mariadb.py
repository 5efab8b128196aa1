"""Bring TPC-H ``lineitem`` from a MariaDB into the lake: Penstock beside the server's own client and bare DuckDB.

``make bench-mariadb``; needs the machine's ``mariadbd`` (``tests/mariadb_server.py``). Rounds run each way once, in
turn; reported are medians. The ways:

``client``   ``mariadb --quick`` with the whole table to nowhere: what it costs to receive the bytes and do nothing
``duckdb``   a bare DuckDB ``COPY`` of a streaming ``mysql_query``: no types checked, no snapshot, no commit
``penstock`` the real pipeline without a gate: the whole process, and its extract alone
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import tpch
from benchmarks.measure import cached_bytecode, run_measured
from lake.engine import extension_path
from tests.mariadb_server import PASSWORD, READER, MariadbServer, running_mariadb

CPU_LIMIT = 2.0
MEMORY_LIMIT_BYTES = 250_000_000

_TABLE = """
CREATE DATABASE tpch; GRANT SELECT ON tpch.* TO {reader}@'%'; USE tpch;
CREATE TABLE lineitem (
    l_orderkey bigint NOT NULL, l_partkey bigint NOT NULL, l_suppkey bigint NOT NULL, l_linenumber int NOT NULL,
    l_quantity decimal(15,2) NOT NULL, l_extendedprice decimal(15,2) NOT NULL, l_discount decimal(15,2) NOT NULL,
    l_tax decimal(15,2) NOT NULL, l_returnflag char(1) NOT NULL, l_linestatus char(1) NOT NULL,
    l_shipdate date NOT NULL, l_commitdate date NOT NULL, l_receiptdate date NOT NULL,
    l_shipinstruct varchar(25) NOT NULL, l_shipmode varchar(10) NOT NULL, l_comment varchar(44) NOT NULL,
    PRIMARY KEY (l_orderkey, l_linenumber)
) CHARACTER SET utf8mb4;
LOAD DATA LOCAL INFILE '{file}' INTO TABLE lineitem
    FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '"' IGNORE 1 LINES;
ANALYZE TABLE lineitem;
"""

_DUCKDB = """
import duckdb, json, os, sys
connection = duckdb.connect(config={{"threads": 1}})
connection.execute("LOAD '{extension}'")
connection.execute("CREATE SECRET s (TYPE mysql, HOST '127.0.0.1', PORT {port}, USER '{user}', DATABASE 'tpch', "
    "PASSWORD '" + os.environ["BENCHMARK_PASSWORD"] + "')")
connection.execute("ATTACH '' AS my (TYPE mysql, READ_ONLY, SECRET s)")
rows = connection.execute("COPY (SELECT * FROM mysql_query('my', 'SELECT * FROM lineitem')) TO '" + sys.argv[1]
    + "' (FORMAT parquet, COMPRESSION zstd)").fetchone()[0]
print(json.dumps({{"rows": rows}}))
"""

Figures = dict[str, float]


def main() -> int:
    """Run the benchmark; returns 1 if Penstock misses one of its limits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="TPC-H scale factor; 1 has 6,001,215 rows (default)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each way runs (default 5)")
    arguments = parser.parse_args()
    with tpch.scratch_folder("penstock-bench-") as folder:
        generator = tpch.make_environment(folder / "generator", [tpch.GENERATOR]).parent / "tpchgen-cli"
        with running_mariadb(["--innodb-buffer-pool-size=512M"]) as server:
            rows = _load(server, generator, arguments.scale, folder)
            found = _measure(_ways(folder, server), rows, arguments.rounds, folder)
    return _report(found, rows)


def _load(server: MariadbServer, generator: Path, scale: float, folder: Path) -> int:
    tpch.say(f"loading TPC-H {tpch.TABLE} at scale factor {scale:g} ...")
    file = folder / "lineitem.csv"
    with file.open("wb") as target:
        command = [str(generator), "csv", "--scale-factor", f"{scale:g}", "--tables", tpch.TABLE, "--stdout"]
        subprocess.run(command, stdout=target, stderr=subprocess.DEVNULL, check=True)
    loading = _TABLE.format(reader=READER, file=file).encode()
    subprocess.run(server.client("--local-infile"), input=loading, stdout=subprocess.DEVNULL, check=True)
    file.unlink()
    return int(server.run(f"SELECT COUNT(*) FROM {tpch.TABLE}", database="tpch")[0][0])


def _ways(folder: Path, server: MariadbServer) -> dict[str, Callable[[Path], Figures]]:
    sources, suites = tpch.write_spec(folder)
    spec = sources / "tpch.yml"
    spec.write_text(spec.read_text().replace("kind: postgresql", "kind: mysql"))
    url = server.url("tpch")
    env = cached_bytecode(folder, PENSTOCK_CONNECTIONS__FLIGHTOPS=url, MYSQL_PWD=PASSWORD, BENCHMARK_PASSWORD=PASSWORD)

    def run(*command: str) -> tuple[Figures, str]:
        usage = run_measured(command, env=env)
        if usage.exit_code:
            raise RuntimeError(f"{command[0]} ended with exit code {usage.exit_code}")
        return {"wall_s": usage.wall_s, "cpu_s": usage.cpu_s, "peak_rss_bytes": usage.peak_rss_bytes}, usage.output

    def client(work: Path) -> Figures:  # noqa: ARG001
        options = f"--no-defaults --quick --user={READER} --host=127.0.0.1 --port={server.port} tpch"
        figures, _ = run("sh", "-c", f"mariadb {options} -e 'SELECT * FROM {tpch.TABLE}' > /dev/null")
        return {**figures, "rows": -1}

    def duckdb(work: Path) -> Figures:
        script = _DUCKDB.format(extension=extension_path("mysql_scanner"), port=server.port, user=READER)
        figures, output = run(sys.executable, "-c", script, str(work / "lineitem.parquet"))
        return {**figures, "rows": json.loads(output.splitlines()[-1])["rows"]}

    def penstock(work: Path) -> Figures:
        command = (sys.executable, "-m", "benchmarks.ingest_penstock", str(work), str(sources), str(suites), "no-gate")
        figures, output = run(*command)
        told = json.loads(output.splitlines()[-1])
        # The process puts its own counter back between steps.
        peak_rss_bytes = max(figures["peak_rss_bytes"], *told["rss"].values())
        extract_cpu_s = told["cpu_s"]["extract"]
        return {**figures, "extract_cpu_s": extract_cpu_s, "peak_rss_bytes": peak_rss_bytes, "rows": told["rows"]}

    return {"client": client, "duckdb": duckdb, "penstock": penstock}


def _measure(
    ways: dict[str, Callable[[Path], Figures]], rows: int, rounds: int, folder: Path
) -> dict[str, list[Figures]]:
    found: dict[str, list[Figures]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            work = folder / "work"
            work.mkdir()
            try:
                figures = ways[name](work)
            finally:
                shutil.rmtree(work)
            if figures.pop("rows") not in {-1, rows}:
                raise RuntimeError(f"{name} did not bring {rows:,} rows")
            found[name].append(figures)
            shown = "  ".join(f"{key} {value / (1e6 if 'bytes' in key else 1):.1f}" for key, value in figures.items())
            tpch.say(f"round {number + 1}: {name:<9} {shown.replace('peak_rss_bytes', 'peak MB')}")
    return found


def _report(found: dict[str, list[Figures]], rows: int) -> int:
    def median(name: str, figure: str) -> float:
        return statistics.median(each[figure] for each in found[name])

    print(f"{rows:,} rows; medians of {len(found['client'])} rounds; x is the ratio to the client's CPU")
    floor_s = median("client", "cpu_s")
    for name in found:
        cpu_s, peak_mb = median(name, "cpu_s"), median(name, "peak_rss_bytes") / 1e6
        print(
            f"{name:<10} wall {median(name, 'wall_s'):6.1f} s  CPU {cpu_s:6.1f} s  {cpu_s / floor_s:5.2f} x", end="  "
        )
        print(f"peak {peak_mb:5.0f} MB")
    ratio = median("penstock", "extract_cpu_s") / floor_s
    peak_bytes = max(each["peak_rss_bytes"] for each in found["penstock"])
    print(f"{ratio:.2f} x the client's CPU for Penstock's extract (limit {CPU_LIMIT:g})")
    print(f"{peak_bytes / 1e6:.0f} MB at most (limit {MEMORY_LIMIT_BYTES / 1e6:.0f})")
    return int(ratio > CPU_LIMIT or peak_bytes > MEMORY_LIMIT_BYTES)


if __name__ == "__main__":
    sys.exit(main())
