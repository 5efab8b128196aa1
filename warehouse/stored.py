"""Releases in object storage: put up whole and checked, then made current by one conditional put.

::

    <uri>/releases/r000012/warehouse.duckdb ...   the release's files; read back and compared before the index
    <uri>/releases/r000012/index.json             their lengths and checksums, and the manifest; never replaced
    <uri>/current.json                            {"release", "fence", "nonce", "moves"}: the pointer

The pointer is replaced only if it is still the version that was read, and only by who has no smaller fencing number
than the one in it: a publisher that was stopped and wakes is refused. Where the answer to that put is lost, the pointer
is read back - its nonce says whose it is - and the put is never repeated blindly. To roll back is the same move.

Readers fetch a release once into a cache on their own disk and open that (:mod:`warehouse.cache`).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb

from common.clock import utc_now
from common.errors import CommitConflict, SettingsError, StateCorrupt, StoreUnavailable
from common.fault_points import reach
from common.settings import Settings
from lake.object_files import Document, FileFacts, ObjectFiles
from lake.object_store import parse_s3_url
from warehouse.cache import ReleaseCache
from warehouse.releases import DATABASE, Release, Releases, open_read_only
from warehouse.shelf import Move, Shelf

POINTER = "current.json"
_TRIES = 5
_MOVES_KEPT = 1000


@dataclass(frozen=True)
class _Pointer:
    """The pointer as it was read."""

    release: str
    fence: int
    nonce: str
    moves: tuple[Move, ...]
    document: Document


@dataclass(frozen=True)
class _Index:
    """What is written of a release when all of it is there."""

    published_at: str
    manifest: Mapping[str, Any]
    files: Mapping[str, FileFacts]


class StoredReleases(Shelf):
    """The releases below one prefix of a bucket.

    Args:
        files: the prefix.
        cache: where releases that are read are kept.
        local: the warehouse folder of this machine: a release that lies there need not be fetched.
    """

    follow_s = 1.0  # each look is a request that is paid for

    def __init__(self, files: ObjectFiles, cache: ReleaseCache, local: Releases) -> None:
        self._files, self._cache, self._local = files, cache, local
        self._indexes: dict[str, _Index] = {}

    # -- reading ---------------------------------------------------------------------------------------------------

    def current_id(self) -> str | None:
        """See :class:`Shelf`."""
        pointer = self._pointer()
        return pointer.release if pointer else None

    def current(self) -> Release | None:
        """See :class:`Shelf`."""
        current = self.current_id()
        if current is None:
            return None
        release = self._read(current, current)
        if release is None and self.current_id() == current:
            raise StateCorrupt(
                f"{self._files} has lost release {current}, which is current.",
                remedy="put it up again: 'penstock store publish', or roll back to another",
            )
        return release or self.current()

    def all(self) -> list[Release]:
        """See :class:`Shelf`."""
        current = self.current_id()
        names = [name.split("/")[1] for name in self._files.names("releases") if name.endswith("/index.json")]
        found = (self._read(name, current) for name in sorted(names, key=lambda name: int(name[1:])))
        return [release for release in found if release is not None]

    def get(self, release_id: str) -> Release:
        """See :class:`Shelf`."""
        return self._read(release_id, self.current_id()) or super().get(release_id)

    def moves(self) -> list[Move]:
        """See :class:`Shelf`; the last 1,000."""
        pointer = self._pointer()
        return list(pointer.moves) if pointer else []

    def _read(self, release_id: str, current: str | None) -> Release | None:
        index = self._index(release_id)
        if index is None:
            return None
        folder = self._cache.folder / release_id
        return Release(release_id, folder, index.manifest, release_id == current, index.published_at)

    def _index(self, release_id: str) -> _Index | None:
        name = f"releases/{release_id}/index.json"
        document = self._files.read(name)
        if document is None:
            self._indexes.pop(release_id, None)
            return None
        try:
            content = json.loads(document.content)
            files = {name: FileFacts(**facts) for name, facts in content["files"].items()}
            index = _Index(content["published_at"], content["manifest"], files)
            index.files[DATABASE]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StateCorrupt(
                f"{self._files}/{name} is no index of a release.", remedy="roll back to another release"
            ) from None
        self._indexes[release_id] = index
        return index

    def _pointer(self) -> _Pointer | None:
        document = self._files.read(POINTER)
        if document is None:
            return None
        try:
            content = json.loads(document.content)
            moves = tuple(Move(datetime.fromisoformat(move["at"]), move["release"]) for move in content["moves"])
            return _Pointer(content["release"], int(content["fence"]), content["nonce"], moves, document)
        except (ValueError, KeyError, TypeError):
            raise StateCorrupt(
                f"{self._files}/{POINTER} is no pointer to a release.",
                remedy="remove it and run 'penstock store publish'",
            ) from None

    def _connect(self, release: Release) -> duckdb.DuckDBPyConnection:
        for last in (False, False, True):
            path = self._path(release.id)
            try:
                return open_read_only(path)
            except duckdb.Error as error:
                if path.exists():
                    raise StateCorrupt(
                        f"Release {release.id} cannot be opened: {error}", remedy="remove its folder from the cache"
                    ) from None
                if last:  # put out of the cache again and again before it could be opened
                    raise FileNotFoundError(path) from None
        raise FileNotFoundError(release.id)

    def on_disk(self, release: Release) -> Release:
        """See :class:`Shelf`. Side effects: it counts as used just now, in the cache."""
        if release.id not in self._indexes and self._index(release.id) is None:
            raise FileNotFoundError(release.id)
        return replace(release, folder=self._path(release.id).parent)

    def _path(self, release_id: str) -> Path:
        """Where the file of a release that was just looked up lies on this disk, fetched if need be."""
        index = self._indexes[release_id]
        facts = index.files[DATABASE]
        here = self._local.warehouse / "releases" / release_id
        if (
            index.files.get("manifest.json") == _facts_or_none(here / "manifest.json")
            and (here / DATABASE).exists()
            and (here / DATABASE).stat().st_size == facts.size_bytes
        ):
            return here / DATABASE
        name = f"releases/{release_id}/{DATABASE}"
        return self._cache.fetch(release_id, facts, lambda path: self._files.download(name, path, facts))

    # -- publishing ------------------------------------------------------------------------------------------------

    def publish(self, release: Release, *, fence: int, keep: int) -> None:
        """Put a published release of the local warehouse up and make it the current one; or only the latter.

        Args:
            release: the release; what is there of it already is not put up again.
            fence: number of the lease under which this is done.
            keep: how many releases are kept in the store; the current one always is.

        Raises:
            CommitConflict: somebody with a newer lease has moved the pointer; or the store holds a release of that id
                with other content, which is another warehouse's.
            StateCorrupt: the store does not give back what was put there.
            StoreUnavailable: it does not answer. Nothing is visible of a release that was not put up whole.
        """
        self._refuse_older(self._pointer(), fence)
        self._put(release)
        reach("warehouse.store.before_pointer")
        self._point_to(release.id, fence)
        self._retain(keep)

    def _put(self, release: Release) -> None:
        paths = {path.relative_to(release.folder).as_posix(): path for path in release.folder.rglob("*")}
        facts = {name: FileFacts.of(path) for name, path in sorted(paths.items()) if path.is_file()}
        facts.pop("published", None)
        index = self._index(release.id)
        if index is not None:
            if index.files[DATABASE] != facts[DATABASE]:
                raise CommitConflict(
                    f"{self._files} holds another release {release.id}: that of another warehouse.",
                    remedy="give each warehouse a PENSTOCK_RELEASES_URI of its own",
                )
            return
        for name, each in facts.items():
            self._files.upload(paths[name], f"releases/{release.id}/{name}", each)
        content = {
            "release": release.id,
            "published_at": release.published_at,
            "files": {name: asdict(each) for name, each in facts.items()},
            "manifest": dict(release.manifest),
        }
        name = f"releases/{release.id}/index.json"
        try:
            self._files.replace(name, json.dumps(content, default=str).encode(), None)
        except (CommitConflict, StoreUnavailable):
            written = self._index(release.id)
            if written is None or written.files != facts:
                raise

    def _point_to(self, release_id: str, fence: int) -> None:
        for _ in range(_TRIES):
            before = self._pointer()
            self._refuse_older(before, fence)
            if before is not None and (before.release, before.fence) == (release_id, fence):
                return
            nonce = uuid.uuid4().hex
            moves = (*(before.moves if before else ()), Move(utc_now(), release_id))[-_MOVES_KEPT:]
            content = {
                "release": release_id,
                "fence": fence,
                "nonce": nonce,
                "moves": [{"at": move.at.isoformat(), "release": move.release} for move in moves],
            }
            try:
                self._files.replace(POINTER, json.dumps(content).encode(), before.document if before else None)
                return
            except (CommitConflict, StoreUnavailable) as error:
                after = self._pointer()
                if after is not None and after.nonce == nonce:
                    return  # it was written, only the answer was lost
                if not isinstance(error, CommitConflict):
                    raise
        raise CommitConflict(f"{self._files}/{POINTER} kept being changed by others.", remedy="try again")

    def _refuse_older(self, pointer: _Pointer | None, fence: int) -> None:
        if pointer is not None and pointer.fence > fence:
            raise CommitConflict(
                f"{self._files} was published to with fence {pointer.fence}, this process has {fence}. It changes "
                "nothing.",
                remedy="run 'penstock store publish'; for a warehouse that was begun anew give it another "
                "PENSTOCK_RELEASES_URI",
            )

    def _retain(self, keep: int) -> None:
        releases = self.all()
        for release in releases[: max(0, len(releases) - keep)]:
            if not release.current:
                names = self._files.names(f"releases/{release.id}")
                # The index first: without it there is no such release, whatever else is left of it.
                for name in sorted(names, key=lambda name: not name.endswith("/index.json")):
                    self._files.remove(name)


def _facts_or_none(path: Path) -> FileFacts | None:
    try:
        return FileFacts.of(path)
    except FileNotFoundError:
        return None


def stored_releases(settings: Settings) -> StoredReleases | None:
    """The releases in object storage; None where the settings name no such place.

    Raises:
        SettingsError: the place is no ``s3://bucket/prefix``, or the connection ``releases`` does not lead to it.
    """
    if not settings.releases_uri:
        return None
    place = urlsplit(settings.releases_uri)
    if place.scheme != "s3" or not place.netloc or place.query or place.fragment or "@" in place.netloc:
        raise SettingsError(
            "releases_uri is no place in a bucket.",
            remedy="write it as s3://bucket/prefix; keys and endpoint belong to the connection named 'releases'",
        )
    location = parse_s3_url(settings.connection("releases"))
    if location.bucket != place.netloc:
        raise SettingsError(
            f"releases_uri names the bucket {place.netloc!r}, the connection 'releases' the bucket "
            f"{location.bucket!r}.",
            remedy="correct one of them",
        )
    cache = ReleaseCache(settings.home / "cache" / "releases", settings.release_cache_mb * 1_000_000)
    return StoredReleases(ObjectFiles(location, place.path.strip("/")), cache, Releases(settings.warehouse))


def shelf_of(settings: Settings) -> Shelf:
    """Where readers find the releases: in object storage where the settings name it, else in the warehouse folder.

    Raises:
        SettingsError: see :func:`stored_releases`.
    """
    return stored_releases(settings) or Releases(settings.warehouse)
