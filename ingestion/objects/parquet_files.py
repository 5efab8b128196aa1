"""Parquet files -> rows of the declared types: streamed by DuckDB, exact or set apart.

A file's columns fit a declared type only if every value is kept; two cases are looked at value by value, since most
files hold values that do fit: nanoseconds (pandas writes them by default) and unsigned 64-bit integers.

=========================================  =================================================
Parquet                                    fits
=========================================  =================================================
boolean                                    ``bool``
(u)int8 .. uint32, int64                   ``int32``, ``int64`` that holds them all, decimals
uint64                                     ``decimal(20,0)``; ``int64`` value by value
half, float, double                        ``float32``, ``float64`` that holds them all
decimal(p,s), p up to 38                   a decimal that holds them all
string, enum, uuid, json                   ``string``
lists, structs, maps                       ``string``, as JSON text; not with decimals inside
binary                                     ``binary``
date                                       ``date``
time ms, us; ns value by value             ``time``
timestamp ms, us; ns value by value        ``timestamp``; ``timestamptz`` where it is an instant
INT96                                      ``timestamp`` or ``timestamptz``, value by value
=========================================  =================================================

DuckDB cuts INT96, times and instants to microseconds without a word, and reads decimals of more than 38 digits as
doubles (measured with 1.5.5); so pyarrow looks through such columns first, and the latter are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common.errors import ObjectCorrupt
from ingestion.drift import Comparison, Fit, Observed, Suspect, compare, related
from ingestion.spec import ColumnSpec, Objects, TableSpec
from lake.sql import identifier, literal

_REMEDY = "upload the object again"
_BATCH_ROWS = 65_536
_WIDTHS = {"int8": 3, "uint8": 3, "int16": 5, "uint16": 5, "int32": 10, "uint32": 10, "int64": 19, "uint64": 20}
"""Decimal digits of each integer type."""


class ParquetObject:
    """One Parquet file on the local disk.

    Args:
        path: the file.
        key: the object it is.
        layout: its limits.

    Raises:
        ObjectCorrupt: it is no Parquet file, or damaged, or too large when unpacked.
    """

    def __init__(self, path: Path, key: str, layout: Objects) -> None:
        self.path = path
        self.key = key
        self._layout = layout
        try:
            self._file = pq.ParquetFile(path, pre_buffer=False)
            schema = self._file.schema_arrow
            physical = [self._file.schema.column(n) for n in range(len(self._file.schema.names))]
        except (pa.ArrowException, OSError, ValueError) as error:
            raise ObjectCorrupt(f"{key} is not valid Parquet: {_short(error)}.", remedy=_REMEDY) from None
        self.names = list(schema.names)
        self._positions = {name: n for n, name in enumerate(schema.names)}
        self._types = {name: schema.field(n).type for name, n in self._positions.items()}
        self._int96 = {c.path for c in physical if c.physical_type == "INT96"}
        self._read: dict[str, ColumnSpec] = {}
        self._told: tuple[ColumnSpec, ...] = ()
        self._suspects: tuple[Suspect, ...] = ()
        self._quoted: dict[str, str] = {}
        if self._file.metadata.num_rows > layout.max_object_bytes:  # a row is a byte at the least
            raise self._too_large()

    def compared(self, table: TableSpec) -> Comparison:
        """What its columns differ in from the spec."""
        observed = [Observed(name, str(kind), fitting_word(kind)) for name, kind in self._types.items()]

        def fit(found: Observed, column: ColumnSpec) -> Fit:
            if self._fits(found.name, column.type):
                return "exact"
            return "wider" if found.word and related(column.type, found.word) else "other"

        return compare(table, observed, fit=fit)

    def judge(self, connection: duckdb.DuckDBPyConnection, compared: Comparison, strict: Sequence[str]) -> list[int]:
        """Judge the file's values, before any is taken.

        Args:
            connection: DuckDB's.
            compared: what is read of it.
            strict: columns, by their names in the lake, of which nulls are counted.

        Returns:
            Nulls of each of them.

        Raises:
            ObjectCorrupt: it is damaged, or too large when unpacked.

        Side effects: rows of which a value is finer than microseconds are added to the table ``inexact``.
        """
        self._read = {column.name: column for column in compared.read.columns}
        self._told, self._suspects = compared.told.columns, compared.suspects
        self._quoted = self._names(connection)
        self._measure(connection)
        self._note_inexact(connection)
        counted = ", ".join(
            f"count(*) - count({self._quoted[self._read[name].in_source]})" if name in self._read else "0"
            for name in strict
        )
        try:
            found = connection.execute(
                f"SELECT {counted or '0'} FROM read_parquet({literal(str(self.path))})"
            ).fetchone()
        except duckdb.Error as error:
            raise self.corrupt(error) from None
        return [int(nulls) for nulls in (found or ())[: len(strict)]]

    def query(self, connection: duckdb.DuckDBPyConnection, stored: TableSpec, suspects: Sequence[Suspect]) -> str:
        """The query that gives the rows of a file that has been judged.

        Its columns: ``object_key``, ``object_line`` (the first row is 1), the stored ones with their types,
        ``_problem`` (empty if all is kept), ``_row`` (the row as JSON text).

        Args:
            connection: DuckDB's.
            stored: the columns that the lake is to have.
            suspects: what rows may not hold, beside what this file's own columns say.
        """
        expressions = {column.name: self._value(column) for column in stored.columns}
        widened = {suspect.column.name for suspect in self._suspects if suspect.kind == "widened"}
        problems = [
            f"CASE WHEN {self._source(column)} IS NOT NULL AND ({expressions[name]}) IS NULL "
            f"THEN {literal(f'{column.in_source} is not a valid {stored.column(name).type}')} END"
            for name, column in self._read.items()
            if name not in widened
        ]
        for suspect in (*self._suspects, *(each for each in suspects if each.kind == "nullability")):
            name, value = suspect.column.name, "NULL"
            if suspect.column.in_source in self._types:
                value = self._source(suspect.column)
            elif suspect.kind == "nullability" and name in self._read:
                value = self._source(self._read[name])
            bad = f"{value} IS {'' if suspect.kind == 'nullability' else 'NOT '}NULL"
            if suspect.kind == "widened":
                bad += f" AND ({expressions[name]}) IS NULL"
            reason = literal(f"schema drift: {suspect.column.in_source} {suspect.reason}")
            problems.append(f"CASE WHEN {bad} THEN {reason} END")
        row = ", ".join(f"{literal(c.in_source)}: {self._source(c)}::VARCHAR" for c in self._told)
        selected = ", ".join(f"{sql} AS {identifier(name)}" for name, sql in expressions.items())
        key = literal(self.key)
        if connection.execute(f"SELECT 1 FROM inexact WHERE object_key = {key} LIMIT 1").fetchone():
            problems.append(
                f"(SELECT string_agg(problem, '; ' ORDER BY problem) FROM inexact "
                f"WHERE inexact.object_key = {key} AND inexact.object_line = file_row_number + 1)"
            )
        return (
            f"SELECT {key} AS object_key, file_row_number + 1 AS object_line, {selected}, "
            f"concat_ws('; ', {', '.join(problems)}) AS _problem, "
            f"to_json({{{row}}})::VARCHAR AS _row "
            f"FROM read_parquet({literal(str(self.path))}, file_row_number=true)"
        )

    def _value(self, stored: ColumnSpec) -> str:
        """SQL of a stored column's value in its declared type; null where it is not kept, or the file has none."""
        column, kind = self._read.get(stored.name), stored.to_column().duckdb
        if column is None:
            return f"NULL::{kind}"
        value = self._source(column)
        if self._fits(column.in_source, stored.type):
            return _expression(value, self._types[column.in_source], stored)
        return f"CASE WHEN TRY_CAST({value} AS {kind}) = {value} THEN TRY_CAST({value} AS {kind}) END"

    def _source(self, column: ColumnSpec) -> str:
        """The quoted name that DuckDB gives a column of the file."""
        return self._quoted[column.in_source]

    def _fits(self, name: str, word: str) -> bool:
        return _fits(self._types[name], word, int96=name in self._int96)

    def corrupt(self, error: duckdb.Error) -> ObjectCorrupt:
        """What to say when DuckDB cannot read the file."""
        text = str(error).replace(str(self.path), self.key)
        return ObjectCorrupt(f"{self.key} cannot be read as Parquet: {_short(text)}.", remedy=_REMEDY)

    def _names(self, connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
        """The file's names -> DuckDB's, quoted: it renames one that differs from another only in case."""
        try:
            described = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({literal(str(self.path))})").fetchall()
        except duckdb.Error as error:
            raise self.corrupt(error) from None
        return {name: identifier(described[n][0]) for name, n in self._positions.items()}

    def _measure(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Refuse texts that unpack to more than is allowed: a dictionary repeats a value for next to nothing."""
        lengths = []
        for column in self._told:
            if column.type == "binary" and self._fits(column.in_source, "binary"):
                lengths.append(f"coalesce(sum(octet_length({self._source(column)})), 0)")
            elif column.type in {"string", "binary"} or not self._fits(column.in_source, column.type):
                lengths.append(f"coalesce(sum(strlen({self._source(column)}::VARCHAR)), 0)")
        if not lengths:
            return
        try:
            found = connection.execute(
                f"SELECT {' + '.join(lengths)} FROM read_parquet({literal(str(self.path))})"
            ).fetchone()
        except duckdb.OutOfMemoryException:
            raise self._too_large() from None
        except duckdb.Error as error:
            raise self.corrupt(error) from None
        if found and found[0] > self._layout.max_object_bytes:
            raise self._too_large()

    def _note_inexact(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Find values finer than microseconds where DuckDB would cut them."""
        for column in self._read.values():
            kind = self._types[column.in_source]
            finer = pa.types.is_time64(kind) or (pa.types.is_timestamp(kind) and kind.tz is not None)
            if column.in_source in self._int96 or (finer and kind.unit == "ns"):
                problem = literal(f"{column.in_source} is not a valid {column.type}: ")
                for found in self._finer_than_us(column.in_source):
                    connection.register("found", found)
                    connection.execute(
                        f"INSERT INTO inexact SELECT {literal(self.key)}, line, "
                        f"{problem} || rest_ns || ' ns beyond the microsecond' FROM found"
                    )
                    connection.unregister("found")

    def _finer_than_us(self, name: str) -> Iterator[pa.Table]:
        """Row numbers, the first being 1, and what would be cut off, batch by batch."""
        first = 1
        try:
            for nanoseconds, microseconds in self._both(name):
                # Both may have run over - INT96 holds more than 64 bits of nanoseconds - and then run over alike.
                cut: Any = pc.subtract(nanoseconds, pc.multiply(microseconds, pa.scalar(1000)))
                rest = pc.fill_null(cut, 0)
                positions = pc.indices_nonzero(rest)
                if len(positions):
                    lines = pc.add(positions.cast(pa.int64()), pa.scalar(first))
                    yield pa.table({"line": lines, "rest_ns": rest.take(positions)})
                first += len(nanoseconds)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise ObjectCorrupt(f"{self.key} cannot be read as Parquet: {_short(error)}.", remedy=_REMEDY) from None

    def _both(self, name: str) -> Iterator[tuple[pa.Array[Any], pa.Array[Any]]]:
        """A column's nanoseconds and, cut to them, its microseconds, both as integers."""
        batches = self._file.iter_batches(_BATCH_ROWS, columns=[name], use_threads=False)
        if name not in self._int96:
            for batch in batches:
                nanoseconds = batch.column(0).view(pa.int64())
                yield nanoseconds, pc.divide(nanoseconds, pa.scalar(1000))
            return
        cut = pq.ParquetFile(self.path, pre_buffer=False, coerce_int96_timestamp_unit="us")
        for batch, other in zip(batches, cut.iter_batches(_BATCH_ROWS, columns=[name], use_threads=False), strict=True):
            yield batch.column(0).view(pa.int64()), other.column(0).view(pa.int64())

    def _too_large(self) -> ObjectCorrupt:
        return ObjectCorrupt(
            f"{self.key} is larger than {self._layout.max_object_bytes} bytes uncompressed.",
            remedy="raise max_object_bytes in the spec if that is right",
        )


def fitting_word(kind: pa.DataType) -> str | None:
    """The narrowest type word that a column of this type may be declared as; None if there is none."""
    decimals = [f"decimal({kind.precision},{kind.scale})"] if pa.types.is_decimal(kind) else []
    if pa.types.is_null(kind):  # what it will hold one day nobody knows
        return None
    words = ["bool", "int32", "int64", "float32", "float64", *decimals, "date", "time", "timestamp", "timestamptz"]
    return next((word for word in [*words, "string", "binary"] if _fits(kind, word, int96=False)), None)


def _fits(kind: pa.DataType, word: str, *, int96: bool) -> bool:  # noqa: PLR0912, C901 - one case per type
    """Whether a column of this type may be declared so; see the table above."""
    if isinstance(kind, pa.DictionaryType):
        kind = kind.value_type
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type if str(kind) != "extension<arrow.uuid>" else pa.string()
    decimal = re.fullmatch(r"decimal\((\d+),(\d+)\)", word)
    if pa.types.is_null(kind):
        return True
    if pa.types.is_boolean(kind):
        return word == "bool"
    if pa.types.is_integer(kind):
        digits = _WIDTHS[str(kind)]
        if decimal:
            return int(decimal[1]) - int(decimal[2]) >= digits
        return word == "int64" or (word == "int32" and (digits < 10 or str(kind) == "int32"))
    if pa.types.is_floating(kind):
        return word == "float64" or (word == "float32" and not pa.types.is_float64(kind))
    if pa.types.is_decimal(kind):
        if not decimal or kind.precision > 38:
            return False
        whole_digits = int(decimal[1]) - int(decimal[2])
        return bool(int(decimal[2]) >= kind.scale >= 0 and whole_digits >= kind.precision - kind.scale)
    if pa.types.is_timestamp(kind):
        if int96:
            return word in {"timestamp", "timestamptz"}
        return word == ("timestamp" if kind.tz is None else "timestamptz")
    if pa.types.is_date(kind):
        return word == "date"
    if pa.types.is_time(kind):
        return word == "time"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return word == "string"
    if _is_nested(kind):
        return word == "string" and _keeps_as_json(kind)
    return word == "binary" and bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def _is_nested(kind: pa.DataType) -> bool:
    return bool(pa.types.is_nested(kind))


def _keeps_as_json(kind: pa.DataType) -> bool:
    """Whether DuckDB's JSON text of such a value says all that the value says."""
    if _is_nested(kind):
        return all(_keeps_as_json(kind.field(n).type) for n in range(kind.num_fields))
    if isinstance(kind, pa.DictionaryType):
        kind = kind.value_type
    return bool(
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_date(kind)
        or pa.types.is_null(kind)
        or (pa.types.is_timestamp(kind) and kind.unit != "ns")
    )


def _expression(name: str, kind: pa.DataType, column: ColumnSpec) -> str:
    """SQL of a column's value in its declared type; null where it is not kept."""
    cast = {"timestamp": "TIMESTAMP", "timestamptz": "TIMESTAMPTZ", "string": "VARCHAR"}.get(column.type)
    if _is_nested(kind):
        return f"to_json({name})::VARCHAR"
    if column.type == "timestamp" and pa.types.is_timestamp(kind) and kind.unit == "ns":
        return f"CASE WHEN epoch_ns({name}) % 1000 = 0 THEN {name}::TIMESTAMP END"
    if cast:
        return f"{name}::{cast}"
    if column.type == "int64":
        return f"TRY_CAST({name} AS BIGINT)"
    return name


def _short(error: object) -> str:
    return re.sub(r"\s+", " ", str(error))[:200].rstrip(".")
