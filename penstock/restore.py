"""A restore: write where nobody reads, audit it, publish it by removing one note.

::

    nothing in the way ─▶ restoring.json: nobody uses the state ─▶ files, each compared ─▶ metadata for the new place
        ─▶ audit: every live file is there, every release opens ─▶ catalog ─▶ pointer ─▶ the note goes

Killed at any point it leaves the note, and the same command goes on: files that are there and right are not fetched
again. Until the note is gone every command refuses the state folder. A state that is in the way is refused; with
``overwrite`` it is moved aside, never deleted.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchTableError
from pyiceberg.io import FileIO, load_file_io

from common.errors import StateCorrupt, UsageError
from common.fault_points import reach
from common.files import sync_folder, write_atomic
from common.settings import Settings
from lake.backup_place import BackupPlace
from lake.catalog import open_catalog
from lake.engine import lake_credentials
from lake.object_files import FileFacts, ObjectFiles
from lake.relocation import move_manifests, moved_root
from lake.storage import Storage
from lake.sweep import Progress, silent
from lake.unfinished import end_restore, note_restore, unfinished_restore
from penstock.backup_lock import alone
from penstock.backup_manifest import Entry
from penstock.restore_plan import RestorePlan, TablePlan, catalog_file, elsewhere, plan_restore
from warehouse.checkup import problem_of
from warehouse.moves import FILE as MOVES
from warehouse.releases import DATABASE

_FETCHES_AT_ONCE = 4
_ASIDE = "before-restore"
_FENCE_AHEAD, _RELEASES_AHEAD = 1_000_000, 1000
"""How far the numbers of leases and releases jump: processes of the lost state that still live are refused, and no id
of a release that was made after the backup is given to another one."""


@dataclass(frozen=True)
class Restored:
    """A restore that was done.

    Attributes:
        plan: what was done.
        aside: where the state that was in the way lies now; None if none was.
        seconds: how long it took.
    """

    plan: RestorePlan
    aside: Path | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        told = {**self.plan.to_dict(), "occupied": []}
        return {**told, "aside": str(self.aside) if self.aside else None, "seconds": self.seconds}


def plan(settings: Settings, place: BackupPlace, backup_id: str, *, at: datetime | None = None) -> RestorePlan:
    """What a restore would do (:func:`penstock.restore_plan.plan_restore`); nothing is changed."""
    with tempfile.TemporaryDirectory(prefix="penstock-restore-") as scratch:
        return plan_restore(settings, place, backup_id, Path(scratch), at=at)


def restore(
    settings: Settings,
    place: BackupPlace,
    backup_id: str,
    *,
    at: datetime | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Restored:
    """Put a backup back.

    Args:
        settings: where to: home, lake, catalog, warehouse.
        place: where the backup lies.
        backup_id: which.
        at: the state as of then.
        overwrite: move a state that is in the way into ``<home>/before-restore``.
        progress: told of each file.

    Raises:
        StateCorrupt: the backup is damaged, or what was put back does not hold together. Nothing is published.
        StoreUnavailable: place, store or catalog does not answer; run it again.
        UsageError: a state is in the way, or another restore is.

    Side effects: the state is what the backup holds; or, until the note is gone, unusable.
    """
    started = time.perf_counter()
    wish = {"backup": backup_id, "at": at.isoformat() if at else None}
    before = unfinished_restore(settings.home)
    if before is not None and not overwrite and {name: before.get(name) for name in wish} != wish:
        raise UsageError(
            f"A restore of backup {before.get('backup')} into {settings.home} has not finished.",
            remedy="run that one again, or this one with --overwrite",
        )
    goes_on = before is not None and {name: before.get(name) for name in wish} == wish
    with alone(settings.home), tempfile.TemporaryDirectory(prefix="penstock-restore-") as scratch:
        planned = plan_restore(settings, place, backup_id, Path(scratch), at=at)
        if planned.occupied and not goes_on and not overwrite:
            raise UsageError(
                f"A state is in the way: {'; '.join(planned.occupied)}.",
                remedy="restore into another folder (--into), or have it moved aside (--overwrite)",
            )
        note = before if goes_on and before else {**wish, "aside": None, "phase": "aside"}
        immovable = [told for told, is_inside in planned.occupied.items() if not is_inside]
        if not goes_on and immovable:
            raise UsageError(
                f"What is in the way lies outside of {settings.home} and is not moved: {'; '.join(immovable)}.",
                remedy="name an empty catalog, lake and warehouse in the settings",
            )
        if not goes_on and planned.occupied:
            note = {**note, "aside": f"{_ASIDE}/{uuid.uuid4().hex[:8]}"}
        note_restore(settings.home, note)
        aside = settings.home / note["aside"] if note.get("aside") else None
        if aside is not None and note["phase"] == "aside":
            _move_aside(settings, aside)
        note_restore(settings.home, {**note, "phase": "write"})
        _Restore(planned, place, Path(scratch), progress).run()
    return Restored(planned, aside, round(time.perf_counter() - started, 3))


def _move_aside(settings: Settings, aside: Path) -> None:
    """Move what a restore will write out of the way, as far as it lies in the state folder. May be run again."""
    home, database = settings.home, catalog_file(settings)
    parts = [settings.warehouse, home / "lineage", home / "extracts"]
    if "://" not in settings.lake_uri:
        parts.append(Path(settings.lake_uri))
    if database is not None:
        parts += [database, *(database.with_name(database.name + end) for end in ("-journal", "-wal", "-shm"))]
    aside.mkdir(parents=True, exist_ok=True)
    for path in parts:
        if home in path.parents and path.exists():
            target = aside / path.relative_to(home)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    sync_folder(home)


class _Restore:
    """The writing part."""

    def __init__(self, plan: RestorePlan, place: BackupPlace, scratch: Path, progress: Progress) -> None:
        self._plan, self._place, self._scratch, self._progress = plan, place, scratch, progress
        self._settings = plan.settings
        self._storage = Storage(plan.settings)
        credentials = lake_credentials(plan.settings)
        prefix = urlsplit(plan.new_root).path.strip("/")
        self._bucket = ObjectFiles(credentials, prefix) if credentials else None

    def run(self) -> None:
        """Files, metadata, audit, catalog, pointer; then everybody may use the state."""
        self._fetch()
        catalog = open_catalog(self._settings)
        io = load_file_io(catalog.properties, self._plan.new_root)
        for each in self._plan.tables:
            self._write_metadata(each, io)
        self._write_warehouse()
        self._audit(io)
        reach("restore.before_catalog")
        for each in self._plan.tables:
            _register(catalog, each)
        reach("restore.before_pointer")
        self._point()
        end_restore(self._settings.home)

    # -- files -----------------------------------------------------------------------------------------------------

    def _fetch(self) -> None:
        with ThreadPoolExecutor(_FETCHES_AT_ONCE, thread_name_prefix="restore") as workers:
            try:
                for number, entry in enumerate(workers.map(self._fetch_one, self._plan.files), start=1):
                    self._progress("restore", number, len(self._plan.files), entry.path)
            except BaseException:
                workers.shutdown(cancel_futures=True)
                raise

    def _fetch_one(self, entry: Entry) -> Entry:
        if entry.area == "lake" and self._bucket is not None:
            self._fetch_into_bucket(entry, self._bucket)
        elif not self._stays(entry):
            target = self._target(entry)
            if not target.is_file() or FileFacts.of(target) != entry.facts:
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary = target.with_name(f".{target.name}.restoring")
                temporary.unlink(missing_ok=True)
                self._place.download(entry.object, temporary, entry.facts)
                if target.name == DATABASE:
                    temporary.chmod(0o444)
                temporary.replace(target)
                sync_folder(target.parent)
        reach("restore.after_file")
        return entry

    def _stays(self, entry: Entry) -> bool:
        """Whether a file of the target's own is kept: who may see what is not taken back by a restore."""
        return entry.area == "home" and entry.path == "policy.yml" and self._settings.policy.exists()

    def _target(self, entry: Entry) -> Path:
        settings = self._settings
        tops = {
            "lake": Path(settings.lake_uri),
            "warehouse": settings.warehouse,
            "home": settings.home,
            "specs": settings.home / "restored",
        }
        if entry.area == "home" and entry.path == "policy.yml":
            return settings.policy
        return tops[entry.area] / entry.path

    def _fetch_into_bucket(self, entry: Entry, bucket: ObjectFiles) -> None:
        location = f"{self._plan.new_root}/{entry.path}"
        if self._storage.size(location) == entry.size_bytes and not self._plan.manifest.covers_data:
            return  # a lake that stayed where it was has it still
        copy = self._scratch / uuid.uuid4().hex
        self._place.download(entry.object, copy, entry.facts)
        try:
            bucket.upload(copy, entry.path, entry.facts)
        finally:
            copy.unlink()

    def _write_metadata(self, each: TablePlan, io: FileIO) -> None:
        plan = self._plan
        if plan.old_root != plan.new_root:
            move = moved_root(plan.old_root, plan.new_root)
            for location in move_manifests(each.old, io=elsewhere(plan.old_root, self._scratch, io), move=move):
                self._storage.flush(location)
        with io.new_output(each.new.location).create(overwrite=True) as stream:
            stream.write(each.new.document)
        self._storage.flush(each.new.location)

    # -- the warehouse ---------------------------------------------------------------------------------------------

    def _write_warehouse(self) -> None:
        plan, warehouse = self._plan, self._settings.warehouse
        told = plan.manifest.releases
        if not told["ids"] and not told["lease"]:
            return
        newest = max((int(release[1:]) for release in told["ids"]), default=0)
        for entry in plan.manifest.entries:
            if (entry.area, entry.path) == ("warehouse", "fence"):
                copy = self._scratch / "fence"
                self._place.download(entry.object, copy, entry.facts)
                newest = max(newest, int(copy.read_text()))
        write_atomic(warehouse / "fence", f"{newest + _RELEASES_AHEAD}\n")
        lease = {"fence": told["lease"] + _FENCE_AHEAD, "expires_at": 0}
        write_atomic(warehouse / "lease.json", json.dumps(lease))
        moves = plan.moves[:-1] if plan.current else plan.moves
        lines = [json.dumps({"at": at, "release": release}) + "\n" for at, release in moves]
        write_atomic(warehouse / MOVES, "".join(lines))

    def _point(self) -> None:
        if self._plan.current is None:
            return
        warehouse = self._settings.warehouse
        temporary = warehouse / f".current.{uuid.uuid4().hex}"
        temporary.symlink_to(Path("releases") / self._plan.current)
        if self._plan.moves:
            since_s = datetime.fromisoformat(self._plan.moves[-1][0]).timestamp()
            os.utime(temporary, (since_s, since_s), follow_symlinks=False)
        temporary.replace(warehouse / "current")
        sync_folder(warehouse)

    # -- audit -----------------------------------------------------------------------------------------------------

    def _audit(self, io: FileIO) -> None:
        """Read what was written as its readers will: every table's snapshots, every live file, every release.

        Raises:
            StateCorrupt: something is missing or is not what it should be.
        """
        sizes = {file.location: file.size_bytes for file in self._storage.list_stored(self._plan.new_root)}
        for each in self._plan.tables:
            _audit_table(each, io, sizes)
        for release in self._plan.releases:
            problem = problem_of(self._settings.warehouse / "releases" / release)
            if problem:
                raise StateCorrupt(f"Release {release} is not whole: {problem}.", remedy="restore another backup")


