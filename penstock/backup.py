"""A backup: write what is not there yet, audit it, publish it by one document.

::

    lock of the home, mark in the place ─▶ pin pointer and catalog ─▶ copy what no earlier backup has
        ─▶ every object is there with its length ─▶ manifest ─▶ index: now it counts

* Files of the lake and of releases never change under their name, so those that the last backup has are not read again.
  Others are read, and copied only if no object has their bytes.
* Writers, expiry and sweep go on. What a backup needs may go while it runs, if a table moves on by ten commits before
  its metadata are read: then it pins anew and keeps what it has copied.
* One that is killed leaves its mark, and objects; the next one of the same home takes those over.
* A prune removes no object while there is a mark of a backup that may live (``penstock/backup_prune.py``).
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock, local
from typing import Any

from pyiceberg.io import FileIO, load_file_io

import penstock
from common.errors import CommitConflict, StateCorrupt, StoreUnavailable
from common.fault_points import reach
from lake.backup_place import BackupPlace
from lake.engine import lake_credentials
from lake.object_files import FileFacts
from lake.paths import root_location
from lake.sweep import Progress, silent
from penstock.backup_files import Pinned, Wanted, pin, wanted_files
from penstock.backup_lock import alone
from penstock.backup_manifest import (
    OBJECTS,
    RUNNING,
    Entry,
    Index,
    Manifest,
    backup_ids,
    index_name,
    read_index,
    read_manifest,
)
from penstock.pipeline import Pipeline

_PINS = 5
"""How often a backup pins anew because a table moved on under it."""
_COPIES_AT_ONCE = 4
_MARK_EVERY_S = 60.0
_STAMP = "%Y%m%dT%H%M%S%fZ"


@dataclass(frozen=True)
class Taken:
    """A backup that was taken.

    Attributes:
        index: what is told of it.
        foreign: tables of the catalog that lie outside of the lake, and so are not in it.
        notices: what else to know.
    """

    index: Index
    foreign: tuple[str, ...]
    notices: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {**asdict(self.index), "foreign": list(self.foreign), "notices": list(self.notices)}


def take(
    pipeline: Pipeline,
    place: BackupPlace,
    *,
    with_data: bool | None = None,
    full: bool = False,
    progress: Progress = silent,
) -> Taken:
    """Take a backup.

    Args:
        pipeline: lake and releases.
        place: where to.
        with_data: whether data files are copied; by default those of a local lake are, and those of a lake in object
            storage if ``PENSTOCK_BACKUP_DATA`` says so.
        full: copy every file anew, whatever earlier backups have.
        progress: told of each file.

    Raises:
        LeaseHeld: another backup of this home runs.
        StateCorrupt: the lake misses a file that it names, or the place gives back something else than was put there.
        StoreUnavailable: lake, catalog or place does not answer.

    Side effects: objects, a manifest and an index are added to the place, or only objects, which the next one uses.
    """
    started = time.perf_counter()
    settings = pipeline.settings
    if with_data is None:
        with_data = lake_credentials(settings) is None or settings.backup_data
    with alone(settings.home) as owner:
        backup_id = _new_id(place)
        with _marked(place, backup_id, owner) as (mark, dead):
            scratch = settings.home / "tmp" / f"backup-{backup_id}"
            scratch.mkdir(parents=True)
            try:
                copier = _Copier(pipeline, place, backup_id, scratch, full=full, dead=dead, renew=mark)
                manifest = _copied(pipeline, copier, with_data, progress)
                index = copier.publish(manifest, started)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        for each in dead:
            place.remove(f"{RUNNING}/{each}.json")
    return Taken(index, tuple(copier.foreign), tuple(copier.notices))


def _new_id(place: BackupPlace) -> str:
    """An id behind those of all backups that are there, whatever this host's clock says: the newest is kept."""
    moment = datetime.now(UTC)
    for known in backup_ids(place)[-1:]:
        last = datetime.strptime(known.partition("-")[0], _STAMP).replace(tzinfo=UTC)
        moment = max(moment, last + timedelta(milliseconds=1))
    return f"{moment:%Y%m%dT%H%M%S}{moment.microsecond // 1000:03d}Z-{uuid.uuid4().hex[:8]}"


