"""A run: every table of every source for a range of days, then refine, build and publish - with an account at the end.

A batch that its gate refuses stops that batch and what depends on it, not the run: the other intervals go on and the
refusals are reported at the end. Infrastructure that fails stops the run; running it again takes up where it was,
because finished intervals find their receipts.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import DataRejected, PenstockError, TransientError, located
from common.intervals import day_keys
from ingestion.reader import SourceReader
from lake.batches import Receipt
from lake.paths import WHOLE, TableId
from lake.together import publishing_together
from penstock.anomalies import late_tables
from penstock.incidents import watching
from penstock.pipeline import Pipeline
from penstock.reconcile import SAMPLE, Line, in_lake, require_equal, sampled, with_source
from penstock.records import record
from penstock.versions import Reconciliation

Progress = Callable[[str, int, int, str], None]
"""Called with stage, steps done, steps in all, and what was just done."""


def _silent(_stage: str, _done: int, _total: int, _label: str) -> None:
    return None


@dataclass
class RunReport:
    """What a run did.

    Attributes:
        run_id: the run.
        start, end: its days, the end exclusive.
        receipts: one per table and interval, in the order they were finished.
        refusals: errors of batches that were refused.
        reconciliations: of tables whose keys were compared with their source.
        reconciled: the intervals that were compared with their source, the lake and the release.
        notices: what a person should look at, beside the warnings of receipts.
        release: id of the release it published; None if there was nothing to publish.
        build: whether a release was asked for.
        pages: index of the quality pages, where they were written.
        seconds: time spent in each step: extract, refine, gate, publish, models, ...
    """

    run_id: str
    start: str
    end: str
    receipts: list[Receipt] = field(default_factory=list)
    refusals: list[PenstockError] = field(default_factory=list)
    reconciliations: list[Reconciliation] = field(default_factory=list)
    reconciled: list[Line] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    release: str | None = None
    build: bool = True
    pages: Path | None = None
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def exit_code(self) -> int:
        """0, or the exit code of the first refusal."""
        return self.refusals[0].exit_code if self.refusals else 0

    def add(self, receipt: Receipt) -> None:
        """Take a receipt into the report."""
        self.receipts.append(receipt)
        for step, seconds in receipt.seconds.items():
            self.seconds[f"{receipt.stage}: {step}"] += seconds

    @property
    def warnings(self) -> list[str]:
        """What the sources' readers warned of, each once per table."""
        found = [f"{r.table}: {warning}" for r in self.receipts for warning in r.warnings]
        found += [f"{r.table}: {warning}" for r in self.reconciliations for warning in r.warnings]
        return list(dict.fromkeys([*found, *self.notices]))

    def totals(self) -> list[dict[str, Any]]:
        """Row account per stage and table of this run, unchanged batches included."""
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for receipt in self.receipts:
            total = rows.setdefault(
                (receipt.stage, receipt.table),
                {"stage": receipt.stage, "table": receipt.table, "intervals": 0, "unchanged": 0, "rows_in": 0}
                | {"published": 0, "quarantined": 0, "deduplicated": 0, "seconds": 0.0},
            )
            total["intervals"] += receipt.state != "outside coverage"
            total["unchanged"] += receipt.state == "unchanged"
            for name in ("rows_in", "published", "quarantined", "deduplicated"):
                total[name] += getattr(receipt, name)
            total["seconds"] += sum(receipt.seconds.values())
        return list(rows.values())

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {
            "run_id": self.run_id,
            "from": self.start,
            "to": self.end,
            "release": self.release,
            "pages": None if self.pages is None else str(self.pages),
            "tables": [{**total, "seconds": round(total["seconds"], 3)} for total in self.totals()],
            "seconds": {step: round(seconds, 3) for step, seconds in self.seconds.items()},
            "reconciled": [line.to_dict() for line in self.reconciled],
            "deletes": [found.to_dict() for found in self.reconciliations],
            "warnings": self.warnings,
            "refusals": [{"error": type(error).__name__, "message": str(error)} for error in self.refusals],
        }


