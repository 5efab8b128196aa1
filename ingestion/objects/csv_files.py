"""CSV text -> rows of text in DuckDB, every line accounted for: it is a record, or it is set apart with the reason.

Two readers with one meaning. A file in which each line surely is one record (most files are) is read by DuckDB. Any
other - quoted values that span lines, broken quoting, bytes that are no UTF-8, mixed line ends - goes through Python's
``csv`` record by record, several times slower.

Why not DuckDB alone: told to go on after errors, it drops the rest of a file behind a quote that is never closed
without a word, shows undecodable bytes as ``?``, and numbers lines wrongly behind a value that spans lines (measured
with 1.5.5). Blank lines hold no record and are passed over.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import duckdb
import pyarrow as pa

from common.errors import ObjectCorrupt
from lake.sql import literal

MAX_RECORD_BYTES = 16 << 20
"""Longest record that is read; a longer line is set apart, with its size."""

SHOWN_BYTES = 1000
"""How much is kept of a line that is longer than :data:`MAX_RECORD_BYTES`."""

WIDEST_PATTERN = 200
"""Columns up to which a pattern can judge lines with quotes faster than they are read one by one."""

_UNUSED = "\x1f"
_CHUNK_ROWS = 20_000


@dataclass(frozen=True)
class Broken:
    r"""Text that is no record.

    Attributes:
        line: the line where it begins, the header being 1.
        reason: what is wrong with it.
        text: the text, undecodable bytes written as ``\xff``.
    """

    line: int
    reason: str
    text: str


@dataclass
class Scan:
    """What a file's bytes say before anything is parsed. Feed it the file block by block, then :meth:`finish`."""

    delimiter: str = ","
    delimiters: int = 0
    lines: int = 0
    longest_bytes: int = 0
    is_utf8: bool = True
    has_quotes: bool = False
    has_nul: bool = False
    has_unused: bool = False
    _returns: int = 0
    _pairs: int = 0
    _open_bytes: int = 0
    _last: bytes = b""
    _decoder: codecs.IncrementalDecoder = field(default_factory=codecs.getincrementaldecoder("utf-8"))

    def feed(self, block: bytes) -> None:
        """Take in the next bytes."""
        if not block:
            return
        parts = block.split(b"\n")
        self.lines += len(parts) - 1
        self._open_bytes += len(parts[0])
        self.longest_bytes = max(self.longest_bytes, self._open_bytes, *map(len, parts))
        if len(parts) > 1:
            self._open_bytes = len(parts[-1])
        self._returns += block.count(b"\r")
        self._pairs += block.count(b"\r\n") + (self._last == b"\r" and block[:1] == b"\n")
        self._last = block[-1:]
        self.delimiters += block.count(self.delimiter.encode())
        self.has_quotes = self.has_quotes or b'"' in block
        self.has_nul = self.has_nul or b"\0" in block
        self.has_unused = self.has_unused or _UNUSED.encode() in block
        self._decode(block)

    def finish(self) -> None:
        """Say that there is no more."""
        self.lines += self._last not in {b"", b"\n"}
        self._decode(b"", final=True)

    def _decode(self, block: bytes, *, final: bool = False) -> None:
        if self.is_utf8:
            try:
                self._decoder.decode(block, final)
            except UnicodeDecodeError:
                self.is_utf8 = False

    @property
    def is_plain(self) -> bool:
        """Whether every byte belongs to a character that text may hold."""
        return self.is_utf8 and not self.has_nul and not self.has_unused

    @property
    def ends_alike(self) -> bool:
        """Whether every line ends like the others."""
        ends = self.lines - (self._last != b"\n")
        return self._returns == 0 or self._returns == self._pairs == ends


def header(path: Path, delimiter: str) -> list[str]:
    """Names in a file's first line; empty if it is not a line of CSV."""
    try:
        with path.open("rb") as handle:
            text = handle.readline(1 << 20).decode("utf-8-sig")
        return next(csv.reader([text], delimiter=delimiter, strict=True), [])
    except (UnicodeDecodeError, csv.Error):
        return []


