"""Maintenance: keep what is needed, give back the rest. What ``penstock maintain`` and its DAG call.

::

    record ─▶ retain releases ─▶ compact ─▶ expire snapshots ─▶ sweep
    │         │                  │          │                   └ files that nothing names, two steps, a grace apart
    │         │                  │          └ all but the newest, and those that kept releases name
    │         │                  └ small files of ops.* and of histories; dead files of quarantine
    │         └ releases beyond the limit, candidates and locks that killed builds left, old scratch files,
    │                                                 lineage of old months that was told anew since
    └ the history takes in what is about to be expired

Each step is safe beside writers and readers, may be killed at any point and run again; one that fails keeps none of the
others from being done.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from common.errors import LeaseHeld, PenstockError
from ingestion.extract_record import drop_left_record, left_records
from lake.commit import KEEP_SNAPSHOTS
from lake.compaction import Compacted, compact, drop_abandoned
from lake.expiry import expire_snapshots
from lake.history import ENDED
from lake.ops import OPS_TABLES, declare_ops
from lake.paths import TableId
from lake.sweep import Progress, Sweep, silent, sweep
from penstock.lineage import drop_replaced
from penstock.pipeline import Pipeline
from penstock.records import record
from penstock.status import lake_tables
from penstock.versions import history_of
from warehouse.lease import lease
from warehouse.leftovers import Leftover, left_over, remove_left_over
from warehouse.releases import Releases

_LINEAGE_KEPT = timedelta(days=31)
"""Files of lineage events stay whole for this long; of older ones what the graph is made of stays."""
NAMESPACES = ("raw", "refined", "quarantine", "ops")


@dataclass
class Retained:
    """What retention gave back.

    Attributes:
        dry_run: nothing was changed.
        releases: ids that were retired.
        left_over: what killed builds and extracts had left, as ``path``, ``size_bytes``, ``why``.
        size_bytes: of all of it.
        busy: a build holds the warehouse; its folder was left alone.
    """

    dry_run: bool
    releases: list[str] = field(default_factory=list)
    left_over: list[dict[str, Any]] = field(default_factory=list)
    size_bytes: int = 0
    busy: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return asdict(self)


@dataclass
class Maintenance:
    """What one run of everything did; ``errors`` by step."""

    dry_run: bool
    retained: Retained | None = None
    compacted: list[Compacted] | None = None
    expired: dict[str, int] | None = None
    swept: Sweep | None = None
    errors: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {
            "dry_run": self.dry_run,
            "retained": self.retained.to_dict() if self.retained else None,
            "compacted": None if self.compacted is None else [asdict(each) for each in self.compacted],
            "expired": self.expired,
            "swept": self.swept.to_dict() if self.swept else None,
            "errors": self.errors,
            "seconds": self.seconds,
        }


def all_tables(pipeline: Pipeline) -> list[TableId]:
    """Every table of the lake's catalog."""
    return [table for namespace in NAMESPACES for table in pipeline.lake.tables(namespace)]


# -- releases and leftovers --------------------------------------------------------------------------------------------


def retain(pipeline: Pipeline, *, keep: int | None = None, dry_run: bool = False) -> Retained:
    """Retire the oldest releases beyond a number, and remove what killed processes have left in the state folder.

    Args:
        pipeline: its settings say where.
        keep: releases that stay; ``PENSTOCK_KEEP_RELEASES`` by default. The current one always does.
        dry_run: change nothing.

    Side effects: folders and files are removed; the warehouse's are not while a build holds its lease.
    """
    settings = pipeline.settings
    keep = settings.keep_releases if keep is None else keep
    outcome = Retained(dry_run)
    if settings.warehouse.is_dir():
        try:
            _retain_releases(settings.warehouse, keep, outcome)
        except LeaseHeld:
            outcome.busy = True
    for each in scratch(pipeline):
        if dry_run or _remove_scratch(each.path):
            _note(outcome, each)
    first_kept = f"{pipeline.clock() - _LINEAGE_KEPT:%Y-%m}"
    for path, size_bytes in drop_replaced(settings.home / "lineage", before=first_kept, dry_run=dry_run).items():
        _note(outcome, Leftover(path, size_bytes, "lineage that was told anew since"))
    return outcome


def _retain_releases(warehouse: Path, keep: int, outcome: Retained) -> None:
    releases = Releases(warehouse)
    surplus = releases.surplus(keep)
    sizes = {each.id: _size_bytes(each.folder) for each in surplus}
    if outcome.dry_run:
        outcome.releases = list(sizes)
        for each in left_over(warehouse):
            _note(outcome, each)
    elif surplus or left_over(warehouse):
        with lease(warehouse) as held:
            for each in remove_left_over(warehouse, held):
                _note(outcome, each)
            outcome.releases = Releases(warehouse, held).retain(keep)
    outcome.size_bytes += sum(sizes.get(release, 0) for release in outcome.releases)


def scratch(pipeline: Pipeline) -> list[Leftover]:
    """Records, locks and scratch files in the state folder that are older than the grace and that nobody holds."""
    home, oldest = pipeline.settings.home, time.time() - pipeline.settings.sweep_grace_h * 3600
    found = [
        Leftover(lock, _size_bytes(lock) + _size_bytes(lock.with_suffix(".json")), "the record of an extract that died")
        for lock, _ in left_records(home)
        if _touched_at(lock) < oldest and _touched_at(lock.with_suffix(".json")) < oldest
    ]
    scratch = home / "tmp"
    paths = sorted(scratch.iterdir()) if scratch.is_dir() else []
    old = [path for path in paths if _newest(path) < oldest]
    return found + [Leftover(path, _size_bytes(path), "scratch of a process that died") for path in old]


