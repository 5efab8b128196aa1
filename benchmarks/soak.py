"""A soak: 1,000 simulated days of the flights pipeline in one process, and what grows meanwhile.

``make soak``. One worker process brings in day after day - ingest, refine, gates, the account - builds and publishes a
release every week, and runs all maintenance after it, as a scheduler's worker would for three years. After each day it
notes its resident memory, open files, threads, files and bytes of the state folder by kind, and CPU time; what commits
cost is read off ``ops.costs`` at the end. Each curve has a declared limit; the program ends with 1 if one is broken.

What may grow: data files by one per table and day (a day is a partition), and what describes them. What may not:
memory, open files, threads, the cost of a commit beyond its limit, files of metadata.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks.soak_data import day_of, seed, write_specs
from benchmarks.soak_picture import picture
from benchmarks.year import scratch_home
from common.settings import Settings, process_environment
from lake.ops import COSTS, declare_ops, ops_relation
from lake.paths import TableId
from penstock.embedded import EmbeddedServices
from penstock.maintenance import maintain
from penstock.pipeline import Pipeline
from penstock.reconcile import Line, reconcile
from penstock.records import record
from penstock.run import run

WEEK_DAYS = 7
WARM_DAYS = 100
"""Days until everything has been loaded and every limit of retention has been reached once."""
KEEP_RELEASES = 3
DATA_FILES_A_DAY = 6.0
"""Raw and refined flights and weather, a quarantined row, and the weekly rewrite of whole tables: one file each."""
META_FILES_A_DAY = 2.0
"""A receipt of each interval stays while the interval does."""


@dataclass(frozen=True)
class Sample:
    """The state after one day.

    Attributes:
        day: number of the day, counted from 1.
        cpu_s: CPU of the day's run.
        rss_bytes: resident memory after it.
        open_files, threads: of the process.
        data_files: Parquet files of the lake.
        metadata_files: everything else in the lake.
        lake_bytes: size of the lake.
        other_files: files of the state folder outside of lake and services.
        run_id: the run.
    """

    day: int
    cpu_s: float
    rss_bytes: int
    open_files: int
    threads: int
    data_files: int
    metadata_files: int
    lake_bytes: int
    other_files: int
    run_id: str


@dataclass(frozen=True)
class Curve:
    """One thing watched: its values by day after the warm-up, and what it may grow by.

    Attributes:
        name: what it is, with its unit.
        days, values: the points.
        limit: largest growth from the first hundred days after the warm-up to the last hundred, as a ratio of medians.
        per_day: largest slope a day, where growth is meant.
    """

    name: str
    days: Sequence[int]
    values: Sequence[float]
    limit: float | None = None
    per_day: float | None = None

    @property
    def ratio(self) -> float:
        """Median of the last hundred values over that of the first hundred."""
        span = min(100, max(1, len(self.values) // 3))
        return statistics.median(self.values[-span:]) / max(1e-9, statistics.median(self.values[:span]))

    @property
    def slope_per_day(self) -> float:
        """Theil and Sen's slope: the median of the slopes between points half the span apart."""
        half = len(self.values) // 2
        pairs = zip(self.values, self.values[half:], self.days, self.days[half:], strict=False)
        slopes = [(late - early) / (last - first) for early, late, first, last in pairs if last > first]
        return statistics.median(slopes) if slopes else 0.0

    @property
    def holds(self) -> bool:
        """Whether it stays below its limit."""
        if self.per_day is not None:
            return self.slope_per_day <= self.per_day
        return self.limit is None or self.ratio <= self.limit


