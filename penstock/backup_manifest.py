"""What a backup is: files under names of their own, a manifest that names them, and an index that publishes it.

::

    <place>/objects/ab/<sha256>-<backup>       one file, once, whatever it was called; never replaced
    <place>/manifests/<backup>.json.gz         every file's area, path, length, checksum and object
    <place>/backups/<backup>.json              length and checksum of the manifest, figures; written last
    <place>/running/<backup>.json              a backup or a prune that is under way, or died

A backup is there when its index is, and whole then: it is created by one conditional write, behind everything else. An
object's name ends with the backup that wrote it, so a file that goes up again gets another name than one that is just
being removed.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from common.errors import StateCorrupt, UnknownName, UsageError
from lake.backup_place import REMEDY, BackupPlace
from lake.object_files import FileFacts

FORMAT = 1
"""Of backups. A backup of a greater one was written by a newer Penstock."""

INDEXES, MANIFESTS, OBJECTS, RUNNING = "backups", "manifests", "objects", "running"
_INDEX = re.compile(rf"{INDEXES}/(\d{{8}}T\d{{9}}Z-[0-9a-f]{{8}})\.json")

Area = Literal["lake", "warehouse", "home", "specs"]
"""What a file's path is relative to: the lake's root, the warehouse folder, the state folder, or none of them."""


@dataclass(frozen=True)
class Entry:
    """One file of a backup.

    Attributes:
        area: see :data:`Area`.
        path: below it.
        size_bytes, sha256: of its content.
        object: where it lies in the place.
        modified_at: when it was written, by the clock of where it came from; empty if that says nothing of it.
    """

    area: Area
    path: str
    size_bytes: int
    sha256: str
    object: str
    modified_at: str = ""

    @property
    def facts(self) -> FileFacts:
        """How the file is told from any other."""
        return FileFacts(self.size_bytes, self.sha256)


@dataclass(frozen=True)
class Manifest:
    """Everything that a backup holds.

    Attributes:
        id: of the backup; begins with its time.
        taken_at: when catalog and pointer were read, UTC, ISO 8601.
        penstock: version that took it.
        lake_root: location of the lake's root.
        covers_data: whether the data files are in it; else the lake's own store has them.
        tables: by name: path of the metadata, ``snapshot_id`` and ``committed_at`` of the current snapshot.
        releases: ``current``, ``ids``, ``moves``, ``fence`` and ``lease`` of the warehouse.
        data: path below the lake's root -> length, of data files that are not in it.
        entries: its files.
    """

    id: str
    taken_at: str
    penstock: str
    lake_root: str
    covers_data: bool
    tables: Mapping[str, Mapping[str, Any]]
    releases: Mapping[str, Any]
    data: Mapping[str, int] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()

    def to_bytes(self) -> bytes:
        """As it is stored; the same manifest gives the same bytes."""
        plain = {**asdict(replace(self, entries=())), "entries": [astuple(each) for each in self.entries]}
        return gzip.compress(json.dumps({"format": FORMAT, **plain}).encode(), compresslevel=6, mtime=0)

    @classmethod
    def from_bytes(cls, content: bytes) -> Manifest:
        """Of a stored one, whose checksum has been compared."""
        plain = json.loads(gzip.decompress(content))
        plain.pop("format")
        return cls(**{**plain, "entries": tuple(Entry(*each) for each in plain["entries"])})


@dataclass(frozen=True)
class Index:
    """What is told of a backup without reading its manifest.

    Attributes:
        id, taken_at, penstock, covers_data: as in :class:`Manifest`.
        tables, releases: how many.
        current: the release that was current; None if none was.
        files, size_bytes: all of it.
        new_files, new_bytes: what this backup had to copy.
        seconds: how long it took.
        manifest_bytes, manifest_sha256: of the stored manifest.
    """

    id: str
    taken_at: str
    penstock: str
    covers_data: bool
    tables: int
    releases: int
    current: str | None
    files: int
    size_bytes: int
    new_files: int
    new_bytes: int
    seconds: float
    manifest_bytes: int
    manifest_sha256: str

    @property
    def manifest_name(self) -> str:
        """Where its manifest lies."""
        return f"{MANIFESTS}/{self.id}.json.gz"

    def to_bytes(self) -> bytes:
        """As it is stored, with a checksum of its own."""
        plain = {"format": FORMAT, **asdict(self)}
        return json.dumps({**plain, "checksum": _checksum(plain)}, indent=1).encode()


def _checksum(plain: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def index_name(backup_id: str) -> str:
    """Where the index of a backup lies."""
    return f"{INDEXES}/{backup_id}.json"


def read_index(place: BackupPlace, backup_id: str) -> Index:
    """The index of a backup.

    Raises:
        StateCorrupt: it is damaged; the message names it.
        UnknownName: there is no such backup; the message lists those there are.
        UsageError: a newer Penstock wrote it.
    """
    name = index_name(backup_id)
    content = place.read(name)
    if content is None:
        known = ", ".join(backup_ids(place)) or "none yet"
        raise UnknownName(
            f"There is no backup {backup_id!r} in {place} (there are: {known}).", remedy="see 'penstock backup list'"
        )
    try:
        plain = json.loads(content)
        version = int(plain["format"])
        if version <= FORMAT:
            checksum = plain.pop("checksum")
            if checksum != _checksum(plain):
                raise ValueError
            plain.pop("format")
            return Index(**plain)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StateCorrupt(place.damaged(name, "it is not the index that was written"), remedy=REMEDY) from None
    raise UsageError(
        f"Backup {backup_id} has format {version}, this Penstock knows those up to {FORMAT}.",
        remedy=f"restore it with the Penstock that wrote it: {plain.get('penstock', 'a newer one')}",
    )


def backup_ids(place: BackupPlace) -> list[str]:
    """Ids of the backups that are there, oldest first.

    Raises:
        StoreUnavailable: the place does not answer.
    """
    names = (_INDEX.fullmatch(file.location) for file in place.stored(INDEXES))
    return sorted(found[1] for found in names if found)


def newest(place: BackupPlace) -> str:
    """Id of the newest backup.

    Raises:
        UnknownName: there is none.
    """
    known = backup_ids(place)
    if not known:
        raise UnknownName(f"There is no backup in {place}.", remedy="take one with 'penstock backup take'")
    return known[-1]


def read_manifest(place: BackupPlace, index: Index, scratch: Path) -> Manifest:
    """The manifest of a backup, its length and checksum compared.

    Args:
        place: where.
        index: of the backup.
        scratch: a folder for the moment.

    Raises:
        StateCorrupt: it is missing or damaged; the message names it.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    path = scratch / f"{index.id}.manifest"
    place.download(index.manifest_name, path, FileFacts(index.manifest_bytes, index.manifest_sha256))
    try:
        return Manifest.from_bytes(path.read_bytes())
    finally:
        path.unlink()