def run(
    pipeline: Pipeline,
    start: str,
    end: str,
    *,
    sources: Sequence[str] | None = None,
    build: bool = True,
    progress: Progress = _silent,
) -> RunReport:
    """Bring a range of days from the sources into a published release.

    Args:
        pipeline: the stages.
        start: first day, ``YYYY-MM-DD``.
        end: the day after the last one.
        sources: names of sources; all by default.
        build: whether to build and publish at the end.
        progress: told of every step.

    Raises:
        UsageError, TransientError, TerminalError: the run stops; what was published stays.

    Side effects: incidents are opened, resolved and told of at the end, however it ends.
    """
    keys = day_keys(start, end)
    names = list(sources) if sources else list(pipeline.sources())
    for name in names:
        spec = pipeline.source(name)
        for table in spec.tables:
            pipeline.refuse_future(name, table.name, keys[-1])
    report = RunReport(pipeline.run_id, start, end, build=build)
    with watching(pipeline, f"{start}..{end}", report.notices):
        _run(pipeline, names, keys, report, progress)
    return report


def _run(pipeline: Pipeline, names: list[str], keys: list[str], report: RunReport, progress: Progress) -> None:
    for name in names[1:]:
        with _opened(pipeline, name, report):
            pass  # a source that cannot be reached stops the run before another one has changed the lake
    for name in names:
        _ingest(pipeline, name, _with_late(pipeline, name, keys), report, progress)
        _settle(pipeline, name, report)
    _refine(pipeline, keys, report, progress)
    if report.build:
        progress("build", 0, 1, "models")
        started = time.perf_counter()
        release = pipeline.build_and_publish()
        if release is not None:
            report.release = release.id
            for step, seconds in release.manifest.get("seconds", {}).items():
                report.seconds[f"build: {step}"] += seconds
        report.seconds["build: in all"] = time.perf_counter() - started
        progress("build", 1, 1, release.id if release else "nothing changed")
    _reconcile_lake(pipeline, report)
    try:
        report.seconds["record"] = record(pipeline).seconds
        report.notices.extend(late_tables(pipeline))
    except TransientError as error:  # what was published stays, and the next run records it
        report.notices.append(f"What was judged could not be recorded: {error}")


def _with_late(pipeline: Pipeline, source: str, keys: list[str]) -> dict[str, list[str]]:
    """Keys to ingest for each interval table: the run's own, and earlier published ones that may still change."""
    tables = [table.name for table in pipeline.source(source).tables if table.partitioned]
    return {table: pipeline.late_keys(source, table, keys[0]) + keys for table in tables}


@contextmanager
def _refusals_go_on(report: RunReport) -> Iterator[None]:
    try:
        yield
    except DataRejected as error:
        report.refusals.append(error)


@contextmanager
def _opened(pipeline: Pipeline, source: str, report: RunReport) -> Iterator[SourceReader]:
    tables = ", ".join(table.name for table in pipeline.source(source).tables)
    where = located(source=source, table=tables, interval=f"{report.start}..{report.end}")
    with where, pipeline.reading(source, f"{report.start}..{report.end}") as reader:
        yield reader


def _ingest(
    pipeline: Pipeline, source: str, keys_by_table: dict[str, list[str]], report: RunReport, progress: Progress
) -> None:
    spec = pipeline.source(source)
    whole = [table.name for table in spec.tables if not table.partitioned]
    last = max(key for keys in keys_by_table.values() for key in keys) if keys_by_table else report.start
    stage = f"ingest {source}"
    progress(stage, 0, len(whole) + sum(map(len, keys_by_table.values())), "connecting")
    with _opened(pipeline, source, report) as reader, publishing_together(pipeline.lake) as together:
        keys_by_table = _with_reopened(pipeline, source, keys_by_table, report, reader)
        steps = [(table, last) for table in whole] + [(t, key) for t, keys in keys_by_table.items() for key in keys]
        for done, (table, key) in enumerate(steps, start=1):
            own = None
            with _refusals_go_on(report):
                receipt = pipeline.ingest(source, table, key, reader=reader, together=together)
                own = None if together.holds(receipt) else receipt
                if own is not None:
                    report.add(own)
            if done == len(steps):
                together.commit()
            for landed in together.take():
                pipeline.teller.tell(landed)
                if own is None or (own.table, own.key) != (landed.table, landed.key):  # else it was made anew at once
                    report.add(landed)
            progress(stage, done, len(steps), f"{table} {key}")
        _reconcile_source(pipeline, source, steps, report, reader)
    names = {str(spec.raw(table.name)): table.name for table in spec.tables}
    for late in together.take_overtaken():
        with _refusals_go_on(report):
            report.add(pipeline.ingest(source, names[late.table], last if late.key == WHOLE else late.key))


