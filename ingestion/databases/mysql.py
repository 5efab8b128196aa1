"""The SQL of MySQL 8 and MariaDB: their catalog, intervals, rejected rows and checksums.

One dialect for both: what differs is which types there are and how they are spelled, and ``mysql_types.py`` knows both
spellings. A spec's ``schema`` is a database of the server; without one it is the database that the connection names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.intervals import Interval, local_bounds
from ingestion.databases.checksums import Days
from ingestion.databases.dialect import DatabaseColumn, Dialect, Session
from ingestion.databases.mysql_casts import cast
from ingestion.databases.mysql_checksums import mysql_query
from ingestion.databases.mysql_sql import quoted, text
from ingestion.databases.mysql_types import (
    LOSSLESS_CHARSETS,
    as_json_value,
    exact_expression,
    suggest,
    unfit_condition,
)
from ingestion.spec import ColumnSpec, SourceSpec, TableSpec

DEFAULT_SCHEMA = "public"
"""A spec's ``schema`` where it names none: the connection's database. One that is called so is named by its URL."""


class MysqlDialect(Dialect):
    """See :class:`ingestion.databases.dialect.Dialect`."""

    kind = "mysql"

    def __init__(self) -> None:
        self._known: dict[str, Mapping[str, DatabaseColumn]] = {}

    def quote(self, name: str) -> str:
        """See :class:`ingestion.databases.dialect.Dialect`."""
        return quoted(name)

    def columns(self, session: Session, table: TableSpec) -> Mapping[str, DatabaseColumn]:
        """See :class:`ingestion.databases.dialect.Dialect`. They are remembered for :meth:`early_rejects`."""
        found = described_columns(
            session,
            f"TABLE_SCHEMA = {schema_of(table)} AND TABLE_NAME = {text(table.in_source)} "
            f"AND CAST(TABLE_NAME AS BINARY) = CAST({text(table.in_source)} AS BINARY)",
        )
        self._known[table.name] = {column.name: column for _, _, column, _ in found}
        return self._known[table.name]

    def relation(self, table: TableSpec) -> str:
        """See :class:`ingestion.databases.dialect.Dialect`."""
        return relation_of(table)

    def expression(self, column: DatabaseColumn, spec: ColumnSpec) -> str | None:
        """See :class:`ingestion.databases.dialect.Dialect`."""
        if spec.policy == "cast":
            found = cast(column, spec.type)
            return found.expression if found else None
        return exact_expression(column, spec.type)

    def word(self, column: DatabaseColumn) -> str | None:
        """See :class:`ingestion.databases.dialect.Dialect`."""
        return suggest(column)

    def unfit(self, column: DatabaseColumn, spec: ColumnSpec) -> tuple[str, str] | None:
        """See :class:`ingestion.databases.dialect.Dialect`."""
        if spec.policy == "cast":
            found = cast(column, spec.type)
            return (found.unfit, found.reason) if found and found.unfit else None
        return unfit_condition(column, spec.type)

    def interval(self, spec: SourceSpec, table: TableSpec, interval: Interval) -> str:
        """See :class:`ingestion.databases.dialect.Dialect`."""
        if table.interval_column is None:
            return "true"
        chosen = table.column(table.interval_column)
        column = quoted(chosen.in_source)
        if chosen.type == "date":
            return f"{column} = {text(interval.key)}"
        if chosen.type == "timestamp":
            start, end = local_bounds(interval, spec.time_zone)
        else:  # the session's own clock is UTC
            start, end = local_bounds(interval, "UTC")
        return f"{column} >= {text(start)} AND {column} < {text(end)}"

    def early_rejects(self, table: TableSpec, where: str, conditions: Sequence[tuple[str, str]]) -> str:
        """See :class:`ingestion.databases.dialect.Dialect`."""
        reasons = ", ".join(f"CASE WHEN {condition} THEN {text(reason)} END" for condition, reason in conditions)
        bad = " OR ".join(condition for condition, _ in conditions)
        key = self._json_of(table, table.primary_key)
        row = self._json_of(table, [column.name for column in table.columns])
        return (
            f"SELECT 'exact_value' AS `rule`, CAST(CONCAT_WS('; ', {reasons}) AS CHAR) AS `reason`, "
            f"CAST(CONCAT('key ', {key}) AS CHAR) AS `position`, CAST({row} AS CHAR) AS `row` "
            f"FROM {self.relation(table)} WHERE {where} AND ({bad}) IS TRUE"
        )

    def checksums(self, table: TableSpec, days: Days | None = None) -> str:
        """See :class:`ingestion.databases.dialect.Dialect`."""
        known = self._known.get(table.name, {})
        values = {}
        for spec in table.columns:
            found = (
                cast(known[spec.in_source], spec.type) if spec.policy == "cast" and spec.in_source in known else None
            )
            values[spec.name] = found.fitting if found else quoted(spec.in_source)
        return mysql_query(table, self.relation(table), values, days=days)

    def keys(self, session: Session, table: TableSpec) -> tuple[tuple[str, ...], ...]:
        """See :class:`ingestion.databases.dialect.Dialect`.

        A unique index counts if none of its columns may be null; one of an expression does not. Of a column of which
        only the beginning is indexed the beginning is unique, so the whole is.
        """
        rows = session.rows(
            "SELECT CAST(INDEX_NAME AS CHAR) AS a, CAST(COLUMN_NAME AS CHAR) AS b, CAST(NULLABLE AS CHAR) AS c "
            f"FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = {schema_of(table)} "
            f"AND TABLE_NAME = {text(table.in_source)} "
            f"AND CAST(TABLE_NAME AS BINARY) = CAST({text(table.in_source)} AS BINARY) AND NON_UNIQUE = 0 "
            "ORDER BY IF(INDEX_NAME = 'PRIMARY', 0, 1), INDEX_NAME, SEQ_IN_INDEX"
        )
        found: dict[str, list[str]] = {}
        partly = {index for index, column, nullable in rows if column is None or nullable == "YES"}
        for index, column, _ in rows:
            if index not in partly:
                found.setdefault(index, []).append(column)
        return tuple(tuple(columns) for columns in found.values())

    def outside(self, column: DatabaseColumn, declared: str) -> str | None:
        """See :class:`ingestion.databases.dialect.Dialect`."""
        if declared != "float32":
            return super().outside(column, declared)
        # Asked for its size first: a cast makes the largest float of a double that no float can hold, or an error.
        name = quoted(column.name)
        return (
            f"(CASE WHEN {name} = 0 THEN FALSE WHEN ABS({name}) > 3.4028234663852886e38 "
            f"OR ABS({name}) < 1.1754943508222875e-38 THEN TRUE ELSE CAST({name} AS FLOAT) + 0e0 <> {name} END)"
        )

    def known_columns(self, session: Session, table: TableSpec) -> Mapping[str, DatabaseColumn]:
        """The table's columns, asked for once."""
        return self._known[table.name] if table.name in self._known else self.columns(session, table)

    def _json_of(self, table: TableSpec, names: Sequence[str]) -> str:
        """SQL of some columns as one JSON text, under their names in the lake."""
        known = self._known[table.name]
        pairs = (f"{text(name)}, {as_json_value(known[table.column(name).in_source])}" for name in names)
        return f"JSON_OBJECT({', '.join(pairs)})"


