"""The whole-year run as one process: wall and CPU time, the share of each step, rows per second, peak memory.

``make bench``. Exits with 1 if the process needs 1.5 GB or more. Times on a shared machine are for comparing steps with
each other, not machines.
"""

from __future__ import annotations

import argparse
import json
import sys

from benchmarks.year import run_process, scratch_home

LIMIT_BYTES = 1_500_000_000


def main() -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="start", default="2013-01-01", help="first day")
    parser.add_argument("--to", dest="end", default="2014-01-01", help="day after the last one")
    parser.add_argument("--keep", metavar="DIR", help="use this state folder and leave it")
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    arguments = parser.parse_args()
    with scratch_home(arguments.keep) as home:
        measured = run_process(home, arguments.start, arguments.end)
    steps = {k: v for k, v in measured.report["seconds"].items() if k not in {"build: models", "build: gate"}}
    rows = sum(table["rows_in"] for table in measured.report["tables"] if table["stage"] == "ingest")
    batches = sum(table["intervals"] for table in measured.report["tables"])
    figures = {
        "from": arguments.start,
        "to": arguments.end,
        "wall_s": round(measured.wall_s, 1),
        "cpu_s": round(measured.cpu_s, 1),
        "peak_rss_mb": round(measured.peak_rss_bytes / 1e6),
        "source_rows": rows,
        "batches": batches,
        "rows_per_s": round(rows / measured.wall_s),
        "steps_s": steps | {"start-up and the rest": round(measured.wall_s - sum(steps.values()), 1)},
        "build_s": {k: v for k, v in measured.report["seconds"].items() if k.startswith("build")},
    }
    if arguments.json:
        print(json.dumps(figures))
    else:
        print(f"{rows:,} source rows in {batches:,} batches, {arguments.start} to {arguments.end}")
        print(f"wall {measured.wall_s:.0f} s, CPU {measured.cpu_s:.0f} s, peak memory {figures['peak_rss_mb']:,} MB")
        for step, seconds in figures["steps_s"].items():
            print(f"  {step:<24} {seconds:>8.1f} s  {100 * seconds / measured.wall_s:>5.1f} %")
    return 1 if measured.peak_rss_bytes >= LIMIT_BYTES else 0


if __name__ == "__main__":
    sys.exit(main())
