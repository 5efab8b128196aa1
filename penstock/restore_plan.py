"""What a restore would put where: read off a backup's manifest and its tables' metadata, before anything is written.

As of a time, each table is cut to the snapshot that was current then, and the warehouse to what its pointer named: all
of them by the same moment, so that what comes out is a state that somebody could have read.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from pyiceberg.catalog import Catalog
from pyiceberg.io import FileIO
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

from common.errors import StateCorrupt, UnknownName, UsageError
from common.settings import Settings
from lake.backup_place import BackupPlace
from lake.catalog import open_catalog
from lake.inventory import Named, is_record, named_by, receipt_attempt
from lake.local_io import LocalFileIO
from lake.paths import TableId, root_location
from lake.relocation import FilesElsewhere, Moved, moved, moved_root, parse_metadata, snapshot_at
from lake.sqlite_catalog import sqlite_file
from lake.storage import Storage
from penstock.backup_manifest import Entry, Manifest, backup_ids, newest, read_index, read_manifest
from warehouse.checkup import published
from warehouse.releases import Releases


@dataclass(frozen=True)
class TablePlan:
    """One table of a restore.

    Attributes:
        table: which.
        old: its metadata as of the backup, cut to the moment, with the old locations.
        named: what those name, with the old locations.
        new: its metadata in the new place.
    """

    table: TableId
    old: TableMetadata
    named: Named
    new: Moved


@dataclass(frozen=True)
class RestorePlan:
    """What a restore would do.

    Attributes:
        manifest: of the backup.
        settings: of the place it is restored to.
        at: the moment, None for all of the backup.
        tables: what becomes of them.
        not_yet: tables that had no rows at that moment.
        releases: ids of the releases that come back.
        current: the one that will be current.
        moves: of the pointer, as ``[at, release]``.
        files: entries to be written as they are: data files, records, releases, the rest.
        occupied: what is in the way, and whether it lies in the state folder, so that it can be moved aside.
        notices: what else to know.
    """

    manifest: Manifest
    settings: Settings
    at: datetime | None
    tables: tuple[TablePlan, ...]
    not_yet: tuple[str, ...]
    releases: tuple[str, ...]
    current: str | None
    moves: tuple[tuple[str, str], ...]
    files: tuple[Entry, ...]
    occupied: Mapping[str, bool] = field(default_factory=dict)
    notices: tuple[str, ...] = field(default=())

    @property
    def old_root(self) -> str:
        """Location of the lake's root when the backup was taken."""
        return self.manifest.lake_root

    @property
    def new_root(self) -> str:
        """Location of the lake's root that is restored."""
        return root_location(self.settings.lake_uri)

    @property
    def size_bytes(self) -> int:
        """Bytes that are written as they are."""
        return sum(entry.size_bytes for entry in self.files)

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {
            "backup": self.manifest.id,
            "taken_at": self.manifest.taken_at,
            "at": self.at.isoformat() if self.at else None,
            "home": str(self.settings.home),
            "lake": self.new_root,
            "lake_was": self.old_root,
            "covers_data": self.manifest.covers_data,
            "tables": {str(each.table): each.new.metadata.current_snapshot_id for each in self.tables},
            "not_yet": list(self.not_yet),
            "releases": list(self.releases),
            "current": self.current,
            "files": len(self.files),
            "size_bytes": self.size_bytes,
            "occupied": list(self.occupied),
            "notices": list(self.notices),
        }


def chosen_backup(place: BackupPlace, backup_id: str | None, at: datetime | None) -> str:
    """Which backup to restore: the one named; else the first that was taken after ``at``, or the newest.

    Raises:
        UnknownName: there is none, or none that is new enough.
    """
    if backup_id and backup_id != "latest":
        return backup_id
    if at is None:
        return newest(place)
    for each in backup_ids(place):
        if datetime.fromisoformat(read_index(place, each).taken_at) >= at:
            return each
    raise UnknownName(
        f"No backup in {place} was taken after {at.isoformat()}, so none holds all of what was there then.",
        remedy="take one with 'penstock backup' if the state is still there, or restore the newest without --at",
    )


