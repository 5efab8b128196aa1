"""CSV of which not every line is one record: read record by record, each a row or set apart with the reason.

Python's ``csv`` in strict mode decides what a record is. Slower than DuckDB, and exact: a quote that is never closed
costs the lines behind it and says so, a byte that is no character costs its own record.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from common.errors import ObjectCorrupt
from ingestion.objects.encodings import Transcoder
from ingestion.objects.lines import SHOWN_BYTES, Lines, Offsets, TooLong
from ingestion.objects.long_records import RecordScan
from ingestion.objects.rows import Broken, Reject, SourceRows
from ingestion.spec import Objects

if TYPE_CHECKING:
    from ingestion.objects.transfer import Part


def csv_form(layout: Objects) -> dict[str, Any]:
    """The spec's delimiter and quote as Python's ``csv`` takes them."""
    if not layout.quote:
        return {"delimiter": layout.separator, "quoting": csv.QUOTE_NONE, "quotechar": None}
    return {"delimiter": layout.separator, "quotechar": layout.quote}


def load_records(
    rows: SourceRows, part: Part, layout: Objects, width: int, positions: Sequence[int | None], reject: Reject
) -> None:
    """Append a file's records to ``rows``; see :func:`ingestion.objects.csv_files.load`."""
    csv.field_size_limit(max(csv.field_size_limit(), layout.max_record_bytes))
    nulls = frozenset(layout.null_tokens)
    offset_of = Offsets(part.path, part.text)
    with part.path.open("rb") as handle:
        lines = Lines(handle, layout.max_record_bytes)
        if layout.header:
            next(lines)
        reader = csv.reader(lines, strict=True, **csv_form(layout))
        while True:
            lines.begin()
            try:
                fields = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                for each in _unparsed(lines, part.text, offset_of, str(error)):
                    reject(each)
                continue
            except TooLong:
                reject(_too_long(lines, part, offset_of, layout, width))
                continue
            problem = _problem(fields, lines, part, width) if fields else None
            if problem:
                raw = b"".join(lines.record)
                reject(_broken(lines.first, offset_of(lines.offset_bytes), problem, raw, part.text))
            elif fields:
                values = [None if n is None or fields[n] in nulls else fields[n] for n in positions]
                rows.append(part.name, lines.first, values, sum(map(len, lines.record)))
    rows.flush(part.name)


def _problem(fields: Sequence[str], lines: Lines, part: Part, width: int) -> str | None:
    if not part.scan.is_utf8:
        raw = b"".join(lines.record)
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            text = part.text
            before = raw[: error.start].decode()
            at = error.start if text.is_utf8 else text.original_bytes(before)
            return f"not {text.encoding} at byte {at} of the record"
    if len(fields) != width:
        return f"{len(fields)} values, the header has {width}"
    if part.scan.has_nul and any("\0" in value for value in fields):
        return "holds a NUL character"
    return None


def _unparsed(lines: Lines, text: Transcoder, offset_of: Offsets, problem: str) -> list[Broken]:
    if "unexpected end" in problem:
        reason = f"a quote opened in the record of line {lines.first} is never closed"
        found, at = [], lines.offset_bytes
        for n, raw in enumerate(lines.record):
            if raw.strip():
                found.append(_broken(lines.first + n, offset_of(at), reason, raw, text))
            at += len(raw)
        return found
    reason = "a line end inside a line" if "new-line" in problem else "text behind a closing quote"
    return [_broken(lines.first, offset_of(lines.offset_bytes), reason, b"".join(lines.record), text)]


def _too_long(lines: Lines, part: Part, offset_of: Offsets, layout: Objects, width: int) -> Broken:
    first, begins = lines.first, lines.offset_bytes
    scan = RecordScan(layout.separator, layout.quote) if layout.quote else None
    size = lines.skip_line(scan)
    if scan is not None and (len(lines.record) > 1 or scan.quotes % 2):
        size += lines.skip_record(scan)
        if not scan.is_whole or scan.values != width:
            raise ObjectCorrupt(
                f"A quoted value in line {first} of {part.name} goes on for more than {layout.max_record_bytes} bytes, "
                "and what comes next is not the end of a value.",
                remedy="close the quote in the object and upload it again",
            )
    reason = f"{size} bytes, more than {layout.max_record_bytes}"
    return Broken(first, offset_of(begins), reason, shown_start(lines.record[0], part.text))


def shown_start(raw: bytes, text: Transcoder) -> str:
    """The first part of a line that is too long, for people."""
    start = raw[:SHOWN_BYTES]
    if not text.is_utf8:  # not to end within a character
        start = codecs.getincrementaldecoder("utf-8")("surrogatepass").decode(start).encode("utf-8", "surrogatepass")
    return _text(start, text)


def _text(raw: bytes, text: Transcoder) -> str:
    return text.shown(raw.removesuffix(b"\n").removesuffix(b"\r"))


def _broken(line: int, offset_bytes: int, reason: str, raw: bytes, text: Transcoder) -> Broken:
    record = raw.removesuffix(b"\n").removesuffix(b"\r")
    return Broken(line, offset_bytes, reason, text.shown(record), raw=text.kept_bytes(record))
