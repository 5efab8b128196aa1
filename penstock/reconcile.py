"""Do source, raw lake, refined lake and warehouse hold the same rows? Compared interval by interval, where each lies.

::

    source ── rows, column sums ──┐
    raw    ── rows, column sums ──┴─▶ equal, explained, or DIFFERENT: interval and columns named
    raw    ── rows, columns that pass unchanged ── refined ── rows, columns of one name ── warehouse

Every engine counts and sums its own rows, and figures alone travel. What is known to differ is no difference: rows in
quarantine, rows that were repaired, an interval that waits to be refined or built. Of such an interval the rows are
compared as far as their number is known, and its columns are not.

In a run a few intervals are compared (:func:`sampled`), in the very snapshot that was read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from common.errors import Unreconciled, UsageError
from common.hashing import digest
from common.intervals import day_interval, day_keys
from ingestion.databases.checksums import duckdb_checksums
from ingestion.reader import ComparesKeys, SourceReader
from ingestion.spec import SourceSpec, TableSpec
from lake.batches import Receipt
from lake.merge import NEWER_LIVES, TWICE
from lake.paths import WHOLE, TableId
from lake.schema import DELETED_COLUMN, PARTITION_COLUMN
from lake.sql import identifier, literal
from penstock.facts import FACTS
from penstock.replay_interval import declare

if TYPE_CHECKING:
    from penstock.pipeline import Pipeline

Figures = Mapping[str, Any]

_NOTHING: Figures = {"rows": 0}

SAMPLE = 2
"""Intervals of a table that are compared in every run."""


@dataclass(frozen=True)
class Line:
    """One interval on both sides of one stage.

    Attributes:
        left, right: what was compared, such as ``source`` and ``raw.shop__orders``.
        interval: partition key.
        rows_left, rows_right: rows on either side; of a bucket objects, for it cannot count rows.
        apart: rows that are rightly not on the right: in quarantine, deduplicated, gone from the source.
        columns: names of the columns whose checksums were compared.
        differing: those of them that differ.
        note: why columns, or the whole interval, were not compared.
        is_equal: whether nothing differs that should not.
    """

    left: str
    right: str
    interval: str
    rows_left: int
    rows_right: int
    apart: int = 0
    columns: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()
    note: str = ""
    is_equal: bool = True

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return asdict(self)

    @property
    def problem(self) -> str:
        """What differs, in words."""
        if self.differing:
            what = f"column{'s' * (len(self.differing) > 1)} {', '.join(self.differing)}"
        else:
            what = f"{self.rows_left} and {self.rows_right} rows, {self.apart} of them set apart"
        return f"{self.left} and {self.right} differ in {self.interval}: {what}{f' ({self.note})' * bool(self.note)}"


def sampled(keys: Sequence[str], size: int, run_id: str) -> list[str]:
    """Some of the keys, other ones in every run and the same ones for the same run."""
    return sorted(sorted(set(keys), key=lambda key: digest(run_id, key))[:size])


def reconcile(
    pipeline: Pipeline,
    table: TableId,
    *,
    start: str | None = None,
    end: str | None = None,
    sample: int | None = None,
) -> list[Line]:
    """Compare a table with what it was made from and with what was made from it, up to the current release.

    Args:
        pipeline: the stages.
        table: a raw or refined table.
        start: only days from this one on.
        end: only days before this one.
        sample: only so many of those intervals, chosen by the run's id.

    Raises:
        UsageError: the lake has no such interval.
        SourceUnavailable, SourceRefused, SourceSchemaError, StateCorrupt, StoreUnavailable: see ``common/errors.py``.
    """
    found: list[Line] = []
    raws = [table] if table.namespace == "raw" else _inputs(pipeline, table)
    keys = sorted({key for raw in raws for key in pipeline.lake.live_attempts(raw) if _within(key, start, end)})
    if not keys:
        raise UsageError(f"{table} has no such interval.", remedy="see what there is: penstock status")
    chosen = sampled(keys, sample, pipeline.run_id) if sample else keys
    for spec in pipeline.sources().values():
        for each in spec.tables:
            if spec.raw(each.name) in raws:
                with pipeline.reading(spec.source) as reader:
                    found += with_source(pipeline, spec, each, chosen, reader, gaps=not sample)
    refined = [table.name] if table.namespace == "refined" else _made_from(pipeline, table)
    return found + [line for name in refined for line in in_lake(pipeline, name, chosen)]


def _receipts(pipeline: Pipeline, table: TableId, keys: Sequence[str]) -> dict[str, Receipt]:
    """Receipts of the live batches of some intervals, whose table is looked up once if they are many."""
    if len(keys) > SAMPLE:
        wanted = set(keys)
        return {found.key: found for found in pipeline.lake.receipts(table) if found.key in wanted}
    return {key: found for key in keys if (found := pipeline.lake.receipt(table, key)) is not None}


def _within(key: str, start: str | None, end: str | None) -> bool:
    return key == WHOLE or ((start is None or key >= start) and (end is None or key < end))


def _inputs(pipeline: Pipeline, table: TableId) -> list[TableId]:
    return [TableId.parse(raw) for raw in pipeline.refined(table.name).inputs.values()]


def _made_from(pipeline: Pipeline, raw: TableId) -> list[str]:
    return [name for name, refined in pipeline.refined_tables().items() if str(raw) in refined.inputs.values()]


def require_equal(lines: Sequence[Line]) -> None:
    """Raise what differs.

    Raises:
        Unreconciled: naming interval and columns of the first difference, and how many there are.
    """
    found = [line for line in lines if not line.is_equal]
    if found:
        more = f"; and {len(found) - 1} more" if len(found) > 1 else ""
        name = next(side for side in (found[0].right, found[0].left) if "." in side.partition(" ")[0])
        raise Unreconciled(
            f"{found[0].problem}{more}.",
            table=found[0].right,
            interval=found[0].interval,
            remedy=f"look with 'penstock reconcile {name}'; if the source has changed since, run the interval again",
        )


# -- source and raw ----------------------------------------------------------------------------------------------------


def with_source(
    pipeline: Pipeline,
    spec: SourceSpec,
    table: TableSpec,
    keys: Sequence[str],
    reader: SourceReader,
    *,
    gaps: bool = False,
    columns: bool = True,
    seen: frozenset[str] | None = None,
) -> list[Line]:
    """Compare intervals of a raw table with its source.

    Args:
        pipeline: the stages.
        spec: the source.
        table: the table.
        keys: partition keys.
        reader: an open reader: what it sees is the source.
        gaps: also name days between the first and last of ``keys`` that the source has and the lake does not.
        columns: whether columns are compared too, or rows are counted only.
        seen: attempts that this run read or found; an interval that another run has published since, from a later state
            of the source, is passed over.
    """
    raw = spec.raw(table.name)
    receipts = {
        key: receipt
        for key, receipt in _receipts(pipeline, raw, keys).items()
        if seen is None
        or (
            (receipt.attempt in seen or receipt.run_id == pipeline.run_id) and receipt.attempt not in pipeline.read_anew
        )
    }
    if not isinstance(reader, ComparesKeys):
        return [_objects(pipeline, spec, table, receipt, reader) for receipt in receipts.values()]
    if not receipts:
        return []
    days = [key for key in keys if key != WHOLE]
    if gaps and len(days) > 1:
        days = [*day_keys(days[0], days[-1]), days[-1]]
    intervals = [day_interval(day, spec.time_zone) for day in days]
    theirs = reader.checksums_by_day(table, intervals, columns=columns)
    declare(pipeline, raw)
    shared = [c for c in table.columns if any(c.name in figures for figures in theirs.values())]
    relation = pipeline.lake.relation(raw, None if WHOLE in keys else keys)
    if table.keeps_deleted:
        relation = f"(SELECT * FROM {relation} WHERE {DELETED_COLUMN} IS NULL)"
    day = f"{PARTITION_COLUMN}::VARCHAR" if table.partitioned else f"'{WHOLE}'"
    with pipeline.lake.connect() as connection:
        ours = duckdb_checksums(connection, [(c.name, c.type) for c in shared], relation, day=day)
    lines = [
        _with_source(table, str(raw), receipt, theirs.get(key, _NOTHING), ours.get(key, _NOTHING))
        for key, receipt in receipts.items()
    ]
    if gaps and table.partitioned:
        lost = [
            key
            for key in theirs
            if min(keys) < key < max(keys) and not (key in receipts or pipeline.lake.live(raw, key))
        ]
        note = "not loaded: run the day"
        lines += [
            Line("source", str(raw), key, theirs[key]["rows"], 0, note=note, is_equal=False) for key in sorted(lost)
        ]
    return lines


def _with_source(table: TableSpec, raw: str, receipt: Receipt, theirs: Figures, ours: Figures) -> Line:
    twice = receipt.because.get(TWICE, 0)
    apart = receipt.quarantined + twice
    carried = receipt.carried - receipt.deleted if table.moves else 0
    reasons = {
        "rows in quarantine": receipt.quarantined,
        "repaired rows": receipt.replayed,
        "rows of one key": twice,
        "rows that have moved on": carried,
        "rows older than live ones": receipt.because.get(NEWER_LIVES, 0),
    }
    noted = ", ".join(f"{rows} {reason}" for reason, rows in reasons.items() if rows)
    if receipt.because.get(NEWER_LIVES) or carried or (table.moves and receipt.deleted):
        note = f"not compared: {noted or 'rows marked as deleted'}"
        return Line("source", raw, receipt.key, theirs["rows"], ours["rows"], apart, note=note)
    compared = () if noted else _shared(theirs, ours)
    differing = tuple(name for name in compared if theirs[name] != ours[name])
    same = theirs["rows"] == ours["rows"] + apart and not differing
    note = f"columns not compared: {noted}" if noted else ""
    return Line("source", raw, receipt.key, theirs["rows"], ours["rows"], apart, compared, differing, note, same)


def _shared(theirs: Figures, ours: Figures) -> tuple[str, ...]:
    return tuple(name for name in theirs if name in ours and name != "rows")


def _objects(pipeline: Pipeline, spec: SourceSpec, table: TableSpec, receipt: Receipt, reader: SourceReader) -> Line:
    """Objects of an interval, by key, etag and size, against those that were read."""
    state = reader.known_state(table, day_interval(receipt.key, spec.time_zone)) or {}
    there, read = state.get("objects", []), receipt.source_state.get("objects", [])
    rows = sum(file.rows for file in pipeline.lake.live(spec.raw(table.name), receipt.key))
    note = f"objects by key, etag and size; {rows} rows read from them are live"
    same = sorted(map(tuple, there)) == sorted(map(tuple, read))
    raw = str(spec.raw(table.name))
    return Line("source", raw, receipt.key, len(there), len(read), receipt.quarantined, note=note, is_equal=same)


# -- raw, refined and warehouse ----------------------------------------------------------------------------------------


def in_lake(pipeline: Pipeline, name: str, keys: Sequence[str], *, columns: bool = True) -> list[Line]:
    """Compare intervals of a refined table with the raw rows it is made from, and with the release.

    Args:
        pipeline: the stages.
        name: the refined table.
        keys: partition keys; those that were not refined yet are passed over.
        columns: whether columns are compared too, or rows are counted only.
    """
    table = TableId("refined", name)
    refined = pipeline.refined(name)
    receipts = _receipts(pipeline, table, keys)
    if not receipts:
        return []
    declare(pipeline, table)
    pipeline.declare_raw()
    kinds = {column.name: column.type for column in refined.columns}
    day = f"{PARTITION_COLUMN}::VARCHAR" if refined.partitioned else f"'{WHOLE}'"
    with pipeline.lake.connect() as connection:
        relation = pipeline.lake.relation(table, None if WHOLE in receipts else receipts)
        ours = duckdb_checksums(connection, list(kinds.items()) if columns else [], relation, day=day)
        lines = []
        for raw in _inputs(pipeline, table) if len(refined.inputs) == 1 else []:
            relation = pipeline.lake.relation(raw, None if WHOLE in receipts else receipts)
            given = {column.name: column.type for column in pipeline.lake.columns(raw)[0]}
            same = {
                before: after
                for after, before in refined.unchanged.items()
                if columns and given.get(before) == kinds[after]
            }
            theirs = duckdb_checksums(connection, [(column, given[column]) for column in same], relation, day=day)
            batches = _receipts(pipeline, raw, list(receipts))
            for key, receipt in receipts.items():
                batch = batches.get(key)
                outdated = batch is None or receipt.upstream.get(f"{raw}/{key}") != batch.batch_id
                left = {same.get(n, n): value for n, value in theirs.get(key, _NOTHING).items()}
                lines.append(_pair(str(raw), str(table), receipt, left, ours.get(key, _NOTHING), outdated=outdated))
    return lines + _with_release(pipeline, name, receipts, ours)


def _pair(
    left: str, right: str, receipt: Receipt, theirs: Figures, ours: Figures, *, outdated: bool, apart: bool = True
) -> Line:
    rows = receipt.quarantined + receipt.deduplicated if apart else 0
    if outdated:
        note = "not compared: it waits to be made again"
        return Line(left, right, receipt.key, theirs["rows"], ours["rows"], rows, note=note)
    changed = rows or (apart and receipt.replayed)
    compared = () if changed else _shared(theirs, ours)
    differing = tuple(name for name in compared if theirs[name] != ours[name])
    same = theirs["rows"] == ours["rows"] + rows and not differing
    note = "columns not compared: rows in quarantine, repaired or deduplicated" if changed else ""
    return Line(left, right, receipt.key, theirs["rows"], ours["rows"], rows, compared, differing, note, same)


def _with_release(
    pipeline: Pipeline, name: str, receipts: Mapping[str, Receipt], theirs: Mapping[str, Figures]
) -> list[Line]:
    """The refined rows of a fact against the current release; nothing if there is neither."""
    from warehouse.releases import Releases

    current = Releases(pipeline.settings.warehouse).current()
    if name not in FACTS or current is None:
        return []
    fact, day = FACTS[name]
    attempts = current.manifest["inputs"].get(name, {}).get("attempts", {})
    words = {column.name: column for column in pipeline.refined(name).columns}
    with Releases(pipeline.settings.warehouse).connect(current.id) as connection:
        stored = dict(
            connection.execute(f"SELECT column_name, column_type FROM (DESCRIBE {identifier(fact)})").fetchall()
        )
        shared = [(n, c.type) for n, c in words.items() if stored.get(n) == c.duckdb]
        relation = f"(SELECT * FROM {identifier(fact)} WHERE {identifier(day)}::VARCHAR IN ({_listed(receipts)}))"
        ours = duckdb_checksums(connection, shared, relation, day=f"{identifier(day)}::VARCHAR")
    release = f"{fact} of release {current.id}"
    return [
        _pair(
            f"refined.{name}",
            release,
            receipt,
            theirs.get(key, _NOTHING),
            ours.get(key, _NOTHING),
            outdated=attempts.get(key) != receipt.attempt,
            apart=False,
        )
        for key, receipt in receipts.items()
    ]


def _listed(keys: Mapping[str, Receipt]) -> str:
    return ", ".join(map(literal, keys))