def load(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    scan: Scan,
    *,
    key: str,
    names: Sequence[str],
    wanted: Sequence[str],
    null_tokens: Sequence[str],
) -> list[Broken]:
    """Append a file's records to the table ``source_rows`` (object key, line, then the wanted columns, all text).

    Args:
        connection: where ``source_rows`` is.
        path: the file.
        scan: what its bytes say.
        key: goes into the first column.
        names: the file's header.
        wanted: columns to take, in the order of ``source_rows``; null where the file does not have them.
        null_tokens: texts that mean null, quoted or not.

    Returns:
        What is no record, in the order of lines.

    Raises:
        ObjectCorrupt: a quoted value goes on for longer than :data:`MAX_RECORD_BYTES`.
    """
    places = {name: n for n, name in enumerate(names)}
    positions = [places.get(name) for name in wanted]
    if _load_lines(connection, path, scan, key, len(names), positions, null_tokens):
        return []
    connection.execute(f"DELETE FROM source_rows WHERE object_key = {literal(key)}")
    return _load_records(connection, path, scan, key, len(names), positions, null_tokens)


# -- files of which each line is a record -----------------------------------------------------------------------------


def _load_lines(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    scan: Scan,
    key: str,
    width: int,
    positions: Sequence[int | None],
    null_tokens: Sequence[str],
) -> bool:
    """Have DuckDB read the file; False if it is not certain that each line is one record."""
    if not scan.is_plain or not scan.ends_alike or scan.longest_bytes > MAX_RECORD_BYTES:
        return False
    longest = max(2_000_000, scan.longest_bytes + 2)
    # Not new_line='\\r\\n': with it and strict_mode DuckDB 1.5.5 reads no line at all, and says nothing.
    lines = f"auto_detect=false, parallel=false, strict_mode=true, max_line_size={longest}"
    source = literal(str(path))
    # Counted here because DuckDB takes a line with one empty value too many for a good one.
    fits = scan.delimiters == scan.lines * (width - 1)
    try:
        if not (_quoted_lines_fit(connection, source, scan, width, lines) if scan.has_quotes else fits):
            return False
        columns = ", ".join(f"'c{n}': 'VARCHAR'" for n in range(width))
        taken = ", ".join("NULL" if n is None else f"c{n}" for n in positions)
        nulls = ", ".join(literal(token) for token in null_tokens) or literal(_UNUSED)
        loaded = connection.execute(
            f"INSERT INTO source_rows SELECT {literal(key)}, 1 + row_number() OVER (), "
            f"{taken} FROM read_csv({source}, columns={{{columns}}}, header=true, "
            f"delim={literal(scan.delimiter)}, quote='\"', escape='\"', nullstr=[{nulls}], {lines})"
        ).fetchone()
    except (duckdb.InvalidInputException, duckdb.ConversionException):
        return False
    return loaded == (scan.lines - 1,)


def _quoted_lines_fit(connection: duckdb.DuckDBPyConnection, source: str, scan: Scan, width: int, lines: str) -> bool:
    """Whether each line is one record of ``width`` values, its quotes where they belong."""
    if width > WIDEST_PATTERN:
        return False
    between = f"\\x{{{ord(scan.delimiter):x}}}"
    value = f'(?:[^"{between}]*|"(?:[^"]|"")*")'
    record = literal(f"{value}(?:{between}{value}){{{width - 1}}}")
    odd = connection.execute(
        f"SELECT count(*) FROM read_csv({source}, columns={{'line': 'VARCHAR'}}, header=false, "
        f"delim='{_UNUSED}', quote='', escape='', {lines}) WHERE NOT regexp_full_match(line, {record})"
    ).fetchone()
    return odd == (0,)


# -- any other file ---------------------------------------------------------------------------------------------------


class _TooLong(Exception):
    """The record being read is longer than allowed."""


