"""Replace partitions of an Iceberg table by exactly these files, in one commit.

Optimistic: load the table, see what is live, decide, commit against that snapshot; whoever loses reads again and
decides again. Three outcomes only: done, conflict (retried here), unknown - then the table is read back and the
attempt id in its snapshots tells whether it landed. Nothing is ever committed twice on a guess.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Self

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    ServerError,
    ServiceUnavailableError,
    TooManyRequestsError,
    ValidationException,
)
from pyiceberg.expressions import AlwaysTrue, BooleanExpression, EqualTo, In
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestEntry, ManifestFile
from pyiceberg.table import Table, Transaction
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import ExpireSnapshots, _ManifestMergeManager, _OverwriteFiles
from pyiceberg.typedef import Record

from common.disk import disk_full, is_disk_full
from common.errors import CommitConflict, StateCorrupt, StoreUnavailable
from common.fault_points import reach
from lake.catalog import LiveFile, live_files, load_table, manifests, note_live, reading
from lake.footers import statistics
from lake.parquet_footer import read_footer
from lake.paths import TableId, engine_path
from lake.remembering import LeanTransaction

_LOG = logging.getLogger(__name__)

COMMIT_ATTEMPTS = 30
"""Attempts before a conflict is given back to the caller; waits grow from 20 ms to 1 s with jitter."""

KEEP_SNAPSHOTS = 10
"""Snapshots kept when expiry runs, which is when there are twice as many: pyiceberg copies all of them at every commit
(measured: 45 snapshots on average cost 80 ms a commit, 15 cost 45 ms). Releases, not snapshots, are what people go
back to."""

_LOST_RACE = (CommitFailedException, ValidationException)

_RETRIED = (
    *_LOST_RACE,
    StoreUnavailable,
    CommitStateUnknownException,
    ServerError,
    ServiceUnavailableError,
    TooManyRequestsError,
    OSError,
)
"""A lost race, or an outcome that is not known (a locked or lost catalog, a lost reply): both are read back. What
a REST catalog's client raises when its connection fails is an ``OSError`` too."""

ATTEMPT_PROPERTY = "penstock.attempt"
"""Snapshot property that says which attempt made it: how an unknown outcome is read back."""

MERGE_MANIFESTS = 30
"""Manifests that may collect before they are merged into one: reading a table reads each of them."""

Keep = Callable[[Sequence[LiveFile]], Sequence[LiveFile]]


@dataclass(frozen=True)
class Change:
    """What a commit makes of some partitions; every other partition stays as it is.

    Attributes:
        attempt: the id in the names of the new files, by which an unknown outcome is read back.
        files: partition key -> locations of Parquet files already written.
        summary: properties for the snapshot's summary.
        kept: locations of files that are live in these partitions and stay.
    """

    attempt: str
    files: Mapping[str, Sequence[str]]
    summary: Mapping[str, str]
    kept: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Landed:
    """A commit that is there: its snapshot, and which attempt made it."""

    snapshot_id: int
    attempt: str


Decide = Callable[[Sequence[LiveFile]], Change | None]
"""Given all live files of the table, what to change, or None: the work has been done already. It is asked again
whenever another writer was faster, so its answer may never rest on files that have been replaced since."""


def replace_partition(
    catalog: Catalog,
    table: TableId,
    key: str,
    files: Sequence[str],
    *,
    attempt: str,
    summary: dict[str, str],
    already_done: Callable[[Sequence[LiveFile]], bool] = lambda _live: False,
    keep: Keep = lambda _live: (),
) -> int | None:
    """Make ``files`` the content of one partition.

    Args:
        catalog: the catalog.
        table: the table.
        key: the partition key, or :data:`lake.paths.WHOLE`.
        files: locations of Parquet files already written.
        attempt: the id in the names of ``files``.
        summary: properties for the snapshot's summary.
        already_done: given the live files of the partition, whether the same work has landed already.
        keep: given the live files of the partition, those that stay.

    Returns:
        The id of the snapshot that was committed, or None if the work was already done.

    Raises:
        CommitConflict, StateCorrupt, StoreUnavailable: see :func:`change_partitions`.

    Side effects: one snapshot is added to the table, or nothing.
    """

    def decide(live: Sequence[LiveFile]) -> Change | None:
        mine = [file for file in live if file.key == key]
        if already_done(mine):
            return None
        return Change(attempt, {key: files}, summary, frozenset(file.location for file in keep(mine)))

    landed = change_partitions(catalog, table, decide, interval=key, attempts=[attempt])
    return landed.snapshot_id if landed else None