def plan_restore(
    settings: Settings, place: BackupPlace, backup_id: str, scratch: Path, *, at: datetime | None = None
) -> RestorePlan:
    """Work out what a restore would do. Nothing is changed but ``scratch``.

    Args:
        settings: where to: home, lake, catalog, warehouse.
        place: where the backup lies.
        backup_id: which.
        scratch: a folder; the tables' metadata are in it afterwards, at their paths below the lake's root.
        at: restore the state as of then.

    Raises:
        StateCorrupt: index, manifest or metadata are damaged; the message names the object.
        StoreUnavailable: the place does not answer.
        UnknownName: no such backup, or it does not know what a table held at that time.
        UsageError: the data files are not in it and the lake is to lie elsewhere.
    """
    manifest = read_manifest(place, read_index(place, backup_id), scratch)
    if not manifest.covers_data and root_location(settings.lake_uri) != manifest.lake_root:
        raise UsageError(
            f"Backup {backup_id} holds no data files: those stayed at {manifest.lake_root}. It can only be restored "
            f"there, not to {root_location(settings.lake_uri)}.",
            remedy=f"set PENSTOCK_LAKE_URI to {manifest.lake_root}, or take backups with --data",
        )
    fetch_metadata(place, manifest, scratch)
    tables, not_yet = [], []
    for name in manifest.tables:
        planned = _table_plan(settings, manifest, TableId.parse(name), scratch, at)
        if planned is None:
            not_yet.append(name)
        else:
            tables.append(planned)
    releases, current, moves, notices = _releases(manifest, at)
    in_the_way = occupied(settings, manifest)
    plan = RestorePlan(
        manifest, settings, at, tuple(tables), tuple(not_yet), releases, current, moves, (), in_the_way, tuple(notices)
    )
    return replace(plan, files=tuple(_wanted_files(plan, place, scratch)))


def fetch_metadata(place: BackupPlace, manifest: Manifest, scratch: Path, tables: Collection[TableId] = ()) -> None:
    """Bring the tables' metadata into a folder, at their paths below the lake's root; of some tables, or of all.

    Raises:
        StateCorrupt: one of the files is damaged.
        StoreUnavailable: the place does not answer.
    """
    folders = tuple(f"{table.namespace}/{table.name}/metadata/" for table in tables)
    for entry in manifest.entries:
        is_wanted = entry.path.startswith(folders) if folders else "/metadata/" in entry.path
        if entry.area == "lake" and is_wanted:
            target = scratch / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            place.download(entry.object, target, entry.facts)


def table_as_of(manifest: Manifest, table: TableId, scratch: Path, at: datetime | None) -> Table | None:
    """A table of a backup as it was at a moment, its manifests read from ``scratch``; None if it had no rows yet.

    Raises:
        StateCorrupt: its metadata are damaged.
        UnknownName: what it held then is not known any more.
    """
    content = (scratch / str(manifest.tables[str(table)]["metadata"])).read_bytes()
    old = parse_metadata(content, table)
    current = snapshot_at(old, at, table) if at else None
    if at is not None and current is None and old.snapshots:
        return None
    name = _name_of(manifest, at)
    cut = moved(content, table, name=name, move=lambda location: location, current=current)
    io = elsewhere(manifest.lake_root, scratch, LocalFileIO())
    return Table((table.namespace, table.name), cut.metadata, cut.location, io, cast("Catalog", None))


def _name_of(manifest: Manifest, at: datetime | None) -> str:
    return f"{manifest.id}/{at.isoformat() if at else ''}"


@contextmanager
def reading_backup(manifest: Manifest, table: TableId) -> Iterator[None]:
    """Metadata that a backup lacks, told as such."""
    try:
        yield
    except StateCorrupt as error:
        raise StateCorrupt(
            f"Backup {manifest.id} does not hold all metadata of it: {error.problem}",
            table=str(table),
            remedy="restore another backup",
        ) from None


def _table_plan(
    settings: Settings, manifest: Manifest, table: TableId, scratch: Path, at: datetime | None
) -> TablePlan | None:
    read = table_as_of(manifest, table, scratch, at)
    if read is None:
        return None
    with reading_backup(manifest, table):
        named = named_by(read)
    move = moved_root(manifest.lake_root, root_location(settings.lake_uri))
    content = (scratch / str(manifest.tables[str(table)]["metadata"])).read_bytes()
    current = read.current_snapshot() if at else None
    return TablePlan(
        table, read.metadata, named, moved(content, table, name=_name_of(manifest, at), move=move, current=current)
    )