def main() -> int:
    """Run the soak; returns 1 if a curve breaks its limit or a row is missing at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=1_000, help="simulated days (default 1000)")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the curves as a picture")
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return worker(arguments.worker, arguments.days)
    with scratch_home(None) as home:
        services = EmbeddedServices.attach(home)
        print(f"moving flights and weather to {arguments.days:,} days ...", file=sys.stderr, flush=True)
        seed(services, arguments.days)
        write_specs(home / "soak", arguments.days)
        command = [sys.executable, "-m", "benchmarks.soak", "--days", str(arguments.days), "--worker", str(home)]
        subprocess.run(command, check=True, env=process_environment())
        report = json.loads((home / "soak" / "report.json").read_text())
    curves = curves_of([Sample(**each) for each in report["samples"]], report["commit_ms"])
    summary = {
        "days": arguments.days,
        "seconds": report["seconds"],
        "cpu_s": round(sum(each["cpu_s"] for each in report["samples"])),
        "rows": report["rows"],
        "unequal": report["unequal"],
        "releases": report["releases"],
        "curves": [
            {"name": each.name, "ratio": round(each.ratio, 3), "slope_per_day": round(each.slope_per_day, 3)}
            | {"limit": each.limit, "limit_per_day": each.per_day, "holds": each.holds}
            for each in curves
        ],
    }
    if arguments.svg:
        arguments.svg.write_text(picture(curves, WARM_DAYS))
    if arguments.json:
        print(json.dumps(summary))
    else:
        print_report(summary)
    return 0 if all(each.holds for each in curves) and not report["unequal"] else 1


def print_report(summary: dict[str, object]) -> None:
    """The curves as a table."""
    print(f"{summary['days']} days in {summary['seconds']} s, {summary['releases']} releases, rows {summary['rows']}")
    print(f"tables and intervals that differ from their source at the end: {summary['unequal']}")
    for each in summary["curves"]:  # type: ignore[attr-defined]
        limit = f"x {each['limit']}" if each["limit"] is not None else f"{each['limit_per_day']} a day"
        found = f"x {each['ratio']:<8} {each['slope_per_day']:>12,} a day"
        print(f"  {each['name']:<34} {found}   limit {limit:<12} {'' if each['holds'] else 'BROKEN'}")


def worker(home: Path, days: int) -> int:
    """Bring in day after day in this process; writes ``<home>/soak/report.json``."""
    logging.disable(logging.INFO)
    settings = Settings.load(
        home=home, sources=home / "soak" / "sources", suites=home / "soak" / "suites",
        keep_releases=KEEP_RELEASES, sweep_grace_h=0.0,
    )  # fmt: skip
    began_s = time.monotonic()
    samples: list[Sample] = []
    releases = 0
    for number in range(days):
        day, after = day_of(number), day_of(number + 1)
        is_week_end = (number + 1) % WEEK_DAYS == 0 or number + 1 == days
        cpu_s = time.process_time()
        pipeline = Pipeline(settings)
        report = run(pipeline, str(day), str(after), build=is_week_end)
        if report.refusals:
            raise report.refusals[0]
        used_s = time.process_time() - cpu_s
        releases += report.release is not None
        if is_week_end:
            kept = maintain(pipeline)
            if kept.errors:
                raise RuntimeError(f"maintenance failed after {day}: {kept.errors}")
        del pipeline
        gc.collect()
        samples.append(_sample(home, number + 1, used_s, report.run_id))
        if (number + 1) % 25 == 0:
            left_s = (time.monotonic() - began_s) / (number + 1) * (days - number - 1)
            memory = samples[-1].rss_bytes >> 20
            print(f"day {number + 1:,} of {days:,}  {memory:,} MB  {left_s:,.0f} s left", file=sys.stderr, flush=True)
    pipeline = Pipeline(settings)
    raw = (TableId("raw", "flightops__flights"), TableId("raw", "stations__weather"))
    lines = [line for table in raw for line in reconcile(pipeline, table)]
    found = {
        "seconds": round(time.monotonic() - began_s),
        "samples": [asdict(each) for each in samples],
        "commit_ms": _commit_ms(pipeline, [each.run_id for each in samples]),
        "rows": _rows_by_pair(lines),
        "unequal": [line.to_dict() for line in lines if not line.is_equal],
        "releases": releases,
    }
    (home / "soak" / "report.json").write_text(json.dumps(found))
    return 0


def _rows_by_pair(lines: Sequence[Line]) -> dict[str, int]:
    rows: Counter[str] = Counter()
    for line in lines:
        rows[f"{line.left} -> {line.right}"] += line.rows_right
    return dict(rows)


def _sample(home: Path, day: int, cpu_s: float, run_id: str) -> Sample:
    process = psutil.Process()
    counted: Counter[str] = Counter()
    lake_bytes = 0
    for path in home.rglob("*"):
        place = path.relative_to(home).parts[0]
        if place in {"services", "soak"} or not path.is_file():
            continue
        kind = "other" if place != "lake" else "data" if path.suffix == ".parquet" else "metadata"
        counted[kind] += 1
        lake_bytes += path.stat().st_size if place == "lake" else 0
    return Sample(
        day=day,
        cpu_s=cpu_s,
        rss_bytes=process.memory_info().rss,
        open_files=process.num_fds(),
        threads=process.num_threads(),
        data_files=counted["data"],
        metadata_files=counted["metadata"],
        lake_bytes=lake_bytes,
        other_files=counted["other"],
        run_id=run_id,
    )


def _commit_ms(pipeline: Pipeline, runs: Sequence[str]) -> list[float]:
    """CPU of one published batch in each run, in ms, as ``ops.costs`` has it."""
    record(pipeline)
    declare_ops(pipeline.lake)
    query = (
        "SELECT run_id, 1000 * sum(cpu_s) / sum(times) "
        f"FROM {ops_relation(pipeline.lake, COSTS)} WHERE step = 'publish' AND stage = 'ingest' GROUP BY run_id"
    )
    with pipeline.lake.connect() as connection:
        found = dict(connection.execute(query).fetchall())
    return [float(found[run_id]) for run_id in runs if run_id in found]


def curves_of(samples: Sequence[Sample], commit_ms: Sequence[float]) -> list[Curve]:
    """The curves with their limits, from the warm-up on."""
    late = [each for each in samples if each.day > min(WARM_DAYS, len(samples) // 3)]
    days = [each.day for each in late]
    plain = [each for each in late if each.day % WEEK_DAYS]
    plain_days = [each.day for each in plain]
    ends = [each for each in late if each.day % WEEK_DAYS == 0]
    end_days = [each.day for each in ends]
    return [
        Curve("resident memory, MB", days, [each.rss_bytes / 2**20 for each in late], limit=1.25),
        Curve("open files of the process", days, [each.open_files for each in late], limit=1.1),
        Curve("threads of the process", days, [each.threads for each in late], limit=1.1),
        Curve("CPU of publishing a batch, ms", days, list(commit_ms[-len(late) :]), limit=2.0),
        Curve("CPU of a day without a release, s", plain_days, [each.cpu_s for each in plain], limit=2.0),
        Curve("data files of the lake", end_days, [each.data_files for each in ends], per_day=DATA_FILES_A_DAY),
        Curve("metadata files of the lake", end_days, [each.metadata_files for each in ends], per_day=META_FILES_A_DAY),
        Curve("other files of the state folder", end_days, [each.other_files for each in ends], per_day=1.0),
    ]


if __name__ == "__main__":
    sys.exit(main())
