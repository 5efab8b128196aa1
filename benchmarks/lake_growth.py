"""What the 1,000th commit to a table costs against the 20th: CPU of replacing one interval as intervals collect.

``make bench-growth``. Every commit puts one small Parquet file into a partition of its own, as a daily run does; only
the commit is timed, and reading the table's list of live files beside it. Written as a picture with ``--svg``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from common.settings import Settings
from lake.catalog import live_files, load_table
from lake.commit import replace_partition
from lake.lake import Lake
from lake.paths import TableId, new_attempt
from lake.schema import PARTITION_COLUMN, Column
from lake.sql import literal

TABLE = TableId("raw", "growth__daily")
COLUMNS = (Column(PARTITION_COLUMN, "date", False), Column("id", "int64", False), Column("note", "string", True))
_FIRST = date(2013, 1, 1)
_NEIGHBOURS = 20
"""Commits on each side of the one reported: one alone is mostly the machine's mood."""
LIMIT = 2.0


@dataclass(frozen=True)
class Cost:
    """CPU of one commit, and of reading the list of live files after it, in milliseconds."""

    commit_ms: float
    list_ms: float


def main() -> int:
    """Run the benchmark; returns 1 if the last commit costs more than :data:`LIMIT` times the 20th."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--intervals", type=int, default=1_000, help="how many commits (default 1000)")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the curve as a picture")
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-growth-") as folder:
        costs = measure(Lake(Settings.load({}, home=Path(folder))), arguments.intervals)
    early, late = around(costs, 20), around(costs, len(costs))
    report = {
        "intervals": len(costs),
        "commit_ms": {"20th": round(early.commit_ms, 1), "last": round(late.commit_ms, 1)},
        "list_ms": {"20th": round(early.list_ms, 1), "last": round(late.list_ms, 1)},
        "commit_ratio": round(late.commit_ms / early.commit_ms, 2),
        "limit": LIMIT,
    }
    if arguments.svg:
        arguments.svg.write_text(picture(costs))
    if arguments.json:
        print(json.dumps(report))
    else:
        print(f"{len(costs):,} commits, CPU ms, medians of {2 * _NEIGHBOURS} around each")
        print(
            f"  commit:           20th {early.commit_ms:6.1f}   last {late.commit_ms:6.1f}   "
            f"ratio {report['commit_ratio']}"
        )
        print(f"  list live files:  20th {early.list_ms:6.1f}   last {late.list_ms:6.1f}")
    return 1 if late.commit_ms > LIMIT * early.commit_ms else 0


def measure(lake: Lake, intervals: int) -> list[Cost]:
    """Commit one interval after the other."""
    lake.ensure(TABLE, COLUMNS, partition_by=PARTITION_COLUMN)
    costs = []
    with lake.connect() as connection:
        for number in range(intervals):
            key = (_FIRST + timedelta(days=number)).isoformat()
            attempt = new_attempt()
            location = lake.staging_location(TABLE, key, attempt)
            lake.write(
                connection, f"SELECT DATE {literal(key)} AS ds, {number}::BIGINT AS id, 'x' AS note", TABLE, location
            )
            began_s = time.process_time()
            replace_partition(lake.catalog, TABLE, key, [location], attempt=attempt, summary={})
            committed_s = time.process_time()
            live = live_files(load_table(lake.catalog, TABLE))
            costs.append(Cost(1000 * (committed_s - began_s), 1000 * (time.process_time() - committed_s)))
            assert len(live) == number + 1
            if (number + 1) % 100 == 0:
                print(f"{number + 1:,} commits", file=sys.stderr, flush=True)
    return costs


def around(costs: Sequence[Cost], number: int) -> Cost:
    """Median cost of the commits around the one of that number (counted from 1)."""
    near = costs[max(0, number - _NEIGHBOURS) : number + _NEIGHBOURS]
    return Cost(statistics.median(cost.commit_ms for cost in near), statistics.median(cost.list_ms for cost in near))


def picture(costs: Sequence[Cost]) -> str:
    """The curve as SVG: median CPU ms of every 20 commits, for the commit and for listing."""
    steps = range(_NEIGHBOURS, len(costs) + 1, _NEIGHBOURS)
    groups = [costs[number - _NEIGHBOURS : number] for number in steps]
    lines = {
        "commit": ("#0b6e99", [statistics.median(cost.commit_ms for cost in group) for group in groups]),
        "list of live files": ("#c4620a", [statistics.median(cost.list_ms for cost in group) for group in groups]),
    }
    top = 20 * (1 + int(max(max(values) for _, values in lines.values()) // 20))
    left, width, height = 60, 620, 260

    def x(number: float) -> float:
        return left + width * number / len(costs)

    def y(value: float) -> float:
        return 30 + height * (1 - value / top)

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 340" font-family="sans-serif" font-size="12">',
        '<rect width="720" height="340" fill="white"/>',
        f'<text x="{left}" y="18">CPU milliseconds per interval, medians of {_NEIGHBOURS}</text>',
    ]
    for mark in range(0, top + 1, max(10, top // 5 // 10 * 10)):
        parts.append(f'<path d="M{left} {y(mark):.1f}H{left + width}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y(mark) + 4:.1f}" text-anchor="end">{mark}</text>')
    parts.extend(
        f'<text x="{x(mark):.1f}" y="{30 + height + 18}" text-anchor="middle">{mark:,}</text>'
        for mark in range(0, len(costs) + 1, max(1, len(costs) // 5))
    )
    parts.append(
        f'<text x="{left + width / 2}" y="{30 + height + 38}" text-anchor="middle">intervals in the table</text>'
    )
    for position, (name, (colour, values)) in enumerate(lines.items()):
        points = " ".join(f"{x(number):.1f},{y(value):.1f}" for number, value in zip(steps, values, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{left + 20}" y="{50 + 18 * position}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>\n"])


if __name__ == "__main__":
    sys.exit(main())
