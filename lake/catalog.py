"""The Iceberg catalog: which tables there are, their schemas, and which files are live in each partition.

A catalog row is the compare-and-swap of every commit, so object storage needs no conditional writes. SQLite by default,
PostgreSQL or any SQLAlchemy URL by ``PENSTOCK_CATALOG_URI``, a REST catalog by an ``http(s)://`` URL.
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    TableAlreadyExistsError,
    ValidationError,
)
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, ManifestFile
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.transforms import IdentityTransform

from common.disk import disk_full, is_disk_full
from common.errors import StateCorrupt, StoreUnavailable, UnknownName, located
from common.settings import Settings
from lake.engine import lake_credentials
from lake.evolution import evolve
from lake.paths import WHOLE, TableId, root_location, table_location
from lake.schema import Column, iceberg_schema
from lake.sqlite_catalog import is_plain_file

_RACES = 5
"""How often something is tried that another process may be doing at the same moment."""

_PROPERTIES = {
    "format-version": "2",
    # Retries are ours (lake/commit.py): each one re-reads what is live and decides again.
    "commit.retry.num-retries": "0",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "10",
}


@dataclass(frozen=True)
class LiveFile:
    """One data file of a table's current snapshot."""

    key: str
    location: str
    rows: int
    data_file: DataFile


def open_catalog(settings: Settings) -> Catalog:
    """Connect to the catalog.

    Side effects: an SQLite catalog and its tables are made if absent.

    Raises:
        StoreUnavailable: the catalog does not answer; the message holds no credentials.
    """
    uri = settings.catalog_uri.get_secret_value()
    parts = urlsplit(uri)
    properties: dict[str, Any] = {"uri": uri, "warehouse": root_location(settings.lake_uri)}
    credentials = lake_credentials(settings)
    if credentials is None:
        properties["py-io-impl"] = "lake.local_io.LocalFileIO"
    if credentials is not None:
        store = {
            "s3.endpoint": credentials.endpoint,
            "s3.region": credentials.region,
            "s3.access-key-id": credentials.access_key,
            "s3.secret-access-key": credentials.secret_key.get_secret_value(),
            "s3.connect-timeout": "5",
            "s3.request-timeout": "60",
        }
        properties |= {name: value for name, value in store.items() if value}
    if parts.scheme == "sqlite":
        settings.home.mkdir(parents=True, exist_ok=True)
    if parts.scheme in {"http", "https"}:
        properties["type"] = "rest"
    else:
        plain = is_plain_file(uri)
        properties["py-catalog-impl"] = f"lake.{'sqlite_catalog.Sqlite' if plain else 'sql_catalog.Sqlalchemy'}Catalog"
    failure: Exception | None = None
    for _ in range(_RACES):  # two processes that make a new catalog at once: the loser finds the winner's tables
        try:
            return load_catalog("penstock", **properties)
        except Exception as error:  # noqa: BLE001 - any driver's; rebuilt without credentials
            if is_disk_full(error):
                raise disk_full(error, settings.home) from None
            failure = error
    raise StoreUnavailable(
        f"The Iceberg catalog at {parts.scheme}://{parts.hostname or parts.path} does not answer "
        f"({type(failure).__name__}).",
        remedy="check PENSTOCK_CATALOG_URI and that its server runs",
    )


def ensure_table(
    catalog: Catalog, settings: Settings, table: TableId, columns: Sequence[Column], partition_by: str | None
) -> Table:
    """The table, created if absent, its schema grown and widened by field id (see ``lake/evolution.py``).

    Raises:
        SpecError: a column changed its type in a way that stored values cannot follow.
        StoreUnavailable: the catalog or the lake's storage does not answer.
    """
    failure: Exception | None = None
    for _ in range(_RACES):
        existing = find_table(catalog, table)
        try:
            if existing is not None:
                return evolve(existing, table, columns)
            return _create(catalog, settings, table, columns, partition_by)
        except TableAlreadyExistsError:
            continue  # two first runs at once: the other one made it
        except (CommitFailedException, StoreUnavailable, OSError) as error:
            if is_disk_full(error):
                raise disk_full(error, settings.home) from None
            failure = error
        time.sleep(random.uniform(0.05, 0.2))  # noqa: S311 - jitter, not a secret
    raise StoreUnavailable(
        f"The table could not be declared ({_words(failure)}).",
        table=str(table),
        remedy="check that the catalog and the lake's storage answer, then try again",
    )


