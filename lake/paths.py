"""The only place where names become paths.

A table name, a partition key or an attempt id is checked before it becomes part of a path, so that nothing a source
says can lead outside the lake. ``Location`` strings are what Iceberg stores: ``file:///...`` or ``s3://...``; engines
(DuckDB, Polars) take a plain path for local files.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from common.errors import SettingsError, UnknownName

_NAME = re.compile(r"[a-z][a-z0-9_]{0,149}")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_SCOPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,240}")
_ATTEMPT = re.compile(r"[0-9a-f]{32}")
_UNSAFE = "#?"

WHOLE = "whole"
"""Partition key of a table that is replaced as a whole."""


@dataclass(frozen=True, order=True)
class TableId:
    """Namespace and name of a lake table, both ``[a-z][a-z0-9_]*``."""

    namespace: str
    name: str

    def __post_init__(self) -> None:
        if not (_NAME.fullmatch(self.namespace) and _NAME.fullmatch(self.name)):
            raise UnknownName(
                f"{self.namespace!r}.{self.name!r} is not a table name.",
                remedy="use lower-case letters, digits and underscores, starting with a letter",
            )

    @classmethod
    def parse(cls, text: str) -> TableId:
        """Read ``namespace.name``."""
        namespace, dot, name = text.partition(".")
        if not dot:
            raise UnknownName(
                f"{text!r} is not a table name.", remedy="write it as namespace.name, e.g. refined.flights"
            )
        return cls(namespace, name)

    def __str__(self) -> str:
        return f"{self.namespace}.{self.name}"

    @property
    def quarantine(self) -> TableId:
        """The table in which rows rejected from this one wait: ``quarantine.<namespace>__<name>``."""
        return TableId("quarantine", f"{self.namespace}__{self.name}")


def new_attempt() -> str:
    """A fresh id for one attempt to write a batch; it names the attempt's files."""
    return uuid.uuid4().hex


def root_location(lake_uri: str) -> str:
    """The lake's root as a location: a local folder becomes ``file:///...``, its characters as they are.

    Percent-encoding them would be right for a URI and wrong here: Iceberg's Python library takes the path literally.

    Raises:
        SettingsError: the folder's name has a character that Iceberg's library takes for the end of a path.
    """
    if "://" in lake_uri:
        return lake_uri.rstrip("/")
    path = str(Path(lake_uri).absolute())
    found = [character for character in path if character in _UNSAFE]
    if found:
        raise SettingsError(
            f"The lake's folder {path} has {found[0]!r} in its name.",
            remedy="set PENSTOCK_LAKE_URI (or PENSTOCK_HOME) to a folder without # and ?",
        )
    return f"file://{path}"


def table_location(lake_uri: str, table: TableId) -> str:
    """Where a table's data and metadata lie."""
    return f"{root_location(lake_uri)}/{table.namespace}/{table.name}"


def data_location(lake_uri: str, table: TableId, key: str, attempt: str, part: int = 0) -> str:
    """A data file's location. The attempt id in the name ties a live file to the receipt of its batch."""
    return f"{table_location(lake_uri, table)}/data/{_segment(key)}/{_attempt(attempt)}-{part:05d}.parquet"


def receipt_location(lake_uri: str, table: TableId, key: str, attempt: str) -> str:
    """Where the receipt of one attempt lies."""
    return f"{root_location(lake_uri)}/ops/receipts/{table}/{_segment(key)}/{_attempt(attempt)}.json"


def validation_reference(table: TableId, key: str, attempt: str) -> str:
    """Where Great Expectations' own result of one attempt lies, below the lake's root."""
    return f"ops/validations/{table}/{_segment(key)}/{_attempt(attempt)}.json"


def refusal_folder(lake_uri: str, table: TableId | None = None) -> str:
    """Where the verdicts of refused batches of a table lie, or of all tables."""
    folder = f"{root_location(lake_uri)}/ops/refusals"
    return folder if table is None else f"{folder}/{table}"


def repair_location(lake_uri: str, table: TableId, key: str, attempt: str) -> str:
    """Where it is recorded which quarantined rows an attempt repaired or discarded."""
    return f"{repair_folder(lake_uri, table)}/{_segment(key)}/{_attempt(attempt)}.json"


def repair_folder(lake_uri: str, table: TableId) -> str:
    """Where the records of a table's repairs lie."""
    return f"{root_location(lake_uri)}/ops/repairs/{table}"


def noticed_location(lake_uri: str) -> str:
    """Where a sweep notes which files nothing names any more, and since when."""
    return f"{root_location(lake_uri)}/ops/maintenance/noticed.json"


def clock_location(lake_uri: str) -> str:
    """An empty file that a sweep writes to learn the store's time."""
    return f"{root_location(lake_uri)}/ops/maintenance/clock"


def lineage_folder(lake_uri: str) -> str:
    """Where the newest lineage event of each table lies, in a lake that several machines share."""
    return f"{root_location(lake_uri)}/ops/lineage"


def failure_location(lake_uri: str, *scope: str) -> str:
    """Where it lies that something does not work: ``ops/failures/<scope>.json``; without a scope, the folder."""
    for part in scope:
        if not _SCOPE.fullmatch(part) or ".." in part:
            raise UnknownName(f"{part!r} cannot name what failed.", remedy="use names of tables, sources and days")
    folder = f"{root_location(lake_uri)}/ops/failures"
    return f"{folder}/{'/'.join(scope)}.json" if scope else folder


def attempt_of(location: str) -> str | None:
    """The attempt id in a data file's name; None for a file that Penstock did not write."""
    stem = location.rsplit("/", 1)[-1].split("-", 1)[0]
    return stem if _ATTEMPT.fullmatch(stem) else None


def engine_path(location: str) -> str:
    """A location as DuckDB and Polars take it: local files as plain paths, others unchanged."""
    return location.removeprefix("file://")


def path_below(folder: Path, key: str) -> Path:
    """The path of an object key below a folder; a key's segments are names and nothing else.

    Raises:
        UnknownName: the key is absolute, or has a segment that is empty, ``.`` or ``..``, or holds NUL or is too long.
    """
    if not is_plain_key(key):
        raise UnknownName(f"{key!r} is not an object key.", remedy="use names joined by '/', without '.' and '..'")
    return folder.joinpath(*key.split("/"))


def is_plain_key(key: str) -> bool:
    """Whether an object key means the same to every store and file system: names joined by ``/``, none of them special.

    A URL that holds ``a/../b`` is asked for as ``b`` by some HTTP libraries, and a path that does leads elsewhere.
    Percent signs are plain characters: nothing here decodes them.
    """
    try:
        size_bytes = len(key.encode())
    except UnicodeEncodeError:
        return False
    return 0 < size_bytes <= 1024 and "\0" not in key and not {"", ".", ".."} & set(key.split("/"))


def _segment(key: str) -> str:
    if not _KEY.fullmatch(key) or ".." in key:
        raise UnknownName(f"{key!r} is not a partition key.", remedy="use a calendar day such as 2013-01-31")
    return key


def _attempt(attempt: str) -> str:
    if not _ATTEMPT.fullmatch(attempt):
        raise UnknownName(f"{attempt!r} is not an attempt id.", remedy="take it from a receipt")
    return attempt
