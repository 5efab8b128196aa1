"""One table of a backup back into the live lake: a new snapshot of that table, by the commit that everybody makes.

::

    backup, cut to a moment ─▶ partitions that are others now ─▶ files and receipts under attempts of their own
        ─▶ rows that waited in quarantine then ─▶ ONE commit, if the table is still the one that was looked at

Everything else stays: other tables, releases, and the table's snapshots before. Files come back under new attempts: a
sweep may be about to delete those of the old ones, and nothing that a sweep has noted is ever named again. Each
restored batch has another id than before, so that what was refined of the table counts as outdated. How a batch came
from its source is remembered: where the source still has what it had then, the next run finds the interval unchanged,
and else it ingests it.

Nobody reads what it makes before the commit, so a restore that is killed leaves files that a later sweep removes.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from common.errors import CommitConflict, StateCorrupt
from lake.backup_place import BackupPlace
from lake.batches import Receipt
from lake.catalog import LiveFile
from lake.commit import Change
from lake.engine import lake_credentials
from lake.object_files import ObjectFiles
from lake.paths import TableId, data_location, engine_path, new_attempt, root_location
from lake.plans import Plan, commit_planned
from lake.quarantine import QUARANTINE_COLUMNS, commit_quarantine
from lake.rewrite import rewritten_receipt, write_receipts
from lake.sql import parquet_relation
from lake.sweep import Progress, silent
from penstock.backup_lock import alone
from penstock.backup_manifest import Entry
from penstock.pipeline import Pipeline
from penstock.restore_table_plan import Partition, TableRestore, what, work_out


@dataclass(frozen=True)
class RestoredTable:
    """A restore of one table that was done.

    Attributes:
        plan: what was done.
        snapshot_id: the table's new snapshot; None if it was what it was then already.
        seconds: how long it took.
    """

    plan: TableRestore
    snapshot_id: int | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {**self.plan.to_dict(), "snapshot": self.snapshot_id, "seconds": self.seconds}


def restore_table(
    pipeline: Pipeline,
    place: BackupPlace,
    backup_id: str,
    table: TableId,
    *,
    at: datetime | None = None,
    progress: Progress = silent,
) -> RestoredTable:
    """Make one table what it was, by one commit. Arguments and errors: see :func:`plan_table`; also:

    Raises:
        CommitConflict: another run published to the table meanwhile. Nothing was changed.

    Side effects: one snapshot of the table, perhaps some of its quarantine; or nothing.
    """
    started = time.perf_counter()
    with alone(pipeline.settings.home), tempfile.TemporaryDirectory(prefix="penstock-restore-") as scratch:
        planned = work_out(pipeline, place, backup_id, table, at, Path(scratch))
        snapshot_id = None
        if planned.back or planned.gone:
            snapshot_id = _Writer(pipeline, place, planned, Path(scratch), progress).run()
    return RestoredTable(planned, snapshot_id, round(time.perf_counter() - started, 3))


class _Writer:
    """The writing part."""

    def __init__(
        self, pipeline: Pipeline, place: BackupPlace, plan: TableRestore, scratch: Path, progress: Progress
    ) -> None:
        self._lake, self._run_id = pipeline.lake, pipeline.run_id
        self._place, self._plan, self._scratch, self._progress = place, plan, scratch, progress
        self._entries: Mapping[str, Entry] = {e.path: e for e in plan.manifest.entries if e.area == "lake"}
        credentials = lake_credentials(pipeline.settings)
        root = root_location(pipeline.settings.lake_uri)
        self._bucket = ObjectFiles(credentials, urlsplit(root).path.strip("/")) if credentials else None
        self._root = root

    def run(self) -> int | None:
        """Files, receipts and quarantine, then the commit; the snapshot it made."""
        plan, lake, table = self._plan, self._lake, self._plan.table
        files: dict[str, Sequence[str]] = dict.fromkeys(plan.gone, ())
        receipts: dict[str, Receipt] = {}
        written: list[str] = []
        try:
            for each in plan.back:
                attempt = new_attempt()
                locations = []
                for part, file in enumerate(each.files):
                    locations.append(data_location(lake.settings.lake_uri, table, each.key, attempt, part))
                    written.append(locations[-1])
                    self._bring(file.location, locations[-1])
                    self._progress("restore", len(written), len(plan.files), each.key)
                files[each.key] = locations
                receipts[each.key] = self._receipt(each, attempt)
            write_receipts(lake, table, receipts)
            for each in plan.back:
                self._bring_verdict(each.receipt)
                if each.receipt.quarantined:
                    self._bring_quarantine(each, receipts[each.key])
        except BaseException:  # nothing of it is live yet
            lake.delete_files(written)
            for key, receipt in receipts.items():
                lake.delete_receipt(table, key, receipt.attempt)
            raise

        def make(live: Iterable[LiveFile]) -> Plan:
            if {file.location for file in live} != plan.seen:
                raise CommitConflict(
                    "Another run has published to the table meanwhile; nothing was changed.",
                    table=str(table),
                    remedy="pause the runs of the table, then restore it again",
                )
            summary = {"penstock.run_id": self._run_id, "penstock.restored": plan.manifest.id}
            return Plan(Change(new_attempt(), files, summary), receipts)

        try:
            commit_planned(lake, table, make, interval=", ".join(sorted(files)[:3]), given=written)
        except CommitConflict:
            for key, receipt in receipts.items():
                lake.delete_receipt(table, key, receipt.attempt)
            raise
        return lake.snapshot_id(table)

    def _receipt(self, each: Partition, attempt: str) -> Receipt:
        made = rewritten_receipt(self._lake, each.receipt, attempt, self._run_id, what(self._plan.manifest))
        proof = each.receipt.proof.split(" ", 1)
        if proof[0] != each.receipt.attempt:
            return made
        return replace(made, proof=f"{attempt} {proof[1]}")  # the same bytes under another name

    def _bring(self, old: str, new: str) -> None:
        """Write one file of the backup, or of the lake where the backup has none, under another name."""
        entry = self._entries.get(self._path(old))
        if entry is None:
            self._copy(old, new)
        elif self._bucket is None:
            self._lake.storage.prepare_folder(new)
            self._place.download(entry.object, Path(engine_path(new)), entry.facts)
        else:
            copy = self._scratch / uuid.uuid4().hex
            self._place.download(entry.object, copy, entry.facts)
            try:
                self._bucket.upload(copy, new.removeprefix(f"{self._root}/"), entry.facts)
            finally:
                copy.unlink()
        self._lake.storage.flush(new)

    def _copy(self, old: str, new: str) -> None:
        found, expected = self._lake.storage.size(old), self._plan.manifest.data.get(self._path(old))
        if found is None or found != expected:
            raise StateCorrupt(
                f"{old} is {'not in the lake any more' if found is None else 'not the file it was'}, and the backup "
                "holds no data files.",
                table=str(self._plan.table),
                remedy="restore a backup that holds the data files (taken with --data), or ingest the interval again",
            )
        self._lake.storage.copy(old, new)

    def _path(self, location: str) -> str:
        return location.removeprefix(f"{self._plan.manifest.lake_root}/")

    def _bring_verdict(self, receipt: Receipt) -> None:
        """Great Expectations' own result, if it is not there any more."""
        path = str(receipt.verdict.get("validation") or "")
        location = f"{self._root}/{path}"
        if path in self._entries and self._lake.storage.size(location) is None:
            self._bring(f"{self._plan.manifest.lake_root}/{path}", location)

    def _bring_quarantine(self, each: Partition, receipt: Receipt) -> None:
        """Rows that were rejected from the batch, under its new attempt."""
        lake, waiting = self._lake, self._plan.table.quarantine
        lake.ensure(waiting, QUARANTINE_COLUMNS, partition_by="partition_key")
        columns, field_ids = lake.columns(waiting)
        paths = []
        for location in each.waiting:
            entry = self._entries.get(self._path(location))
            if entry is None:
                paths.append(engine_path(location))
                continue
            copy = self._scratch / f"{uuid.uuid4().hex}.parquet"
            self._place.download(entry.object, copy, entry.facts)
            paths.append(str(copy))
        with lake.connect() as connection:
            commit_quarantine(connection, lake, self._plan.table, receipt, parquet_relation(paths, columns, field_ids))
