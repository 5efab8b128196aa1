"""Whether a release is whole, and what to do with one that is not.

A release is whole when its manifest can be read, its file opens, and every table has as many rows as the manifest says;
a deep look also compares the checksums.
"""

from __future__ import annotations

import json
import re
import uuid
from contextlib import closing
from pathlib import Path

import duckdb

from common.files import remove_folder, sync_folder
from lake.lake import checksum_of
from lake.sql import identifier
from warehouse.lease import lease
from warehouse.releases import DATABASE, MARKER, Releases, open_read_only

_ID = re.compile(r"r\d{6,}")


def published(warehouse: Path) -> list[Path]:
    """Folders of releases that were published, oldest first, whole or not."""
    current = Releases(warehouse).current_id()
    folder = warehouse / "releases"
    found = [path for path in folder.iterdir() if _ID.fullmatch(path.name)] if folder.is_dir() else []
    found = [path for path in found if (path / MARKER).exists() or path.name == current]
    return sorted(found, key=lambda path: int(path.name[1:]))


def problem_of(folder: Path, *, deep: bool = False) -> str:
    """Why a release is not whole, in words; empty if it is.

    Args:
        folder: the release's.
        deep: also compare the checksum of every table, which reads all its rows.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        tables = {table["name"]: table for table in manifest.get("tables", ())}
    except FileNotFoundError:
        return "its manifest is missing"
    except (ValueError, TypeError, KeyError, AttributeError):
        return "its manifest is damaged"
    database = folder / DATABASE
    if not database.is_file():
        return f"{DATABASE} is missing"
    try:
        with closing(open_read_only(database)) as connection:
            for name, told in tables.items():
                relation = ".".join(identifier(part) for part in str(name).split("."))
                rows = (connection.execute(f"SELECT count(*) FROM {relation}").fetchone() or (0,))[0]
                if rows != told["rows"]:
                    return f"{name} has {rows} rows, its manifest says {told['rows']}"
                if deep and (found := checksum_of(connection, relation)) != told["checksum"]:
                    return f"{name} has checksum {found}, its manifest says {told['checksum']}"
    except duckdb.Error as error:
        return f"its file cannot be read: {str(error)[:160]}"
    return ""


def retire(warehouse: Path, release_id: str) -> None:
    """Remove a release that is not whole, so that nobody rolls back to it.

    Raises:
        LeaseHeld: a build holds the warehouse.
    """
    with lease(warehouse) as held, held.fenced():
        folder = warehouse / "releases" / release_id
        if folder.is_dir() and Releases(warehouse).current_id() != release_id:
            remove_folder(folder)


def point_to_newest_whole(warehouse: Path) -> str | None:
    """Have the pointer lead to the newest release that is whole; its id, None if there is none: then it is removed.

    Readers of what it leads to now read errors; so it is not marked as published, and its folder is removed.

    Raises:
        LeaseHeld: a build holds the warehouse.
    """
    with lease(warehouse) as held, held.fenced():
        current = Releases(warehouse).current_id()
        whole = [folder.name for folder in published(warehouse) if not problem_of(folder)]
        if current in whole:
            return current
        if whole:
            temporary = warehouse / f".current.{uuid.uuid4().hex}"
            temporary.symlink_to(Path("releases") / whole[-1])
            temporary.replace(warehouse / "current")
        else:
            (warehouse / "current").unlink(missing_ok=True)
        sync_folder(warehouse)
        if current is not None and (warehouse / "releases" / current).is_dir():
            remove_folder(warehouse / "releases" / current)
        return whole[-1] if whole else None
