"""What a Parquet file's footer says, as Iceberg wants it told: sizes, counts and bounds of each column.

Engines skip files by these bounds, so a bound is only given where it is sure: of whole numbers, decimals, dates and
times as they are, of texts and bytes by their first 16 characters, of floats none, for NaN has no place among them.
The library's own function would load Arrow's data set module and pandas with it (see ``lake/local_io.py``); the footer
itself is read by ``parquet_footer.py``.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pyiceberg.conversions import to_bytes
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    PrimitiveType,
    StringType,
)

from lake.parquet_footer import ColumnChunk, Footer

_BOUND_LENGTH = 16
"""Characters or bytes of a bound, as Iceberg's writers cut it."""


def statistics(footer: Footer, schema: Schema) -> dict[str, Any]:
    """Fields of an Iceberg data file by name: record count, column sizes, counts, bounds, split offsets.

    Args:
        footer: the file's.
        schema: the table's; columns are top-level and found by name.
    """
    fields = {field.name: field for field in schema.fields}
    sizes: dict[int, int] = {}
    values: dict[int, int] = {}
    nulls: dict[int, int] = {}
    bounds: dict[int, tuple[Any, Any] | None] = {}
    offsets = []
    for group in footer.groups:
        for chunk in group:
            field = fields[chunk.path]
            key = field.field_id
            sizes[key] = sizes.get(key, 0) + chunk.compressed_bytes
            values[key] = values.get(key, 0) + chunk.values
            if chunk.nulls is not None:
                nulls[key] = nulls.get(key, 0) + chunk.nulls
            if chunk.nulls != chunk.values:  # a chunk of nulls widens nothing
                bounds[key] = _wider(bounds.get(key, ()), _bounds(chunk, field.field_type))
        offsets.append(group[0].first_page)
    known = {key: each for key, each in bounds.items() if each}
    types = {field.field_id: field.field_type for field in schema.fields if isinstance(field.field_type, PrimitiveType)}
    upper = {key: cut for key, (_, most) in known.items() if (cut := _cut_up(types[key], most)) is not None}
    return {
        "record_count": footer.rows,
        "column_sizes": sizes,
        "value_counts": values,
        "null_value_counts": nulls,
        "nan_value_counts": {},
        "lower_bounds": {k: to_bytes(types[k], _cut(types[k], least)) for k, (least, _) in known.items()},
        "upper_bounds": {key: to_bytes(types[key], most) for key, most in upper.items()},
        "split_offsets": sorted(offsets),
    }


def _wider(before: tuple[Any, Any] | tuple[()] | None, found: tuple[Any, Any] | None) -> tuple[Any, Any] | None:
    """Bounds of both; None, once and for all, as soon as those of one part are not known."""
    if before is None or found is None:
        return None
    return (min(before[0], found[0]), max(before[1], found[1])) if before else found


def _bounds(chunk: ColumnChunk, kind: IcebergType) -> tuple[Any, Any] | None:
    least, most = chunk.least, chunk.most
    if least is None or most is None or isinstance(kind, FloatType | DoubleType):
        return None
    if isinstance(kind, StringType) and isinstance(least, bytes) and isinstance(most, bytes):
        return least.decode(), most.decode()
    if isinstance(kind, BooleanType):
        return bool(least), bool(most)
    if isinstance(kind, DecimalType):
        return _decimal(least, kind.scale), _decimal(most, kind.scale)
    return least, most


def _decimal(raw: int | bytes, scale: int) -> Decimal:
    unscaled = raw if isinstance(raw, int) else int.from_bytes(raw, "big", signed=True)
    digits = tuple(int(digit) for digit in str(abs(unscaled)))
    return Decimal((int(unscaled < 0), digits, -scale))


def _cut(kind: IcebergType, value: Any) -> Any:
    return value[:_BOUND_LENGTH] if isinstance(kind, StringType | BinaryType) else value


def _cut_up(kind: IcebergType, value: Any) -> Any:
    """The shortest value not below: a cut one is raised in its last place; None if that cannot be done."""
    cut = _cut(kind, value)
    if cut == value:
        return value
    while cut:
        last = cut[-1]
        if isinstance(last, int) and last < 0xFF:
            return cut[:-1] + bytes([last + 1])
        if isinstance(last, str) and ord(last) < 0x10FFFF and not 0xD7FF <= ord(last) < 0xE000:
            return cut[:-1] + chr(ord(last) + 1)
        cut = cut[:-1]
    return None
