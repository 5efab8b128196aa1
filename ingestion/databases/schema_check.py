"""A database table against its spec: columns and keys as the catalog has them, drift as the spec's policies take it.

``DatabaseReader`` asks before each batch. What only rows can tell - nulls in the column that decides the interval, a
declared key that may name two rows by now - is asked of the rows, inside the same snapshot.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from common.errors import SourceSchemaError, located
from common.intervals import Interval
from ingestion.databases.dialect import DatabaseColumn, Dialect, Session
from ingestion.drift import Comparison, Finding, Fit, Observed, Suspect, compare, refuse, related
from ingestion.reader import partition_key
from ingestion.spec import ColumnSpec, SourceSpec, TableSpec
from lake.lake import Lake

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckedTable:
    """What a reader needs to know of a table whose schema has been judged.

    Attributes:
        found: the columns in the database, by their name there.
        drift: the comparison; its ``read`` is the table to read, its ``lake`` the one to write.
        conditions: SQL that is true for rows that go to quarantine because of the schema, each with the reason.
    """

    found: Mapping[str, DatabaseColumn]
    drift: Comparison
    conditions: tuple[tuple[str, str], ...]


class SchemaCheck:
    """Compares the tables of one database, within one session, with their specs.

    Args:
        spec: the source.
        lake: where refusals are kept.
        dialect: the database's SQL.
    """

    def __init__(self, spec: SourceSpec, lake: Lake, dialect: Dialect) -> None:
        self._spec = spec
        self._lake = lake
        self._dialect = dialect
        self._seen: dict[str, tuple[Mapping[str, DatabaseColumn], Comparison]] = {}

    def compare(self, session: Session, table: TableSpec) -> tuple[Mapping[str, DatabaseColumn], Comparison]:
        """The table's columns in the database, and how they differ from the spec; asked once per session.

        Raises:
            SourceSchemaError: there is no such table that this role can see.

        Side effects: drift from which something follows is logged.
        """
        if table.name not in self._seen:
            found = self._dialect.columns(session, table)
            if not found:
                raise SourceSchemaError(
                    f"The database has no table {table.schema_name}.{table.in_source} that this role can see.",
                    source=self._spec.source,
                    table=table.name,
                    remedy="correct the spec, create the table, or grant SELECT on it",
                )

            def fit(observed: Observed, column: ColumnSpec) -> Fit:
                if self._dialect.expression(found[observed.name], column) is not None:
                    return "exact"
                return "wider" if observed.word and related(column.type, observed.word) else "other"

            observed = [Observed(c.name, c.type, self._dialect.word(c), c.nullable) for c in found.values()]
            compared = compare(table, observed, fit=fit, keys=self._dialect.keys(session, table))
            compared = self._without_interval(session, compared, found)
            for warning in compared.warnings:
                _LOG.warning("%s: %s", self._spec.raw(table.name), warning)
            self._seen[table.name] = found, compared
        return self._seen[table.name]

    def check(self, session: Session, table: TableSpec, interval: Interval) -> CheckedTable:
        """The table as it may be read for an interval.

        Raises:
            SourceSchemaError: there is no such table, or its drift is refused.

        Side effects: a refusal is kept beside the gate's refusals.
        """
        where = {"source": self._spec.source, "table": table.name, "interval": interval.key}
        with located(**where):
            found, compared = self.compare(session, table)
        condition = self._dialect.interval(self._spec, compared.read, interval) if not compared.refusals else ""
        if compared.doubtful_key and not compared.refusals and self._names_two(session, compared, condition):
            compared = _refused(
                compared,
                "key_changed",
                ", ".join(compared.doubtful_key),
                "and rows of this batch share a declared key",
                "declare the new key and run the published intervals again, or set on_drift: {key_changed: quarantine}",
            )
        conditions = []
        for suspect in compared.suspects if not compared.refusals else ():
            sql = self._suspicious(suspect, found, compared.read, condition)
            if sql is None:
                compared = _refused(
                    compared,
                    suspect.kind,
                    suspect.column.name,
                    f"and {self._dialect.kind} cannot tell which values do not fit",
                    "set on_drift: {widened: evolve}",
                )
            else:
                conditions.append((sql, f"schema drift: {suspect.column.in_source} {suspect.reason}"))
        if compared.refusals:
            refuse(
                self._lake,
                self._spec.raw(table.name),
                partition_key(table, interval),
                compared.findings,
                problem=f"Table {table.schema_name}.{table.in_source} differs from its spec",
                where=where,
            )
        return CheckedTable(found, compared, tuple(conditions))

    def _without_interval(
        self, session: Session, compared: Comparison, found: Mapping[str, DatabaseColumn]
    ) -> Comparison:
        """Refuse a table with nulls in the column that decides the interval: no interval would ever read those rows."""
        columns = {column.name: column for column in compared.read.columns}
        chosen = columns.get(compared.read.interval_column or "")
        if chosen is None or not found[chosen.in_source].nullable:
            return compared
        null = f"{self._dialect.quote(chosen.in_source)} IS NULL"
        if not session.rows(f"SELECT 1 AS one FROM {self._dialect.relation(compared.read)} WHERE {null} LIMIT 1"):
            return compared
        return _refused(
            compared,
            "nullability",
            chosen.name,
            "and has rows with a null there, which belong to no interval",
            "give those rows a value, or read a view that says where they belong",
        )

    def _names_two(self, session: Session, compared: Comparison, condition: str) -> bool:
        doubled = self._doubled(compared.read, condition)
        return bool(session.rows(f"SELECT 1 AS one FROM ({doubled} LIMIT 1) AS doubled"))

    def _doubled(self, read: TableSpec, condition: str) -> str:
        """Declared keys that more than one row of a batch has."""
        key = ", ".join(self._dialect.quote(read.column(name).in_source) for name in read.primary_key)
        relation = self._dialect.relation(read)
        return f"SELECT {key} FROM {relation} WHERE {condition} GROUP BY {key} HAVING count(*) > 1"

    def _suspicious(
        self, suspect: Suspect, found: Mapping[str, DatabaseColumn], read: TableSpec, condition: str
    ) -> str | None:
        name = self._dialect.quote(suspect.column.in_source)
        if suspect.kind == "widened":
            return self._dialect.outside(found[suspect.column.in_source], suspect.declared)
        if suspect.kind == "nullability":
            return f"{name} IS NULL"
        if suspect.kind == "key_changed":
            key = ", ".join(self._dialect.quote(read.column(each).in_source) for each in read.primary_key)
            return f"({key}) IN ({self._doubled(read, condition)})"
        return f"{name} IS NOT NULL"


def comparable(compared: Comparison) -> TableSpec:
    """The columns of which source and lake hold the same values in the same type: those whose checksums must agree."""
    in_lake = {column.name: column.type for column in compared.lake.columns}
    columns = tuple(column for column in compared.read.columns if in_lake[column.name] == column.type)
    return compared.read.model_copy(update={"columns": columns})


def _refused(compared: Comparison, kind: str, column: str, because: str, remedy: str) -> Comparison:
    """The comparison with one finding refused, for a reason that only the rows could tell."""

    def judged(finding: Finding) -> Finding:
        if (finding.kind, finding.column) != (kind, column):
            return finding
        return replace(finding, outcome="refused", words=f"{finding.words}, {because}", remedy=remedy)

    return replace(compared, findings=tuple(judged(finding) for finding in compared.findings))
