"""PostgreSQL's system catalogs -> :class:`ingestion.databases.catalog.Catalog`, and its statistics -> expected rows.

Estimates are the planner's own: rows per page as of the last ANALYZE times the pages there are now, and for an interval
the share of the column's histogram and most common values that falls into it. They are computed here because a session
can only SELECT (``postgres_query`` sends everything inside COPY), so EXPLAIN, which does the same sums, cannot be sent.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Any, Literal

from common.intervals import Interval, zone
from ingestion.databases.catalog import Catalog, CatalogIndex, CatalogTable
from ingestion.databases.dialect import DatabaseColumn, Session
from ingestion.databases.postgres_types import suggest, suggestion_reason
from ingestion.spec import SourceSpec, TableSpec
from lake.sql import identifier, literal

_PAGE_BYTES = 8192
_ROW_HEADER_BYTES = 28
_GUESSED_TEXT_BYTES = 32
"""What the planner takes for a value of unknown width in a table that was never analysed."""

_VISIBLE = (
    "n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' AND has_schema_privilege(n.oid, 'USAGE') "
    "AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND NOT EXISTS (SELECT 1 FROM pg_depend d "
    "WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')"
)
"""Tables and views of users: nothing of the system or of an extension, and no partition of its own."""

_FIGURES = (
    "LEFT JOIN LATERAL (SELECT sum(greatest(l.reltuples, 0)) AS rows, sum(l.relpages) AS pages, "
    "bool_or(l.reltuples < 0) AS unknown, sum(pg_relation_size(l.oid)) AS bytes, "
    "sum(pg_table_size(l.oid)) AS all_bytes FROM pg_class l "
    "WHERE l.oid = c.oid AND c.relkind IN ('r', 'm') OR c.relkind = 'p' AND l.oid IN "
    "(SELECT p.relid FROM pg_partition_tree(c.oid) p WHERE p.isleaf)) AS s ON true"
)
"""Figures of a table, or of all partitions of one."""

_COLUMNS = """
WITH RECURSIVE columns AS (
    SELECT c.oid AS id, a.attnum, a.attname, a.attnotnull AS required, a.atttypid AS type_id,
        a.atttypmod AS modifier, NULL AS domain
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE {where} AND a.attnum > 0 AND NOT a.attisdropped AND has_column_privilege(c.oid, a.attnum, 'SELECT')
    UNION ALL
    SELECT id, attnum, attname, required OR t.typnotnull, t.typbasetype, t.typtypmod,
        coalesce(domain, format_type(type_id, NULL))
    FROM columns JOIN pg_type t ON t.oid = type_id WHERE t.typtype = 'd'
)
SELECT id::bigint AS id, coalesce(col_description(id, attnum), '') AS about,
    CASE WHEN t.typlen > 0 THEN t.typlen ELSE {text_bytes} END::bigint AS width_bytes,
    attname::text AS name, format_type(type_id, modifier) AS type, t.typtype::text AS category,
    NOT required AS nullable, current_setting('server_encoding') AS charset, coalesce(domain, '') AS domain
