"""What the restore of one table would change: a backup's table as it was at a moment, beside the one that is live.

A partition is the same if the attempt of then is live, or what an earlier restore of the same backup made of it. Of
the others, files, account and rejected rows are looked up in the backup before anything is written.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from pyiceberg.schema import Schema

from common.errors import StateCorrupt, UnknownName, UsageError
from lake.backup_place import BackupPlace
from lake.batches import Receipt
from lake.catalog import LiveFile, live_files
from lake.inventory import named_by
from lake.lake import Lake
from lake.paths import TableId, attempt_of, root_location
from lake.rewrite import rewritten_id
from penstock.backup_manifest import Manifest, read_index, read_manifest
from penstock.pipeline import Pipeline
from penstock.restore_plan import fetch_metadata, reading_backup, table_as_of

RESTORABLE = ("raw", "refined")
"""Namespaces whose tables have a batch and a receipt for each partition."""


@dataclass(frozen=True)
class Partition:
    """A partition that comes back.

    Attributes:
        key: which.
        files: its data files, with the locations they had.
        receipt: the account of its batch.
        waiting: files with its rejected rows.
    """

    key: str
    files: tuple[LiveFile, ...]
    receipt: Receipt
    waiting: tuple[str, ...]


@dataclass(frozen=True)
class TableRestore:
    """What a restore of one table would do.

    Attributes:
        manifest: of the backup.
        table: which.
        at: the moment; None for the table as it was when the backup was taken.
        snapshot_id: of the snapshot that was current then.
        committed_at: when that was committed, UTC.
        back: partitions that become what they were.
        gone: keys of partitions that were not there then, and will not be any more.
        same: how many partitions are what they were.
        seen: locations of the table's live files.
    """

    manifest: Manifest
    table: TableId
    at: datetime | None
    snapshot_id: int
    committed_at: datetime
    back: tuple[Partition, ...]
    gone: tuple[str, ...]
    same: int
    seen: frozenset[str]

    @property
    def files(self) -> list[LiveFile]:
        """Data files that come back."""
        return [file for each in self.back for file in each.files]

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {
            "backup": self.manifest.id,
            "taken_at": self.manifest.taken_at,
            "at": self.at.isoformat() if self.at else None,
            "table": str(self.table),
            "as_of_snapshot": self.snapshot_id,
            "committed_at": self.committed_at.isoformat(),
            "back": [each.key for each in self.back],
            "gone": list(self.gone),
            "same": self.same,
            "rows": sum(file.rows for file in self.files),
            "quarantined": sum(each.receipt.quarantined for each in self.back),
            "size_bytes": sum(int(file.data_file.file_size_in_bytes) for file in self.files),
        }


def plan_table(
    pipeline: Pipeline, place: BackupPlace, backup_id: str, table: TableId, *, at: datetime | None = None
) -> TableRestore:
    """What a restore of one table would do; nothing is changed.

    Args:
        pipeline: over the lake that the table is in.
        place: where the backup lies.
        backup_id: which.
        table: which table, raw or refined.
        at: the table as of then.

    Raises:
        StateCorrupt: the backup is damaged, or has no account of one of the table's batches.
        StoreUnavailable: place, store or catalog does not answer.
        UnknownName: backup or lake has no such table, or the backup does not know what it held then.
        UsageError: the table cannot be restored by itself, or not from this backup.
    """
    with tempfile.TemporaryDirectory(prefix="penstock-restore-") as scratch:
        return work_out(pipeline, place, backup_id, table, at, Path(scratch))


def work_out(
    pipeline: Pipeline, place: BackupPlace, backup_id: str, table: TableId, at: datetime | None, scratch: Path
) -> TableRestore:
    """As :func:`plan_table`; the backup's metadata of the table are in ``scratch`` afterwards."""
    lake = pipeline.lake
    if table.namespace not in RESTORABLE:
        raise UsageError(
            f"{table} cannot be restored by itself.",
            table=str(table),
            remedy="name a raw or refined table: its quarantine comes with it; or restore all of the backup",
        )
    manifest = read_manifest(place, read_index(place, backup_id), scratch)
    if str(table) not in manifest.tables:
        raise UnknownName(
            f"Backup {backup_id} has no table {table}.", table=str(table), remedy=f"it has {', '.join(manifest.tables)}"
        )
    if not manifest.covers_data and root_location(lake.settings.lake_uri) != manifest.lake_root:
        raise UsageError(
            f"Backup {backup_id} holds no data files: those stayed at {manifest.lake_root}.",
            table=str(table),
            remedy="restore into the lake it was taken of, or take backups with --data",
        )
    fetch_metadata(place, manifest, scratch, [table, table.quarantine])
    then = table_as_of(manifest, table, scratch, at)
    current = then.current_snapshot() if then is not None else None
    if then is None or current is None:
        raise UsageError(
            f"{table} had no rows yet at {at.isoformat() if at else manifest.taken_at}.",
            table=str(table),
            remedy="choose a later moment",
        )
    with reading_backup(manifest, table):
        named_by(then)
        files = sorted(live_files(then), key=lambda file: (file.key, file.location))
    now = lake.load(table)
    _check_columns(table, then.schema(), now.schema())
    live = lake.live(table)
    receipts, waiting = _Accounts(place, manifest, table, scratch), _waiting(lake, manifest, table, scratch)
    attempts, back, same = lake.live_attempts(table), [], 0
    for key, several in groupby(files, key=lambda file: file.key):
        mine = tuple(several)
        attempt = attempt_of(mine[0].location) or ""
        there = attempts.pop(key, None)
        if there == attempt:
            same += 1
            continue
        receipt = receipts.read(key, attempt)
        now_live = lake.find_receipt(table, key, there) if there else None
        if now_live is not None and now_live.batch_id == rewritten_id(receipt, what(manifest)):
            same += 1  # an earlier restore has brought it back
            continue
        back.append(Partition(key, mine, receipt, tuple(waiting.get(attempt, ())) if receipt.quarantined else ()))
    return TableRestore(
        manifest,
        table,
        at,
        current.snapshot_id,
        datetime.fromtimestamp(current.timestamp_ms / 1000, UTC),
        tuple(back),
        tuple(sorted(attempts)),
        same,
        frozenset(file.location for file in live),
    )


