"""States that earlier versions wrote, made usable in a folder of the test's own.

An archive holds the state as it was, with the absolute paths that Iceberg's metadata have; they are written anew here
by what a restore into another folder uses (``lake/relocation.py``).
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tarfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lake.local_io import LocalFileIO
from lake.paths import TableId
from lake.relocation import FilesElsewhere, move_manifests, moved, moved_root, parse_metadata

ARCHIVES = Path(__file__).resolve().parents[1] / "data" / "upgrade"


@dataclass(frozen=True)
class Frozen:
    """A state that an earlier version wrote.

    Attributes:
        version, commit: of the code that wrote it.
        contents: checksums of what its own readers saw (``tests/upgrade/contents.py``).
    """

    version: str
    commit: str
    contents: dict[str, str]


def versions() -> list[str]:
    """Versions of which there is a state."""
    return sorted(path.stem for path in ARCHIVES.glob("*.json"))


def thaw(version: str, folder: Path) -> Frozen:
    """Make the state of a version in ``folder / "state"``."""
    facts = json.loads((ARCHIVES / f"{version}.json").read_text())
    with tarfile.open(ARCHIVES / f"{version}.tar.xz") as archive:
        archive.extractall(folder / "frozen", filter="tar")
    home, old = folder / "state", f"file://{facts['home']}/lake"
    frozen, move = folder / "frozen" / "state", moved_root(old, f"file://{home}/lake")
    shutil.copytree(frozen, home, symlinks=True, ignore=shutil.ignore_patterns("metadata"))

    def find(location: str) -> Path:
        return frozen / "lake" / location.removeprefix(f"{old}/")

    with closing(sqlite3.connect(home / "catalog.db")) as catalog, catalog:
        rows = catalog.execute("SELECT table_namespace, table_name, metadata_location FROM iceberg_tables").fetchall()
        for namespace, name, location in rows:
            content, table = find(location).read_bytes(), TableId(namespace, name)
            new, written = moved(content, table, name=version, move=move), LocalFileIO()
            move_manifests(parse_metadata(content, table), io=FilesElsewhere(find, written), move=move)
            with written.new_output(new.location).create() as stream:
                stream.write(new.document)
            catalog.execute(
                "UPDATE iceberg_tables SET metadata_location = ?, previous_metadata_location = NULL "
                "WHERE table_namespace = ? AND table_name = ?",
                (new.location, namespace, name),
            )
    shutil.rmtree(folder / "frozen")
    return Frozen(facts["version"], facts["commit"], facts["contents"])