FROM columns JOIN pg_type t ON t.oid = type_id WHERE t.typtype <> 'd' ORDER BY id, attnum
"""
"""As ``PostgresDialect.columns`` describes them: a column of a domain by the type the domain is made of."""


class PostgresIntrospection:
    """See :class:`ingestion.databases.catalog.Introspection`."""

    def catalog(self, session: Session, schemas: Collection[str] | None = None) -> Catalog:
        """See :class:`ingestion.databases.catalog.Introspection`."""
        where = _VISIBLE
        if schemas is not None:
            where += f" AND n.nspname IN ({', '.join(map(literal, sorted(schemas)))})"
        [(version, database, owner)] = session.rows(
            "SELECT current_setting('server_version') AS version, current_database()::text AS database, "
            "pg_get_userbyid(d.datdba)::text AS owner FROM pg_database d WHERE d.datname = current_database()"
        )
        columns, descriptions, guessed_bytes = _columns(session, where)
        indexes, keys = _indexes(session, where)
        rows = session.rows(
            "SELECT c.oid::bigint AS id, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind, "
            "s.rows::float8 AS rows, s.pages::bigint AS pages, s.unknown AS unknown, s.bytes::bigint AS bytes, "
            "s.all_bytes::bigint AS all_bytes, has_table_privilege(c.oid, 'SELECT') AS readable, "
            "coalesce(obj_description(c.oid, 'pg_class'), '') AS description "
            f"FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace {_FIGURES} "
            f"WHERE {where} ORDER BY n.nspname, c.relname"
        )
        tables = []
        for oid, schema, name, relkind, counted, pages, unknown, size_bytes, all_bytes, readable, description in rows:
            kind: Literal["table", "view"] = "view" if relkind in {"v", "m"} else "table"
            width_bytes = guessed_bytes[oid]
            tables.append(
                CatalogTable(
                    schema,
                    name,
                    kind,
                    tuple(columns[oid]),
                    primary_key=keys.get(oid, ()),
                    indexes=tuple(indexes[oid]),
                    rows_estimated=_rows(counted, pages, unknown, size_bytes, width_bytes),
                    analysed=not unknown,
                    size_bytes=all_bytes,
                    readable=readable,
                    description=description,
                    column_descriptions=descriptions[oid],
                )
            )
        return Catalog(f"PostgreSQL {version}", database, "public", owner, _time_zone(session), tuple(tables))

    def sample(
        self, session: Session, table: CatalogTable, columns: Sequence[str], rows: int
    ) -> list[tuple[str | None, ...]]:
        """See :class:`ingestion.databases.catalog.Introspection`."""
        selected = ", ".join(f"left({identifier(name)}::text, 200) AS {identifier(name)}" for name in columns)
        relation = f"{identifier(table.schema)}.{identifier(table.name)}"
        return session.rows(f"SELECT {selected} FROM {relation} LIMIT {rows}")

    def suggested_type(self, column: DatabaseColumn) -> str | None:
        """See :class:`ingestion.databases.catalog.Introspection`."""
        return suggest(column)

    def type_remark(self, column: DatabaseColumn) -> str:
        """See :class:`ingestion.databases.catalog.Introspection`."""
        return suggestion_reason(column) or ""

    def expected_rows(
        self, session: Session, spec: SourceSpec, table: TableSpec, intervals: Sequence[Interval]
    ) -> list[int | None]:
        """See :class:`ingestion.databases.catalog.Introspection`."""
        found = self.catalog(session, {table.schema_name}).table(table.schema_name, table.in_source)
        total = found.rows_estimated if found else None
        if total is None or table.interval_column is None:
            return [total for _ in intervals]
        column = table.column(table.interval_column)
        statistics = session.rows(
            "SELECT histogram_bounds::text::text[] AS bounds, most_common_vals::text::text[] AS common, "
            "most_common_freqs::float8[] AS shares FROM pg_stats "
            f"WHERE schemaname = {literal(table.schema_name)} AND tablename = {literal(table.in_source)} "
            f"AND attname = {literal(column.in_source)} ORDER BY inherited DESC LIMIT 1"
        )
        if not statistics:
            return [None for _ in intervals]
        [(bounds, common, shares)] = statistics
        histogram = _Histogram(bounds, common, shares, spec.time_zone)
        return [round(total * histogram.share(interval)) for interval in intervals]


def _rows(
    counted: float | None, pages: int | None, unknown: bool | None, size_bytes: int | None, width_bytes: int
) -> int | None:
    if counted is None or size_bytes is None:
        return None
    if not unknown and pages:
        return round(counted / pages * (size_bytes / _PAGE_BYTES))
    return size_bytes // (width_bytes + _ROW_HEADER_BYTES)


def _columns(
    session: Session, where: str
) -> tuple[dict[int, list[DatabaseColumn]], dict[int, dict[str, str]], dict[int, int]]:
    """Columns by table, their descriptions, and the width the planner would guess for a row, in bytes."""
    rows = session.rows(_COLUMNS.format(where=where, text_bytes=_GUESSED_TEXT_BYTES))
    columns: dict[int, list[DatabaseColumn]] = defaultdict(list)
    descriptions: dict[int, dict[str, str]] = defaultdict(dict)
    width_bytes: dict[int, int] = defaultdict(int)
    for oid, about, column_bytes, name, *rest in rows:
        columns[oid].append(DatabaseColumn(name, *rest))
        width_bytes[oid] += column_bytes
        if about:
            descriptions[oid][name] = about
    return columns, descriptions, width_bytes


def _indexes(session: Session, where: str) -> tuple[dict[int, list[CatalogIndex]], dict[int, tuple[str, ...]]]:
    """Indexes that find a range, by table; and each table's primary key."""
    rows = session.rows(
        "SELECT i.indrelid::bigint AS id, i.indisprimary AS is_key, i.indisunique AS is_unique, "
        "(SELECT json_agg(coalesce(a.attname::text, '') ORDER BY k.position)::text "
        "FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, position) LEFT JOIN pg_attribute a "
        "ON a.attrelid = i.indrelid AND a.attnum = k.number WHERE k.position <= i.indnkeyatts) AS columns "
        "FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
        "JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam "
        f"WHERE {where} AND i.indisvalid AND i.indpred IS NULL AND m.amname IN ('btree', 'brin') "
        "ORDER BY i.indrelid, i.indisprimary DESC, x.relname"
    )
    indexes: dict[int, list[CatalogIndex]] = defaultdict(list)
    keys: dict[int, tuple[str, ...]] = {}
    for oid, is_key, is_unique, text in rows:
        names: list[str] = json.loads(text)
        plain = names[: names.index("")] if "" in names else names
        indexes[oid].append(CatalogIndex(tuple(plain), is_unique and plain == names))
        if is_key:
            keys[oid] = tuple(names)
    return indexes, keys


