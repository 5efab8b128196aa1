"""``information_schema`` of MySQL and MariaDB -> :class:`ingestion.databases.catalog.Catalog`; EXPLAIN -> estimates.

A database of the server is a schema here. Without schemas named, only the connection's own database is described: a
role may see many, and a source is one. Estimates are the storage engine's own (``TABLE_ROWS``), and for an interval the
optimizer's, which looks into the index of the interval's column; without such an index it only guesses, so we say
nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Literal

from common.errors import SettingsError
from common.intervals import Interval, zone
from ingestion.databases.catalog import Catalog, CatalogIndex, CatalogTable
from ingestion.databases.dialect import DatabaseColumn, Session
from ingestion.databases.mysql import DEFAULT_SCHEMA, MysqlDialect, described_columns
from ingestion.databases.mysql_sql import quoted, text
from ingestion.databases.mysql_types import BYTES, GEOMETRIES, parsed, suggest
from ingestion.spec import SourceSpec, TableSpec

_REMARKS = {
    "date": "zero and impossible dates such as 0000-00-00 go to quarantine",
    "datetime": "a wall time, read on the clock of time_zone; zero dates go to quarantine",
    "timestamp": "an instant, read in UTC; zero dates go to quarantine",
    "time": "durations, that is times below 00:00 or from 24:00 on, go to quarantine; declare string to keep them",
    "geometry": "the SRID in 4 bytes, then well-known binary",
}


class MysqlIntrospection:
    """See :class:`ingestion.databases.catalog.Introspection`."""

    def catalog(self, session: Session, schemas: Collection[str] | None = None) -> Catalog:
        """See :class:`ingestion.databases.catalog.Introspection`."""
        [(version, database, zone_name)] = session.rows(
            "SELECT CAST(VERSION() AS CHAR) AS version, CAST(DATABASE() AS CHAR) AS name, "
            "CAST(IF(@@GLOBAL.time_zone = 'SYSTEM', @@system_time_zone, @@GLOBAL.time_zone) AS CHAR) AS zone"
        )
        named = {database if name == DEFAULT_SCHEMA else name for name in schemas or {database}}
        where = f"TABLE_SCHEMA IN ({', '.join(map(text, sorted(named)))})"
        columns: dict[tuple[str, str], list[DatabaseColumn]] = defaultdict(list)
        descriptions: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
        for schema, table, column, comment in described_columns(session, where):
            columns[schema, table].append(column)
            if comment:
                descriptions[schema, table][column.name] = comment
        indexes, keys = _indexes(session, where)
        rows = session.rows(
            "SELECT CAST(TABLE_SCHEMA AS CHAR) AS a, CAST(TABLE_NAME AS CHAR) AS b, CAST(TABLE_TYPE AS CHAR) AS c, "
            "CAST(TABLE_ROWS AS SIGNED) AS d, CAST(DATA_LENGTH AS SIGNED) AS e, CAST(TABLE_COMMENT AS CHAR) AS f "
            f"FROM information_schema.TABLES WHERE {where} ORDER BY TABLE_SCHEMA, TABLE_NAME"
        )
        tables = []
        for schema, name, table_type, counted, size_bytes, comment in rows:
            kind: Literal["table", "view"] = "view" if table_type == "VIEW" else "table"
            tables.append(
                CatalogTable(
                    schema,
                    name,
                    kind,
                    tuple(columns[schema, name]),
                    primary_key=keys.get((schema, name), ()),
                    indexes=tuple(indexes[schema, name]),
                    rows_estimated=counted if kind == "table" else None,
                    size_bytes=size_bytes if kind == "table" else None,
                    readable=bool(columns[schema, name]),
                    description="" if kind == "view" else comment or "",  # of a view the server says "VIEW"
                    column_descriptions=descriptions[schema, name],
                )
            )
        system = "MariaDB" if "mariadb" in version.lower() else "MySQL"
        return Catalog(f"{system} {version}", database, database, "", _time_zone(zone_name), tuple(tables))

    def sample(
        self, session: Session, table: CatalogTable, columns: Sequence[str], rows: int
    ) -> list[tuple[str | None, ...]]:
        """See :class:`ingestion.databases.catalog.Introspection`. Bytes are shown in hexadecimal."""
        types = {column.name: parsed(column.type).base for column in table.columns}
        shown = (
            f"CAST(HEX(LEFT({quoted(name)}, 100)) AS CHAR)"
            if types[name] in BYTES | GEOMETRIES
            else f"LEFT(CAST({quoted(name)} AS CHAR), 200)"
            for name in columns
        )
        selected = ", ".join(f"{sql} AS c{position}" for position, sql in enumerate(shown))
        return session.rows(f"SELECT {selected} FROM {quoted(table.schema)}.{quoted(table.name)} LIMIT {rows}")

    def suggested_type(self, column: DatabaseColumn) -> str | None:
        """See :class:`ingestion.databases.catalog.Introspection`."""
        return suggest(column)

    def type_remark(self, column: DatabaseColumn) -> str:
        """See :class:`ingestion.databases.catalog.Introspection`."""
        kind = parsed(column.type)
        if kind.base == "decimal" and sum(kind.digits) > 38:
            return "more than 38 digits: as text"
        if kind.base == "bigint" and kind.unsigned:
            return "an unsigned bigint exceeds int64"
        if suggest(column) == "bool":
            return (
                "values other than 0 and 1 go to quarantine; declare int32 to keep them" if kind.base != "bit" else ""
            )
        return _REMARKS["geometry" if kind.base in GEOMETRIES else kind.base] if kind.base in _REMARKS else ""

    def expected_rows(
        self, session: Session, spec: SourceSpec, table: TableSpec, intervals: Sequence[Interval]
    ) -> list[int | None]:
        """See :class:`ingestion.databases.catalog.Introspection`."""
        if table.interval_column is None:
            found = self.catalog(session, {table.schema_name})
            described = found.table(table.schema_name, table.in_source)
            return [described.rows_estimated if described else None for _ in intervals]
        dialect = MysqlDialect()
        return [
            _explained(session, f"SELECT * FROM {dialect.relation(table)} WHERE {dialect.interval(spec, table, one)}")
            for one in intervals
        ]


def _explained(session: Session, query: str) -> int | None:
    """Rows that the optimizer expects to find by an index; None if it uses none or will not say."""
    relation = session.relation(f"EXPLAIN FORMAT=TRADITIONAL {query}")
    plan = session.connection.execute(f"SELECT * FROM {relation}")
    names = [str(column[0]).lower() for column in plan.description or []]
    found = [dict(zip(names, row, strict=True)) for row in plan.fetchall()]
    if len(found) != 1 or not found[0].get("key"):
        return None
    return int(found[0]["rows"])


def _indexes(
    session: Session, where: str
) -> tuple[dict[tuple[str, str], list[CatalogIndex]], dict[tuple[str, str], tuple[str, ...]]]:
    """Indexes by table, and primary keys; a column of which only the beginning is indexed ends an index's list."""
    rows = session.rows(
        "SELECT CAST(TABLE_SCHEMA AS CHAR) AS a, CAST(TABLE_NAME AS CHAR) AS b, CAST(INDEX_NAME AS CHAR) AS c, "
        "CAST(COLUMN_NAME AS CHAR) AS d, CAST(NON_UNIQUE AS SIGNED) AS e, CAST(SUB_PART AS SIGNED) AS f, "
        "CAST(INDEX_TYPE AS CHAR) AS g FROM information_schema.STATISTICS "
        f"WHERE {where} ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX"
    )
    listed: dict[tuple[str, str, str], list[tuple[str | None, bool, bool]]] = defaultdict(list)
    for schema, table, index, column, non_unique, part, kind in rows:
        plain = column is not None and part is None and kind == "BTREE"
        listed[schema, table, index].append((column, plain, not non_unique))
    indexes: dict[tuple[str, str], list[CatalogIndex]] = defaultdict(list)
    keys: dict[tuple[str, str], tuple[str, ...]] = {}
    for (schema, table, index), parts in listed.items():
        columns: list[str] = []
        for column, plain, _ in parts:
            if not plain or column is None:
                break
            columns.append(column)
        whole = len(columns) == len(parts)
        if columns:
            indexes[schema, table].append(CatalogIndex(tuple(columns), unique=parts[0][2] and whole))
        if index == "PRIMARY":
            keys[schema, table] = tuple(str(column) for column, _, _ in parts)
    return indexes, keys


def _time_zone(name: str | None) -> str:
    """The zone's name if it is one of the IANA's, which offsets and abbreviations of a server's clock are not."""
    try:
        return zone(name).key if name and ("/" in name or name == "UTC") else ""
    except SettingsError:
        return ""