def _copied(pipeline: Pipeline, copier: _Copier, with_data: bool, progress: Progress) -> Manifest:
    """Pin and copy, again if what was pinned goes meanwhile."""
    for last in [False] * (_PINS - 1) + [True]:
        try:
            pinned = pin(pipeline)
            entries = copier.copy(list(wanted_files(pipeline, pinned, with_data=with_data)), progress)
        except (StateCorrupt, FileNotFoundError) as error:
            if isinstance(error, FileNotFoundError):
                error = StateCorrupt(
                    f"{error.filename or error} is missing, which the lake or a release names.",
                    remedy="look with 'penstock doctor', then take the backup again",
                )
            if last:
                raise error from None
            continue
        copier.foreign = pinned.foreign
        return _manifest(pipeline, copier.backup_id, pinned, entries, with_data=with_data)
    raise AssertionError("unreachable")


def _manifest(
    pipeline: Pipeline, backup_id: str, pinned: Pinned, entries: Sequence[Entry], *, with_data: bool
) -> Manifest:
    root = root_location(pipeline.settings.lake_uri)
    tables: dict[str, dict[str, Any]] = {}
    for table, each in pinned.tables.items():
        snapshot = each.metadata.current_snapshot()
        tables[str(table)] = {
            "metadata": each.location.removeprefix(f"{root}/"),
            "snapshot_id": snapshot.snapshot_id if snapshot else None,
            "committed_at": datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC).isoformat() if snapshot else None,
        }
    return Manifest(
        backup_id,
        pinned.taken_at.isoformat(),
        penstock.__version__,
        root,
        with_data,
        tables,
        pinned.releases,
        {} if with_data else pinned.data,
        tuple(entries),
    )


