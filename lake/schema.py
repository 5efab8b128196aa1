"""Column types in one vocabulary, and their spelling in Arrow, Iceberg and DuckDB.

A source spec and a refined table both describe their columns with :class:`Column`. The type words are few on purpose:
each has one exact form in every engine that reads the lake, so that no reader coerces.

========================  ====================  ======================  ==========================
word                      Arrow                 Iceberg                 DuckDB
========================  ====================  ======================  ==========================
``bool``                  bool                  boolean                 BOOLEAN
``int32`` ``int64``       int32, int64          int, long               INTEGER, BIGINT
``float32`` ``float64``   float, double         float, double           FLOAT, DOUBLE
``decimal(p,s)``          decimal128(p, s)      decimal(p, s)           DECIMAL(p,s)
``string``                large_string          string                  VARCHAR
``binary``                large_binary          binary                  BLOB
``date``                  date32                date                    DATE
``time``                  time64[us]            time                    TIME
``timestamp``             timestamp[us]         timestamp               TIMESTAMP
``timestamptz``           timestamp[us, UTC]    timestamptz             TIMESTAMP WITH TIME ZONE
========================  ====================  ======================  ==========================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
)

from common.errors import SpecError

if TYPE_CHECKING:
    import pyarrow as pa

_DECIMAL = re.compile(r"decimal\((\d{1,2}),(\d{1,2})\)")

_TYPES: dict[str, tuple[IcebergType, str]] = {
    "bool": (BooleanType(), "BOOLEAN"),
    "int32": (IntegerType(), "INTEGER"),
    "int64": (LongType(), "BIGINT"),
    "float32": (FloatType(), "FLOAT"),
    "float64": (DoubleType(), "DOUBLE"),
    "string": (StringType(), "VARCHAR"),
    "binary": (BinaryType(), "BLOB"),
    "date": (DateType(), "DATE"),
    "time": (TimeType(), "TIME"),
    "timestamp": (TimestampType(), "TIMESTAMP"),
    "timestamptz": (TimestamptzType(), "TIMESTAMP WITH TIME ZONE"),
}

PARTITION_COLUMN = "ds"
"""Partition column of every interval table: the calendar day its partition key names."""

OPS = "ops"
"""Namespace of the lake, and schema of a warehouse, that tells of the work and holds no data of a source."""

DELETED_COLUMN = "source_deleted_at"
"""In raw tables that keep what vanished from the source: when that was noticed, UTC; null for a row that lives."""


@dataclass(frozen=True)
class Column:
    """One column of a lake table.

    Attributes:
        name: column name.
        type: a word of the table above.
        nullable: whether nulls are allowed.
        description: what it holds, with its unit.
    """

    name: str
    type: str
    nullable: bool = True
    description: str = ""

    def __post_init__(self) -> None:
        resolve_type(self.type)

    @property
    def arrow(self) -> pa.DataType:
        """Arrow type."""
        import pyarrow as pa

        made: dict[str, Callable[[], pa.DataType]] = {
            "bool": pa.bool_,
            "int32": pa.int32,
            "int64": pa.int64,
            "float32": pa.float32,
            "float64": pa.float64,
            "string": pa.large_string,
            "binary": pa.large_binary,
            "date": pa.date32,
            "time": lambda: pa.time64("us"),
            "timestamp": lambda: pa.timestamp("us"),
            "timestamptz": lambda: pa.timestamp("us", "UTC"),
        }
        kind = resolve_type(self.type)[0]
        return pa.decimal128(kind.precision, kind.scale) if isinstance(kind, DecimalType) else made[self.type]()

    @property
    def duckdb(self) -> str:
        """DuckDB type, as SQL."""
        return resolve_type(self.type)[1]


def described(text: str) -> tuple[Column, ...]:
    """Columns from a line each: name, type word, with ``?`` behind it if nulls are allowed, and description."""
    columns = []
    for line in text.strip().splitlines():
        name, word, description = line.split(maxsplit=2)
        columns.append(Column(name, word.removesuffix("?"), word.endswith("?"), description))
    return tuple(columns)


def resolve_type(word: str) -> tuple[IcebergType, str]:
    """Iceberg and DuckDB form of a type word.

    Raises:
        SpecError: not a word of the vocabulary.
    """
    if word in _TYPES:
        return _TYPES[word]
    match = _DECIMAL.fullmatch(word)
    if match:
        precision, scale = int(match[1]), int(match[2])
        if 1 <= precision <= 38 and scale <= precision:
            return DecimalType(precision, scale), f"DECIMAL({precision},{scale})"
    raise SpecError(
        f"Unknown column type {word!r}.",
        remedy=f"use one of {', '.join(_TYPES)} or decimal(p,s) with 1 <= p <= 38 and s <= p",
    )


def type_word(kind: IcebergType) -> str | None:
    """The word whose Iceberg form this is; None for a type that no word has."""
    if isinstance(kind, DecimalType):
        return f"decimal({kind.precision},{kind.scale})"
    return next((word for word, (iceberg, _) in _TYPES.items() if iceberg == kind), None)


def arrow_schema(columns: Sequence[Column]) -> pa.Schema:
    """Arrow schema without field ids, for frames in memory."""
    import pyarrow as pa

    return pa.schema([pa.field(column.name, column.arrow, column.nullable) for column in columns])


def iceberg_schema(columns: Sequence[Column]) -> Schema:
    """Iceberg schema with fresh field ids 1..n (the catalog assigns the final ones)."""
    fields = [
        NestedField(
            field_id=position,
            name=column.name,
            field_type=resolve_type(column.type)[0],
            required=not column.nullable,
            doc=column.description or None,
        )
        for position, column in enumerate(columns, start=1)
    ]
    return Schema(*fields)
