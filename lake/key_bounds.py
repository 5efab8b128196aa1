"""Which live files may hold some keys at all, by the smallest and largest key that Iceberg's metadata name.

Only types whose order is the same in DuckDB, Python and Iceberg are compared; a file of which nothing is known may hold
anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import duckdb
from pyiceberg.conversions import from_bytes
from pyiceberg.types import PrimitiveType

from lake.catalog import LiveFile
from lake.lake import Lake
from lake.paths import TableId
from lake.schema import resolve_type
from lake.sql import identifier

_ORDINALS = {
    "int32": "{}",
    "int64": "{}",
    "string": "{}",
    "date": "date_diff('day', DATE '1970-01-01', {})",
    "timestamp": "epoch_us({})",
    "timestamptz": "epoch_us({})",
}
"""SQL of a value as Iceberg's Python library gives a bound, by type word."""


class KeyBounds:
    """The smallest and largest value of each key column in a relation.

    Args:
        connection: where the relation is.
        lake: the lake.
        table: the lake table that the keys belong to.
        keys: names of the key columns.
        relation: holds the keys looked for.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, lake: Lake, table: TableId, keys: Sequence[str], relation: str
    ) -> None:
        columns, field_ids = lake.columns(table)
        self._fields = [
            (
                field_id,
                cast("PrimitiveType", resolve_type(column.type)[0]),
                _ORDINALS[column.type].format(identifier(column.name)),
            )
            for column, field_id in zip(columns, field_ids, strict=True)
            if column.name in keys and column.type in _ORDINALS
        ]
        bounds = ", ".join(f"min({ordinal}), max({ordinal})" for _, _, ordinal in self._fields)
        row: tuple[Any, ...] = connection.execute(
            f"SELECT count(*){', ' * bool(bounds)}{bounds} FROM {relation}"
        ).fetchone() or (0,)
        self._empty = row[0] == 0
        self._wanted = list(zip(row[1::2], row[2::2], strict=True))

    def may_hold(self, file: LiveFile) -> bool:
        """Whether one of the keys may be in the file."""
        if self._empty:
            return False
        lower, upper = file.data_file.lower_bounds or {}, file.data_file.upper_bounds or {}
        for (field_id, kind, _), (smallest, largest) in zip(self._fields, self._wanted, strict=True):
            if field_id not in lower or field_id not in upper:
                continue
            low, high = (from_bytes(kind, bound[field_id]) for bound in (lower, upper))
            if low > largest or high < smallest:
                return False
        return True
