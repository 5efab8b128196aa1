"""PostgreSQL's SQL: its catalog, the conditions of an interval, a row that is set apart, its checksums.

What becomes of a column of which type is in ``postgres_types.py`` and, where the spec declares a cast, in
``postgres_casts.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.intervals import Interval, local_bounds
from ingestion.databases import checksums
from ingestion.databases.dialect import DatabaseColumn, Dialect, Session
from ingestion.databases.postgres_casts import cast
from ingestion.databases.postgres_types import Reading, exact, kind_of, not_utf8, suggest, text_of, valid_bytes
from ingestion.spec import ColumnSpec, SourceSpec, TableSpec
from lake.sql import identifier, literal

_COLUMNS = """
WITH RECURSIVE columns AS (
    SELECT a.attnum, a.attname, a.attnotnull AS required, a.atttypid AS type_id, a.atttypmod AS modifier, NULL AS domain
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = {schema} AND c.relname = {table}
    AND a.attnum > 0 AND NOT a.attisdropped AND has_table_privilege(c.oid, 'SELECT')
    UNION ALL
    SELECT attnum, attname, required OR t.typnotnull, t.typbasetype, t.typtypmod,
        coalesce(domain, format_type(type_id, NULL))
    FROM columns JOIN pg_type t ON t.oid = type_id WHERE t.typtype = 'd'
)
SELECT attname::text, format_type(type_id, modifier), t.typtype::text, NOT required,
    current_setting('server_encoding'), coalesce(domain, '')
FROM columns JOIN pg_type t ON t.oid = type_id WHERE t.typtype <> 'd' ORDER BY attnum
"""
"""A column of a domain is described by the type that the domain is made of, however deep."""

_JSON_KINDS = {
    *("smallint", "integer", "bigint", "numeric", "real", "double precision", "boolean", "date"),
    *("timestamp without time zone", "timestamp with time zone", "time without time zone"),
}
"""Types of which ``to_json`` loses nothing (NaN and infinity become texts); all others are told as their text."""


class PostgresDialect(Dialect):
    """See :class:`ingestion.databases.dialect.Dialect`.

    It remembers the columns it was asked for: a row that is set apart and a checksum need their types as well.
    """

    kind = "postgresql"

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Mapping[str, DatabaseColumn]] = {}
        self._told: dict[tuple[object, ...], str] = {}

    def quote(self, name: str) -> str:
        """See :class:`ingestion.databases.dialect.Dialect`."""
        return identifier(name)

    def columns(self, session: Session, table: TableSpec) -> Mapping[str, DatabaseColumn]:
        """See :class:`ingestion.databases.dialect.Dialect`."""
        names = {"schema": literal(table.schema_name), "table": literal(table.in_source)}
        found = {row[0]: DatabaseColumn(*row) for row in session.rows(_COLUMNS.format(**names))}
        self._known[(table.schema_name, table.in_source)] = found
        self._told.clear()
        return found

    def relation(self, table: TableSpec) -> str:
        """See :class:`ingestion.databases.dialect.Dialect`."""
        return f"{identifier(table.schema_name)}.{identifier(table.in_source)}"

    def expression(self, column: DatabaseColumn, spec: ColumnSpec) -> str | None:
        """See :class:`ingestion.databases.dialect.Dialect`."""
        found = reading(column, spec)
        return found.expression if found else None

    def word(self, column: DatabaseColumn) -> str | None:
        """See :class:`ingestion.databases.dialect.Dialect`."""
        return suggest(column)

    def unfit(self, column: DatabaseColumn, spec: ColumnSpec) -> tuple[str, str] | None:
        """See :class:`ingestion.databases.dialect.Dialect`."""
        found = reading(column, spec)
        return (found.unfit, found.reason) if found and found.unfit else None

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
        names = [column.name for column in table.columns]
        told = (self.relation(table), table.primary_key, tuple((c.name, c.in_source, c.type) for c in table.columns))
        if told not in self._told:
            position = f"concat_ws(', ', 'key ' || {self._json_of(table, table.primary_key)}{self._bad_bytes(table)})"
            self._told[told] = f"{position} AS position, {self._json_of(table, names)} AS row"
        return (
            f"SELECT 'exact_value' AS rule, concat_ws('; ', {reasons}) AS reason, {self._told[told]} "
            f"FROM {self.relation(table)} AS _source WHERE {where} AND ({bad}) IS TRUE"
        )

    def checksums(self, table: TableSpec, days: checksums.Days | None = None) -> str:
        """See :class:`ingestion.databases.dialect.Dialect`."""
        known = self._known_columns(table)
        return checksums.postgres_query(
            table,
            {spec.name: _fitting(known[spec.in_source], spec) for spec in table.columns if spec.in_source in known},
            charset=next((column.charset for column in known.values()), ""),
            days=days,
        )

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

    def _known_columns(self, table: TableSpec) -> Mapping[str, DatabaseColumn]:
        return self._known.get((table.schema_name, table.in_source), {})

    def _json_of(self, table: TableSpec, names: Sequence[str]) -> str:
        """SQL of some columns of ``_source`` as one JSON text, under their names in the lake.

        ``_row.*``, because ``_row`` alone would be a column of that name, if the source has one.
        """
        known = self._known_columns(table)
        parts = []
        for name in names:
            column = known.get(table.column(name).in_source)
            value = _told(column) if column else identifier(table.column(name).in_source)
            parts.append(f"{value} AS {identifier(name)}")
        return f"(SELECT to_json(_row.*)::text FROM (SELECT {', '.join(parts)}) AS _row)"

    def _bad_bytes(self, table: TableSpec) -> str:
        """SQL, to be appended to a list, of where bytes without a form in UTF-8 begin in each column that has some."""
        terms = []
        for spec in table.columns:
            column = self._known_columns(table).get(spec.in_source)
            bad = not_utf8(column) if column and spec.type == "string" else None
            if column and bad:
                where = literal(f" of {spec.name}")
                terms.append(f", CASE WHEN {bad} THEN 'byte ' || {valid_bytes(column)} + 1 || {where} END")
        return "".join(terms)


def reading(column: DatabaseColumn, spec: ColumnSpec) -> Reading | None:
    """How a column is read as its spec declares it; None if that is not possible."""
    if spec.policy == "cast":
        return cast(column, spec.type, nullable=spec.nullable)
    return exact(column, spec.type)


def _fitting(column: DatabaseColumn, spec: ColumnSpec) -> str:
    """SQL of a column's value as it is read; null where it has no form."""
    found = reading(column, spec)
    if found is None:
        return identifier(column.name)
    return f"(CASE WHEN ({found.unfit}) IS NOT TRUE THEN {found.expression} END)" if found.unfit else found.expression


def _told(column: DatabaseColumn) -> str:
    """SQL of a value for the JSON of a row that is set apart: nothing is lost, and no byte makes the text invalid."""
    if kind_of(column) in _JSON_KINDS:
        return identifier(column.name)
    text, bad = text_of(column), not_utf8(column)
    escaped = f"encode(convert_to({text}, {literal(column.charset)}), 'escape')"
    return f"CASE WHEN {bad} THEN {escaped} ELSE {text} END" if bad else text
