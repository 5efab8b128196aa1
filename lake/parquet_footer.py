"""What a Parquet file's footer says of its columns, read without Arrow.

The footer is one Thrift struct in the compact protocol; of it come row groups, column chunks and their statistics. A
commit wants nothing else of a file, and Arrow with NumPy takes 60 MB and a fifth of a second in every process.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyiceberg.io import InputStream

from common.errors import StateCorrupt

_TAIL_BYTES = 64 << 10
"""Read at once from the end: most footers are shorter, and a store answers each read by itself."""

_BOOLEAN, _INT32, _INT64 = 0, 1, 2  # physical types, in the format's own numbers
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12  # Thrift's, compact


@dataclass(frozen=True)
class ColumnChunk:
    """One column in one row group.

    Attributes:
        path: the column's name, dots between its parts.
        values: values, nulls included.
        compressed_bytes: its size in the file.
        first_page: where it begins.
        nulls: nulls; None if the writer did not count them.
        least, most: bounds as they are stored: a number, or bytes; None where there are none.
    """

    path: str
    values: int
    compressed_bytes: int
    first_page: int
    nulls: int | None
    least: int | bytes | None
    most: int | bytes | None


@dataclass(frozen=True)
class Footer:
    """A file's footer: its rows, and the column chunks of each row group."""

    rows: int
    groups: Sequence[Sequence[ColumnChunk]]


def read_footer(stream: InputStream, size_bytes: int) -> Footer:
    """Read the footer of a Parquet file.

    Args:
        stream: the file; seekable.
        size_bytes: its size.

    Raises:
        StateCorrupt: it is no Parquet file, or is cut off.
    """
    tail_bytes = min(size_bytes, _TAIL_BYTES)
    stream.seek(size_bytes - tail_bytes)
    tail = stream.read(tail_bytes)
    length = int.from_bytes(tail[-8:-4], "little")
    if tail[-4:] != b"PAR1" or length + 12 > size_bytes:
        raise StateCorrupt("A staged file is no Parquet file.", remedy="run its interval again")
    if length + 8 > tail_bytes:
        stream.seek(size_bytes - length - 8)
        tail = stream.read(length + 8)
    content = _Reader(tail[-length - 8 : -8]).struct()
    return Footer(content[3], [[_chunk(each[3]) for each in group[1]] for group in content[4]])


def _chunk(found: dict[int, Any]) -> ColumnChunk:
    statistics, kind = found.get(12, {}), found[1]
    return ColumnChunk(
        path=b".".join(found[3]).decode(),
        values=found[5],
        compressed_bytes=found[7],
        first_page=found.get(11, found[9]),
        nulls=statistics.get(3),
        least=_value(statistics.get(6), kind),
        most=_value(statistics.get(5), kind),
    )


def _value(raw: bytes | None, kind: int) -> int | bytes | None:
    """A bound, by its column's physical type."""
    if raw is None or kind not in {_BOOLEAN, _INT32, _INT64}:
        return raw
    return raw[0] if kind == _BOOLEAN else int.from_bytes(raw, "little", signed=True)


class _Reader:
    """Thrift's compact protocol: structs as dictionaries by field id, lists as lists, texts as bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def struct(self) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        field = 0
        while head := self._byte():
            kind = head & 0x0F
            field = field + (head >> 4) if head >> 4 else self._zigzag()
            fields[field] = kind == _TRUE if kind <= _FALSE else self._read(kind)
        return fields

    def _read(self, kind: int) -> Any:
        if kind == _BINARY:
            length = self._varint()
            self._at += length
            return self._content[self._at - length : self._at]
        if kind == _STRUCT:
            return self.struct()
        if kind in {_LIST, _SET}:
            head = self._byte()
            size = head >> 4 if head >> 4 < 0x0F else self._varint()
            return [self._read(head & 0x0F) for _ in range(size)]
        if kind in {_TRUE, _FALSE, _BYTE}:  # in a list, a truth value is a byte
            return self._byte()
        if kind == _DOUBLE:
            self._at += 8
            return struct.unpack_from("<d", self._content, self._at - 8)[0]
        return self._zigzag()

    def _byte(self) -> int:
        self._at += 1
        return self._content[self._at - 1]

    def _varint(self) -> int:
        result = shift = 0
        while True:
            byte = self._byte()
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result
            shift += 7

    def _zigzag(self) -> int:
        found = self._varint()
        return (found >> 1) ^ -(found & 1)