def _reconcile_source(
    pipeline: Pipeline, source: str, steps: list[tuple[str, str]], report: RunReport, reader: SourceReader
) -> None:
    """Compare some of the intervals that came with their source, in the snapshot they were read in."""
    spec, started = pipeline.source(source), time.perf_counter()
    for table in spec.tables:
        came = {r.key: r.attempt for r in report.receipts if r.table == str(spec.raw(table.name))}
        keys = sampled([key for name, key in steps if name == table.name and key in came], SAMPLE, report.run_id)
        if not table.partitioned:
            keys = [WHOLE] if WHOLE in came else []
        if not keys:
            continue
        noting = pipeline.failures.noting("reconcile", source=source, table=spec.raw(table.name))
        with _refusals_go_on(report), noting:
            # Of a whole table the rows are counted: to sum up its columns would read all of it again.
            seen = frozenset(came.values())
            lines = with_source(pipeline, spec, table, keys, reader, columns=table.partitioned, seen=seen)
            report.reconciled += lines
            require_equal(lines)
    report.seconds["reconcile: sources"] += time.perf_counter() - started


def _reconcile_lake(pipeline: Pipeline, report: RunReport) -> None:
    """Compare some of the refined intervals with their raw rows and with the release."""
    started = time.perf_counter()
    for name, table in pipeline.refined_tables().items():
        came = [receipt.key for receipt in report.receipts if receipt.table == f"refined.{name}"]
        if not came:
            continue
        with _refusals_go_on(report), pipeline.failures.noting("reconcile", table=TableId("refined", name)):
            keys = sampled(came, SAMPLE, report.run_id)
            lines = in_lake(pipeline, name, keys, columns=table.partitioned)
            report.reconciled += lines
            require_equal(lines)
    report.seconds["reconcile: lake"] += time.perf_counter() - started


def _with_reopened(
    pipeline: Pipeline, source: str, keys_by_table: dict[str, list[str]], report: RunReport, reader: SourceReader
) -> dict[str, list[str]]:
    """The keys to ingest and those to which rows came later than the late window, where the spec says so."""
    found = {}
    for table, keys in keys_by_table.items():
        late = pipeline.late_rows(source, table, reader, keys)
        report.notices.extend(late.warnings)
        reopened = pipeline.source(source).table(table).late.beyond == "reopen"
        found[table] = [*(late.beyond if reopened else ()), *keys]
    return found


def _settle(pipeline: Pipeline, source: str, report: RunReport) -> None:
    """Mark rows that vanished from tables with intervals, and bring histories in step."""
    for table in pipeline.source(source).tables:
        started = time.perf_counter()
        if table.keeps_deleted and table.partitioned:  # a whole table was compared when it was published
            with _refusals_go_on(report):
                report.reconciliations.append(pipeline.reconcile_deletes(source, table.name))
            report.seconds["ingest: deletes"] += time.perf_counter() - started
        if table.history:
            started = time.perf_counter()
            pipeline.sync_history(source, table.name)
            report.seconds["ingest: history"] += time.perf_counter() - started


def _refine(pipeline: Pipeline, keys: list[str], report: RunReport, progress: Progress) -> None:
    tables = pipeline.refined_tables()
    known = {*keys, *(receipt.key for receipt in report.receipts if receipt.state == "published")} - {"whole"}
    touched = {name: sorted({*known, *pipeline.rewritten_keys(name, known)}) for name in tables}
    steps = [(name, keys[0]) for name, table in tables.items() if not table.partitioned]
    steps += [(name, key) for name, table in tables.items() if table.partitioned for key in touched[name]]
    for done, (name, key) in enumerate(steps, start=1):
        with _refusals_go_on(report):
            receipt = pipeline.refine(name, key)
            if receipt is not None:
                report.add(receipt)
        progress("refine", done, len(steps), f"{name} {key}")
