"""Compressed bytes -> plain bytes, in bounded memory: gzip and zstd as they stream, zip from a file on disk.

A compressed object is the cheapest attack there is: some kilobytes that unpack to a full disk. So nothing here answers
more than a block at once, and whoever takes the blocks stops at a limit (``transfer.py``). A zip is judged by its
directory before a byte of it is unpacked: how many members, how they are named, how large they say they are. What it
says is not believed: the same limits hold while it is unpacked.

No member's name ever becomes a path, and still an archive with ``../x``, an absolute name or one name twice is refused:
nobody made it by accident.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pyarrow as pa

from common.errors import ObjectCorrupt
from ingestion.objects.stores import BLOCK_BYTES
from ingestion.spec import Objects
from lake.paths import is_plain_key

_GZIP_SLICE_BYTES = 1 << 14
_END_BYTES = 22
_END_MARK = b"PK\x05\x06"
_DIRECTORY_BYTES_PER_MEMBER = 4096
_ARCHIVES = (
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
    b"BZh",
    b"\xfd7zXZ",
    b"7z\xbc\xaf",
    b"Rar!",
)


def gunzipped(blocks: Iterator[bytes], key: str) -> Iterator[bytes]:
    """Decompress gzip, one or several members.

    Raises:
        ObjectCorrupt: it is no gzip, or breaks off.
    """
    member = zlib.decompressobj(31)
    complete = False
    try:
        for block in blocks:
            # In small slices: what a member leaves over is copied, once per member.
            for start in range(0, len(block), _GZIP_SLICE_BYTES):
                data = block[start : start + _GZIP_SLICE_BYTES]
                while data:
                    if member.eof:
                        member = zlib.decompressobj(31)
                    yield member.decompress(data, BLOCK_BYTES)
                    data = member.unconsumed_tail or member.unused_data
                    complete = member.eof
    except zlib.error:
        raise _not_valid(key, "gzip") from None
    if not complete:
        raise ObjectCorrupt(f"{key} is a truncated gzip file.", remedy="upload the complete object again")


def unzstd(blocks: Iterator[bytes], key: str) -> Iterator[bytes]:
    """Decompress zstd, one or several frames; a frame's window may take 128 MiB.

    Raises:
        ObjectCorrupt: it is no zstd, or breaks off.
    """
    source = _Readable(blocks)
    stream = pa.CompressedInputStream(pa.PythonFile(source, "r"), "zstd")
    try:
        while block := stream.read(BLOCK_BYTES):
            yield block
    except OSError as error:
        if "Truncated" in str(error):
            raise ObjectCorrupt(f"{key} is a truncated zstd file.", remedy="upload the complete object again") from None
        raise _not_valid(key, "zstd") from None
    if not source.began:
        raise ObjectCorrupt(f"{key} is a truncated zstd file.", remedy="upload the complete object again")


class _Readable(io.RawIOBase):
    """Blocks as a file that can be read."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        super().__init__()
        self._blocks = blocks
        self._rest = memoryview(b"")
        self.began = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return b""
            self._rest, self.began = memoryview(block), True
        size = len(self._rest) if size < 0 else size
        piece, self._rest = self._rest[:size], self._rest[size:]
        return bytes(piece)


class Archive:
    """A zip on disk, its directory judged; a context manager that closes it.

    Args:
        path: the file.
        key: the object it is, for error messages.
        layout: limits, and which members are read.

    Raises:
        ObjectCorrupt: it is no zip, or one that is not to be trusted.
    """

    def __init__(self, path: Path, key: str, layout: Objects) -> None:
        self._key = key
        self._layout = layout
        _check_directory(path, key, layout)
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            raise _not_valid(key, "zip") from None
        try:
            self.members = self._judged()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def read(self, member: zipfile.ZipInfo) -> Iterator[bytes]:
        """A member's bytes, in blocks; its checksum is compared at the end.

        Raises:
            ObjectCorrupt: it is damaged, or an archive itself.
        """
        try:
            with self._zip.open(member) as handle:
                first = True
                while block := handle.read(BLOCK_BYTES):
                    if first and block.startswith(_ARCHIVES):
                        raise self._refused(f"its member {member.filename} is an archive itself")
                    first = False
                    yield block
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, struct.error, UnicodeError):
            raise ObjectCorrupt(
                f"{self._key}: member {member.filename} is damaged.", remedy="upload the object again"
            ) from None

    def _judged(self) -> list[zipfile.ZipInfo]:
        found = self._zip.infolist()
        if len(found) > self._layout.max_members:
            raise _too_many(self._key, len(found), self._layout)
        seen: set[str] = set()
        chosen = []
        for member in found:
            name = member.orig_filename
            if not is_plain_key(name.removesuffix("/")) or "\\" in name or re.match(r"[A-Za-z]:", name):
                raise self._refused(f"its member {name!r} has a name that leads elsewhere")
            if name.casefold() in seen:
                raise self._refused(f"its member {name!r} stands twice, upper and lower case aside")
            seen.add(name.casefold())
            if member.is_dir() or not fnmatchcase(name, self._layout.members):
                continue
            if member.flag_bits & 0x1:
                raise self._refused(f"its member {name} is encrypted")
            if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise self._refused(f"its member {name} is packed by method {member.compress_type}, not deflate")
            chosen.append(member)
        if not chosen:
            raise self._refused(f"it has no member {self._layout.members}")
        size_bytes = sum(member.file_size for member in chosen)
        if size_bytes > self._layout.max_object_bytes:
            raise ObjectCorrupt(
                f"{self._key} is larger than {self._layout.max_object_bytes} bytes uncompressed.",
                remedy="raise max_object_bytes in the spec if that is right",
            )
        return chosen

    def _refused(self, why: str) -> ObjectCorrupt:
        return ObjectCorrupt(f"{self._key} is refused: {why}.", remedy="make the archive again, plain and flat")


def _check_directory(path: Path, key: str, layout: Objects) -> None:
    """Look at the end of a zip before Python's reader makes an object of each entry it claims to have."""
    size_bytes = path.stat().st_size
    with path.open("rb") as handle:
        handle.seek(max(0, size_bytes - _END_BYTES - 65_535))
        tail = handle.read()
        at = tail.rfind(_END_MARK)
        if at < 0 or len(tail) - at < _END_BYTES:
            raise _not_valid(key, "zip")
        entries, directory_bytes = struct.unpack_from("<HL", tail, at + 10)
        locator = tail[max(0, at - 20) : at]
        if locator[:4] == b"PK\x06\x07":
            handle.seek(struct.unpack_from("<Q", locator, 8)[0])
            large = handle.read(56)
            if len(large) == 56 and large[:4] == b"PK\x06\x06":
                entries, directory_bytes = struct.unpack_from("<QQ", large, 32)
    if entries > layout.max_members:
        raise _too_many(key, entries, layout)
    if directory_bytes > layout.max_members * _DIRECTORY_BYTES_PER_MEMBER:
        raise ObjectCorrupt(
            f"{key} has a directory of {directory_bytes} bytes, too much for {layout.max_members} members.",
            remedy="raise max_members in the spec if that is right",
        )


def _too_many(key: str, found: Any, layout: Objects) -> ObjectCorrupt:
    return ObjectCorrupt(
        f"{key} has {found} members, more than {layout.max_members}.",
        remedy="raise max_members in the spec if that is right",
    )


def _not_valid(key: str, what: str) -> ObjectCorrupt:
    return ObjectCorrupt(
        f"{key} is not valid {what}.", remedy="upload the object again; 'compression: none' if it is plain"
    )