def _audit_table(each: TablePlan, io: FileIO, sizes: dict[str, int]) -> None:
    checked: set[str] = set()

    def check(location: str, size_bytes: int) -> None:
        found = sizes.get(location)
        if found != size_bytes:
            raise StateCorrupt(
                f"{location} {'is missing' if found is None else f'has {found} bytes, not {size_bytes}'}.",
                table=str(each.table),
                remedy="restore another backup, or one that holds the data files (taken with --data)",
            )

    for snapshot in each.new.metadata.snapshots:
        for manifest in snapshot.manifests(io):
            if manifest.manifest_path in checked:
                continue
            checked.add(manifest.manifest_path)
            check(manifest.manifest_path, manifest.manifest_length)
            for entry in manifest.fetch_manifest_entry(io, discard_deleted=True):
                check(entry.data_file.file_path, entry.data_file.file_size_in_bytes)


def _register(catalog: Catalog, each: TablePlan) -> None:
    identifier = (each.table.namespace, each.table.name)
    try:
        found = catalog.load_table(identifier).metadata_location
    except NoSuchTableError:
        found = None
    if found == each.new.location:
        return
    if found is not None:
        raise StateCorrupt(
            f"The catalog has it at {found} already.", table=str(each.table), remedy="restore into an empty catalog"
        )
    if not catalog.namespace_exists(each.table.namespace):
        with suppress(NamespaceAlreadyExistsError):
            catalog.create_namespace(each.table.namespace)
    catalog.register_table(identifier, each.new.location)