class _Lines:
    """The lines of a file; remembers those of the record being read."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self.number = 0
        self.begin()

    def begin(self) -> None:
        """A new record begins with the next line."""
        self.record: list[bytes] = []
        self._bytes = 0

    @property
    def first(self) -> int:
        """Line where the record begins."""
        return self.number - len(self.record) + 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._handle.readline(MAX_RECORD_BYTES + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self.record.append(line)
        self._bytes += len(line)
        if self._bytes > MAX_RECORD_BYTES:
            raise _TooLong
        return line.decode("utf-8", "surrogateescape")

    def skip_line(self) -> tuple[int, int]:
        """Pass over the rest of a line that is too long. Returns its bytes, and the quotes in it."""
        size, quotes = len(self.record[0]), self.record[0].count(b'"')
        block = self.record[0]
        while block and not block.endswith(b"\n"):
            block = self._handle.readline(1 << 20)
            size, quotes = size + len(block), quotes + block.count(b'"')
        return size, quotes


def _load_records(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    scan: Scan,
    key: str,
    width: int,
    positions: Sequence[int | None],
    null_tokens: Sequence[str],
) -> list[Broken]:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_RECORD_BYTES))
    broken: list[Broken] = []
    rows: list[list[str | int | None]] = []
    nulls = frozenset(null_tokens)
    with path.open("rb") as handle:
        lines = _Lines(handle)
        next(lines)  # the header
        reader = csv.reader(lines, delimiter=scan.delimiter, strict=True)
        while True:
            lines.begin()
            try:
                fields = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                broken += _unparsed(lines, str(error))
                continue
            except _TooLong:
                broken.append(_too_long(lines, key))
                continue
            problem = _problem(fields, lines, scan, width) if fields else None
            if problem:
                broken.append(Broken(lines.first, problem, _text(b"".join(lines.record))))
            elif fields:
                values = (None if n is None else fields[n] for n in positions)
                rows.append([lines.first, *(None if value in nulls else value for value in values)])
            if len(rows) >= _CHUNK_ROWS:
                _insert(connection, key, rows, len(positions))
    _insert(connection, key, rows, len(positions))
    return broken


def _insert(connection: duckdb.DuckDBPyConnection, key: str, rows: list[list[str | int | None]], columns: int) -> None:
    """Move rows into ``source_rows``."""
    types = [pa.int64()] + [pa.string()] * columns
    arrays = [pa.array([row[n] for row in rows], kind) for n, kind in enumerate(types)]
    connection.register("chunk", pa.table(arrays, [f"c{n}" for n in range(len(types))]))
    connection.execute(f"INSERT INTO source_rows SELECT {literal(key)}, * FROM chunk")
    connection.unregister("chunk")
    rows.clear()


def _problem(fields: Sequence[str], lines: _Lines, scan: Scan, width: int) -> str | None:
    if not scan.is_utf8:
        try:
            b"".join(lines.record).decode()
        except UnicodeDecodeError as error:
            return f"not UTF-8 at byte {error.start} of the record"
    if len(fields) != width:
        return f"{len(fields)} values, the header has {width}"
    if scan.has_nul and any("\0" in value for value in fields):
        return "holds a NUL character"
    return None


def _unparsed(lines: _Lines, problem: str) -> list[Broken]:
    if "unexpected end" in problem:
        reason = f"a quote opened in the record of line {lines.first} is never closed"
        return [Broken(lines.first + n, reason, _text(raw)) for n, raw in enumerate(lines.record) if raw.strip()]
    reason = "a line end inside a line" if "new-line" in problem else "text behind a closing quote"
    return [Broken(lines.first, reason, _text(b"".join(lines.record)))]


def _too_long(lines: _Lines, key: str) -> Broken:
    size, quotes = lines.skip_line()
    if len(lines.record) > 1 or quotes % 2:
        raise ObjectCorrupt(
            f"A quoted value in line {lines.first} of {key} goes on for more than {MAX_RECORD_BYTES} bytes.",
            remedy="close the quote in the object and upload it again",
        )
    return Broken(lines.first, f"{size} bytes, more than {MAX_RECORD_BYTES}", _text(lines.record[0][:SHOWN_BYTES]))


def _text(raw: bytes) -> str:
    return raw.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", "backslashreplace")