def described_columns(session: Session, where: str) -> list[tuple[str, str, DatabaseColumn, str]]:
    """Database, table, column and comment of the columns that this role may read, in their order.

    A text column's type ends in `` character set X`` where X may hold values that have no form in UTF-8.
    """
    rows = session.rows(
        "SELECT CAST(TABLE_SCHEMA AS CHAR) AS a, CAST(TABLE_NAME AS CHAR) AS b, CAST(COLUMN_NAME AS CHAR) AS c, "
        "CAST(COLUMN_TYPE AS CHAR) AS d, CAST(CHARACTER_SET_NAME AS CHAR) AS e, CAST(IS_NULLABLE AS CHAR) AS f, "
        "CAST(COLUMN_COMMENT AS CHAR) AS g "
        f"FROM information_schema.COLUMNS WHERE {where} AND FIND_IN_SET('select', PRIVILEGES) > 0 "
        "ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION"
    )
    found = []
    for schema, table, name, kind, charset, nullable, comment in rows:
        spelling = str(kind)
        if charset is not None and charset not in LOSSLESS_CHARSETS:
            spelling += f" character set {charset}"
        category = "e" if spelling.startswith("enum(") else "b"
        found.append((schema, table, DatabaseColumn(name, spelling, category, nullable == "YES"), comment or ""))
    return found


def _names_schema(table: TableSpec) -> bool:
    return table.schema_name != DEFAULT_SCHEMA


def relation_of(table: TableSpec) -> str:
    """The table's quoted name."""
    name = quoted(table.in_source)
    return f"{quoted(table.schema_name)}.{name}" if _names_schema(table) else name


def schema_of(table: TableSpec) -> str:
    """SQL of the name of the table's database."""
    return text(table.schema_name) if _names_schema(table) else "DATABASE()"