def _create(
    catalog: Catalog, settings: Settings, table: TableId, columns: Sequence[Column], partition_by: str | None
) -> Table:
    # Every field is optional in Iceberg: nullability is the gate's matter, and an optional field can be read from files
    # written by any engine.
    schema = iceberg_schema([Column(c.name, c.type, nullable=True, description=c.description) for c in columns])
    spec = PartitionSpec()
    if partition_by:
        source = schema.find_field(partition_by)
        spec = PartitionSpec(PartitionField(source.field_id, 1000, IdentityTransform(), partition_by))
    with suppress(NamespaceAlreadyExistsError):
        catalog.create_namespace(table.namespace)
    location = table_location(settings.lake_uri, table)
    try:
        return catalog.create_table(str(table), schema, location, spec, properties=_PROPERTIES)
    except ValidationError:  # the metadata are written, then read: whether they lie there so, the next look tells
        raise StoreUnavailable("The metadata of the new table came back damaged.", table=str(table)) from None


def find_table(catalog: Catalog, table: TableId) -> Table | None:
    """The table as it is now; None if the lake has no such table.

    Raises:
        StateCorrupt: the file with the table's metadata is missing or damaged.
        StoreUnavailable: the catalog or the table's metadata cannot be read.
    """
    failure: Exception | None = None
    for _ in range(_RACES):
        try:
            return catalog.load_table(str(table))
        except NoSuchTableError:
            return None
        except FileNotFoundError as error:  # metadata is deleted ten commits later: a slow reader looks again
            failure = error
        except (OSError, StoreUnavailable) as error:
            failure = error
            break
        except (ValueError, ValidationError) as error:  # not JSON, or not what Iceberg means by a table
            raise _damaged(f"its metadata is damaged ({type(error).__name__})", str(table)) from None
    if isinstance(failure, FileNotFoundError):
        raise _damaged(f"its metadata is missing: {failure}", str(table))
    raise StoreUnavailable(
        f"The table cannot be read from the catalog ({_words(failure)}).",
        table=str(table),
        remedy="check that the catalog and the lake's storage answer, then try again",
    )


def load_table(catalog: Catalog, table: TableId) -> Table:
    """The table as it is now.

    Raises:
        UnknownName: the lake has no such table.
        StateCorrupt, StoreUnavailable: see :func:`find_table`.
    """
    found = find_table(catalog, table)
    if found is None:
        raise UnknownName(
            f"The lake has no table {table}.", table=str(table), remedy="ingest or refine it first ('penstock run')"
        )
    return found


def live_files(table: Table, key: str | None = None) -> list[LiveFile]:
    """The data files of the current snapshot, of one partition if ``key`` is given.

    Manifests are read directly rather than planned through a scan: a scan leaves out files without rows, and such a
    file is how an empty interval is recorded.

    Raises:
        StateCorrupt: a list of manifests or a manifest is missing or damaged.
        StoreUnavailable: the storage does not answer, or the snapshot has been expired and swept meanwhile.
    """
    snapshot = table.current_snapshot()
    files = snapshot_files(table, snapshot) if snapshot is not None else ()
    return list(files) if key is None else [file for file in files if file.key == key]


def snapshot_files(table: Table, snapshot: Snapshot) -> tuple[LiveFile, ...]:
    """The data files of a snapshot, current or earlier.

    Raises:
        StateCorrupt, StoreUnavailable: see :func:`live_files`.
    """
    files = _LIVE.get(snapshot.manifest_list)
    if files is None:
        name = ".".join(table.name())
        try:
            with located(table=name):
                listed = manifests(snapshot, table.io)
                files = tuple(file for manifest in listed for file in manifest_files(manifest, table.io))
        except StateCorrupt:
            now = find_table(table.catalog, TableId.parse(name))
            if now is not None and now.snapshot_by_id(snapshot.snapshot_id) is None:
                raise StoreUnavailable(
                    "The snapshot that was read is gone by now.", table=name, remedy="try again: it reads the newest"
                ) from None
            raise
        note_live(snapshot, files)
    return files


def _words(failure: Exception | None) -> str:
    """What a store or a disk says of a file; of a driver only the class, for its words may hold credentials."""
    told = f": {failure}"[:300] if isinstance(failure, OSError) else ""
    return type(failure).__name__ + told


def _damaged(problem: str, table: str | None = None) -> StateCorrupt:
    return StateCorrupt(
        f"The table cannot be read: {problem}.",
        table=table,
        remedy="run 'penstock doctor': it says what is lost and how to mend it",
    )


