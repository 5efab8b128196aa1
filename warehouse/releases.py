"""Releases: immutable folders and one pointer.

::

    <warehouse>/candidates/r000012/    being built; nobody reads it
    <warehouse>/releases/r000011/      warehouse.duckdb (read only), manifest.json, docs/, published (when, UTC)
    <warehouse>/current -> releases/r000011

The file is always called ``warehouse.duckdb``: views of dbt carry the catalog's name, which is the file's stem. A new
release is a new real path, never an overwrite: a process that has the old file open keeps reading the old file.
"""

from __future__ import annotations

import json
import re
import shutil
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from common.clock import utc_now
from common.errors import CommitConflict, StateCorrupt, UnknownName
from common.fault_points import reach
from common.files import remove_folder, sync_file, sync_folder, write_atomic
from warehouse import moves
from warehouse.lease import Lease, lease, next_fence
from warehouse.shelf import Move, Shelf

DATABASE = "warehouse.duckdb"
MARKER = "published"
_OPENING = threading.Lock()
_ID = re.compile(r"r\d{6,}")


@dataclass(frozen=True)
class Release:
    """A published version of the warehouse.

    Attributes:
        id: ``r`` and the fencing number.
        folder: its real path.
        manifest: what it was made from and what it holds.
        current: whether the pointer names it.
        published_at: UTC, ISO 8601.
    """

    id: str
    folder: Path
    manifest: Mapping[str, Any] = field(repr=False)
    current: bool
    published_at: str

    @property
    def database(self) -> Path:
        """The read-only DuckDB file."""
        return self.folder / DATABASE