def _time_zone(session: Session) -> str:
    """The zone set for this database; the server's own is hidden behind the session's UTC."""
    rows = session.rows(
        "SELECT split_part(x.setting, '=', 2) AS zone FROM pg_db_role_setting s JOIN pg_database d "
        "ON d.oid = s.setdatabase, unnest(s.setconfig) AS x (setting) WHERE d.datname = current_database() "
        "AND s.setrole = 0 AND lower(split_part(x.setting, '=', 1)) = 'timezone'"
    )
    with suppress(Exception):
        return zone(rows[0][0]).key if rows else ""
    return ""


class _Histogram:
    """PostgreSQL's statistics of one column: the most common values, and bounds that part the others evenly."""

    def __init__(
        self,
        bounds: list[str] | None,
        common: list[str] | None,
        shares: list[float] | None,
        time_zone: str,
    ) -> None:
        self._zone = time_zone
        self._bounds = [second for text in bounds or () if (second := self._seconds(text)) is not None]
        self._common = [
            (second, share)
            for text, share in zip(common or (), shares or (), strict=True)
            if (second := self._seconds(text)) is not None
        ]
        self._rest = max(0.0, 1.0 - sum(shares or ()))

    def share(self, interval: Interval) -> float:
        """The share of all rows that lies in the interval."""
        start, end = interval.start.timestamp(), interval.end.timestamp()
        common = sum(share for second, share in self._common if start <= second < end)
        return common + self._rest * (self._below(end) - self._below(start))

    def _below(self, second: float) -> float:
        """The share of the values outside the most common ones that lies below a moment."""
        if len(self._bounds) < 2:
            return 0.0
        at = bisect_right(self._bounds, second)
        if at == 0:
            return 0.0
        if at == len(self._bounds):
            return 1.0
        low, high = self._bounds[at - 1], self._bounds[at]
        return (at - 1 + (second - low) / (high - low)) / (len(self._bounds) - 1)

    def _seconds(self, text: str) -> float | None:
        """A value's moment in seconds since 1970 (a wall time is read on the source's clock); None for infinity."""
        value: Any = None
        with suppress(ValueError):
            value = datetime.fromisoformat(text)
        if value is None:
            with suppress(ValueError):
                value = datetime.combine(date.fromisoformat(text), datetime.min.time())
        if value is None:
            return None
        return float((value if value.tzinfo else value.replace(tzinfo=zone(self._zone))).astimezone(UTC).timestamp())
