"""A bucket's listing -> tables, and the first bytes of their objects -> format, columns and types: what init writes.

::

    keys     weather/origin=EWR/date=2013-01-01.csv.gz ...  ->  weather/origin={origin}/date={key}.csv.gz
    bytes    a few objects, each no further than SAMPLE_BYTES  ->  delimiter, null tokens, columns, type words

A type is a guess from a sample, but never a wider one than the reader's: each value is judged by the very expression
that converts it later (``text_types.py``).
"""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import duckdb
import pyarrow as pa

from ingestion.objects.client import StoredObject
from ingestion.objects.text_types import exact_cast
from ingestion.spec import ColumnSpec
from lake.sql import identifier

SAMPLE_BYTES = 1 << 20
"""How much of an object is looked at."""

SAMPLE_OBJECTS = 3

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_PART = re.compile(r"^(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>[^/]+)$")
_COMPRESSIONS: dict[str, Literal["gzip", "zstd"]] = {".gz": "gzip", ".zst": "zstd"}
_MAGIC: dict[bytes, Literal["gzip", "zstd"]] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_DELIMITERS = ",;\t|"
_NULLS = ("", "NA", "N/A", "NULL", "null", "None", "\\N", "-")
_WORDS = ("bool", "int64", "float64", "date", "timestamptz", "string")


