"""What follows the batches of a run: rows that vanished are marked, late rows counted, histories brought in step.

Each is derived from the lake and the source as they are, so any of it may be left out, come twice or come later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from common.errors import UsageError, VolumeRefused, located
from common.intervals import day_interval, zone
from ingestion.reader import ComparesKeys, SourceReader
from ingestion.spec import SourceSpec, TableSpec
from lake.batches import Receipt
from lake.deletes import mark_deleted
from lake.history import History, Synced, sync_history
from lake.lake import Lake
from lake.paths import TableId, engine_path
from lake.schema import PARTITION_COLUMN
from lake.sql import parquet_relation
from lake.verdicts import record_refusal

if TYPE_CHECKING:
    from transformations.refine.model import RefinedTable

Opened = AbstractContextManager[SourceReader]

_TRIES = 10
"""How often keys are compared again because another run was faster."""


@dataclass(frozen=True)
class Reconciliation:
    """What comparing a table's keys with its source found and did.

    Attributes:
        table: the raw table.
        rows_compared: rows of the lake that lived before.
        marked: rows that were marked as deleted in the source.
        missing: day -> keys of the source that the lake does not have; ``whole`` for a table without days.
        buckets, buckets_pulled: into how many the keys were divided, and how many of those differed.
        receipts: of the partitions that were rewritten.
        warnings: what a person should look at.
    """

    table: str
    rows_compared: int = 0
    marked: int = 0
    missing: dict[str, int] = field(default_factory=dict)
    buckets: int = 0
    buckets_pulled: int = 0
    receipts: tuple[Receipt, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form: figures only."""
        names = ("table", "rows_compared", "marked", "missing", "buckets", "buckets_pulled", "warnings")
        return {name: getattr(self, name) for name in names}


def reconcile_deletes(
    lake: Lake,
    spec: SourceSpec,
    table: TableSpec,
    opened: Callable[[], Opened],
    *,
    accepted: frozenset[str],
    run_id: str,
) -> Reconciliation:
    """Mark the rows of a raw table whose key the source no longer has.

    The lake is looked at first and the source after it: whatever the lake holds was in the source before, so what the
    source does not have then is gone. A connection that was opened earlier would not prove that of rows that a run
    beside this one has brought in since. Where such a run has published a partition before its rows were marked, both
    are looked at again.

    Args:
        lake: the lake.
        spec: the source.
        table: what to compare.
        opened: gives a reader for the source that is not connected yet.
        accepted: raw tables of which any share may vanish.
        run_id: the run, for receipts and the record of a refusal.

    Raises:
        UsageError: the table's spec does not ask for it.
        VolumeRefused: more rows vanished than the spec allows; nothing was marked.
        SourceUnavailable, SourceRefused, SourceSchemaError, CommitConflict, StoreUnavailable: see ``common/errors.py``.

    Side effects: one commit, or none; a refusal is recorded in the lake.
    """
    found, left = _reconcile_once(lake, spec, table, opened(), accepted=accepted, run_id=run_id)
    for _ in range(_TRIES):
        if not left:
            break
        again, left = _reconcile_once(lake, spec, table, opened(), accepted=accepted, run_id=run_id)
        found = replace(again, marked=found.marked + again.marked, receipts=(*found.receipts, *again.receipts))
    return found


