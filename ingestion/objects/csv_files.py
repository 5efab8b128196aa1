"""CSV text -> rows of text in DuckDB, every line accounted for: it is a record, or it is set apart with the reason.

Two readers with one meaning. A file in which each line surely is one record (most files are) is read by DuckDB. Any
other - quoted values that span lines, broken quoting, bytes that are no character, mixed line ends - goes through
Python's ``csv`` record by record (``csv_records.py``), several times slower.

Why not DuckDB alone: told to go on after errors, it drops the rest of a file behind a quote that is never closed
without a word, shows undecodable bytes as ``?``, and numbers lines wrongly behind a value that spans lines (measured
with 1.5.5). Blank lines hold no record and are passed over.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from ingestion.objects.csv_records import csv_form, load_records
from ingestion.objects.rows import Reject, SourceRows
from ingestion.spec import Objects
from lake.sql import literal

if TYPE_CHECKING:
    from ingestion.objects.transfer import Part

WIDEST_PATTERN = 200
"""Columns up to which a pattern can judge lines with quotes faster than they are read one by one."""

_UNUSED = "\x1f"


@dataclass
class Scan:
    """What a file's bytes say before anything is parsed. Feed it the file block by block, then :meth:`finish`."""

    delimiter: str = ","
    quote: str = '"'
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
        self.has_quotes = self.has_quotes or (self.quote != "" and self.quote.encode() in block)
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


def header(path: Path, layout: Objects) -> list[str]:
    """Names in a file's first line; empty if it is not a line of CSV."""
    try:
        with path.open("rb") as handle:
            line = handle.readline(layout.max_record_bytes + 1)
        text = line.decode("utf-8") if len(line) <= layout.max_record_bytes else ""
        return next(csv.reader([text], strict=True, **csv_form(layout)), [])
    except (UnicodeDecodeError, csv.Error):
        return []


def load(
    rows: SourceRows, part: Part, layout: Objects, names: Sequence[str], wanted: Sequence[str], reject: Reject
) -> None:
    """Append a file's records to ``source_rows``.

    Args:
        rows: takes them.
        part: the file.
        layout: how its lines are to be read.
        names: the file's columns.
        wanted: those to take, in the order of ``source_rows``; null where the file has none.
        reject: takes what is no record, in the order of lines.

    Raises:
        ObjectCorrupt: a quoted value goes on for longer than a record may be.
    """
    places = {name: n for n, name in enumerate(names)}
    positions = [places.get(name) for name in wanted]
    if not _load_lines(rows.connection, part, layout, len(names), positions):
        rows.forget(part.name)
        load_records(rows, part, layout, len(names), positions, reject)


def _load_lines(
    connection: duckdb.DuckDBPyConnection, part: Part, layout: Objects, width: int, positions: Sequence[int | None]
) -> bool:
    """Have DuckDB read the file; False if it is not certain that each line is one record."""
    scan = part.scan
    if not scan.is_plain or not scan.ends_alike or scan.longest_bytes > layout.max_record_bytes:
        return False
    longest = max(2_000_000, scan.longest_bytes + 2)
    # Not new_line='\\r\\n': with it and strict_mode DuckDB 1.5.5 reads no line at all, and says nothing.
    lines = f"auto_detect=false, parallel=false, strict_mode=true, max_line_size={longest}"
    source = literal(str(part.path))
    # Counted here because DuckDB takes a line with one empty value too many for a good one.
    fits = scan.delimiters == scan.lines * (width - 1)
    quote = literal(layout.quote)
    try:
        if not (_quoted_lines_fit(connection, source, scan, width, lines) if scan.has_quotes else fits):
            return False
        columns = ", ".join(f"'c{n}': 'VARCHAR'" for n in range(width))
        taken = ", ".join("NULL" if n is None else f"c{n}" for n in positions)
        nulls = ", ".join(literal(token) for token in layout.null_tokens) or literal(_UNUSED)
        loaded = connection.execute(
            f"INSERT INTO source_rows SELECT {literal(part.name)}, {int(layout.header)} + row_number() OVER (), "
            f"{taken} FROM read_csv({source}, columns={{{columns}}}, "
            f"header={str(layout.header).lower()}, delim={literal(scan.delimiter)}, quote={quote}, escape={quote}, "
            f"nullstr=[{nulls}], {lines})"
        ).fetchone()
    except (duckdb.InvalidInputException, duckdb.ConversionException):
        return False
    return loaded == (scan.lines - layout.header,)


def _quoted_lines_fit(connection: duckdb.DuckDBPyConnection, source: str, scan: Scan, width: int, lines: str) -> bool:
    """Whether each line is one record of ``width`` values, its quotes where they belong."""
    if width > WIDEST_PATTERN:
        return False
    between, quote = (f"\\x{{{ord(character):x}}}" for character in (scan.delimiter, scan.quote))
    value = f"(?:[^{quote}{between}]*|{quote}(?:[^{quote}]|{quote}{quote})*{quote})"
    record = literal(f"{value}(?:{between}{value}){{{width - 1}}}")
    odd = connection.execute(
        f"SELECT count(*) FROM read_csv({source}, columns={{'line': 'VARCHAR'}}, header=false, "
        f"delim='{_UNUSED}', quote='', escape='', {lines}) WHERE NOT regexp_full_match(line, {record})"
    ).fetchone()
    return odd == (0,)
