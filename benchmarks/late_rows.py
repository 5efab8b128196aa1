"""What 500,000 updated rows cost that are merged by key into 6 million: CPU seconds and peak memory of the publish.

``make bench-late``. TPC-H ``lineitem`` at scale factor 1 lies in the lake in 84 partitions, one for each month in which
it was shipped. Then rows get a new cursor value, as updated rows do, and the interval they come in is published: their
older versions go from the partitions that hold them, in one commit. Twice: rows drawn from the whole table, so that
every partition is rewritten, and rows of the last six months, as a real source changes.

Extract and gate are measured by ``make bench-ingest``; here the batch is staged and judged already. The publish runs in
a process of its own, and its CPU includes neither the interpreter's start nor that of the libraries.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import StepMeter, run_measured
from benchmarks.tpch import GENERATOR, make_environment, say
from common.settings import Settings, process_environment
from common.verdict import REJECTS_SCHEMA, Verdict
from lake.batches import MergeRule, StagedBatch
from lake.lake import Lake
from lake.paths import TableId, engine_path, new_attempt
from lake.publish import identify, publish
from lake.schema import PARTITION_COLUMN, Column
from lake.sql import literal

TABLE = TableId("raw", "tpch__lineitem")
COLUMNS = (
    Column(PARTITION_COLUMN, "date", False),
    *(Column(f"l_{name}key", "int64", False) for name in ("order", "part", "supp")),
    Column("l_linenumber", "int32", False),
    *(Column(f"l_{name}", "decimal(15,2)", False) for name in ("quantity", "extendedprice", "discount", "tax")),
    *(Column(f"l_{name}", "string", False) for name in ("returnflag", "linestatus")),
    *(Column(f"l_{name}date", "date", False) for name in ("ship", "commit", "receipt")),
    *(Column(f"l_{name}", "string", False) for name in ("shipinstruct", "shipmode", "comment")),
    Column("updated_at", "timestamptz", False),
)
RULE = MergeRule(keys=("l_orderkey", "l_linenumber"), versions=("updated_at",), moves=True)
CASES = {
    "the whole table": ("true", "1999-01-01"),
    "the last six months": ("l_shipdate >= DATE '1998-06-01'", "1999-02-01"),
}
"""Of which rows the updated ones are drawn, and the interval in which they come again."""

LIMIT_CPU_S = 6.5
LIMIT_RSS_BYTES = 2_000_000_000


def main() -> int:
    """Run the benchmark; returns 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="TPC-H scale factor (default 1)")
    parser.add_argument("--updates", type=int, default=500_000, help="rows that change (default 500000)")
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("--child", nargs=3, metavar=("HOME", "CASE", "UPDATES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return merge_once(Path(arguments.child[0]), arguments.child[1], int(arguments.child[2]))
    with tempfile.TemporaryDirectory(prefix="penstock-late-") as folder:
        rows = fill_lake(Path(folder) / "state", generate(Path(folder), arguments.scale))
        figures = [run_child(Path(folder) / "state", case, arguments.updates) for case in CASES]
    if arguments.json:
        print(json.dumps({"rows": rows, "updates": arguments.updates, "cases": figures}))
    else:
        print(
            f"{arguments.updates:,} updates into {rows:,} rows; limits {LIMIT_CPU_S} CPU s, {LIMIT_RSS_BYTES / 1e9} GB"
        )
        for each in figures:
            print(
                f"  of {each['case']}: {each['partitions']} partitions, {each['cpu_s']:.2f} CPU s, "
                f"{each['wall_s']:.2f} s, peak {each['peak_mb']:,} MB; "
                f"a plain copy of the whole table {each['copy_cpu_s']:.2f} CPU s"
            )
    limits = (each["cpu_s"] > LIMIT_CPU_S or each["peak_mb"] * 1e6 > LIMIT_RSS_BYTES for each in figures)
    return int(any(limits))


def generate(folder: Path, scale: float) -> Path:
    """Make ``lineitem`` as one Parquet file."""
    python = make_environment(folder / "generator", [GENERATOR])
    say(f"generating TPC-H lineitem at scale factor {scale:g} ...")
    command = [str(python.parent / "tpchgen-cli"), "parquet", "--scale-factor", f"{scale:g}", "--tables", "lineitem"]
    subprocess.run([*command, "--output-dir", str(folder / "made")], check=True, stdout=subprocess.DEVNULL)
    return folder / "made" / "lineitem.parquet"


def fill_lake(home: Path, lineitem: Path) -> int:
    """Publish ``lineitem`` month by month; answers its rows."""
    say("filling the lake ...")
    lake = Lake(Settings.load({}, home=home))
    lake.ensure(TABLE, COLUMNS, partition_by=PARTITION_COLUMN)
    rows = 0
    source = f"read_parquet({literal(str(lineitem))})"
    with lake.connect() as connection:
        connection.execute(
            "CREATE TEMP TABLE source AS SELECT *, date_trunc('month', l_shipdate)::DATE AS ds "
            f"FROM {source} ORDER BY ds"
        )
        months = connection.execute("SELECT DISTINCT ds::VARCHAR FROM source ORDER BY 1").fetchall()
        for (key,) in months:
            query = f"SELECT *, ds::TIMESTAMPTZ AS updated_at FROM source WHERE ds = DATE {literal(key)}"
            rows += put(lake, key, query, connection=connection)
    return rows


def put(lake: Lake, key: str, query: str, *, connection: object) -> int:
    """Publish a query's rows as one interval."""
    staged = stage(lake, key, query, connection)
    publish(lake, staged, passed(staged), identity=identify(lake, staged), stage="ingest", run_id="benchmark")
    return staged.rows_staged


def stage(lake: Lake, key: str, query: str, connection: object) -> StagedBatch:
    """Write a query's rows where nobody reads them."""
    attempt = new_attempt()
    location = lake.staging_location(TABLE, key, attempt)
    rows = lake.write(connection, query, TABLE, location)  # type: ignore[arg-type]
    return StagedBatch(TABLE, key, attempt, (location,), rows, rows, "benchmark", merge=RULE)


def passed(staged: StagedBatch) -> Verdict:
    """A gate's answer that lets every row pass."""
    return Verdict("raw/tpch__lineitem", True, (), staged.rows_staged, REJECTS_SCHEMA.empty_table(), ())


def run_child(home: Path, case: str, updates: int) -> dict[str, Any]:
    """Merge in a process of its own."""
    say(f"merging rows of {case} ...")
    command = [sys.executable, "-m", "benchmarks.late_rows", "--child", str(home), case, str(updates)]
    usage = run_measured(command, env=process_environment())
    if usage.exit_code:
        sys.exit(f"the merge ended with exit code {usage.exit_code}")
    found: dict[str, Any] = json.loads(usage.output)
    return found


def copy_all(lake: Lake, files: Sequence[str], connection: Any) -> None:
    """The floor: a plain copy of every partition, on DuckDB's own number of threads, as any rewrite has to make."""
    with tempfile.TemporaryDirectory(prefix="penstock-late-copy-", dir=lake.settings.home) as folder:
        for location in files:
            source = f"read_parquet({literal(engine_path(location))})"
            target = literal(f"{folder}/copy.parquet")
            connection.execute(f"COPY (SELECT * FROM {source}) TO {target} (FORMAT parquet, COMPRESSION zstd)")


def merge_once(home: Path, case: str, updates: int) -> int:
    """Stage the updated rows, then measure their publish."""
    condition, key = CASES[case]
    lake = Lake(Settings.load({}, home=home))
    lake.ensure(TABLE, COLUMNS, partition_by=PARTITION_COLUMN)
    with lake.connect() as connection:
        query = (
            f"SELECT * REPLACE (DATE {literal(key)} AS ds, TIMESTAMPTZ {literal(key)} AS updated_at, "
            f"l_quantity + 1 AS l_quantity) FROM (SELECT * FROM {lake.relation(TABLE)} WHERE {condition}) "
            f"USING SAMPLE reservoir({updates} ROWS) REPEATABLE (1)"
        )
        staged = stage(lake, key, query, connection)
    identity, verdict = identify(lake, staged), passed(staged)
    before = sum(file.rows for file in lake.live(TABLE))
    meter = StepMeter()
    meter.end("staging")
    files = [file.location for file in lake.live(TABLE)]
    with lake.connect() as connection:
        copy_all(lake, files, connection)
    meter.end("copy")
    began_s = time.monotonic()
    receipt = publish(lake, staged, verdict, identity=identity, stage="ingest", run_id="benchmark")
    wall_s = time.monotonic() - began_s
    meter.end("merge")
    after = sum(file.rows for file in lake.live(TABLE))
    assert after == before, f"{before} rows became {after}"
    assert receipt.published == staged.rows_staged
    figures = {
        "case": case,
        "updates": staged.rows_staged,
        "partitions": len(receipt.touched),
        "cpu_s": round(meter.cpu_s["merge"], 2),
        "copy_cpu_s": round(meter.cpu_s["copy"], 2),
        "wall_s": round(wall_s, 2),
        "peak_mb": meter.peak_rss_bytes["merge"] // 1_000_000,
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
