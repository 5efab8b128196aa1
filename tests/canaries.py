"""A search for secrets in whatever was left behind, each container by what it holds.

A secret is looked for as it is, as URLs write it and as base64 holds it; Parquet, Arrow, DuckDB and SQLite files are
searched by their values, compressed ones unpacked.
"""

from __future__ import annotations

import base64
import bz2
import contextlib
import gzip
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import duckdb
import pyarrow.ipc
import pyarrow.parquet as pq


@dataclass
class Search:
    """Looks for canaries in whatever was left behind.

    Attributes:
        canaries: secret by the place it was planted in.
        found: canary and where it was seen.
        containers: files that were searched by the values they hold.
        searched_bytes: how much was looked through, unpacked.
    """

    canaries: Mapping[str, str]
    found: list[tuple[str, str]] = field(default_factory=list)
    containers: list[str] = field(default_factory=list)
    searched_bytes: int = 0
    forms: list[tuple[str, bytes]] = field(init=False)

    def __post_init__(self) -> None:
        self.forms = [(place, form) for place, canary in self.canaries.items() for form in _forms(canary)]

    def look(self, what: bytes, where: str) -> None:
        """Look through some bytes."""
        self.searched_bytes += len(what)
        self.found += [(place, where) for place, form in self.forms if form in what]

    def folder(self, folder: Path) -> None:
        """Look through every file of a folder, and its names."""
        for path in sorted(folder.rglob("*")):
            self.look(str(path.relative_to(folder)).encode(), "a name")
            if path.is_file():
                self.file(path, str(path.relative_to(folder)))

    def file(self, path: Path, where: str) -> None:
        """Look through a file: as it is, unpacked, and by the values it holds."""
        content = path.read_bytes()
        self.look(content, where)
        values = _values(path, content)
        if values is not None:
            self.containers.append(where)
            self.look(values, where)


def _values(path: Path, content: bytes) -> bytes | None:
    """What a file holds, as text; None if it is no container."""
    if content[:4] == b"PAR1":
        return repr(pq.read_table(path).to_pylist()).encode()
    if content[8:12] == b"DUCK":
        return _duckdb_values(path)
    if content[:15] == b"SQLite format 3":
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return "\n".join(database.iterdump()).encode()
    if content[:2] == b"\x1f\x8b":
        return gzip.decompress(content)
    if content[:3] == b"BZh":
        return bz2.decompress(content)
    if content[:4] == b"Obj\x01":
        return _avro_values(content)
    if content[:6] == b"ARROW1":
        return repr(pyarrow.ipc.open_file(str(path)).read_all().to_pylist()).encode()
    return None


def _forms(canary: str) -> Iterator[bytes]:
    """A secret as it is, as URLs write it, and as base64 holds it at each of the three places it may begin."""
    yield canary.encode()
    if quote(canary, safe="") != canary:
        yield quote(canary, safe="").encode()
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + canary.encode())
        yield coded[4 * (shift > 0) : -4]


def _duckdb_values(path: Path) -> bytes:
    with duckdb.connect(str(path), read_only=True) as connection:
        names = connection.execute("SELECT schema_name, table_name, sql FROM duckdb_tables()").fetchall()
        texts = [sql for *_, sql in names]
        for schema, table, _ in names:
            texts += [repr(row) for row in connection.execute(f'SELECT * FROM "{schema}"."{table}"').fetchall()]
    return "\n".join(texts).encode()


def _avro_values(content: bytes) -> bytes:
    """Blocks of an Avro file of Iceberg's, unpacked: each ends with the file's own 16 bytes."""
    found = []
    for start in range(len(content)):
        with contextlib.suppress(zlib.error):
            unpacked = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content[start:])
            if len(unpacked) > 200:
                found.append(unpacked)
    return b"".join(found[:3])