class _Copier:
    """Copies files into the place, each byte once."""

    def __init__(
        self,
        pipeline: Pipeline,
        place: BackupPlace,
        backup_id: str,
        scratch: Path,
        *,
        full: bool,
        dead: Sequence[str],
        renew: _Mark,
    ) -> None:
        self._settings, self._lake = pipeline.settings, pipeline.lake
        self._place, self.backup_id, self._scratch, self._renew = place, backup_id, scratch, renew
        self._lock = Lock()
        self._of_thread = local()
        self._known: dict[tuple[str, str], Entry] = {}
        self._objects: dict[FileFacts, str] = {}
        self._sizes = {file.location: file.size_bytes for file in place.stored(OBJECTS)}
        self.foreign: list[str] = []
        self.notices: list[str] = []
        self._new: dict[str, int] = {}
        if not full:
            self._take_over(dead)
            self._know_last()

    def _know_last(self) -> None:
        for backup_id in reversed(backup_ids(self._place)):
            try:
                manifest = read_manifest(self._place, read_index(self._place, backup_id), self._scratch)
            except StateCorrupt as error:
                self.notices.append(f"The last backup is of no use for this one: {error}")
                continue
            # A lake that was restored elsewhere has files of the same names whose content names another place.
            is_same = manifest.lake_root == root_location(self._settings.lake_uri)
            for entry in manifest.entries:
                if self._sizes.get(entry.object) == entry.size_bytes:
                    self._objects[entry.facts] = entry.object
                    if is_same or entry.area != "lake":
                        self._known[entry.area, entry.path] = entry
            return

    def _take_over(self, dead: Sequence[str]) -> None:
        """Objects of backups of this home that died: each was compared when it was put there."""
        for name, size in self._sizes.items():
            checksum, _, owner = name.rsplit("/", 1)[-1].partition("-")
            if owner in dead:
                self._objects[FileFacts(size, checksum)] = name

    def copy(self, wanted: Sequence[Wanted], progress: Progress) -> list[Entry]:
        """Have every file in the place; those that went meanwhile and may are left out.

        Raises:
            FileNotFoundError, StateCorrupt: one that may not went.
        """
        found: list[Entry] = []
        with ThreadPoolExecutor(_COPIES_AT_ONCE, thread_name_prefix="backup") as workers:
            try:
                for number, entry in enumerate(workers.map(self._entry, wanted), start=1):
                    if entry is not None:
                        found.append(entry)
                        self._known[entry.area, entry.path] = entry
                    self._renew.renew()
                    progress("backup", number, len(wanted), wanted[number - 1].path)
            except BaseException:
                workers.shutdown(cancel_futures=True)
                raise
        return found

    def _entry(self, wanted: Wanted) -> Entry | None:
        known = self._known.get((wanted.area, wanted.path))
        if (
            known is not None
            and wanted.is_fixed
            and known.modified_at == wanted.modified_at
            and wanted.size_bytes in {None, known.size_bytes}
        ):
            return known
        try:
            path, is_own = self._local(wanted)
            facts = FileFacts.of(path)
        except FileNotFoundError:
            if wanted.may_go:
                return None
            raise
        try:
            name = self._put(path, facts)
        finally:
            if is_own:
                path.unlink()
        return Entry(wanted.area, wanted.path, facts.size_bytes, facts.sha256, name, wanted.modified_at)

    def _local(self, wanted: Wanted) -> tuple[Path, bool]:
        """The file on this disk, and whether it is a copy: of what may change meanwhile, or lies in a bucket."""
        is_remote = wanted.source.startswith("s3://")
        source = Path(wanted.source.removeprefix("file://"))
        if wanted.is_fixed and not is_remote:
            return source, False
        copy = self._scratch / uuid.uuid4().hex
        if not is_remote:
            shutil.copyfile(source, copy)
            return copy, True
        try:
            with self._io.new_input(wanted.source).open() as stream, copy.open("wb") as target:
                shutil.copyfileobj(stream, target)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StoreUnavailable(
                f"Cannot read {wanted.source}: {error}.", remedy="check the lake's storage"
            ) from None
        return copy, True

    @property
    def _io(self) -> FileIO:
        if not hasattr(self._of_thread, "io"):
            root = root_location(self._settings.lake_uri)
            self._of_thread.io = load_file_io(self._lake.catalog.properties, root)
        io: FileIO = self._of_thread.io
        return io

    def _put(self, path: Path, facts: FileFacts) -> str:
        with self._lock:
            name = self._objects.get(facts)
        if name is None:
            name = f"{OBJECTS}/{facts.sha256[:2]}/{facts.sha256}-{self.backup_id}"
            self._place.upload(path, name, facts)
            with self._lock:
                self._objects[facts] = name
                self._new[name] = facts.size_bytes
            reach("backup.take.after_copy")
        return name

    def publish(self, manifest: Manifest, started: float) -> Index:
        """Audit, write the manifest, and publish it by its index.

        Raises:
            StateCorrupt: an object is missing or has another length.
        """
        there = {file.location: file.size_bytes for file in self._place.stored(OBJECTS)}
        for entry in manifest.entries:
            if there.get(entry.object) != entry.size_bytes:
                raise StateCorrupt(
                    self._place.damaged(entry.object, f"{entry.size_bytes} bytes were put there"),
                    remedy="take the backup again",
                )
        content = manifest.to_bytes()
        path = self._scratch / "manifest"
        path.write_bytes(content)
        facts = FileFacts.of(path)
        index = Index(
            manifest.id,
            manifest.taken_at,
            manifest.penstock,
            manifest.covers_data,
            len(manifest.tables),
            len(manifest.releases["ids"]),
            manifest.releases["current"],
            len(manifest.entries),
            sum(entry.size_bytes for entry in manifest.entries),
            len(self._new),
            sum(self._new.values()),
            round(time.perf_counter() - started, 3),
            facts.size_bytes,
            facts.sha256,
        )
        self._place.upload(path, index.manifest_name, facts)
        reach("backup.take.before_publish")
        try:
            self._place.create(index_name(index.id), index.to_bytes())
        except (CommitConflict, StoreUnavailable):
            if self._place.read(index_name(index.id)) != index.to_bytes():  # an answer may have been lost
                raise
        return index


# -- who is at work ----------------------------------------------------------------------------------------------------


class _Mark:
    """The mark of a backup that is under way; renewed, so that it is known to live."""

    def __init__(self, place: BackupPlace, name: str, content: Mapping[str, Any]) -> None:
        self._place, self._name, self._content = place, name, json.dumps(content).encode()
        self._renewed_s = 0.0

    def renew(self) -> None:
        """Write it anew, once a minute."""
        if time.monotonic() - self._renewed_s >= _MARK_EVERY_S or not self._renewed_s:
            self._place.write(self._name, self._content)
            self._renewed_s = time.monotonic()


@contextmanager
def _marked(place: BackupPlace, backup_id: str, owner: str) -> Iterator[tuple[_Mark, list[str]]]:
    """A mark while a backup runs, and the ids of backups of this home that died. A kill leaves the mark."""
    name = f"{RUNNING}/{backup_id}.json"
    dead = []
    for file in place.stored(RUNNING):
        content = None if "/." in file.location else place.read(file.location)
        try:
            if content is not None and json.loads(content).get("owner") == owner:
                dead.append(file.location.rsplit("/", 1)[-1].removesuffix(".json"))
        except (ValueError, AttributeError):
            continue
    mark = _Mark(place, name, {"owner": owner, "backup": backup_id})
    mark.renew()
    yield mark, dead
    place.remove(name)