@dataclass
class KeyGroup:
    """Objects of one layout.

    Attributes:
        name: what they have in common: their folder, or the beginning of their names.
        path: template of their keys.
        objects: the objects, by key.
    """

    name: str
    path: str
    objects: list[StoredObject]

    def days(self) -> list[str]:
        """The days that the keys name, sorted."""
        return sorted({found[0] for each in self.objects if (found := _DAY.findall(each.key))})

    def samples(self) -> list[StoredObject]:
        """The first, the middle and the last object that is not empty."""
        filled = [each for each in self.objects if each.size_bytes]
        chosen = {0, len(filled) // 2, len(filled) - 1} if filled else set()
        return [filled[n] for n in sorted(chosen)]


@dataclass
class Sniffed:
    """What the sampled bytes say.

    Attributes:
        delimiter: what parts two values of a line.
        null_tokens: texts that stand for null.
        names: the header's names.
        types: a type word for each.
        nullable: whether a null was seen in each.
        rows: rows looked at.
        values: some values of each column, for those who ask what they look like.
    """

    delimiter: str
    null_tokens: list[str]
    names: list[str]
    types: list[str]
    nullable: list[bool]
    rows: int
    values: list[list[str]] = field(repr=False)


def group_keys(objects: Iterable[StoredObject]) -> tuple[list[KeyGroup], list[str]]:
    """Groups of objects whose keys are alike and name a day; and keys that name none, or more than one."""
    shapes: dict[tuple[str, ...], list[StoredObject]] = defaultdict(list)
    without: list[str] = []
    for each in objects:
        if len(_DAY.findall(each.key)) != 1 or each.key.endswith("/"):
            without.append(each.key)
        else:
            shapes[_shape(each.key)].append(each)
    groups = [_group(sorted(found)) for _, found in sorted(shapes.items())]
    return groups, without


def compression_of(path: str) -> Literal["gzip", "zstd"] | None:
    """The compression a key's ending stands for, if any."""
    return next((name for ending, name in _COMPRESSIONS.items() if path.endswith(ending)), None)


def unpacked(body: bytes) -> bytes:
    """The first bytes of a text, of the first bytes of an object; compressed or not is told by its first bytes."""
    compression = next((name for magic, name in _MAGIC.items() if body.startswith(magic)), None)
    if compression is None:
        return body
    found = io.BytesIO()
    stream = pa.CompressedInputStream(pa.BufferReader(body), compression)
    with suppress(OSError):  # the object goes on behind the bytes that were fetched
        while found.tell() < SAMPLE_BYTES and (block := stream.read(1 << 16)):
            found.write(block)
    return found.getvalue()


def sniff_csv(bodies: Sequence[tuple[bytes, bool]]) -> Sniffed | str:
    """What CSV objects hold; or, as a text, why they are no CSV with a header.

    Args:
        bodies: of each object its first bytes, unpacked, and whether that is all of it.
    """
    header: list[str] | None = None
    delimiter, rows = ",", list[list[str]]()
    for body, is_whole in bodies:
        text = body.decode("utf-8-sig", errors="replace") if is_whole else _whole_lines(body)
        if "\ufffd" in text or "\0" in text:
            return "not UTF-8 text"
        delimiter = delimiter if header else _delimiter(text)
        parsed = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
        if not parsed:
            continue
        if header is not None and sorted(header) != sorted(parsed[0]):
            return "its objects have different headers"
        order = [parsed[0].index(name) for name in header] if header else range(len(parsed[0]))
        header = header or parsed[0]
        rows += [[row[n] for n in order] for row in parsed[1:] if len(row) == len(header)]
    if header is None:
        return "its objects are empty"
    if len(set(header)) < len(header) or any(not name.strip() or _is_number(name) for name in header):
        return "its first line does not name the columns"
    return _typed(header, delimiter, rows)


def _typed(header: list[str], delimiter: str, rows: list[list[str]]) -> Sniffed:
    tokens: dict[str, None] = {"": None}
    types, nullable = [], []
    with duckdb.connect(config={"threads": 1, "autoinstall_known_extensions": False}) as connection:
        for n in range(len(header)):
            values = [row[n] for row in rows]
            given = [value for value in values if value not in _NULLS]
            word = _fitting_type(connection, given) if given else "string"
            nulls = {value for value in values if value in _NULLS} if word != "string" else {""} & set(values)
            tokens |= dict.fromkeys(sorted(nulls))
            types.append(word)
            nullable.append(bool(nulls))
    samples = [[row[n] for row in rows[:200]] for n in range(len(header))]
    return Sniffed(delimiter, list(tokens), header, types, nullable, len(rows), samples)


def _fitting_type(connection: duckdb.DuckDBPyConnection, values: list[str]) -> str:
    """The first type word that the reader would convert every value to."""
    connection.register("sampled", pa.table({"value": values}))
    for word in _WORDS:
        cast = exact_cast(ColumnSpec(name="value", type=word))
        sql = f"SELECT count(*) FROM sampled WHERE ({cast}) IS NULL"
        if word == "bool":
            sql += f" OR lower({identifier('value')}) NOT IN ('true', 'false')"
        if connection.execute(sql).fetchone() == (0,):
            return word
    return "string"


def _shape(key: str) -> tuple[str, ...]:
    """What keys of one layout share: their first folder, the names of their ``name=`` parts, their ending."""
    segments = _DAY.sub("{key}", key).split("/")
    shape = [segments[0] if len(segments) > 1 else ""]
    for segment in segments[1:-1]:
        part = _PART.match(segment)
        shape.append(f"{part['name']}=" if part else ("{key}" if "{key}" in segment else "*"))
    name = segments[-1]
    stem = name.split("{key}")[0] if "{key}" in name else "*"
    return (*shape, stem if len(segments) == 1 or "{key}" in name else "*", _ending(name))


def _ending(name: str) -> str:
    return "".join(re.findall(r"\.[A-Za-z][A-Za-z0-9]*", name.rsplit("}", 1)[-1]))


def _group(objects: list[StoredObject]) -> KeyGroup:
    keys = [_DAY.sub("{key}", each.key).split("/") for each in objects]
    taken: set[str] = {"key"}
    template = [_segment(sorted({key[n] for key in keys}), taken) for n in range(len(keys[0]))]
    first = keys[0][0] if len(keys[0]) > 1 else keys[0][0].split("{key}")[0]
    return KeyGroup(re.sub(r"=.*", "", first).strip("-_. ") or "objects", "/".join(template), objects)


def _segment(variants: list[str], taken: set[str]) -> str:
    if len(variants) == 1:
        return variants[0]
    part = _PART.match(variants[0])
    if part and "{key}" not in variants[0]:
        return f"{part['name']}={{{_free(part['name'].lower(), taken)}}}"
    if all("{key}" in each for each in variants):
        heads, tails = zip(*(each.split("{key}", 1) for each in variants), strict=True)
        return _varying(heads, taken) + "{key}" + _varying(tails, taken)
    return _varying(variants, taken)


def _varying(variants: Sequence[str], taken: set[str]) -> str:
    """One text if all are the same, else a placeholder before their common ending."""
    if len(set(variants)) == 1:
        return variants[0]
    ending = _ending(variants[0])
    return f"{{{_free('part', taken)}}}{ending}" if all(each.endswith(ending) for each in variants) else "{part}"


def _free(name: str, taken: set[str]) -> str:
    plain = re.sub(r"[^a-z_]", "_", name)
    while plain in taken:
        plain += "_"
    taken.add(plain)
    return plain


def _whole_lines(body: bytes) -> str:
    """Text up to the last line that surely is complete."""
    return body[: body.rfind(b"\n") + 1].decode("utf-8-sig", errors="replace")


def _delimiter(text: str) -> str:
    """The character that parts the first lines into the same number of values, the more the better."""
    head = "".join(text.splitlines(keepends=True)[:50])
    best, most = ",", 1
    for delimiter in _DELIMITERS:
        with suppress(csv.Error):
            widths = {len(row) for row in csv.reader(io.StringIO(head, newline=""), delimiter=delimiter) if row}
            if len(widths) == 1 and (width := widths.pop()) > most:
                best, most = delimiter, width
    return best


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[+-]?[\d.,]+", text.strip()))
