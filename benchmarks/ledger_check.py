"""The whole year in a scratch folder: every row and column compared with the sources, then the year once more.

At the end the one row that its gate rejected, a wind of 1,048 mph, is repaired and replayed up to a release. ``make
ledger-check``. Exits with 1 if an account does not add up, a column differs, the second run changes anything, the
repaired row is not in every stage once, or a data file lies about that no reader is meant to see.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.year import checksums, open_pipeline, run_process, scratch_home
from common.settings import process_environment
from ingestion.objects.client import Bucket
from lake.paths import TableId, engine_path
from penstock import ledger
from penstock.embedded import EmbeddedServices
from penstock.pipeline import Pipeline
from penstock.show import show_ledger
from penstock.status import quarantine_counts

WEATHER, DAY = "raw.stations__weather", "2013-02-12"
"""Where the year's only rejected row waits: EWR at 03:00."""


def main() -> int:
    """Run the check; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="start", default="2013-01-01", help="first day")
    parser.add_argument("--to", dest="end", default="2014-01-01", help="day after the last one")
    parser.add_argument("--keep", metavar="DIR", help="use this state folder and leave it")
    arguments = parser.parse_args()
    with scratch_home(arguments.keep) as home:
        first = run_process(home, arguments.start, arguments.end)
        pipeline = open_pipeline(home)
        entries, verified = ledger.entries(pipeline), ledger.verify(pipeline)
        problems = ledger.problems(entries, verified)
        whole_year = (arguments.start, arguments.end) == ("2013-01-01", "2014-01-01")
        if not whole_year:
            problems = [p for p in problems if "in the source" not in p and "differs" not in p]
            verified = []
        show_ledger(entries, ledger.totals(entries), verified, problems, as_json=False)
        if whole_year:
            problems += _compare_weather(home, entries)
        for line in quarantine_counts(pipeline):
            print(f"quarantine: {line['rows']} row of {line['table']} {line['interval']}, rules {line['rules']}")
        before = checksums(pipeline)
        second = run_process(home, arguments.start, arguments.end)
        problems += [
            f"{name} changed when the days ran again"
            for name, sum_ in checksums(pipeline).items()
            if before[name] != sum_
        ]
        unchanged = sum(table["unchanged"] for table in second.report["tables"])
        batches = sum(table["intervals"] for table in second.report["tables"])
        print(
            f"second run: {unchanged} of {batches} batches unchanged, "
            f"release {second.report['release'] or 'not needed'}"
        )
        problems += stray_files(pipeline)
        if arguments.start <= DAY < arguments.end:
            problems += _repair(home, entries)
        print(
            f"first run {first.wall_s:.0f} s, second run {second.wall_s:.0f} s; checksums of {len(before)} tables equal"
        )
    for problem in problems:
        print(f"PROBLEM {problem}")
    print("ledger check: " + ("FAILED" if problems else "every row is accounted for, every column equals its source"))
    return 1 if problems else 0


def _compare_weather(home: Path, entries: list[ledger.Entry]) -> list[str]:
    """Data lines in all weather objects, counted byte by byte, against the ledger."""
    url = EmbeddedServices.attach(home).connections["stations"]
    with Bucket.open(url) as bucket:
        objects = list(bucket.objects("weather/"))
        lines = sum(gzip.decompress(bucket.read(found.key)).count(b"\n") - 1 for found in objects)
    rows_in = sum(entry.rows_in for entry in entries if entry.table == "raw.stations__weather")
    print(f"weather: {lines:,} data lines in {len(objects):,} objects, {rows_in:,} rows in the ledger")
    return [] if lines == rows_in else [f"weather: {lines} lines in the objects, {rows_in} rows in the ledger"]


def _repair(home: Path, before: list[ledger.Entry]) -> list[str]:
    """Repair the rejected row by the commands that people use, and account for all rows again."""
    bad = home / "bad.jsonl"
    _command(home, "quarantine", "export", WEATHER, "--to", str(bad))
    (line,) = map(json.loads, bad.read_text().splitlines())
    line["row"]["wind_speed"] = 14.38
    bad.write_text(json.dumps(line))
    replay = ("quarantine", "replay", WEATHER, "--file", str(bad), "--reason", "a slipped point")
    _command(home, *replay, "--by", "ada", "--downstream")
    pipeline = open_pipeline(home)
    entries, repaired = ledger.entries(pipeline), checksums(pipeline)
    problems = ledger.problems(entries)
    totals = {(line["stage"], line["table"]): line for line in ledger.totals(entries)}
    was = {(line["stage"], line["table"]): line for line in ledger.totals(before)}
    for stage, table, more in (
        ("ingest", WEATHER, 1), ("refine", "refined.weather", 1), ("warehouse", "fct_weather_hourly", 1),
        ("ingest", "raw.flightops__flights", 0), ("refine", "refined.flights", 0), ("warehouse", "fct_flights", 0),
    ):  # fmt: skip
        now = totals[stage, table]
        print(
            f"replayed: {stage} {table}: in {now['rows_in']:,}, published {now['published']:,}, quarantined "
            f"{now['quarantined']:,}, replayed {now['replayed']:,}"
        )
        if (now["published"] - was[stage, table]["published"], now["quarantined"]) != (more, 0):
            problems.append(f"{table} has {now['published']} rows after the replay")
    _command(home, *replay)
    if checksums(open_pipeline(home)) != repaired:
        problems.append("the same replay again changed something")
    return problems


def _command(home: Path, *words: str) -> None:
    command = [sys.executable, "-m", "penstock", *words]
    subprocess.run(command, env=process_environment(PENSTOCK_HOME=str(home)), check=True, stdout=subprocess.DEVNULL)


def stray_files(pipeline: Pipeline) -> list[str]:
    """Parquet files of data that are not live in a current snapshot; what ``ops`` has superseded is for a sweep."""
    catalog = pipeline.lake.catalog
    tables = [TableId(*names) for namespace in catalog.list_namespaces() for names in catalog.list_tables(namespace)]
    live = {engine_path(file.location) for table in tables for file in pipeline.lake.live(table)}
    root = Path(pipeline.settings.lake_uri)
    superseded = {str(path) for path in (root / "ops").rglob("*.parquet")} - live
    found = {str(path) for path in root.rglob("*.parquet")} - superseded
    print(f"files: {len(found):,} Parquet files in the lake, {len(live):,} live")
    return [f"not live: {path}" for path in sorted(found - live)] + [
        f"missing: {path}" for path in sorted(live - found)
    ]


if __name__ == "__main__":
    sys.exit(main())