def change_partitions(
    catalog: Catalog, table: TableId, decide: Decide, *, interval: str, attempts: Sequence[str] = ()
) -> Landed | None:
    """Change some partitions in one commit, as is decided in view of what is live.

    Args:
        catalog: the catalog.
        table: the table.
        decide: see :data:`Decide`.
        interval: what an error names.
        attempts: ids of attempts that may have landed before the first look.

    Returns:
        What was committed, or None if the work was already done.

    Raises:
        CommitConflict: other writers won every attempt; the work has not landed.
        StateCorrupt: one of the files is not there, or the table's own metadata cannot be read; nothing has landed.
        DiskFull: there is no room for the new metadata or the catalog's row; nothing has landed.
        StoreUnavailable: the catalog or the store kept failing; whether the commit landed is not known, so the
            caller must not delete the files.

    Side effects: one snapshot is added to the table, or nothing.
    """
    wait_s = 0.02
    failure: Exception | None = None
    uncertain: Exception | None = None
    described: dict[str, DataFile] = {}
    tried = list(attempts)
    for _ in range(COMMIT_ATTEMPTS):
        try:
            current = load_table(catalog, table)
            live = live_files(current)
            landed = _read_back(current, live, tried)
            if landed is not None:
                return landed
            if failure is not None and is_disk_full(failure):  # it has not landed, as is known by now
                raise disk_full(failure, Path(engine_path(current.location())))
            change = decide(live)
            if change is None:
                return None
            if change.attempt not in tried:
                tried.append(change.attempt)
            described |= _newly_described(current, change, described)
            reach("lake.publish.before_commit")
            snapshot_id = _commit(current, change, live, described)
            reach("lake.publish.after_commit")
            return Landed(snapshot_id, change.attempt)
        except StateCorrupt:
            if uncertain is not None:  # what was committed cannot be read back: the files may be live
                failure = uncertain
                break
            raise
        except _RETRIED as error:
            failure = error
            uncertain = uncertain if isinstance(error, _LOST_RACE) else error
            _LOG.info("commit to %s/%s: %s, reading back", table, interval, type(error).__name__)
        time.sleep(wait_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
        wait_s = min(wait_s * 1.6, 1.0)
    where = {"table": str(table), "interval": interval}
    if isinstance(failure, _LOST_RACE):
        raise CommitConflict(
            f"Other writers won {COMMIT_ATTEMPTS} times in a row.", **where, remedy="run the interval again later"
        ) from None
    raise StoreUnavailable(
        f"The commit's outcome is unknown: {type(failure).__name__} in {COMMIT_ATTEMPTS} attempts at most.",
        **where,
        remedy="check that the catalog and the store answer, then run the interval again: it finds out what landed",
    ) from None


def _read_back(table: Table, live: Sequence[LiveFile], attempts: Sequence[str]) -> Landed | None:
    """The commit that one of the attempts has made; None if none has."""
    found = ((attempt, _landed(table, live, attempt)) for attempt in attempts)
    return next((Landed(snapshot_id, attempt) for attempt, snapshot_id in found if snapshot_id is not None), None)


def _landed(table: Table, live: Sequence[LiveFile], attempt: str) -> int | None:
    """The snapshot that an attempt made, even if another writer has replaced its files since; None if it made none."""
    for snapshot in reversed(table.metadata.snapshots):
        if snapshot.summary is not None and snapshot.summary.get(ATTEMPT_PROPERTY) == attempt:
            return snapshot.snapshot_id
    current = table.current_snapshot()
    if current is not None and any(attempt in file.location for file in live):
        return current.snapshot_id  # its own snapshot has been expired
    return None


def _commit(table: Table, change: Change, live: Sequence[LiveFile], described: Mapping[str, DataFile]) -> int:
    """Commit against exactly the snapshot in which ``live`` was seen."""
    removed = [file for file in live if file.key in change.files and file.location not in change.kept]
    summary = {**change.summary, ATTEMPT_PROPERTY: change.attempt}
    with LeanTransaction(table) as transaction:
        with Replacement.begin(transaction, summary) as replacement:
            replacement.delete_by_predicate(_predicate(table, list(change.files)))
            for file in removed:
                replacement.delete_data_file(file.data_file)
            for locations in change.files.values():
                for location in locations:
                    replacement.append_data_file(described[location])
        snapshots = table.metadata.snapshots
        if len(snapshots) >= 2 * KEEP_SNAPSHOTS:
            old = sorted(snapshots, key=lambda s: s.sequence_number or 0)[:-KEEP_SNAPSHOTS]
            ExpireSnapshots(transaction).by_ids([s.snapshot_id for s in old]).commit()
    committed, gone = table.current_snapshot(), {file.location for file in removed}
    if committed is not None and committed.snapshot_id == replacement.snapshot_id:
        added = [
            LiveFile(key, location, described[location].record_count, described[location])
            for key, locations in change.files.items()
            for location in locations
        ]
        note_live(committed, [*added, *(file for file in live if file.location not in gone)])
    return replacement.snapshot_id


class Replacement(_OverwriteFiles):
    """An overwrite whose list of manifests stays short.

    pyiceberg 0.12 carries every manifest along for ever, also those that only say which files were removed long ago:
    the hundredth replacement of one partition cost 196 ms instead of 47. Here those are left out, and when there are
    many small ones they are merged, as an append of pyiceberg's own does.
    """

    @classmethod
    def begin(cls, transaction: Transaction, summary: dict[str, str]) -> Self:
        """A replacement inside a transaction; used as a context manager."""
        first = transaction.table_metadata.current_snapshot() is None
        return cls(
            operation=Operation.APPEND if first else Operation.OVERWRITE,
            transaction=transaction,
            io=transaction._table.io,  # noqa: SLF001 - as pyiceberg's own update_snapshot() does
            snapshot_properties=summary,
        )

    def _existing_manifests(self) -> list[ManifestFile]:
        """As the library's; where nothing is removed no manifest need be looked into."""
        before = self._transaction._table.current_snapshot()  # noqa: SLF001 - as in begin()
        if self._deleted_data_files:
            with reading(before.manifest_list if before else "metadata"):
                return super()._existing_manifests()
        return list(manifests(before, self._io)) if before else []

    def _deleted_entries(self) -> list[ManifestEntry]:
        """As the library's; none where nothing is removed."""
        if not self._deleted_data_files:
            return []
        before = self._transaction._table.current_snapshot()  # noqa: SLF001 - as in begin()
        with reading(before.manifest_list if before else "metadata"):
            return super()._deleted_entries()

    def _process_manifests(self, found: list[ManifestFile]) -> list[ManifestFile]:
        own = {None, self._snapshot_id}
        mine = [manifest for manifest in found if manifest.added_snapshot_id in own]
        older = [
            manifest
            for manifest in found
            if manifest.added_snapshot_id not in own and (manifest.has_added_files() or manifest.has_existing_files())
        ]
        if len(older) < MERGE_MANIFESTS:
            return mine + older
        merger = _ManifestMergeManager(
            target_size_bytes=8 << 20, min_count_to_merge=2, merge_enabled=True, snapshot_producer=self
        )
        return mine + merger.merge_manifests(older)


def _predicate(table: Table, keys: Sequence[str]) -> BooleanExpression:
    if table.spec().is_unpartitioned():
        return AlwaysTrue()
    name = table.spec().fields[0].name
    if len(keys) == 1:
        return EqualTo(name, keys[0])  # type: ignore[misc,call-arg]  # pydantic hides the signature
    return In(name, keys)  # type: ignore[misc,call-arg]  # as above


def _newly_described(table: Table, change: Change, described: Mapping[str, DataFile]) -> dict[str, DataFile]:
    return {
        location: _described(table, key, location)
        for key, locations in change.files.items()
        for location in locations
        if location not in described
    }


def _described(table: Table, key: str, location: str) -> DataFile:
    try:
        return describe_file(table, key, location)
    except FileNotFoundError:
        raise StateCorrupt(
            f"The staged file {location} is missing.", interval=key, remedy="run the interval again"
        ) from None


def describe_file(table: Table, key: str, location: str) -> DataFile:
    """Iceberg's description of a Parquet file, its partition taken from ``key``.

    The partition is not inferred from column statistics: a file without rows has none, and a file that got no
    partition value would vanish from every filtered read.
    """
    file = table.io.new_input(location)
    size_bytes = len(file)
    with file.open() as stream:
        footer = read_footer(stream, size_bytes)
    described = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=location,
        file_format=FileFormat.PARQUET,
        partition=_partition_record(table, key),
        file_size_in_bytes=size_bytes,
        sort_order_id=None,
        spec_id=table.metadata.default_spec_id,
        equality_ids=None,
        key_metadata=None,
        **statistics(footer, table.schema()),
    )
    described.spec_id = table.metadata.default_spec_id  # given by the manifest, once it has been written and read
    return described


def _partition_record(table: Table, key: str) -> Record:
    if table.spec().is_unpartitioned():
        return Record()
    source = table.schema().find_field(table.spec().fields[0].source_id)
    if str(source.field_type) == "date":
        return Record((date.fromisoformat(key) - date(1970, 1, 1)).days)
    return Record(key)
