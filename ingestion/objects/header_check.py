"""The columns of a batch's objects against the spec: each header is compared, the batch's drift is theirs together.

Text has no types, so a widened, narrowed or flipped column shows itself only in values that do not convert; those rows
go to quarantine one by one, under the rule ``exact_value``, whatever the policy. Neither has it keys. That a column
allows nulls shows itself in nulls.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import SourceSchemaError
from ingestion.drift import Comparison, Finding, Observed, Suspect, compare, merged, refuse, warnings_of
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

    def check(self, thing: str, header: Sequence[str], *, follows: bool = True) -> list[str]:
        """One object's columns; answers their names among those of :attr:`told`.

        Columns that are not read get names that no column has.

        Args:
            thing: the object and the part of it that has the names, for messages.
            header: the names in their order.
            follows: whether its reader can follow a drift; if not, what is not ignored is refused.

        Raises:
            SourceSchemaError: its drift is refused, or the line is no header.
        """
        expected = ", ".join(column.in_source for column in self._table.columns)
        shown = ", ".join(header)[:200] or "(none)"
        problem = f"{thing}: {shown}; expected {expected}"
        if not header or len(set(header)) != len(header):
            raise SourceSchemaError(
                f"{problem}.", **self._where, remedy="correct the object's header: each name once, in its first line"
            )
        compared = compare_header(self._table if follows else _unfollowed(self._table), header)
        self._findings = merged([*self._findings, *compared.findings])
        if compared.refusals:
            refuse(self._lake, self._raw, self._key, compared.findings, problem=problem, where=self._where)
        self._stored |= {column.name: column for column in compared.lake.columns}
        self._told |= {column.name: column for column in (*compared.lake.columns, *compared.told.columns)}
        self._suspects |= {(suspect.kind, suspect.column.name): suspect for suspect in compared.suspects}
        names = {column.in_source: column.name for column in compared.told.columns}
        return [names.get(name, f"\0{n}") for n, name in enumerate(header)]

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


def _unfollowed(table: TableSpec) -> TableSpec:
    """The table for a reader that cannot follow: of what would need it, everything is refused."""
    added = "ignore" if table.on_drift.added == "ignore" else "reject"
    policies = table.on_drift.model_copy(update={"added": added, "dropped": "reject", "renamed": "reject"})
    return table.model_copy(update={"on_drift": policies})