def what(manifest: Manifest) -> str:
    """Of what the ids of restored batches are made, beside those that they had."""
    return f"restored from {manifest.id}"


def _check_columns(table: TableId, then: Schema, now: Schema) -> None:
    """Whether files of then are read rightly by the columns of now: Iceberg knows columns by number."""
    numbers = {field.field_id: field.name for field in now.fields}
    others = [field.name for field in then.fields if numbers.get(field.field_id) != field.name]
    if others:
        raise UsageError(
            f"The columns {', '.join(others)} are others now than those of the backup: the table was made anew since.",
            table=str(table),
            remedy="restore all of the backup into another folder (--into) and take the rows from there",
        )


def _waiting(lake: Lake, manifest: Manifest, table: TableId, scratch: Path) -> dict[str, list[str]]:
    """Files with rejected rows that the backup knows, by attempt."""
    found: dict[str, list[str]] = {}
    waiting = table.quarantine
    read = table_as_of(manifest, waiting, scratch, None) if str(waiting) in manifest.tables else None
    if read is None:
        return found
    if lake.exists(waiting):
        _check_columns(waiting, read.schema(), lake.load(waiting).schema())
    with reading_backup(manifest, waiting):
        for location in sorted(named_by(read).data):
            found.setdefault(attempt_of(location) or "", []).append(location)
    return found


class _Accounts:
    """The receipts in a backup."""

    def __init__(self, place: BackupPlace, manifest: Manifest, table: TableId, scratch: Path) -> None:
        self._place, self._manifest, self._table, self._scratch = place, manifest, table, scratch
        folder = f"ops/receipts/{table}/"
        self._entries = {e.path: e for e in manifest.entries if e.area == "lake" and e.path.startswith(folder)}

    def read(self, key: str, attempt: str) -> Receipt:
        """The receipt of an attempt.

        Raises:
            StateCorrupt: the backup has none: without it the rows would count for nothing.
        """
        entry = self._entries.get(f"ops/receipts/{self._table}/{key}/{attempt}.json")
        if entry is None:
            raise StateCorrupt(
                f"Backup {self._manifest.id} holds no receipt of attempt {attempt}.",
                table=str(self._table),
                interval=key,
                remedy="restore another backup",
            )
        path = self._scratch / f"{attempt}.receipt"
        self._place.download(entry.object, path, entry.facts)
        return Receipt.from_dict(json.loads(path.read_text()))