def _reconcile_once(
    lake: Lake, spec: SourceSpec, table: TableSpec, opened: Opened, *, accepted: frozenset[str], run_id: str
) -> tuple[Reconciliation, int]:
    """One look, and how many rows could not be marked because another run has published their partition since."""
    raw = spec.raw(table.name)
    with located(source=spec.source, table=table.name):
        if not table.keeps_deleted:
            raise UsageError("Its spec ignores deletions.", remedy="set 'deletes: {policy: reconcile}' in the spec")
        lake.ensure(raw, table.lake_columns(), partition_by=PARTITION_COLUMN if table.partitioned else None)
        live = [file for file in lake.live(raw) if file.rows]
        if not live:
            return Reconciliation(str(raw)), 0
        newest = day_interval(max(file.key for file in live), spec.time_zone) if table.partitioned else None
        columns, field_ids = lake.columns(raw)
        paths = [engine_path(file.location) for file in live]
        relation = parquet_relation(paths, columns, field_ids, row_number=True, filename=True)
        with opened as reader:
            if not isinstance(reader, ComparesKeys):
                raise UsageError("Its source cannot compare keys.", remedy="take 'deletes:' out of the spec")
            found = reader.compare_keys(table, relation, newest)
        vanished, rows = found.vanished.num_rows, found.rows_compared
        problem = f"{vanished} of {rows} live rows are gone from the source"
        warnings = []
        if vanished > table.deletes.max_share * rows:
            if str(raw) not in accepted:
                figures = {"vanished": vanished, "rows_live": rows, "max_share": table.deletes.max_share}
                account = record_refusal(lake, raw, "deletes", run_id, {"deletes": figures})
                raise VolumeRefused(
                    f"{problem}, more than {table.deletes.max_share:.0%} of them. None was marked.",
                    table=str(raw),
                    remedy="look whether the source is whole; if it is, run again with "
                    f"--accept-volume {raw}, or raise 'deletes: {{max_share: ...}}' in the spec. "
                    f"The account: {account}",
                )
            warnings.append(f"deletions accepted by --accept-volume: {problem}")
        receipts, marked = mark_deleted(lake, raw, found.vanished, run_id=run_id)
        waiting = sum(receipt.quarantined for receipt in lake.receipts(raw)) if found.missing else 0
        lacking = sum(found.missing.values())
        if lacking > waiting:
            warnings.append(f"{lacking} keys of the source are not in the lake, in {_some(found.missing)}")
        reconciled = Reconciliation(
            str(raw),
            rows,
            marked,
            dict(found.missing),
            found.buckets,
            found.buckets_pulled,
            tuple(receipts),
            tuple(warnings),
        )
        return reconciled, vanished - marked


def late_keys(lake: Lake, spec: SourceSpec, table: TableSpec, key: str) -> list[str]:
    """Published intervals before ``key`` whose end is within the late window before it."""
    cursor = table.cursor
    if cursor is None or not cursor.late_window_s:
        return []
    start = day_interval(key, spec.time_zone).start
    published = sorted(each for each in lake.live_attempts(spec.raw(table.name)) if each < key)
    ages_s = {each: (start - day_interval(each, spec.time_zone).end).total_seconds() for each in published}
    return [each for each, age_s in ages_s.items() if 0 <= age_s < cursor.late_window_s]


@dataclass(frozen=True)
class LateRows:
    """Rows that no run will come across by itself.

    Attributes:
        beyond: published day -> rows that the source has more than came from there.
        to_come: rows in days that lie in the future, beyond tomorrow.
        warnings: the same in words.
    """

    beyond: dict[str, int]
    to_come: int
    warnings: tuple[str, ...]


