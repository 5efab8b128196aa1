"""What a publish sends to the BI database when one day of a year changed: the month, against the whole table.

``make bench-bi``. A fact of a million rows over twelve months, with a key and two indexes, in an embedded PostgreSQL of
its own. Each day is published both ways in turns; sums of what readers see are compared with the release's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from penstock.embedded import EmbeddedServices
from penstock.psql import run_psql
from warehouse.bi import BiSchema
from warehouse.inspect import describe_tables
from warehouse.releases import Release, Releases, open_read_only

KEY = {"primary_key": ["flight_id"], "indexes": [["scheduled_on"], ["origin_code", "destination_code"]]}


def published(releases: Releases, rows: int, days: list[int], partition_by: str | None) -> Release:
    """A release in which the rows of some days of the year are others than in the first."""
    day, others = f"(i * 365 // {rows})", ", ".join(map(str, days))
    candidate = releases.new_candidate(from_scratch=True)
    with duckdb.connect(str(candidate.database)) as connection:
        connection.execute(
            f"CREATE TABLE fct AS SELECT 'F' || i AS flight_id, DATE '2013-01-01' + {day}::INTEGER AS scheduled_on, "
            "'A' || (i % 40) AS origin_code, 'B' || (i % 90) AS destination_code, "
            "'N' || (i % 4000) AS tail_number, timestamptz '2013-01-01' + to_minutes(i) AS departed_at, "
            f"(i % 500)::DECIMAL(9, 2) + if({day} IN ({others}), 1, 0) AS delay_min FROM range({rows}) AS r(i)"
        )
    manifest = {"tables": describe_tables(candidate.database, {}), "bi": {"fct": {**KEY, "partition_by": partition_by}}}
    releases.seal(candidate, manifest)
    return releases.publish(candidate)


def main() -> int:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the fact (default 1000000)")
    parser.add_argument("--days", type=int, default=3, help="days that change, one publish each (default 3)")
    arguments = parser.parse_args()
    ways: dict[str, str | None] = {"month": "scheduled_on", "whole": None}
    found: dict[str, dict[str, list[float]]] = {way: {"rows": [], "bytes": [], "s": []} for way in ways}
    with (
        tempfile.TemporaryDirectory(prefix="penstock-bench-bi-") as folder,
        EmbeddedServices.start(Path(folder) / "home") as services,
    ):
        run = partial(run_psql, services.bi_connections["bi"])
        for turn in range(arguments.days + 1):
            days = [97 * each % 365 for each in range(turn + 1)]
            for fence, (way, column) in enumerate(ways.items(), start=1):
                releases = Releases(Path(folder) / way)
                release = published(releases, arguments.rows, days, column)
                schema = BiSchema(run, schema=way, readers=("penstock_reader",), warehouse="bench")
                began = time.perf_counter()
                done = schema.publish(release, fence=10 * turn + fence)
                took = time.perf_counter() - began
                if turn:  # the first one has nothing to compare with
                    for name, value in (("rows", done.rows_sent), ("bytes", done.bytes_sent), ("s", took)):
                        found[way][name].append(value)
                _compare(run, way, release)
                releases.retain(1)
    medians: dict[str, Any] = {
        f"{way}_{name}": round(statistics.median(values), 2)
        for way, each in found.items()
        for name, values in each.items()
    }
    ratios = {f"ratio_{name}": round(medians[f"whole_{name}"] / medians[f"month_{name}"], 1) for name in found["whole"]}
    print(json.dumps({**medians, **ratios}, indent=1))
    return 0


def _compare(run: Any, schema: str, release: Release) -> None:
    query = "SELECT count(*), sum(delay_min), count(DISTINCT flight_id), max(tail_number) FROM {}.fct"
    with closing(open_read_only(release.database)) as connection:
        expected = connection.execute(query.format("main")).fetchone() or ()
    [told] = run([f"{query.format(schema)};\n".encode()])
    assert told == list(map(str, expected)), (told, expected)


if __name__ == "__main__":
    sys.exit(main())