@contextmanager
def reading(location: str) -> Iterator[None]:
    """What fails while one of Iceberg's own files, or one that it names, is read, as our errors; they name the file."""
    try:
        yield
    except FileNotFoundError:
        raise _damaged(f"{location} is missing") from None
    except OSError as error:
        raise StoreUnavailable(f"Cannot read {location}: {error}.", remedy="check the lake's storage") from None
    except Exception as error:  # noqa: BLE001 - bytes that are not Avro fail in its reader in any way
        raise _damaged(f"{location} is damaged ({type(error).__name__})") from None


_LIVE: dict[str, tuple[LiveFile, ...]] = {}
"""Live files of the snapshots seen last, by the location of their list of manifests, which never changes."""

_LIVE_SNAPSHOTS = 16


def note_live(snapshot: Snapshot, files: Iterable[LiveFile]) -> None:
    """Remember what is live in a snapshot: whoever committed it knows without reading it back."""
    for oldest in list(_LIVE)[: max(0, len(_LIVE) - _LIVE_SNAPSHOTS + 1)]:
        _LIVE.pop(oldest, None)
    _LIVE[snapshot.manifest_list] = tuple(files)


def manifests(snapshot: Snapshot, io: FileIO) -> tuple[ManifestFile, ...]:
    """The manifests of a snapshot, whose list never changes once written: the same commit asks four times for it.

    Raises:
        StateCorrupt: the list is missing or damaged.
        StoreUnavailable: the storage does not answer.
    """
    return _listed(_CachedList(snapshot, io))


def manifest_files(manifest: ManifestFile, io: FileIO) -> tuple[LiveFile, ...]:
    """The data files that a manifest says are there. A manifest never changes once written.

    Raises:
        StateCorrupt: it is missing or damaged.
        StoreUnavailable: the storage does not answer.
    """
    path = manifest.manifest_path
    files = _MANIFESTS.find(path)
    if files is None:
        with reading(path):
            files = tuple(
                LiveFile(
                    partition_key(entry.data_file.partition),
                    entry.data_file.file_path,
                    entry.data_file.record_count,
                    entry.data_file,
                )
                for entry in manifest.fetch_manifest_entry(io, discard_deleted=True)
            )
        _MANIFESTS.note(path, files)
    return files


class _CachedList:
    """A snapshot's list of manifests as a cache key."""

    def __init__(self, snapshot: Snapshot, io: FileIO) -> None:
        self.snapshot, self.io = snapshot, io

    def __hash__(self) -> int:
        return hash(self.snapshot.manifest_list)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _CachedList) and other.snapshot.manifest_list == self.snapshot.manifest_list


@lru_cache(maxsize=32)
def _listed(cached: _CachedList) -> tuple[ManifestFile, ...]:
    with reading(cached.snapshot.manifest_list):
        return tuple(cached.snapshot.manifests(cached.io))


class ReadManifests:
    """What the manifests read last hold, the one unused for longest forgotten first.

    Bounded by the files that are held and not by the manifests: manifests are merged, and of a table with a file a day
    every merged one holds all the days before it again (measured: 5 KB a file; a bound of 4,096 manifests would have
    let a process grow by 300 MB in 1,000 days).
    """

    def __init__(self, most_files: int) -> None:
        self.most_files, self.files = most_files, 0
        self._held: OrderedDict[str, tuple[LiveFile, ...]] = OrderedDict()
        self._lock = Lock()

    def find(self, path: str) -> tuple[LiveFile, ...] | None:
        """The files of a manifest; None if it is not held."""
        with self._lock:
            files = self._held.get(path)
            if files is not None:
                self._held.move_to_end(path)
            return files

    def note(self, path: str, files: tuple[LiveFile, ...]) -> None:
        """Hold a manifest's files, and forget others if that is too many."""
        with self._lock:
            self.files += max(1, len(files)) - _weight(self._held.pop(path, None))
            self._held[path] = files
            while self.files > self.most_files and len(self._held) > 1:
                self.files -= _weight(self._held.popitem(last=False)[1])


def _weight(files: tuple[LiveFile, ...] | None) -> int:
    return 0 if files is None else max(1, len(files))


_MANIFESTS = ReadManifests(most_files=10_000)
"""Some 50 MB at most."""


def partition_key(partition: Any) -> str:
    """The partition key of a data file's partition record: ``2013-01-01``, or ``whole`` for an unpartitioned table."""
    if len(partition) == 0:
        return WHOLE
    value = partition[0]
    if isinstance(value, int):  # a date, as days since 1970-01-01
        from datetime import date, timedelta

        return (date(1970, 1, 1) + timedelta(days=value)).isoformat()
    return str(value)
