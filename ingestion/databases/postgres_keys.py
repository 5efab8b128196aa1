"""PostgreSQL's SQL for comparing keys, see ``ingestion/databases/key_sets.py``."""

from __future__ import annotations

from common.intervals import Interval, local_bounds
from ingestion.spec import ColumnSpec, SourceSpec, TableSpec
from lake.sql import identifier, literal


class PostgresKeys:
    """See :class:`ingestion.databases.key_sets.KeyDialect`."""

    def relation(self, table: TableSpec) -> str:
        """See :class:`ingestion.databases.key_sets.KeyDialect`."""
        return f"{identifier(table.schema_name)}.{identifier(table.in_source)}"

    def digest(self, table: TableSpec) -> str:
        """See :class:`ingestion.databases.key_sets.KeyDialect`: of UTF-8, whatever the database's encoding."""
        texts = [f"md5(convert_to({_text(table.column(name))}, 'UTF8'))" for name in table.primary_key]
        return texts[0] if len(texts) == 1 else f"md5(concat({', '.join(texts)}))"

    def number(self, hexadecimal: str) -> str:
        """See :class:`ingestion.databases.key_sets.KeyDialect`."""
        return f"('x' || lpad({hexadecimal}, 16, '0'))::bit(64)::bigint"

    def before(self, spec: SourceSpec, table: TableSpec, interval: Interval) -> str:
        """See :class:`ingestion.databases.key_sets.KeyDialect`."""
        column = _interval_column(table)
        name = identifier(column.in_source)
        if column.type == "date":
            return f"{name} <= {literal(interval.key)}::date"
        if column.type == "timestamp":
            return f"{name} < {literal(local_bounds(interval, spec.time_zone)[1])}::timestamp"
        return f"{name} < {literal(interval.end.isoformat())}::timestamptz"

    def day(self, spec: SourceSpec, table: TableSpec) -> str:
        """See :class:`ingestion.databases.key_sets.KeyDialect`."""
        column = _interval_column(table)
        name = identifier(column.in_source)
        local = f"({name} AT TIME ZONE {literal(spec.time_zone)})" if column.type == "timestamptz" else name
        return f"to_char({local}, 'YYYY-MM-DD')"


def _interval_column(table: TableSpec) -> ColumnSpec:
    return table.column(table.interval_column or "")


def _text(column: ColumnSpec) -> str:
    name = identifier(column.in_source)
    if column.type.startswith("decimal"):
        scale = int(column.type.removesuffix(")").rpartition(",")[2])
        return f"({name} * {10**scale})::numeric(38,0)::text"
    return {
        "date": f"to_char({name}, 'YYYYMMDDBC')",
        "timestamp": f"to_char({name}, 'YYYYMMDDHH24MISSUSBC')",
        "timestamptz": f"to_char({name} AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUSBC')",
    }.get(column.type, f"{name}::text")
