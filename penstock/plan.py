"""``penstock plan``: what a run would do, without doing it.

::

    specs, days     -> the intervals a run would take, those of the late window included
    lake            -> which of them are published, by the live files
    source          -> rows expected by its own statistics; objects by their listing: size, and whether they changed

Nothing is counted, read or written: a plan of a billion rows costs a few catalog queries, and a lake that does not
exist yet is not made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from common.intervals import Interval, day_interval, day_keys
from common.settings import Settings
from ingestion.databases.inspection import Inspection, inspecting
from ingestion.reader import SourceReader
from ingestion.spec import SourceSpec, TableSpec
from lake.paths import WHOLE
from penstock.pipeline import Pipeline

Action = Literal["read", "read again", "unchanged", "outside coverage", "no objects"]


@dataclass(frozen=True)
class PlannedInterval:
    """One batch of a run.

    Attributes:
        key: partition key.
        action: ``read`` an interval that the lake lacks; ``read again`` one that is published (the same rows change
            nothing); ``unchanged`` where the source says so without being read.
        late: whether only the late window brings it in.
        rows_live: rows that are published for it.
        rows_expected: by the source's statistics; None where they do not say.
        bytes_expected: size in the source: in a database of those rows, of objects as they are stored.
    """

    key: str
    action: Action
    late: bool
    rows_live: int
    rows_expected: int | None
    bytes_expected: int | None


@dataclass(frozen=True)
class PlannedTable:
    """One table of a run.

    Attributes:
        table: the raw table.
        mode: as its spec says.
        intervals: what would be read.
        also: what a run does with it besides, in words, because its spec asks for it.
    """

    table: str
    mode: str
    intervals: tuple[PlannedInterval, ...]
    also: tuple[str, ...] = ()

    def keys(self, *actions: Action, late: bool | None = None) -> list[str]:
        """Keys of the intervals with one of these actions."""
        return [each.key for each in self.intervals if each.action in actions and late in {None, each.late}]

    @property
    def to_read(self) -> list[PlannedInterval]:
        """Intervals that would be read."""
        return [each for each in self.intervals if each.action in {"read", "read again"}]

    def total(self, name: Literal["rows_expected", "bytes_expected"]) -> int | None:
        """Sum over the intervals that would be read; None if one of them is not known."""
        values = [getattr(each, name) for each in self.to_read]
        return None if None in values else sum(values)

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {
            "table": self.table,
            "mode": self.mode,
            "rows_expected": self.total("rows_expected"),
            "bytes_expected": self.total("bytes_expected"),
            "intervals": [asdict(each) for each in self.intervals],
            "also": list(self.also),
        }


def plan(settings: Settings, source: str, start: str, end: str) -> list[PlannedTable]:
    """What ``penstock run --source ... --from ... --to ...`` would do with each table of a source.

    Args:
        settings: resolved settings.
        source: its name.
        start: first day, ``YYYY-MM-DD``.
        end: the day after the last one.

    Raises:
        UnknownName, IntervalError: as a run would, for a wrong name or days that are not over.
        SourceUnavailable, SourceRefused: the source does not answer, or does not let us in.
    """
    keys = day_keys(start, end)
    pipeline = Pipeline(settings)
    spec = pipeline.source(source)
    for table in spec.tables:
        pipeline.refuse_future(source, table.name, keys[-1])
    if spec.kind == "objects":
        with pipeline.reading(source) as reader:
            return [_objects(pipeline, spec, table, keys, reader) for table in spec.tables]
    with inspecting(spec, settings.connection(spec.connection), pipeline.lake) as database:
        return [_database(pipeline, spec, table, keys, database) for table in spec.tables]


def _database(
    pipeline: Pipeline, spec: SourceSpec, table: TableSpec, keys: Sequence[str], database: Inspection
) -> PlannedTable:
    live = _live_rows(pipeline, spec, table)
    late = [] if not live else pipeline.late_keys(spec.source, table.name, keys[0])
    wanted = [*late, *keys] if table.partitioned else [keys[-1]]
    intervals = [day_interval(key, spec.time_zone) for key in wanted]
    expected = database.introspection.expected_rows(database.session, spec, table, intervals)
    catalog = database.introspection.catalog(database.session, {table.schema_name})
    found = catalog.table(table.schema_name, table.in_source)
    row_bytes = found.size_bytes / found.rows_estimated if found and found.size_bytes and found.rows_estimated else None
    planned = []
    for interval, estimate in zip(intervals, expected, strict=True):
        key = interval.key if table.partitioned else WHOLE
        action: Action = "read again" if key in live else "read"
        action = action if _covers(table, interval) else "outside coverage"
        rows = estimate if action != "outside coverage" else 0
        size_bytes = None if rows is None or row_bytes is None else round(rows * row_bytes)
        planned.append(PlannedInterval(key, action, interval.key in late, live.get(key, 0), rows, size_bytes))
    return PlannedTable(str(spec.raw(table.name)), table.mode, tuple(planned), tuple(_besides(spec, table)))


def _besides(spec: SourceSpec, table: TableSpec) -> Iterator[str]:
    """What a run does with a table beyond the intervals that can be told beforehand."""
    if table.moves:
        yield "rewrites the partitions that hold older versions of the rows it reads (on_update: moves)"
    if table.late.beyond != "ignore":
        then = "warns of" if table.late.beyond == "count" else "also reads again"
        what = f"{then} published days with more than came"
        yield f"counts the source's rows by day, and {what} (late: {table.late.beyond})"
    if table.keeps_deleted and table.partitioned:
        yield "compares all keys with the source's and marks rows that vanished (deletes: reconcile)"
    elif table.keeps_deleted:
        yield "marks rows that do not come again (deletes: reconcile)"
    if table.history:
        yield f"brings {spec.history(table.name)} in step (history: true)"


def _objects(
    pipeline: Pipeline, spec: SourceSpec, table: TableSpec, keys: Sequence[str], reader: SourceReader
) -> PlannedTable:
    live = _live_rows(pipeline, spec, table)
    code = pipeline.ingest_code(spec, table) if live else ""
    planned = []
    for key in keys:
        interval = day_interval(key, spec.time_zone)
        state = reader.known_state(table, interval)
        objects = state["objects"] if state else []
        action: Action = "read"
        if not _covers(table, interval):
            action, objects = "outside coverage", []
        elif not objects:
            action = "no objects"
        elif key in live:
            receipt = pipeline.lake.receipt(spec.raw(table.name), key)
            same = receipt is not None and (receipt.source_state, receipt.code) == (state, code)
            action = "unchanged" if same else "read again"
        size_bytes = sum(each[2] for each in objects)
        planned.append(PlannedInterval(key, action, False, live.get(key, 0), None, size_bytes))
    return PlannedTable(str(spec.raw(table.name)), table.mode, tuple(planned))


def _live_rows(pipeline: Pipeline, spec: SourceSpec, table: TableSpec) -> dict[str, int]:
    """Rows by partition key of what is published."""
    catalog = urlsplit(pipeline.settings.catalog_uri.get_secret_value())
    if catalog.scheme == "sqlite" and not Path(catalog.path.removeprefix("/")).exists():
        return {}  # opening it would make it
    rows: dict[str, int] = {}
    for file in pipeline.lake.live(spec.raw(table.name)):
        rows[file.key] = rows.get(file.key, 0) + file.rows
    return rows


def _covers(table: TableSpec, interval: Interval) -> bool:
    return table.coverage is None or table.coverage.holds(interval.day)
