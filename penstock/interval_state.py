"""Which intervals of a table are good, and what is wrong with the others.

::

    spec: the days there should be ─┐
    lake: the attempts that are live ├─> one state per table and interval
    lake: the verdicts of refusals ──┤
    release: the attempts it holds ──┘

Nothing of it is kept: every state is derived, when it is asked for, from the files that are live, the receipts they
name and the manifest of the current release. So it cannot disagree with them.

Of one interval the first of these holds:

* ``outside``: its source has nothing there, by ``coverage``;
* ``failed``: its newest batch was refused, after whatever is live was published;
* ``missing``: nothing is live for it;
* ``stale``: what it is made of, or the rules it was made by, changed since;
* ``empty``: it is published, and has no rows;
* ``published``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any, Literal

from common.errors import UnknownName
from common.intervals import day_interval, day_keys, parse_day, zone
from ingestion.spec import SourceSpec, TableSpec
from lake.batches import Receipt
from lake.lake import Lake
from lake.paths import WHOLE, TableId, refusal_folder
from penstock.facts import FACTS
from penstock.pipeline import Pipeline
from warehouse.releases import Release, Releases

State = Literal["published", "empty", "stale", "failed", "missing", "outside"]

STATES: tuple[State, ...] = ("published", "empty", "stale", "failed", "missing", "outside")
"""In the order in which people read them."""

HOLES: frozenset[State] = frozenset({"missing", "failed"})
"""States in which rows are not there that should be."""


@dataclass(frozen=True)
class IntervalState:
    """One interval of one table.

    Attributes:
        key: partition key; ``whole`` for a table without intervals.
        state: see the module.
        rows: rows that are live; 0 where nothing is.
        published_at: when they were published, UTC, ISO 8601; empty where nothing is live.
        reason: why the state is not ``published``, in words.
    """

    key: str
    state: State
    rows: int = 0
    published_at: str = ""
    reason: str = ""


@dataclass(frozen=True)
class TableIntervals:
    """All intervals of one table.

    Attributes:
        stage: ``raw``, ``refined`` or ``warehouse``.
        table: its name there.
        intervals: by key.
    """

    stage: str
    table: str
    intervals: tuple[IntervalState, ...]

    def count(self) -> dict[str, int]:
        """Intervals by state, every state named."""
        counted = Counter(each.state for each in self.intervals)
        return {state: counted[state] for state in STATES}

    def keys(self, *states: State) -> list[str]:
        """Keys of the intervals in one of these states."""
        return [each.key for each in self.intervals if each.state in states]

    def spans(self, *states: State) -> list[tuple[str, str, int, str]]:
        """Runs of neighbouring days in one of these states for one reason: first key, last key, days, reason."""
        found: list[tuple[str, str, int, str]] = []
        for each in (interval for interval in self.intervals if interval.state in states):
            first, last, days, reason = found[-1] if found else ("", "", 0, "")
            if found and reason == each.reason and _is_next(last, each.key):
                found[-1] = (first, each.key, days + 1, reason)
            else:
                found.append((each.key, each.key, 1, each.reason))
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        intervals = [asdict(each) for each in self.intervals]
        return {"stage": self.stage, "table": self.table, "states": self.count(), "intervals": intervals}


def interval_states(
    pipeline: Pipeline, tables: Iterable[str] = (), *, start: str | None = None, end: str | None = None
) -> list[TableIntervals]:
    """The state of every interval of some tables, or of all, in the order in which rows flow.

    Args:
        pipeline: lake, specs and releases.
        tables: names such as ``raw.flightops__flights``, ``refined.flights``, ``fct_flights``, or bare names of source
            tables (``flights``), which mean every stage that has them; all by default.
        start: first day; where the table's days begin by default.
        end: the day after the last one; the first day that is not over by default.

    Raises:
        UnknownName: there is no such table; the message lists those there are.
        IntervalError: malformed days.
    """
    if start is not None and end is not None:
        day_keys(start, end)
    for day in (start, end):
        if day is not None:
            parse_day(day)
    wanted = set(tables)
    known = table_names(pipeline)
    for name in sorted(wanted):
        if not any(name in {full, bare} for full, bare in known.items()):
            raise UnknownName(f"There is no table {name!r}.", table=name, remedy=f"use one of {', '.join(known)}")
    pipeline.declare_raw()
    view = _View(pipeline, start, end)
    meant = {full for full, bare in known.items() if not wanted or wanted & {full, bare}}
    specs = pipeline.sources().values()
    found = [view.raw(spec, table) for spec in specs for table in spec.tables if str(spec.raw(table.name)) in meant]
    found += [view.refined(name) for name in pipeline.refined_tables() if f"refined.{name}" in meant]
    if meant & {fact for fact, _ in FACTS.values()}:
        found += [each for each in view.warehouse() if each.table in meant]
    return found


def table_names(pipeline: Pipeline) -> dict[str, str]:
    """Full name of every table of every stage -> the bare name of what it holds."""
    names = {str(spec.raw(table.name)): table.name for spec in pipeline.sources().values() for table in spec.tables}
    names |= {f"refined.{name}": name for name in pipeline.refined_tables()}
    return names | {fact: name for name, (fact, _) in FACTS.items()}


class _View:
    """The lake and the release as they are at one moment; receipts are read once."""

    def __init__(self, pipeline: Pipeline, start: str | None, end: str | None) -> None:
        self._pipeline = pipeline
        self._lake = pipeline.lake
        self._start, self._end = start, end
        self._receipts: dict[TableId, dict[str, Receipt]] = {}

    def _live(self, table: TableId) -> dict[str, Receipt]:
        if table not in self._receipts:
            self._receipts[table] = {receipt.key: receipt for receipt in self._lake.receipts(table)}
        return self._receipts[table]

    def raw(self, spec: SourceSpec, table: TableSpec) -> TableIntervals:
        raw = spec.raw(table.name)
        live = self._live(raw)
        refused = _refusals(self._lake, raw)
        code = self._pipeline.ingest_code(spec, table) if live else ""
        keys = [WHOLE] if not table.partitioned else self._days(spec, table, {*live, *refused})
        states = []
        for key in keys:
            reason = "" if key not in live or live[key].code == code else "its spec, its suite or Penstock changed"
            state = _state(key, live.get(key), refused.get(key), reason, missing="it was never published")
            outside = key != WHOLE and table.coverage is not None and not table.coverage.holds(parse_day(key))
            if outside and key not in live:
                state = IntervalState(key, "outside", reason=table.coverage.why if table.coverage else "")
            states.append(state)
        return TableIntervals("raw", str(raw), tuple(states))

    def refined(self, name: str) -> TableIntervals:
        refined = self._pipeline.refined(name)
        target = TableId("refined", name)
        live, refused = self._live(target), _refusals(self._lake, target)
        of = [self.raw(*self._source_of(raw)) for raw in refined.inputs.values()]
        by_key = {each.table: {interval.key: interval for interval in each.intervals} for each in of}
        keys = {key for intervals in by_key.values() for key in intervals} | {*live, *refused}
        code = self._pipeline.refine_code(name) if live else ""
        states = []
        for key in sorted(self._within(keys)) if refined.partitioned else [WHOLE]:
            upstream = self._upstream(refined, key)
            lacking = [raw for raw in refined.inputs.values() if key not in self._live(TableId.parse(raw))]
            reason = ""
            if key in live and live[key].upstream != upstream:
                reason = _changed(live[key].upstream, upstream)
            elif key in live and live[key].code != code:
                reason = "its function, its suite or Penstock changed"
            missing = f"{', '.join(lacking)} lacks it" if lacking else "it was never refined"
            state = _state(key, live.get(key), refused.get(key), reason, missing=missing)
            above = [intervals[key] for intervals in by_key.values() if key in intervals]
            if state.state == "missing" and above and all(each.state == "outside" for each in above):
                state = IntervalState(key, "outside", reason=above[0].reason)
            states.append(state)
        return TableIntervals("refined", str(target), tuple(states))

    def warehouse(self) -> list[TableIntervals]:
        """Facts by interval: whether the current release holds what is refined now."""
        release = Releases(self._pipeline.settings.warehouse).current()
        return [self._fact(name, fact, release) for name, (fact, _) in FACTS.items()]

    def _fact(self, name: str, fact: str, release: Release | None) -> TableIntervals:
        manifest: Mapping[str, Any] = release.manifest if release else {}
        held: Mapping[str, str] = manifest.get("inputs", {}).get(name, {}).get("attempts", {})
        tables = {each["name"]: each for each in manifest.get("tables", ())}
        rows: Mapping[str, int] = tables.get(fact, {}).get("rows_by_key", {})
        now = self._live(TableId("refined", name))
        published_at = release.published_at if release else ""
        states = []
        for each in self.refined(name).intervals:
            key = each.key
            if key not in held:
                state: State = "outside" if each.state == "outside" else "missing"
                why = each.reason if key not in now else "it was refined after the release was built"
                states.append(IntervalState(key, state, reason=why))
                continue
            count = int(rows.get(key, 0))
            if key not in now or now[key].attempt != held[key]:
                states.append(IntervalState(key, "stale", count, published_at, "it was refined again since"))
            else:
                states.append(IntervalState(key, "published" if count else "empty", count, published_at))
        return TableIntervals("warehouse", fact, tuple(states))

    def _source_of(self, raw: str) -> tuple[SourceSpec, TableSpec]:
        for spec in self._pipeline.sources().values():
            for table in spec.tables:
                if str(spec.raw(table.name)) == raw:
                    return spec, table
        raise UnknownName(f"No source spec describes {raw}.", table=raw, remedy="add the table to its source's spec")

    def _upstream(self, refined: Any, key: str) -> dict[str, str]:
        found = {}
        for raw in refined.inputs.values():
            receipt = self._live(TableId.parse(raw)).get(key)
            if receipt is not None:
                found[f"{raw}/{key}"] = receipt.batch_id
        for raw in refined.reference_inputs.values():
            found |= {f"{raw}/{other}": r.batch_id for other, r in self._live(TableId.parse(raw)).items()}
        return found

    def _days(self, spec: SourceSpec, table: TableSpec, seen: set[str]) -> list[str]:
        """Days that a table should have: by its spec where that says so, else from the first that was ever tried."""
        first = [day for day in (spec.start_date, table.coverage.start if table.coverage else None) if day]
        begin = self._start or (max(first).isoformat() if first else min(seen, default=None))
        now = self._lake.clock().astimezone(zone(spec.time_zone)).date()
        over = now if day_interval(now.isoformat(), spec.time_zone).end > self._lake.clock() else now + timedelta(1)
        end = self._end or min(day for day in (over, spec.end_date) if day).isoformat()
        expected = set(day_keys(begin, end)) if begin is not None and begin < end else set()
        return sorted(self._within(expected | seen))

    def _within(self, keys: Iterable[str]) -> set[str]:
        return {
            key
            for key in keys
            if (self._start is None or key >= self._start) and (self._end is None or key < self._end)
        }


def _state(
    key: str, live: Receipt | None, refused: Mapping[str, Any] | None, stale: str, *, missing: str
) -> IntervalState:
    rows, published_at = (live.published, live.published_at) if live else (0, "")
    if refused is not None and str(refused["refused_at"]) > published_at:
        kept = "; the rows of before are still there" if live else ""
        return IntervalState(key, "failed", rows, published_at, f"{_why(refused)}{kept}")
    if live is None:
        return IntervalState(key, "missing", reason=missing)
    if stale:
        return IntervalState(key, "stale", rows, published_at, stale)
    return IntervalState(key, "published" if rows else "empty", rows, published_at, "" if rows else "it has no rows")


def _why(refused: Mapping[str, Any]) -> str:
    if "volume" in refused:
        return "refused: {rows} rows would have replaced {rows_live}".format(**refused["volume"])
    return f"refused: {'; '.join(refused['verdict']['reasons'])}"


def _refusals(lake: Lake, table: TableId) -> dict[str, dict[str, Any]]:
    """The newest refusal of each interval of a table."""
    newest: dict[str, dict[str, Any]] = {}
    for location in lake.storage.list_files(refusal_folder(lake.settings.lake_uri, table)):
        account = lake.storage.read_json(location)
        if "deletes" in account:
            continue  # of the table's keys, not of an interval
        before = newest.get(account["key"])
        if before is None or str(account["refused_at"]) > str(before["refused_at"]):
            newest[str(account["key"])] = account
    return newest


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    names = sorted({name.split("/")[0] for name in before.keys() | now.keys() if before.get(name) != now.get(name)})
    return f"{', '.join(names)} changed since"


def _is_next(last: str, key: str) -> bool:
    if WHOLE in {last, key}:
        return False
    return date.fromisoformat(last) + timedelta(days=1) == date.fromisoformat(key)