def _remove_scratch(path: Path) -> bool:
    if path.suffix == ".lock":
        return drop_left_record(path)
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    return True


def _touched_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _newest(path: Path) -> float:
    return max(map(_touched_at, [path, *(path.rglob("*") if path.is_dir() else ())]))


def _size_bytes(path: Path) -> int:
    paths = path.rglob("*") if path.is_dir() else [path]
    return sum(each.lstat().st_size for each in paths if each.is_file())


def _note(outcome: Retained, each: Leftover) -> None:
    outcome.left_over.append({"path": str(each.path), "size_bytes": each.size_bytes, "why": each.why})
    outcome.size_bytes += each.size_bytes


# -- the lake ----------------------------------------------------------------------------------------------------------


def compact_tables(pipeline: Pipeline, *, dry_run: bool = False, progress: Progress = silent) -> list[Compacted]:
    """Merge small files of ``ops.*`` and of histories, and drop dead files of quarantine (``lake/compaction.py``)."""
    lake, run_id = pipeline.lake, pipeline.run_id
    done: list[Compacted] = []
    ops = [each.table for each in OPS_TABLES if lake.exists(each.table)]
    if ops:
        declare_ops(lake)
    histories = [
        history_of(spec, table) for spec in pipeline.sources().values() for table in spec.tables if table.history
    ]
    histories = [history for history in histories if lake.exists(history.table)]
    rejecting = [table for table in lake_tables(pipeline) if lake.exists(table.quarantine)]
    total = len(ops) + len(histories) + len(rejecting)
    for table in ops:
        done += compact(lake, table, run_id=run_id, dry_run=dry_run)
        progress("compact", ops.index(table) + 1, total, str(table))
    for number, history in enumerate(histories, start=len(ops) + 1):
        lake.ensure(history.table, history.all_columns, partition_by="part")
        ended = lambda key: key.startswith(ENDED)  # noqa: E731 - a word for a condition
        done += compact(lake, history.table, run_id=run_id, wanted=ended, dry_run=dry_run)
        progress("compact", number, total, str(history.table))
    for number, table in enumerate(rejecting, start=len(ops) + len(histories) + 1):
        done += drop_abandoned(lake, table, run_id=run_id, dry_run=dry_run)
        progress("compact", number, total, str(table.quarantine))
    return done


def expire(
    pipeline: Pipeline, *, keep: int = KEEP_SNAPSHOTS, dry_run: bool = False, progress: Progress = silent
) -> dict[str, int]:
    """Take old snapshots out of every table, after the history has taken in the batches they tell of.

    Args:
        pipeline: lake and releases.
        keep: snapshots of each table that stay; those that kept releases name stay as well.
        dry_run: change nothing.
        progress: told of each table.

    Returns:
        Table -> snapshots taken out, of tables that had some.
    """
    lake = pipeline.lake
    if not dry_run:
        record(pipeline)
    spared = {
        int(pinned["snapshot_id"])
        for release in Releases(pipeline.settings.warehouse).all()
        for pinned in release.manifest.get("inputs", {}).values()
        if pinned.get("snapshot_id")
    }
    tables, found = all_tables(pipeline), {}
    for number, table in enumerate(tables, start=1):
        expired = expire_snapshots(lake, table, keep=keep, spared=spared, dry_run=dry_run)
        if expired:
            found[str(table)] = expired
        progress("expire", number, len(tables), str(table))
    return found


def sweep_lake(
    pipeline: Pipeline, *, grace_h: float | None = None, dry_run: bool = False, progress: Progress = silent
) -> Sweep:
    """Note and delete files of the lake that nothing names (``lake/sweep.py``).

    Args:
        pipeline: the lake, and who else names attempts: kept releases, extracts that can be continued.
        grace_h: the grace in hours; ``PENSTOCK_SWEEP_GRACE_H`` by default.
        dry_run: change nothing.
        progress: told of each step.
    """
    grace = timedelta(hours=pipeline.settings.sweep_grace_h if grace_h is None else grace_h)
    continued = {attempt for _, attempt in left_records(pipeline.settings.home) if attempt}
    attempts: set[str] = set()
    for release in Releases(pipeline.settings.warehouse).all():
        for pinned in release.manifest.get("inputs", {}).values():
            attempts |= set(pinned.get("attempts", {}).values())
    return sweep(
        pipeline.lake,
        grace=grace,
        keep_files=continued,
        keep_receipts=attempts,
        dry_run=dry_run,
        progress=progress,
    )


def maintain(pipeline: Pipeline, *, dry_run: bool = False, progress: Progress = silent) -> Maintenance:
    """Everything, in the order in which one step makes room for the next.

    A step that fails is told in ``errors``; the others are done. A sweep needs no other step to have succeeded.
    """
    started = time.perf_counter()
    outcome = Maintenance(dry_run)

    def retain_all() -> None:
        outcome.retained = retain(pipeline, dry_run=dry_run)

    def compact_all() -> None:
        outcome.compacted = compact_tables(pipeline, dry_run=dry_run, progress=progress)

    def expire_all() -> None:
        outcome.expired = expire(pipeline, dry_run=dry_run, progress=progress)

    def sweep_all() -> None:
        outcome.swept = sweep_lake(pipeline, dry_run=dry_run, progress=progress)

    steps = (("retain", retain_all), ("compact", compact_all), ("expire", expire_all), ("sweep", sweep_all))
    for name, step in steps:
        try:
            step()
        except PenstockError as error:
            outcome.errors[name] = str(error)
    outcome.seconds = time.perf_counter() - started
    return outcome
