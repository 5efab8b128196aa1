"""A soak: 1,000 simulated days of the flights pipeline in one process, and what grows meanwhile.

``make soak``. One worker process brings in day after day - ingest, refine, gates, the account - builds and publishes a
release every other week, and runs all maintenance after it, as a scheduler's worker would for three years. Its clock is
stepped to the morning after each day. After each day it notes its resident memory, open files, threads, CPU time, and
files and bytes of the state folder by kind; what commits cost is read off ``ops.costs`` at the end. Each curve has a
declared limit; the program ends with 1 if one is broken.

What may grow: data files by one per table and day (a day is a partition), their receipts and verdicts, and what a look
at all of them costs. What may not: memory, open files, threads, the cost of a commit beyond its limit, Iceberg's
metadata, files of any other kind.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import logging
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from datetime import time as datetime_time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.soak_data import day_of, seed, write_specs
from benchmarks.soak_picture import picture
from benchmarks.year import scratch_home
from common.clock import step, utc_now
from common.settings import Settings, process_environment
from lake.ops import COSTS, declare_ops, ops_relation
from lake.paths import TableId
from penstock.embedded import EmbeddedServices
from penstock.maintenance import maintain
from penstock.pipeline import Pipeline
from penstock.reconcile import Line, reconcile
from penstock.records import record
from penstock.run import run

PERIOD_DAYS = 14
"""Days between two releases; maintenance follows each."""
WARM_DAYS = 100
"""Days until everything has been loaded and every limit of retention has been reached once."""
KEEP_RELEASES = 3
DATA_FILES_A_DAY = 4.5
"""Of raw and refined flights and weather one each; and of three tables ``ops.*`` one a month."""
RECORDS_A_DAY = 8.2
"""Each of these four files has its receipt, and Great Expectations' own result, which ``ops.ledger`` names for ever."""
LAKE_MB_A_DAY = 0.25
"""Of these files: 8 KB of rows, 12 KB a receipt, 18 KB a result."""
RELEASES_MB_A_DAY = 0.1
"""Three releases hold the rows of all days."""
MAINTENANCE_S_A_DAY = 0.01
"""A sweep lists every file of the lake: some ms for the files of each day."""


