"""A table of files in a folder of the test's own, read like objects of a bucket."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from common.intervals import day_interval
from ingestion.objects.reader import ObjectReader
from ingestion.spec import SourceSpec
from lake.batches import StagedBatch
from lake.lake import Lake
from tests.integration.ingestion.conftest import new_lake, staged_rows

DAY = "2013-01-01"


@dataclass
class FolderSource:
    """Files named ``<part>/<day>.dat``, in the text columns a and b unless told otherwise."""

    home: Path
    lake: Lake = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lake = new_lake(self.home / "state")

    @property
    def folder(self) -> Path:
        """Where the files lie."""
        return self.home / "exports & more"

    @property
    def url(self) -> str:
        """The connection."""
        return self.folder.as_uri()

    def key(self, part: str = "p", day: str = DAY) -> str:
        """Key of an object."""
        return f"{part}/{day}.dat"

    def put(self, content: str | bytes, *, part: str = "p", day: str = DAY) -> Path:
        """Write a file."""
        path = self.folder / self.key(part, day)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def spec(self, columns: str = "a: string, b: string", **objects: Any) -> SourceSpec:
        """The source's spec; ``objects`` are further keys of its layout."""
        # Not at the comma of a decimal: a comma and a space part two columns.
        pairs = [part.split(": ") for part in columns.split(", ")]
        table = {
            "name": "orders",
            "mode": "append",
            "objects": {"path": "{part}/{key}.dat", **objects},
            "columns": [{"name": name, "type": kind} for name, kind in pairs],
        }
        return SourceSpec.model_validate(
            {"source": "shop", "kind": "objects", "connection": "shop", "owner": "me@example.org", "tables": [table]}
        )

    def stage(self, spec: SourceSpec | None = None, *, day: str = DAY, url: str | None = None) -> StagedBatch:
        """What a run does with one day."""
        spec = spec or self.spec()
        with ObjectReader(spec, SecretStr(url or self.url), self.lake) as reader:
            return reader.stage(spec.tables[0], day_interval(day), code="code")

    def rows(self, staged: StagedBatch, *names: str) -> list[tuple[Any, ...]]:
        """Rows of a staged batch."""
        return staged_rows(self.lake, staged, *(names or ("a", "b")))

    def left_behind(self) -> list[Path]:
        """Files that a reader has left where it worked, and data files in the lake."""
        home = self.home / "state"
        return [path for path in (home / "tmp").rglob("*") if path.is_file()] + list(home.rglob("*.parquet"))


def waiting(staged: StagedBatch) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Reason, place behind the object's key, and row, of what was set apart."""
    return [
        (row["reason"], row["position"].split(" ", 1)[1], json.loads(row["row"]))
        for row in staged.early_rejects.to_pylist()
    ]
