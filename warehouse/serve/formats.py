"""The rows of a query as JSON, CSV, Arrow or Parquet, chunk by chunk, whatever their number.

JSON and CSV are made by DuckDB itself: each row becomes one text, and a batch's texts lie in memory one after the other
as they are to be sent. So a million rows cost no Python object. What Arrow cannot hold exactly is cast first (HUGEINT
would become a float).

CSV is safe to open in a spreadsheet: a *text* that begins with ``= + - @``, a tab or a carriage return gets a ``'`` in
front, headers too. Numbers are never touched, so -5 stays -5. Null is nothing, the empty text is ``""``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import duckdb

from lake.sql import identifier, literal

if TYPE_CHECKING:
    import pyarrow as pa

Format = Literal["json", "csv", "arrow", "parquet"]
MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}

_BATCH_ROWS = 16_384
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_AS_TEXT = (
    "UHUGEINT",
    "ENUM",
    "TIME WITH TIME ZONE",
    "UNION",
    "VARIANT",
    "GEOMETRY",
    "BIT",
    "BIGNUM",
    "UUID",
    "INTERVAL",
)
_PLAIN = (
    *("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT"),
    *("DECIMAL", "FLOAT", "DOUBLE", "BOOLEAN", "DATE", "TIME"),
)
"""Types whose text is never mistaken for a formula and needs no quotes."""

Column = tuple[str, str]
"""Name and DuckDB type."""


class Encoded:
    """The chunks of one answer.

    Attributes:
        rows: rows given so far; all of them when the chunks are through.
    """

    def __init__(self, chunks: Iterator[tuple[int, bytes]]) -> None:
        self._chunks = chunks
        self.rows = 0

    def __iter__(self) -> Iterator[bytes]:
        for rows, chunk in self._chunks:
            self.rows += rows
            yield chunk


def encode(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    columns: Sequence[Column],
    kind: Format,
    parameters: Sequence[Any] = (),
    *,
    head: str = "",
) -> Encoded:
    """The rows of a SELECT.

    Args:
        connection: where to run it; used until the chunks are through.
        sql: the SELECT.
        columns: what it returns.
        kind: the form.
        parameters: values of its ``?``.
        head: of JSON, what stands before ``"rows"`` in the document, with a comma at its end.

    Raises:
        duckdb.Error: at the first chunk or a later one.
    """
    named = unique_names(columns)
    if kind == "json":
        return Encoded(_json(connection, json_rows(sql, named), parameters, head))
    if kind == "csv":
        return Encoded(_csv(connection, csv_rows(sql, named), parameters, named))
    reader = connection.execute(exact_rows(sql, named), parameters).to_arrow_reader(_BATCH_ROWS)
    return Encoded(_arrow(reader) if kind == "arrow" else _parquet(reader))


def unique_names(columns: Sequence[Column]) -> list[Column]:
    """The same columns, a name that comes again with a number behind it."""
    seen: set[str] = set()
    named = []
    for name, kind in columns:
        unique, number = name, 1
        while unique.lower() in seen:
            number += 1
            unique = f"{name}_{number}"
        seen.add(unique.lower())
        named.append((unique, kind))
    return named


def exact_rows(sql: str, columns: Sequence[Column]) -> str:
    """The rows with types that Arrow and Parquet hold exactly."""
    fields = []
    for place, (name, kind) in enumerate(columns, start=1):
        cast = f"#{place}"
        if kind == "HUGEINT":
            cast = f"CAST(#{place} AS DECIMAL(38, 0))"
        elif kind.startswith(_AS_TEXT):
            cast = f"CAST(#{place} AS VARCHAR)"
        fields.append(f"{cast} AS {identifier(name)}")
    return f"SELECT {', '.join(fields)} FROM ({sql})"


def json_rows(sql: str, columns: Sequence[Column], *, more: str = "") -> str:
    """One text per row, ``,{...}``, in a column of its own; ``more`` adds columns."""
    fields = []
    for place, (name, kind) in enumerate(columns, start=1):
        value = f"#{place}"
        if kind in {"FLOAT", "DOUBLE"}:
            value = f"CASE WHEN isfinite(#{place}) THEN #{place} END"
        elif kind == "TIMESTAMP WITH TIME ZONE":
            value = f"strftime(timezone('UTC', #{place}), '%Y-%m-%dT%H:%M:%S.%fZ')"
        elif kind == "BLOB":
            value = f"base64(#{place})"
        fields.append(f"{literal(name)}: {value}")
    return f"SELECT ',' || to_json({{{', '.join(fields)}}})::VARCHAR{more} FROM ({sql})"


def csv_rows(sql: str, columns: Sequence[Column]) -> str:
    """One text per row with its line end."""
    fields = []
    for place, (_, kind) in enumerate(columns, start=1):
        value = f"#{place}"
        if kind == "TIMESTAMP WITH TIME ZONE":
            fields.append(f"coalesce(strftime(timezone('UTC', {value}), '%Y-%m-%dT%H:%M:%S.%fZ'), '')")
        elif kind.startswith(_PLAIN) and not kind.endswith("]"):
            fields.append(f"coalesce({value}::VARCHAR, '')")
        else:
            text = f"base64({value})" if kind == "BLOB" else f"{value}::VARCHAR"
            safe = f"CASE WHEN ascii({text}) IN (9, 13, 43, 45, 61, 64) THEN '''' || {text} ELSE {text} END"
            fields.append(f"coalesce('\"' || replace({safe}, '\"', '\"\"') || '\"', '')")
    return f"SELECT {' || chr(44) || '.join(fields)} || chr(13) || chr(10) FROM ({sql})"


def csv_header(columns: Sequence[Column]) -> bytes:
    """The first line."""
    cells = []
    for name, _ in columns:
        safe = f"'{name}" if name[:1] in set("=+-@\t\r") else name
        cells.append('"' + safe.replace('"', '""') + '"')
    return (",".join(cells) + "\r\n").encode()


def _texts(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[Any]) -> Iterator[tuple[int, bytes]]:
    reader = connection.execute(sql, parameters).to_arrow_reader(_BATCH_ROWS)
    for batch in reader:
        if batch.num_rows:
            yield batch.num_rows, joined_texts(batch.column(0))


def joined_texts(texts: pa.Array[Any]) -> bytes:
    """All texts of a column without nulls, one after the other: the memory they lie in."""
    import pyarrow as pa

    width = 8 if pa.types.is_large_string(texts.type) else 4
    _, offsets, data = texts.buffers()
    if offsets is None or data is None:
        return b""
    places = memoryview(offsets).cast("q" if width == 8 else "i")
    return bytes(memoryview(data)[places[texts.offset] : places[texts.offset + len(texts)]])


def _json(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[Any], head: str
) -> Iterator[tuple[int, bytes]]:
    opened = False
    begin = b"{" + head.encode() + b'"rows":['
    for rows, text in _texts(connection, sql, parameters):
        yield rows, text if opened else begin + text[1:]
        opened = True
    yield 0, b"]}" if opened else begin + b"]}"


def _csv(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[Any], columns: Sequence[Column]
) -> Iterator[tuple[int, bytes]]:
    header = csv_header(columns)
    for rows, text in _texts(connection, sql, parameters):
        yield rows, header + text
        header = b""
    if header:
        yield 0, header


def _arrow(reader: pa.RecordBatchReader) -> Iterator[tuple[int, bytes]]:
    yield 0, reader.schema.serialize().to_pybytes()
    for batch in reader:
        if batch.num_rows:
            yield batch.num_rows, batch.serialize().to_pybytes()
    yield 0, _END_OF_STREAM


class _Sink:
    """A file whose bytes are taken away as they are written."""

    closed = False

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: Any) -> int:
        self.parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        self.closed = True

    def take(self) -> bytes:
        taken, self.parts = b"".join(self.parts), []
        return taken


def _parquet(reader: pa.RecordBatchReader) -> Iterator[tuple[int, bytes]]:
    import pyarrow.parquet as pq

    sink: Any = _Sink()
    with pq.ParquetWriter(sink, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)
            yield batch.num_rows, sink.take()
    yield 0, sink.take()