@dataclass(frozen=True)
class Sample:
    """The state after one day.

    Attributes:
        day: number of the day, counted from 1.
        cpu_s: CPU of the day's run.
        maintenance_cpu_s: CPU of the maintenance after it; about nothing on days without one.
        rss_bytes: resident memory after it.
        open_files, threads: of the process.
        files, size_bytes: of the state folder by kind, services and specs left out: ``data`` and ``iceberg`` of the
            lake's tables, ``receipts``, ``validations``, ``usage`` and the like of its records, ``warehouse``,
            ``lineage`` and other folders.
        run_id: the run.
        wall_s: time the day took, with maintenance and this count.
    """

    day: int
    cpu_s: float
    maintenance_cpu_s: float
    rss_bytes: int
    open_files: int
    threads: int
    files: dict[str, int]
    size_bytes: dict[str, int]
    run_id: str
    wall_s: float


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
    def ends(self) -> tuple[float, float]:
        """Medians of the values of the first hundred days and of the last hundred; of a third each of a short soak."""
        span = min(100, (self.days[-1] - self.days[0]) // 3)
        first = [value for day, value in zip(self.days, self.values, strict=True) if day <= self.days[0] + span]
        last = [value for day, value in zip(self.days, self.values, strict=True) if day >= self.days[-1] - span]
        return statistics.median(first), statistics.median(last)

    @property
    def ratio(self) -> float:
        """The second of these medians over the first."""
        first, last = self.ends
        return last / max(1e-9, first)

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

    @property
    def verdict(self) -> str:
        """What it grew by, and what it may, in words."""
        if self.per_day is not None:
            words = f"{self.slope_per_day:.3g} a day, at most {self.per_day:g}"
        else:
            words = f"last 100 days x {self.ratio:.2f} of the first 100"
        if self.per_day is None and self.limit is not None:
            words += f", at most x {self.limit:g}"
        return words if self.holds else f"{words}: BROKEN"


def main() -> int:
    """Run the soak; returns 1 if a curve breaks its limit or a row is missing at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=1_000, help="simulated days (default 1000)")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the curves as a picture")
    parser.add_argument("--curve", type=Path, metavar="FILE", help="note each day there as a JSON line at once")
    parser.add_argument("--seconds", type=float, metavar="N", help="stop after the period in which so many have passed")
    parser.add_argument("--draw", type=Path, metavar="FILE", help="run nothing: tell of the days that --curve noted")
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return worker(arguments.worker, arguments.days, arguments.seconds, arguments.curve)
    report = noted(arguments.draw) if arguments.draw else soak(arguments.days, arguments.seconds, arguments.curve)
    curves = curves_of([Sample(**each) for each in report["samples"]], report["commit_ms"])
    summary = {
        "days": len(report["samples"]),
        "seconds": report["seconds"],
        "cpu_s": round(sum(each["cpu_s"] for each in report["samples"])),
        "rows": report["rows"],
        "unequal": report["unequal"],
        "releases": report["releases"],
        "curves": [
            {"name": each.name, "ratio": round(each.ratio, 3), "slope_per_day": round(each.slope_per_day, 3)}
            | {"limit": each.limit, "limit_per_day": each.per_day, "holds": each.holds}
            | {"from_to": [round(value, 4) for value in each.ends], "verdict": each.verdict}
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


def soak(days: int, seconds: float | None, curve: Path | None) -> dict[str, Any]:
    """Seed the sources, have a process bring in the days, and give what it reports."""
    with scratch_home(None) as home:
        services = EmbeddedServices.attach(home)
        print(f"moving flights and weather to {days:,} days ...", file=sys.stderr, flush=True)
        seed(services, days)
        write_specs(home / "soak", days)
        command = [sys.executable, "-m", "benchmarks.soak", "--days", str(days), "--worker", str(home)]
        command += ["--seconds", str(seconds)] if seconds else []
        command += ["--curve", str(curve.resolve())] if curve else []
        subprocess.run(command, check=True, env=process_environment())
        report: dict[str, Any] = json.loads((home / "soak" / "report.json").read_text())
        return report


def noted(curve: Path) -> dict[str, Any]:
    """What can be told of a soak that was killed: its days, not what commits cost nor whether all rows are there."""
    samples = [json.loads(line) for line in curve.read_text().splitlines()]
    releases = sum(each["day"] % PERIOD_DAYS == 0 for each in samples)
    took_s = round(sum(each["wall_s"] for each in samples))
    return {"samples": samples, "commit_ms": {}, "seconds": took_s, "rows": {}, "releases": releases, "unequal": None}


def print_report(summary: dict[str, object]) -> None:
    """The curves as a table."""
    print(f"{summary['days']} days in {summary['seconds']} s, {summary['releases']} releases, rows {summary['rows']}")
    unequal = "not compared" if summary["unequal"] is None else summary["unequal"]
    print(f"tables and intervals that differ from their source at the end: {unequal}")
    for each in summary["curves"]:  # type: ignore[attr-defined]
        first, last = each["from_to"]
        print(f"  {each['name']:<34} {first:>10,.4g} -> {last:>10,.4g}   {each['verdict']}")


def worker(home: Path, days: int, seconds: float | None = None, curve: Path | None = None) -> int:
    """Bring in day after day in this process, until a limit of time; writes ``<home>/soak/report.json``."""
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
        _be_in(after)
        is_period_end = (number + 1) % PERIOD_DAYS == 0 or number + 1 == days
        cpu_s, day_s = time.process_time(), time.monotonic()
        pipeline = Pipeline(settings)
        report = run(pipeline, str(day), str(after), build=is_period_end)
        if report.refusals:
            raise report.refusals[0]
        used_s = time.process_time() - cpu_s
        releases += report.release is not None
        maintenance_s = time.process_time()
        if is_period_end:
            kept = maintain(pipeline)
            if kept.errors:
                raise RuntimeError(f"maintenance failed after {day}: {kept.errors}")
        maintenance_s = time.process_time() - maintenance_s
        del pipeline
        gc.collect()
        samples.append(_sample(home, number + 1, (used_s, maintenance_s), report.run_id, day_s))
        if curve:
            with curve.open("a") as lines_of_days:
                lines_of_days.write(json.dumps(asdict(samples[-1])) + "\n")
        if (number + 1) % 25 == 0:
            left_s = (time.monotonic() - began_s) / (number + 1) * (days - number - 1)
            memory = samples[-1].rss_bytes >> 20
            print(f"day {number + 1:,} of {days:,}  {memory:,} MB  {left_s:,.0f} s left", file=sys.stderr, flush=True)
        if seconds and is_period_end and time.monotonic() - began_s > seconds:
            break
    pipeline = Pipeline(settings)
    raw = (TableId("raw", "flightops__flights"), TableId("raw", "stations__weather"))
    lines = [line for table in raw for line in reconcile(pipeline, table)]
    found = {
        "seconds": round(time.monotonic() - began_s),
        "samples": [asdict(each) for each in samples],
        "commit_ms": _commit_ms(pipeline),
        "rows": _rows_by_pair(lines),
        "unequal": [line.to_dict() for line in lines if not line.is_equal],
        "releases": releases,
    }
    (home / "soak" / "report.json").write_text(json.dumps(found))
    return 0


def _be_in(day: date) -> None:
    """Step this process's clock to the morning of a day, when the scheduler would bring in the day before."""
    morning = datetime.combine(day, datetime_time(9), UTC)
    step((morning - utc_now()).total_seconds())


def _rows_by_pair(lines: Sequence[Line]) -> dict[str, int]:
    rows: Counter[str] = Counter()
    for line in lines:
        rows[f"{line.left} -> {line.right}"] += line.rows_right
    return dict(rows)


def _sample(home: Path, day: int, cpu_s: tuple[float, float], run_id: str, began_s: float) -> Sample:
    process = psutil.Process()
    files: Counter[str] = Counter()
    size_bytes: Counter[str] = Counter()
    for place, _, names in os.walk(home):
        folder = Path(place)
        parts = folder.relative_to(home).parts
        if not parts or parts[0] in {"services", "soak"}:
            continue
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size_bytes[kind := _kind(parts, name)] += (folder / name).stat().st_size
                files[kind] += 1
    return Sample(
        day=day,
        cpu_s=cpu_s[0],
        maintenance_cpu_s=cpu_s[1],
        rss_bytes=process.memory_info().rss,
        open_files=process.num_fds(),
        threads=process.num_threads(),
        files=dict(files),
        size_bytes=dict(size_bytes),
        run_id=run_id,
        wall_s=time.monotonic() - began_s,
    )


def _kind(parts: Sequence[str], name: str) -> str:
    """What a file of the state folder is, by its folders and its name."""
    if parts[0] != "lake":
        return parts[0]
    if name.endswith(".parquet"):
        return "data"
    if parts[-1] == "metadata":
        return "iceberg"
    return parts[2] if len(parts) > 2 else "lake"


def _commit_ms(pipeline: Pipeline) -> dict[str, float]:
    """Run -> CPU of one published batch, in ms, as ``ops.costs`` has it."""
    record(pipeline)
    declare_ops(pipeline.lake)
    query = (
        "SELECT run_id, 1000 * sum(cpu_s) / sum(times) "
        f"FROM {ops_relation(pipeline.lake, COSTS)} WHERE step = 'publish' AND stage = 'ingest' GROUP BY run_id"
    )
    with pipeline.lake.connect() as connection:
        return {run_id: float(cpu_ms) for run_id, cpu_ms in connection.execute(query).fetchall()}


def curves_of(samples: Sequence[Sample], commit_ms: Mapping[str, float]) -> list[Curve]:
    """The curves with their limits, from the warm-up on."""
    late = [each for each in samples if each.day > min(WARM_DAYS, len(samples) // 3)]
    plain = [each for each in late[:-1] if each.day % PERIOD_DAYS]  # the last day has a release, too
    ends = [each for each in late if each.day % PERIOD_DAYS == 0]

    def files(*kinds: str) -> Callable[[Sample], float]:
        return lambda each: sum(each.files.get(kind, 0) for kind in kinds)

    def size_mb(*kinds: str) -> Callable[[Sample], float]:
        return lambda each: sum(each.size_bytes.get(kind, 0) for kind in kinds) / 2**20

    def curve(
        name: str,
        some: Sequence[Sample],
        value: Callable[[Sample], float],
        *,
        limit: float | None = None,
        per_day: float | None = None,
    ) -> Curve:
        return Curve(name, [each.day for each in some], [value(each) for each in some], limit, per_day)

    inherent = {"data", "iceberg", "receipts", "validations"}
    told = [each for each in late if each.run_id in commit_ms]
    publishing = curve("CPU of publishing a batch, ms", told, lambda each: commit_ms[each.run_id], limit=2.0)
    return [
        curve("resident memory, MB", late, lambda each: each.rss_bytes / 2**20, limit=1.25),
        curve("open files of the process", late, lambda each: each.open_files, limit=1.1),
        curve("threads of the process", late, lambda each: each.threads, limit=1.1),
        *([publishing] if told else []),
        curve("CPU of a day without a release, s", plain, lambda each: each.cpu_s, limit=2.0),
        curve("CPU of a day with a release, s", ends, lambda each: each.cpu_s, limit=2.0),
        curve("CPU of maintenance, s", ends, lambda each: each.maintenance_cpu_s, per_day=MAINTENANCE_S_A_DAY),
        curve("data files", ends, files("data"), per_day=DATA_FILES_A_DAY),
        curve("receipts and verdicts, files", ends, files("receipts", "validations"), per_day=RECORDS_A_DAY),
        curve("Iceberg's metadata, files", ends, files("iceberg"), limit=1.25),
        curve("all other files", ends, lambda each: sum(each.files.values()) - files(*inherent)(each), limit=1.5),
        curve("lake, MB", ends, size_mb("data", "iceberg", "receipts", "validations", "usage"), per_day=LAKE_MB_A_DAY),
        curve("releases, MB", ends, size_mb("warehouse"), per_day=RELEASES_MB_A_DAY),
        curve("lineage, MB", ends, size_mb("lineage"), limit=1.5),
    ]


if __name__ == "__main__":
    sys.exit(main())