def elsewhere(root: str, scratch: Path, out: FileIO) -> FilesElsewhere:
    """Reads the lake's metadata from a folder in which they lie at their paths below the lake's root."""
    return FilesElsewhere(lambda location: scratch / location.removeprefix(f"{root}/"), out)


def _releases(
    manifest: Manifest, at: datetime | None
) -> tuple[tuple[str, ...], str | None, tuple[tuple[str, str], ...], list[str]]:
    """Releases that come back, the current one, the pointer's moves, and what is to be said of it."""
    kept: list[str] = list(manifest.releases["ids"])
    moves = [(str(when), str(release)) for when, release in manifest.releases["moves"]]
    if at is None:
        return tuple(kept), manifest.releases["current"], tuple(moves), []
    moves = [move for move in moves if datetime.fromisoformat(move[0]) <= at]
    current = moves[-1][1] if moves else None
    if current is None or current in kept:
        known = {release for _, release in moves}
        return tuple(release for release in kept if release in known), current, tuple(moves), []
    told = f"Release {current}, which was current then, is not in this backup: 'penstock build' makes one from the lake"
    return (), None, (), [told]


def _wanted_files(plan: RestorePlan, place: BackupPlace, scratch: Path) -> Iterator[Entry]:
    """Files that are written as they are; metadata among them only where the lake stays at its place."""
    prefix, stays = f"{plan.old_root}/", plan.old_root == plan.new_root
    named = (each.named.locations if stays else each.named.data for each in plan.tables)
    wanted = {location.removeprefix(prefix) for several in named for location in several}
    attempts = {attempt for each in plan.tables for attempt in each.named.attempts}
    for entry in plan.manifest.entries:
        if entry.area == "warehouse" and entry.path in {f"releases/{each}/manifest.json" for each in plan.releases}:
            attempts |= _attempts_of_release(place, entry, scratch)
    for entry in plan.manifest.entries:
        parts, attempt = entry.path.split("/"), receipt_attempt(entry.path)
        if entry.area == "warehouse":
            is_wanted = parts[0] == "identity" or (parts[0] == "releases" and parts[1] in plan.releases)
        elif entry.area == "lake" and is_record(entry.path):
            is_wanted = plan.at is None or attempt is None or attempt in attempts
        else:
            is_wanted = entry.area != "lake" or entry.path in wanted
        if is_wanted:
            yield entry


def _attempts_of_release(place: BackupPlace, entry: Entry, scratch: Path) -> set[str]:
    path = scratch / "release.json"
    place.download(entry.object, path, entry.facts)
    inputs = json.loads(path.read_text()).get("inputs", {})
    return {attempt for pinned in inputs.values() for attempt in pinned.get("attempts", {}).values()}


def occupied(settings: Settings, manifest: Manifest) -> dict[str, bool]:
    """What is in the way of a restore, in words, and whether it lies in the state folder; empty where nothing is.

    Raises:
        StoreUnavailable: catalog or store does not answer.
    """
    found: dict[str, bool] = {}
    home, lake_root = settings.home, root_location(settings.lake_uri)
    database = catalog_file(settings)
    if database is None or database.exists():
        tables = [
            f"{namespace}.{name}"
            for namespace in ("raw", "refined", "quarantine", "ops")
            for *_, name in _tables(open_catalog(settings), namespace)
        ]
        if tables:
            told = f"the catalog has {len(tables)} tables, such as {tables[0]}"
            found[told] = database is not None and home in database.parents
    if manifest.covers_data:
        files = Storage(settings).list_stored(lake_root)
        if files:
            told = f"the lake has {len(files)} files, such as {files[0].location}"
            found[told] = lake_root.startswith(f"file://{home}/")
    # Whole or not: a restore that was killed has left a part of one, and a damaged state is what a restore is for.
    if Releases(settings.warehouse).current_id() is not None or published(settings.warehouse):
        found[f"the warehouse {settings.warehouse} has releases"] = home in settings.warehouse.parents
    return found


def _tables(catalog: Catalog, namespace: str) -> list[tuple[str, ...]]:
    return list(catalog.list_tables(namespace)) if catalog.namespace_exists(namespace) else []


def catalog_file(settings: Settings) -> Path | None:
    """The file of an SQLite catalog; None for any other."""
    return sqlite_file(settings.catalog_uri.get_secret_value())
