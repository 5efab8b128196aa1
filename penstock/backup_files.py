"""What a backup copies: every file that catalog and pointer of one moment need.

::

    pointer, releases ─▶ then the catalog, once ─▶ metadata, manifests, data files of every retained snapshot
                                                └▶ receipts of their batches; verdicts, repairs and the rest of ops/
    revocations, policy, lineage; copies of specs and suites

The pointer is read before the catalog: a release is made from what the lake already has, so the lake of a backup is
never behind its releases. No file is copied that holds a secret: not the key that signs tokens, not ``penstock.toml``,
not what the embedded services keep. Nothing is copied that killed work left behind, and no scratch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lake.inventory import is_record, receipt_attempt
from lake.lake import Lake
from lake.paths import TableId, root_location
from lake.pins import PinnedMetadata, pinned_locations, read_pinned
from penstock.backup_manifest import Area
from penstock.pipeline import Pipeline
from warehouse.lease import newest_fence
from warehouse.releases import Releases


@dataclass(frozen=True)
class Wanted:
    """A file that a backup needs.

    Attributes:
        area, path: as in :class:`penstock.backup_manifest.Entry`.
        source: its location in the lake, or its path.
        is_fixed: whether a file of that path and time always has the same bytes, so that it need not be read again.
        modified_at: see :class:`penstock.backup_manifest.Entry`; empty where the path alone says which bytes.
        size_bytes: its length; None where the path alone says which bytes.
        may_go: whether it may be gone by the time it is copied.
    """

    area: Area
    path: str
    source: str
    is_fixed: bool
    modified_at: str = ""
    size_bytes: int | None = None
    may_go: bool = False


@dataclass(frozen=True)
class Pinned:
    """The state as it was at one moment.

    Attributes:
        taken_at: when, UTC.
        tables: metadata of every table.
        releases: see :class:`penstock.backup_manifest.Manifest`.
        attempts: ids of attempts whose receipts are needed.
        foreign: tables of the catalog that are not the lake's.
        data: path below the lake's root -> length, of every data file.
    """

    taken_at: datetime
    tables: Mapping[TableId, PinnedMetadata]
    releases: dict[str, Any]
    attempts: frozenset[str]
    foreign: list[str]
    data: dict[str, int] = field(default_factory=dict)


def pin(pipeline: Pipeline) -> Pinned:
    """Read pointer and catalog, and then what each table's snapshots name.

    Raises:
        StateCorrupt: metadata are gone: a table has moved on far while its files were looked up, or is damaged.
        StoreUnavailable: catalog or store does not answer.
    """
    settings, lake = pipeline.settings, pipeline.lake
    taken_at = datetime.now(UTC)
    shelf = Releases(settings.warehouse)
    kept = shelf.all()
    releases: dict[str, Any] = {
        "current": shelf.current_id(),
        "ids": [release.id for release in kept],
        "moves": [[move.at.isoformat(), move.release] for move in shelf.moves()],
        "lease": newest_fence(settings.warehouse) if settings.warehouse.is_dir() else 0,
    }
    locations, foreign = pinned_locations(lake)
    tables = {table: read_pinned(lake, table, location) for table, location in sorted(locations.items())}
    attempts = {attempt for each in tables.values() for attempt in each.named.attempts}
    for release in kept:
        for pinned in release.manifest.get("inputs", {}).values():
            attempts |= set(pinned.get("attempts", {}).values())
    root = f"{root_location(settings.lake_uri)}/"
    data = {location.removeprefix(root): size for each in tables.values() for location, size in each.named.data.items()}
    return Pinned(taken_at, tables, releases, frozenset(attempts), foreign, data)


def wanted_files(pipeline: Pipeline, pinned: Pinned, *, with_data: bool) -> Iterator[Wanted]:
    """Every file of a pinned state, those first that are deleted first.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    root = f"{root_location(pipeline.settings.lake_uri)}/"
    for each in pinned.tables.values():
        for location in each.files:
            path = location.removeprefix(root)
            if path not in pinned.data:
                yield Wanted("lake", path, location, is_fixed=True)
    yield from _releases(pipeline, pinned)
    yield from _records(pipeline.lake, pinned, root)
    yield from _home(pipeline)
    if with_data:
        yield from (Wanted("lake", path, root + path, is_fixed=True) for path in sorted(pinned.data))


def _records(lake: Lake, pinned: Pinned, root: str) -> Iterator[Wanted]:
    for file in lake.storage.list_stored(f"{root}ops"):
        path = file.location.removeprefix(root)
        attempt = receipt_attempt(path)
        if is_record(path) and (attempt is None or attempt in pinned.attempts):
            modified = file.modified_at.isoformat()
            yield Wanted("lake", path, file.location, True, modified, file.size_bytes, may_go=attempt is None)


def _releases(pipeline: Pipeline, pinned: Pinned) -> Iterator[Wanted]:
    warehouse = pipeline.settings.warehouse
    for release in pinned.releases["ids"]:
        for file in _files(warehouse / "releases" / release):
            status = file.stat()
            modified = datetime.fromtimestamp(status.st_mtime, UTC).isoformat()
            path = file.relative_to(warehouse).as_posix()
            yield Wanted("warehouse", path, str(file), True, modified, status.st_size)
    for name in ("fence", "identity"):
        if (warehouse / name).is_file():
            yield Wanted("warehouse", name, str(warehouse / name), is_fixed=False)


def _home(pipeline: Pipeline) -> Iterator[Wanted]:
    settings = pipeline.settings
    for folder in ("serve/revoked", "lineage"):
        for file in _files(settings.home / folder):
            path = file.relative_to(settings.home).as_posix()
            yield Wanted("home", path, str(file), is_fixed=False, may_go=True)
    if settings.policy.is_file():
        yield Wanted("home", "policy.yml", str(settings.policy), is_fixed=False, may_go=True)
    for name, top in (("sources", settings.sources), ("suites", settings.suites)):
        for file in _files(top):
            if file.suffix == ".yml":
                path = f"{name}/{file.relative_to(top).as_posix()}"
                yield Wanted("specs", path, str(file), is_fixed=False, may_go=True)


def _files(folder: Path) -> list[Path]:
    """Files below a folder, but none that is being written."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