def late_rows(lake: Lake, spec: SourceSpec, table: TableSpec, reader: SourceReader, known: Iterable[str]) -> LateRows:
    """Count the source's rows by day and compare with what came: one query, which an index can answer.

    Args:
        lake: the lake; its clock says what is to come.
        spec: the source.
        table: what to count.
        reader: an open reader.
        known: keys that are read anyway.

    Raises:
        SourceUnavailable, SourceRefused, SourceSchemaError: see ``common/errors.py``.
    """
    if table.late.beyond == "ignore" or not isinstance(reader, ComparesKeys):
        return LateRows({}, 0, ())
    raw = spec.raw(table.name)
    by_day = reader.rows_by_day(table)
    live: dict[str, int] = {}
    for file in lake.live(raw):
        live[file.key] = live.get(file.key, 0) + file.rows
    beyond = {}
    for key in sorted(live.keys() - set(known)):
        rows = by_day.get(key, 0)
        if rows <= live[key] and not table.keeps_deleted:
            continue  # what is live came, so nobody need look for what else did
        receipt = lake.receipt(raw, key)
        came = receipt.published + receipt.quarantined - receipt.deleted if receipt else live[key]
        if rows > came:
            beyond[key] = rows - came
    tomorrow = (lake.clock().astimezone(zone(spec.time_zone)) + timedelta(days=1)).date().isoformat()
    future = {day: rows for day, rows in by_day.items() if len(day) > len(tomorrow) or day > tomorrow}
    warnings = []
    if beyond:
        what = "read again" if table.late.beyond == "reopen" else "not read"
        warnings.append(f"{sum(beyond.values())} rows came later than the late window, in {_some(beyond)}: {what}")
    if future:
        warnings.append(
            f"{sum(future.values())} rows lie in days to come ({_some(future)}) and are in no interval until then"
        )
    return LateRows(beyond, sum(future.values()), tuple(f"{raw}: {warning}" for warning in warnings))


def sync_table_history(lake: Lake, spec: SourceSpec, table: TableSpec, *, run_id: str) -> Synced:
    """Bring a table's history in step with its raw table; nothing happens if the spec asks for none.

    Raises:
        StateCorrupt, CommitConflict, StoreUnavailable: see :func:`lake.history.sync_history`.
    """
    raw = spec.raw(table.name)
    if not table.history or not lake.exists(raw):
        return Synced(0, 0, 0)
    lake.ensure(raw, table.lake_columns(), partition_by=PARTITION_COLUMN if table.partitioned else None)
    return sync_history(lake, history_of(spec, table), run_id=run_id)


def history_of(spec: SourceSpec, table: TableSpec) -> History:
    """What a table's history is kept of."""
    version = table.version_column
    return History(
        raw=spec.raw(table.name),
        table=spec.history(table.name),
        columns=tuple(column.name for column in table.columns),
        all_columns=table.history_columns(),
        keys=table.primary_key,
        version_column=version if version and table.column(version).type == "timestamptz" else None,
        moves=table.moves,
    )


def outdated_keys(lake: Lake, sources: Iterable[SourceSpec], refined: RefinedTable, *, known: Set[str]) -> list[str]:
    """Refined intervals whose raw partitions the work on another interval has rewritten or read again since.

    Args:
        lake: the lake.
        sources: all sources.
        refined: the refined table.
        known: keys that are refined anyway.
    """
    raw_tables = [
        spec.raw(table.name)
        for spec in sources
        for table in spec.tables
        if (table.rewrites_others or table.late.beyond == "reopen")
        and str(spec.raw(table.name)) in refined.inputs.values()
    ]
    if not raw_tables or not refined.partitioned:
        return []
    now = {f"{raw}/{receipt.key}": receipt.batch_id for raw in raw_tables for receipt in lake.receipts(raw)}
    return [
        receipt.key
        for receipt in lake.receipts(TableId("refined", refined.name))
        if receipt.key not in known and any(now.get(name, batch) != batch for name, batch in receipt.upstream.items())
    ]


def stale_keys(lake: Lake, refined: RefinedTable, keys: Iterable[str]) -> list[str]:
    """Those of some intervals that are not refined from the raw rows that are live."""
    from transformations.refine import stage as refine_stage

    stale = []
    for key in sorted(keys):
        live = lake.receipt(refine_stage.refined_id(refined), key)
        inputs = refine_stage.inputs_of(lake, refined, key)
        if live is None or inputs is None or live.upstream != inputs.upstream:
            stale.append(key)
    return stale


def _some(days: dict[str, int] | Any, most: int = 5) -> str:
    """The first days with their rows, for people."""
    named: Sequence[str] = [f"{day} ({rows})" for day, rows in sorted(days.items())]
    return ", ".join(named[:most]) + (f" and {len(named) - most} more days" if len(named) > most else "")