@dataclass(frozen=True)
class Candidate:
    """A version being built.

    Attributes:
        id: the id it will have as a release.
        folder: where it lies.
        parent: id of the release it was built on; None for the first.
    """

    id: str
    folder: Path
    parent: str | None

    @property
    def database(self) -> Path:
        """The DuckDB file being built."""
        return self.folder / DATABASE

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest of a sealed candidate."""
        manifest: dict[str, Any] = _read_manifest(self.folder)
        return manifest


class Releases(Shelf):
    """The releases of one warehouse folder.

    Args:
        warehouse: the folder.
        held: the lease under which to write. Without one, each write takes a lease of its own for its moment.
    """

    def __init__(self, warehouse: Path, held: Lease | None = None) -> None:
        self.warehouse = warehouse
        self._held = held

    @contextmanager
    def _fenced(self) -> Iterator[None]:
        """The moment of a write: only who has the newest lease gets in."""
        if self._held is not None:
            with self._held.fenced():
                yield
            return
        with lease(self.warehouse) as own, own.fenced():
            yield

    # -- reading ---------------------------------------------------------------------------------------------------

    def current(self) -> Release | None:
        """The release the pointer names; None before the first publish."""
        release_id = self.current_id()
        return self._read(self.warehouse / "releases" / release_id, current=True) if release_id else None

    def current_id(self) -> str | None:
        """See :class:`Shelf`."""
        try:
            return (self.warehouse / "current").readlink().name
        except FileNotFoundError:
            return None

    def all(self) -> list[Release]:
        """Published releases, oldest first. A folder that was never pointed at is none."""
        current = self.current_id()
        found = (self._read(folder, current=folder.name == current) for folder in self._folders("releases"))
        return [release for release in found if release is not None]

    def moves(self) -> list[Move]:
        """See :class:`Shelf`. A release from before moves were written down counts from its first publishing."""
        newest = moves.pointer_move(self.warehouse)
        found = {*moves.recorded(self.warehouse), *([newest] if newest else [])}
        known = {move.release for move in found}
        found |= {
            Move(datetime.fromisoformat(release.published_at), release.id)
            for release in self.all()
            if release.id not in known and release.published_at
        }
        return sorted(found)

    def _read(self, folder: Path, *, current: bool) -> Release | None:
        """The release in that folder; None if it was never published, or was retired while we looked."""
        try:
            published_at = (folder / MARKER).read_text().strip()
        except FileNotFoundError:
            if not current:
                return None
            published_at = ""  # its publisher died between moving the pointer and leaving the marker
        try:
            manifest = _read_manifest(folder)
        except StateCorrupt:
            if folder.exists() or current:
                raise
            return None
        return Release(folder.name, folder.resolve(), manifest, current, published_at)

    def _folders(self, kind: str) -> list[Path]:
        folder = self.warehouse / kind
        if not folder.is_dir():
            return []
        return sorted(
            (path for path in folder.iterdir() if _ID.fullmatch(path.name)), key=lambda path: int(path.name[1:])
        )

    def on_disk(self, release: Release) -> Release:
        """See :class:`Shelf`: it is."""
        if not release.database.exists():
            raise FileNotFoundError(release.database)
        return release

    def _connect(self, release: Release) -> duckdb.DuckDBPyConnection:
        try:
            return open_read_only(release.database)
        except duckdb.Error as error:
            if not release.folder.exists():
                raise FileNotFoundError(release.folder) from None
            raise StateCorrupt(
                f"Release {release.id} cannot be opened: {error}",
                remedy="roll back to another release: 'penstock rollback'",
            ) from None

    # -- building --------------------------------------------------------------------------------------------------

    def new_candidate(self, *, from_scratch: bool) -> Candidate:
        """A fresh candidate, starting as a copy of the current release unless ``from_scratch``.

        Side effects: left-over candidates and folders that never became releases are removed.
        """
        with self._fenced():
            self._tidy()
            parent = self.current()
            release_id = f"r{next_fence(self.warehouse):06d}"
        candidate = Candidate(release_id, self.warehouse / "candidates" / release_id, parent.id if parent else None)
        candidate.folder.mkdir(parents=True)
        try:
            if parent is not None and not from_scratch:
                shutil.copyfile(parent.database, candidate.database)
        except BaseException:  # a disk that is full is not to stay full by half a copy
            self.discard(candidate)
            raise
        return candidate

    def _tidy(self) -> None:
        """Remove what processes that died have left: candidates, folders never pointed at, half-removed releases."""
        published = {release.id for release in self.all()}
        for folder in self._folders("candidates"):
            shutil.rmtree(folder)
        for folder in self._folders("releases"):
            if folder.name not in published:
                remove_folder(folder)
        for doomed in (self.warehouse / "releases").glob(".r*"):
            shutil.rmtree(doomed, ignore_errors=True)
        for pointer in self.warehouse.glob(".current.*"):
            pointer.unlink(missing_ok=True)

    def seal(self, candidate: Candidate, manifest: Mapping[str, Any]) -> None:
        """Finish a candidate: checkpoint, no write-ahead log, flushed, read-only, manifest last.

        Raises:
            StateCorrupt: a write-ahead log is left, so the main file alone would lose rows; or it cannot be opened.
        """
        try:
            with duckdb.connect(str(candidate.database)) as connection:
                connection.execute("CHECKPOINT")
        except duckdb.Error as error:
            raise StateCorrupt(
                f"{candidate.database} cannot be checkpointed: {error}",
                remedy="build again; the current release is untouched",
            ) from None
        if candidate.database.with_suffix(".duckdb.wal").exists():
            raise StateCorrupt(
                f"{candidate.database} still has a write-ahead log after its checkpoint.",
                remedy="build again; the current release is untouched",
            )
        candidate.database.chmod(0o444)
        sync_file(candidate.database)
        reach("warehouse.seal.before_manifest")
        write_atomic(
            candidate.folder / "manifest.json",
            json.dumps({"release": candidate.id, "parent": candidate.parent, **manifest}, indent=1, default=str),
        )
        reach("warehouse.seal.after_manifest")

    def discard(self, candidate: Candidate) -> None:
        """Remove a candidate that will not be published."""
        shutil.rmtree(candidate.folder, ignore_errors=True)

    def candidate(self, candidate_id: str | None = None) -> Candidate:
        """A sealed candidate, the newest if no id is given.

        Raises:
            UnknownName: there is none.
        """
        for folder in reversed(self._folders("candidates")):
            if (folder / "manifest.json").exists() and candidate_id in {None, folder.name}:
                return Candidate(folder.name, folder, _read_manifest(folder).get("parent"))
        raise UnknownName(
            f"There is no finished candidate{' ' + candidate_id if candidate_id else ''}.",
            remedy="make one with 'penstock build'",
        )

    # -- publishing ------------------------------------------------------------------------------------------------

    def publish(self, candidate: Candidate) -> Release:
        """Make a sealed candidate the current release, by one pointer move.

        Raises:
            CommitConflict: the current release is not the one this candidate was built on, or a candidate that was
                begun later has been published already, or somebody else has taken the lease since.
        """
        with self._fenced():
            return self._publish(candidate)

    def _publish(self, candidate: Candidate) -> Release:
        current = self.current_id()
        if current != candidate.parent:
            raise CommitConflict(
                f"Candidate {candidate.id} was built on release {candidate.parent}, but now {current or 'none'} is "
                "current.",
                remedy="build again: 'penstock build'",
            )
        newest = max((int(release.id[1:]) for release in self.all()), default=0)
        if int(candidate.id[1:]) <= newest:
            raise CommitConflict(
                f"Candidate {candidate.id} is older than release r{newest:06d}, which is published.",
                remedy="build again: 'penstock build'",
            )
        folder = self.warehouse / "releases" / candidate.id
        folder.parent.mkdir(parents=True, exist_ok=True)
        reach("warehouse.publish.before_folder")
        candidate.folder.replace(folder)
        sync_folder(folder.parent)
        reach("warehouse.publish.before_swap")
        try:
            self._point_to(candidate.id)
        except OSError:
            if self.current_id() != candidate.id:  # it stays a candidate, to be published when there is room
                folder.replace(candidate.folder)
            raise
        return self.get(candidate.id)

    def rollback(self, release_id: str | None = None) -> Release:
        """Point to an earlier release: the one named, or the newest published before the current one.

        Raises:
            UnknownName: no such release, or none before the current one.
            CommitConflict: somebody else has taken the lease since.
        """
        with self._fenced():  # chosen in it as well: a release that is retired before the pointer moves leads nowhere
            releases = self.all()
            current = next((release for release in releases if release.current), None)
            if release_id is None:
                earlier = [release for release in releases if current and int(release.id[1:]) < int(current.id[1:])]
                if not earlier:
                    raise UnknownName("There is no earlier release to roll back to.", remedy="see 'penstock releases'")
                release_id = earlier[-1].id
            self.get(release_id)
            self._point_to(release_id)
            return self.get(release_id)

    def retain(self, keep: int) -> list[str]:
        """Remove the oldest releases beyond ``keep``, never the current one. Returns the ids removed.

        Raises:
            CommitConflict: somebody else has taken the lease since; nothing was removed.
        """
        with self._fenced():  # or the pointer might be moved to one of them between the look and the removal
            surplus = self.surplus(keep)
            for release in surplus:
                reach("warehouse.retain.before_remove")
                remove_folder(release.folder)
        return [release.id for release in surplus]

    def surplus(self, keep: int) -> list[Release]:
        """The oldest releases beyond ``keep``, never the current one."""
        releases = self.all()
        return [release for release in releases[: max(0, len(releases) - keep)] if not release.current]

    def _point_to(self, release_id: str) -> None:
        before = self.current_id()
        if before is not None:
            self._mark(before)  # or it would count as never published as soon as the pointer leaves it
        moves.remember(self.warehouse)
        temporary = self.warehouse / f".current.{uuid.uuid4().hex}"
        temporary.symlink_to(Path("releases") / release_id)
        temporary.replace(self.warehouse / "current")
        sync_folder(self.warehouse)
        reach("warehouse.publish.after_swap")
        self._mark(release_id)

    def _mark(self, release_id: str) -> None:
        marker = self.warehouse / "releases" / release_id / MARKER
        if not marker.exists():
            write_atomic(marker, utc_now().isoformat() + "\n")


def open_read_only(database: Path) -> duckdb.DuckDBPyConnection:
    """A connection that can read one release and nothing else: no files, no network, no settings.

    The path must be real, not through the pointer: a connection stays on its release whatever is published later.
    """
    # Connections of a process to one file share one engine, and so its settings: the first one makes and locks them.
    with _OPENING:
        connection = duckdb.connect(
            str(database.resolve()),
            read_only=True,
            config={
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "allow_community_extensions": False,
            },
        )
        try:
            locked = connection.execute("SELECT current_setting('lock_configuration')").fetchone()
            if locked != (True,):
                connection.execute("SET GLOBAL TimeZone = 'UTC'")
                connection.execute("SET enable_external_access = false")
                connection.execute("SET lock_configuration = true")
        except BaseException:
            connection.close()
            raise
    return connection


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    except (FileNotFoundError, ValueError):
        raise StateCorrupt(
            f"{folder / 'manifest.json'} is missing or damaged.", remedy="roll back to another release"
        ) from None
    return manifest
