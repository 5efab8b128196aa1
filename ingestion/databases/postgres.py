"""PostgreSQL's SQL: its catalog, which type word each column may become, and the expression that makes it exact.

DuckDB's scanner loses values silently for some types (unconstrained numeric becomes double, numeric NaN becomes 0,
infinite timestamps become integer extremes). So every column is cast on the server to a type that crosses exactly, and
values that have no exact form are recognised there and go to quarantine instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from common.intervals import Interval, local_bounds
from ingestion.databases import checksums
from ingestion.databases.dialect import DatabaseColumn, Dialect, Session
from ingestion.spec import ColumnSpec, SourceSpec, TableSpec
from lake.sql import identifier, literal

_INTEGERS = {"smallint": 2, "integer": 4, "bigint": 8}
_TEXT = {"text", "uuid", "json", "jsonb", "xml", "inet", "cidr", "macaddr", "interval", "numeric", "money"}
_NUMERIC = re.compile(r"numeric\((\d+),(-?\d+)\)")
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")


class PostgresDialect(Dialect):
    """See :class:`ingestion.databases.dialect.Dialect`."""

    kind = "postgresql"

    def quote(self, name: str) -> str:
        """See :class:`ingestion.databases.dialect.Dialect`."""
        return identifier(name)

    def columns(self, session: Session, table: TableSpec) -> Mapping[str, DatabaseColumn]:
        """See :class:`ingestion.databases.dialect.Dialect`."""
        rows = session.rows(
            "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), t.typtype::text, a.attnotnull "
            "FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
            "JOIN pg_type t ON t.oid = a.atttypid "
            f"WHERE n.nspname = {literal(table.schema_name)} AND c.relname = {literal(table.in_source)} "
            "AND a.attnum > 0 AND NOT a.attisdropped AND has_table_privilege(c.oid, 'SELECT') ORDER BY a.attnum"
        )
        return {row[0]: DatabaseColumn(row[0], row[1], row[2], not row[3]) for row in rows}

    def relation(self, table: TableSpec) -> str:
        """See :class:`ingestion.databases.dialect.Dialect`."""
        return f"{identifier(table.schema_name)}.{identifier(table.in_source)}"

    def expression(self, column: DatabaseColumn, spec: ColumnSpec) -> str | None:
        """See :class:`ingestion.databases.dialect.Dialect`."""
        return exact_expression(column, spec.type)

    def unfit(self, column: DatabaseColumn, spec: ColumnSpec) -> tuple[str, str] | None:
        """See :class:`ingestion.databases.dialect.Dialect`."""
        return unrepresentable_condition(column, spec.type)

    def interval(self, spec: SourceSpec, table: TableSpec, interval: Interval) -> str:
        """See :class:`ingestion.databases.dialect.Dialect`."""
        if table.interval_column is None:
            return "true"
        chosen = table.column(table.interval_column)
        column = identifier(chosen.in_source)
        if chosen.type == "date":
            return f"{column} = {literal(interval.key)}::date"
        if chosen.type == "timestamp":
            start, end = local_bounds(interval, spec.time_zone)
            return f"{column} >= {literal(start)}::timestamp AND {column} < {literal(end)}::timestamp"
        start, end = interval.start.isoformat(), interval.end.isoformat()
        return f"{column} >= {literal(start)}::timestamptz AND {column} < {literal(end)}::timestamptz"

    def early_rejects(self, table: TableSpec, where: str, conditions: Sequence[tuple[str, str]]) -> str:
        """See :class:`ingestion.databases.dialect.Dialect`.

        Names that begin with an underscore are no column of a spec, so nothing of the source's can stand for them.
        """
        reasons = ", ".join(f"CASE WHEN {condition} THEN {literal(reason)} END" for condition, reason in conditions)
        bad = " OR ".join(condition for condition, _ in conditions)
        return (
            f"SELECT 'exact_value' AS rule, concat_ws('; ', {reasons}) AS reason, "
            f"'key ' || {_json_of(table, table.primary_key)} AS position, "
            f"{_json_of(table, [column.name for column in table.columns])} AS row "
            f"FROM {self.relation(table)} AS _source WHERE {where} AND ({bad}) IS TRUE"
        )

    def checksums(self, table: TableSpec) -> str:
        """See :class:`ingestion.databases.dialect.Dialect`."""
        return checksums.postgres_query(table)

    def keys(self, session: Session, table: TableSpec) -> tuple[tuple[str, ...], ...]:
        """See :class:`ingestion.databases.dialect.Dialect`.

        A unique index counts if it covers every row: none of its columns may be null, and it is neither partial nor of
        an expression.
        """
        rows = session.rows(
            "SELECT i.indexrelid::bigint, a.attname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid "
            "JOIN pg_namespace n ON n.oid = c.relnamespace "
            "CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position) "
            "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum "
            f"WHERE n.nspname = {literal(table.schema_name)} AND c.relname = {literal(table.in_source)} "
            "AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL "
            "AND k.position <= i.indnkeyatts AND NOT EXISTS (SELECT 1 FROM pg_attribute o WHERE o.attrelid = c.oid "
            "AND o.attnum = ANY (i.indkey::int2[]) AND NOT o.attnotnull) "
            "ORDER BY i.indisprimary DESC, i.indexrelid, k.position"
        )
        found: dict[int, list[str]] = {}
        for index, column in rows:
            found.setdefault(index, []).append(column)
        return tuple(tuple(columns) for columns in found.values())

    def outside(self, column: DatabaseColumn, declared: str) -> str | None:
        """See :class:`ingestion.databases.dialect.Dialect`."""
        if declared != "float32":
            return super().outside(column, declared)
        # Asked for its size first: PostgreSQL raises an error for a double that no float can hold.
        name = identifier(column.name)
        return (
            f"(CASE WHEN {name} IN ('NaN', 'Infinity', '-Infinity', 0) THEN false "
            f"WHEN abs({name}) > 3.4028234663852886e38 OR abs({name}) < 1.1754943508222875e-38 THEN true "
            f"ELSE {name}::float4::float8 <> {name} END)"
        )


def _json_of(table: TableSpec, names: Sequence[str]) -> str:
    """SQL of some columns of ``_source`` as one JSON text, under their names in the lake."""
    columns = ", ".join(f"_source.{identifier(table.column(name).in_source)} AS {identifier(name)}" for name in names)
    return f"(SELECT to_json(_row)::text FROM (SELECT {columns}) AS _row)"


def exact_expression(column: DatabaseColumn, declared: str) -> str | None:
    """SQL that yields ``column`` exactly as the declared type; None if that is not possible."""
    name = identifier(column.name)
    kind = re.sub(r"\(\d+\)", "", column.type)
    simple = {
        "bool": {"boolean"},
        "float32": {"real"},
        "date": {"date"},
        "time": {"time without time zone"},
        "timestamp": {"timestamp without time zone"},
        "timestamptz": {"timestamp with time zone"},
        "binary": {"bytea"},
    }
    if declared in simple:
        return name if kind in simple[declared] else None
    if declared in {"int32", "int64"}:
        width = 4 if declared == "int32" else 8
        return f"{name}::int{width}" if _INTEGERS.get(kind, 99) <= width else None
    if declared == "float64":
        return f"{name}::float8" if kind in {"real", "double precision"} else None
    if declared == "string":
        fits = kind in _TEXT or kind.startswith(("character", "numeric")) or column.category == "e"
        return f"{name}::text" if fits else None
    return _decimal(column, declared)


def _decimal(column: DatabaseColumn, declared: str) -> str | None:
    wanted = _DECIMAL.fullmatch(declared)
    if wanted is None:
        return None
    precision, scale = int(wanted[1]), int(wanted[2])
    if column.type in _INTEGERS:
        digits = {"smallint": 5, "integer": 10, "bigint": 19}[column.type]
        return f"{identifier(column.name)}::numeric({precision},{scale})" if digits <= precision - scale else None
    have = _NUMERIC.fullmatch(column.type)
    if have is None:
        return None
    have_precision, have_scale = int(have[1]), int(have[2])
    if have_scale > scale or have_precision - have_scale > precision - scale:
        return None
    return f"{identifier(column.name)}::numeric({precision},{scale})"


def unrepresentable_condition(column: DatabaseColumn, declared: str) -> tuple[str, str] | None:
    """SQL that is true for values without an exact form (and false or null for others), and the reason.

    None if every value has one.

    DuckDB's timestamps end in the year 294247; PostgreSQL's ``infinity``, numeric ``NaN`` and the time ``24:00``
    have no counterpart.
    """
    name = identifier(column.name)
    if declared in {"date", "timestamp", "timestamptz"}:
        limit = f"{name} >= '290000-01-01'" if declared != "date" else f"{name} >= '5000000-01-01'"
        return (
            f"(NOT isfinite({name}) OR {limit})",
            f"{column.name} is infinite or out of range",
        )
    if declared == "time":
        return f"{name} >= '24:00:00'", f"{column.name} is 24:00:00, which is no time of a day"
    if declared.startswith("decimal") and column.type.startswith("numeric"):
        return f"{name}::text IN ('NaN', 'Infinity', '-Infinity')", f"{column.name} is NaN or infinite"
    return None
