"""Iceberg's metadata of a table, written anew for another place or as of an earlier moment.

::

    00012-<uuid>.metadata.json ─▶ lists of manifests ─▶ manifests ─▶ data files
    each holds the absolute location of the next; a lake that lies elsewhere needs all three written anew

Data files name nothing and stay as they are, byte for byte. Manifests keep their names, entries, sequence numbers and
statistics; only locations change, and with them the files' own lengths, which the lists hold. A lake that stays where
it was needs a new ``metadata.json`` only, for the log of earlier metadata files is not kept.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyiceberg.io import FileIO, InputFile, OutputFile
from pyiceberg.manifest import ManifestFile, write_manifest, write_manifest_list
from pyiceberg.table.metadata import TableMetadata, TableMetadataUtil
from pyiceberg.table.snapshots import Snapshot

from common.errors import StateCorrupt, UnknownName
from lake.local_io import LocalFile
from lake.paths import TableId

_PATH, _LENGTH = 0, 1
"""Positions in a manifest's description in a list."""
_FILE_PATH = 1
"""Position in a data file's description in a manifest."""


class FilesElsewhere(FileIO):
    """Reads files that lie elsewhere than they are named, and writes files where they are named.

    Args:
        found: where the file of a location lies on the local disk.
        out: writes.
    """

    def __init__(self, found: Callable[[str], Path], out: FileIO) -> None:
        super().__init__()
        self._found, self._out = found, out

    def new_input(self, location: str) -> InputFile:
        """A file to be read."""
        return LocalFile(f"file://{self._found(location)}")

    def new_output(self, location: str) -> OutputFile:
        """A file to be written."""
        return self._out.new_output(location)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Delete a file that was written."""
        self._out.delete(location)


@dataclass(frozen=True)
class Moved:
    """A table's metadata in its new place.

    Attributes:
        location: of the new ``metadata.json``.
        document: what is to be written there.
        metadata: the same, parsed.
    """

    location: str
    document: bytes
    metadata: TableMetadata


def parse_metadata(content: bytes, table: TableId) -> TableMetadata:
    """A ``metadata.json``.

    Raises:
        StateCorrupt: it is none.
    """
    try:
        return TableMetadataUtil.parse_raw(content.decode())
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StateCorrupt(
            f"Iceberg's metadata of it cannot be read ({type(error).__name__}).",
            table=str(table),
            remedy="take another backup",
        ) from None


def snapshot_at(metadata: TableMetadata, at: datetime, table: TableId) -> Snapshot | None:
    """The snapshot that was current at a time, by the clocks of those who committed; None before the first commit.

    Raises:
        UnknownName: it was expired since.
    """
    moment_ms = at.timestamp() * 1000
    known = sorted(metadata.snapshots, key=lambda snapshot: snapshot.sequence_number or 0)
    before = [snapshot for snapshot in known if snapshot.timestamp_ms <= moment_ms]
    if before:
        return before[-1]
    if known and _number(known[0]) > 1:  # not the table's first one: those before were expired
        oldest = datetime.fromtimestamp(known[0].timestamp_ms / 1000, UTC)
        raise UnknownName(
            f"What it held at {at.isoformat()} is not known any more: its oldest snapshot is of {oldest.isoformat()}.",
            table=str(table),
            remedy="restore from an older backup: 'penstock backup list'",
        )
    return None


def moved(
    content: bytes,
    table: TableId,
    *,
    name: str,
    move: Callable[[str], str],
    current: Snapshot | None = None,
) -> Moved:
    """A ``metadata.json`` for another place.

    Args:
        content: the old one.
        table: whose it is.
        name: from which the new one's file name is made: the same name gives the same file.
        move: the new location for an old one.
        current: the snapshot that is to be current; those after it are left out. None: the one that is.

    Raises:
        StateCorrupt: ``content`` is no metadata.
    """
    before = parse_metadata(content, table)
    document = json.loads(content)
    document["location"] = move(document["location"])
    document["metadata-log"] = []
    if current is not None:
        _cut(document, before, current)
    for snapshot in document.get("snapshots", ()):
        snapshot["manifest-list"] = move(snapshot["manifest-list"])
    for each in (*document.get("statistics", ()), *document.get("partition-statistics", ())):
        each["statistics-path"] = move(each["statistics-path"])
    written = json.dumps(document).encode()
    number = uuid.uuid5(uuid.NAMESPACE_URL, f"{name}/{table}")
    version = max((snapshot.sequence_number or 0 for snapshot in before.snapshots), default=0) + 1
    location = f"{document['location']}/metadata/{version:05d}-{number}.metadata.json"
    return Moved(location, written, parse_metadata(written, table))


def _cut(document: dict[str, Any], before: TableMetadata, current: Snapshot) -> None:
    """Leave out what came after a snapshot. The schema stays: it has only grown, and old files read as null there."""
    kept = {each.snapshot_id for each in before.snapshots if _number(each) <= _number(current)}
    document["snapshots"] = [each for each in document["snapshots"] if each["snapshot-id"] in kept]
    document["current-snapshot-id"] = current.snapshot_id
    document["refs"] = {"main": {"snapshot-id": current.snapshot_id, "type": "branch"}}
    for listed in ("snapshot-log", "statistics", "partition-statistics"):
        document[listed] = [each for each in document.get(listed, ()) if each["snapshot-id"] in kept]


def _number(snapshot: Snapshot) -> int:
    return snapshot.sequence_number or 0


def move_manifests(
    old: TableMetadata,
    *,
    io: FileIO,
    move: Callable[[str], str],
) -> list[str]:
    """Write the manifests and lists of manifests of every snapshot for another place.

    Args:
        old: metadata with the old locations.
        io: reads them by their old locations and writes the new ones.
        move: the new location for an old one.

    Returns:
        Locations of the files that were written.

    Raises:
        OSError: a file is missing or cannot be written.

    Side effects: files are written; one that is there is replaced.
    """
    done: dict[str, int] = {}
    for snapshot in old.snapshots:
        described = [_moved_manifest(each, old, io, move, done) for each in snapshot.manifests(io)]
        with write_manifest_list(
            old.format_version,
            _Replaced(io.new_output(move(snapshot.manifest_list))),
            snapshot.snapshot_id,
            snapshot.parent_snapshot_id,
            snapshot.sequence_number,
            avro_compression="deflate",
        ) as listed:
            listed.add_manifests(described)
    return [*done, *(move(snapshot.manifest_list) for snapshot in old.snapshots)]


def _moved_manifest(
    manifest: ManifestFile, old: TableMetadata, io: FileIO, move: Callable[[str], str], done: dict[str, int]
) -> ManifestFile:
    location = move(manifest.manifest_path)
    if location not in done:
        writer = write_manifest(
            old.format_version,
            old.specs()[manifest.partition_spec_id],
            old.schema(),
            _Replaced(io.new_output(location)),
            manifest.added_snapshot_id or 0,
            avro_compression="deflate",
        )
        with writer:
            for entry in manifest.fetch_manifest_entry(io, discard_deleted=False):
                entry.data_file[_FILE_PATH] = move(entry.data_file.file_path)
                writer.add_entry(entry)
        done[location] = len(io.new_output(location).to_input_file())
    described = ManifestFile(*(manifest[position] for position in range(len(manifest))))
    described[_PATH], described[_LENGTH] = location, done[location]
    return described


class _Replaced(OutputFile):
    """A file that is written although one of its name is there: a restore that was killed has left it."""

    def __init__(self, file: OutputFile) -> None:
        super().__init__(file.location)
        self._file = file

    def __len__(self) -> int:
        return len(self._file)

    def exists(self) -> bool:
        """Whether it is there."""
        return self._file.exists()

    def to_input_file(self) -> InputFile:
        """The file, to be read."""
        return self._file.to_input_file()

    def create(self, overwrite: bool = False) -> Any:  # noqa: ARG002 - the library's signature
        """A stream that writes it."""
        return self._file.create(overwrite=True)


def moved_root(old_root: str, new_root: str) -> Callable[[str], str]:
    """The location below another root; one that is not below the old root is refused.

    Raises (when called):
        StateCorrupt: a location outside of the lake.
    """

    def move(location: str) -> str:
        if location != old_root and not location.startswith(f"{old_root}/"):
            raise StateCorrupt(
                f"{location} lies outside of the lake at {old_root}.", remedy="move that table by Iceberg's own tools"
            )
        return new_root + location.removeprefix(old_root)

    return move
