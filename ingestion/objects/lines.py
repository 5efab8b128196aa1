"""Lines of a local file, none longer than allowed, each with the byte of its object where it begins."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ingestion.objects.encodings import Transcoder
from ingestion.objects.long_records import RecordScan

SHOWN_BYTES = 1000
"""How much is kept of a line that is too long."""

_BLOCK_BYTES = 1 << 20


class TooLong(Exception):
    """The record being read is longer than allowed."""


class Lines:
    """The lines of a file in UTF-8, as text; remembers those of the record being read.

    Args:
        handle: the file.
        max_record_bytes: longest record, all its lines together.
    """

    def __init__(self, handle: BinaryIO, max_record_bytes: int) -> None:
        self._handle = handle
        self._max_record_bytes = max_record_bytes
        self._read_bytes = 0
        self.number = 0
        self.begin()

    def begin(self) -> None:
        """A new record begins with the next line."""
        self.record: list[bytes] = []
        self._bytes = 0
        self.offset_bytes = self._read_bytes
        """Where the record begins in the file."""

    @property
    def first(self) -> int:
        """Line where the record begins."""
        return self.number - len(self.record) + 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._handle.readline(self._max_record_bytes + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self.record.append(line)
        self._bytes += len(line)
        self._read_bytes += len(line)
        if self._bytes > self._max_record_bytes:
            raise TooLong
        return line.decode("utf-8", "surrogateescape")

    def skip_line(self, scan: RecordScan | None = None) -> int:
        """Pass over the rest of a line that is too long.

        Args:
            scan: goes through the record so far, this line with it.

        Returns:
            Bytes of the record so far.
        """
        size, block = 0, b""
        for block in self._blocks():
            size += len(block)
            if scan is not None:
                scan.feed(block)
        return size

    def skip_record(self, scan: RecordScan) -> int:
        """Pass over further lines until the scan says that the record is over, or the file is. Returns their bytes."""
        size, begins = 0, True
        while not scan.is_over and (block := self._more()):
            self.number += begins
            begins = block.endswith(b"\n")
            scan.feed(block)
            size += len(block)
        return size

    def _blocks(self) -> Iterator[bytes]:
        block = b""
        for block in self.record:
            yield block
        while block and not block.endswith(b"\n"):
            block = self._more()
            yield block

    def _more(self) -> bytes:
        block = self._handle.readline(_BLOCK_BYTES)
        self._read_bytes += len(block)
        return block


class Offsets:
    """Places in a file in UTF-8 -> places in the object it was made from. Ask in ascending order."""

    def __init__(self, path: Path, text: Transcoder) -> None:
        self._path = path
        self._text = text
        self._file_bytes = 0
        self._object_bytes = text.mark_bytes

    def __call__(self, file_bytes: int) -> int:
        """Where the object has what the file has at this byte, which begins a character."""
        if self._text.is_utf8:
            return self._text.mark_bytes + file_bytes
        decoder = codecs.getincrementaldecoder("utf-8")("surrogatepass")
        with self._path.open("rb") as handle:
            handle.seek(self._file_bytes)
            while self._file_bytes < file_bytes:
                block = handle.read(min(_BLOCK_BYTES, file_bytes - self._file_bytes))
                self._file_bytes += len(block)
                self._object_bytes += self._text.original_bytes(decoder.decode(block))
        return self._object_bytes
