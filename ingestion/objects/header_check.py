"""The columns of a batch's objects against the spec: each object is compared, the batch's drift is theirs together.

Text has no types, so a widened, narrowed or flipped column shows itself only in values that do not convert; those rows
go to quarantine one by one, under the rule ``exact_value``, whatever the policy. Parquet has types, and its columns are
judged like those of a database. No object has keys. That a column allows nulls shows itself in nulls.

Objects of one batch may differ: a column that one of them brings in is null in the rows of the others, and one that
outgrows its type in one of them is wide for all.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from common.errors import SourceSchemaError
from ingestion.drift import Comparison, Finding, Observed, Suspect, common_type, compare, merged, refuse, warnings_of
from ingestion.spec import ColumnSpec, TableSpec
from lake.lake import Lake
from lake.paths import TableId

_LOG = logging.getLogger(__name__)


class HeaderCheck:
    """The drift of one batch, as its objects are opened one after the other.

    Args:
        lake: where a refusal is kept.
        raw: the raw table.
        key: partition key of the batch.
        table: the spec.
        where: source, table and interval, for messages.
    """

    def __init__(self, lake: Lake, raw: TableId, key: str, table: TableSpec, where: dict[str, str]) -> None:
        self._lake, self._raw, self._key, self._table, self._where = lake, raw, key, table, where
        self._findings: tuple[Finding, ...] = ()
        self._stored = {column.name: column for column in table.columns}
        self._told = dict(self._stored)
        self._suspects: dict[tuple[str, str], Suspect] = {}

    @property
    def told(self) -> TableSpec:
        """All columns that are read: those of the lake, and those that send a row to quarantine."""
        return self._with(self._told)

    @property
    def stored(self) -> TableSpec:
        """The columns that the lake is to have."""
        return self._with(self._stored)

    @property
    def suspects(self) -> tuple[Suspect, ...]:
        """What rows may not hold."""
        return tuple(self._suspects.values())

    @property
    def records(self) -> tuple[dict[str, Any], ...]:
        """The findings for a receipt."""
        return tuple(finding.to_dict() for finding in self._findings)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader of a run should know."""
        return warnings_of(self._findings)

    def check(self, thing: str, header: Sequence[str]) -> list[str]:
        """One object's columns by their names; answers theirs among those of :attr:`told`.

        Columns that are not read get names that no column has.

        Args:
            thing: the object and the part of it that has the names, for messages.
            header: the names in their order.

        Raises:
            SourceSchemaError: its drift is refused, or the line is no header.
        """
        told = self.take(thing, header, compare_header(self._table, header)).told
        names = {column.in_source: column.name for column in told.columns}
        return [names.get(name, f"\0{n}") for n, name in enumerate(header)]

    def take(self, thing: str, header: Sequence[str], compared: Comparison) -> Comparison:
        """One object's comparison with the spec, which is answered.

        Args:
            thing: the object and the part of it that has the names, for messages.
            header: the names in their order.
            compared: what they differ in.

        Raises:
            SourceSchemaError: its drift is refused, a name stands twice, or it does not go together with the objects
                before it.
        """
        expected = ", ".join(column.in_source for column in self._table.columns)
        problem = f"{thing}: {', '.join(header)[:200] or '(none)'}; expected {expected}"
        if not header or len(set(header)) != len(header):
            raise SourceSchemaError(
                f"{problem}.", **self._where, remedy="correct the object's header: each name once, in its first line"
            )
        self._findings = merged([*self._findings, *compared.findings])
        if compared.refusals:
            refuse(self._lake, self._raw, self._key, compared.findings, problem=problem, where=self._where)
        for column in compared.lake.columns:
            self._stored[column.name] = self._together(column, thing)
        self._told |= {column.name: column for column in (*compared.lake.columns, *compared.told.columns)}
        self._suspects |= {(suspect.kind, suspect.column.name): suspect for suspect in compared.suspects}
        return compared

    def _together(self, column: ColumnSpec, thing: str) -> ColumnSpec:
        """A column that holds the values of this object and of those before it."""
        before = self._stored.get(column.name, column)
        if before.type == column.type:
            return column
        common = common_type(before.type, column.type)
        if common is None:
            raise SourceSchemaError(
                f"{thing}: column {column.name} is {column.type} here and {before.type} in another object.",
                **self._where,
                remedy="make the objects of one interval alike, or declare the column",
            )
        return column.model_copy(update={"type": common})

    def nulls(self, counts: Mapping[str, int]) -> None:
        """What the rows say: how many nulls each column has that is declared without.

        Raises:
            SourceSchemaError: there are some, and the spec refuses them.
        """
        policy = self._table.on_drift.nullability
        found = [self._null(name, n, policy) for name, n in counts.items() if n]
        self._findings = merged([*self._findings, *found])
        if found and policy == "reject":
            refuse(
                self._lake,
                self._raw,
                self._key,
                self._findings,
                problem="The objects differ from their spec",
                where=self._where,
            )

    def finish(self) -> None:
        """Say that there is no more. Side effects: drift from which something follows is logged."""
        for warning in self.warnings:
            _LOG.warning("%s %s: %s", self._raw, self._key, warning)

    def _null(self, name: str, rows: int, policy: str) -> Finding:
        column = self._told[name]
        if policy == "quarantine":
            reason = "is null, declared 'nullable: false'"
            self._suspects["nullability", name] = Suspect("nullability", column, column.type, reason)
        return Finding(
            "nullability",
            name,
            "nullable: false",
            "nullable: true",
            f"{column.in_source} holds {rows} nulls, declared 'nullable: false'",
            policy,
            "refused" if policy == "reject" else "quarantined" if policy == "quarantine" else "nothing to do",
            remedy="correct the objects, or set on_drift: {nullability: quarantine}",
        )

    def _with(self, columns: Mapping[str, ColumnSpec]) -> TableSpec:
        return self._table.model_copy(update={"columns": tuple(columns.values())})


def compare_header(table: TableSpec, header: Sequence[str]) -> Comparison:
    """A header against the spec; every text fits every column, as far as a header can tell."""
    return compare(table, [Observed(name) for name in header], fit=lambda _observed, _column: "exact")


def compare_keys_of_records(table: TableSpec, seen: Sequence[str]) -> tuple[Comparison, list[str]]:
    """The keys of an object's JSON records against the spec, and the columns that none of them has.

    A key that is missing is null, so a column that may be null is not gone because a day has no value for it: that is
    drift only where the spec says so, by a policy of its own for ``dropped`` or ``renamed``. The order of keys means
    nothing.
    """
    missing = [column.in_source for column in table.columns if column.in_source not in seen and column.nullable]
    said = table.on_drift.model_fields_set & {"dropped", "renamed"}
    policies = table.on_drift.model_copy(update={"reordered": "evolve"})
    table = table.model_copy(update={"on_drift": policies})
    absent = [] if said else missing
    compared = compare_header(table, [*seen, *absent])
    if "dropped" not in said:
        gone = {finding.column for finding in compared.findings if finding.kind == "dropped"}
        absent += [name for name in missing if name in {c.in_source for c in table.columns if c.name in gone}]
        compared = compare_header(table, [*seen, *absent])
    findings = tuple(finding for finding in compared.findings if finding.kind != "reordered")
    return replace(compared, findings=findings), absent
