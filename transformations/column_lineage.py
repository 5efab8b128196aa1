"""What lineage of a table is, whoever reads it off what: the refined tables' plans, or the models' SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Source = tuple[str, str]
"""A table and one of its columns."""


@dataclass(frozen=True)
class ColumnLineage:
    """What a table is made of.

    Attributes:
        columns: column -> the columns whose values it is computed from; empty for a constant.
        deciding: columns that decide which rows there are and which belong together: of filters, joins, groups.
    """

    columns: Mapping[str, frozenset[Source]]
    deciding: frozenset[Source]

    @property
    def tables(self) -> frozenset[str]:
        """All tables that are read."""
        return frozenset(table for table, _ in self.deciding.union(*self.columns.values()))
