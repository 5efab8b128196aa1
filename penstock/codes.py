"""Suites of tables, and digests of what decides how their rows are made: worked out once for each pipeline.

They are kept in the object and not by ``functools.cache``, which would keep every pipeline with its engines and
connections for as long as the process lives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import penstock
from common.hashing import digest
from common.settings import Settings
from ingestion.spec import SourceSpec, TableSpec
from lake.paths import TableId

if TYPE_CHECKING:
    from quality.suite import Suite

_Key = TypeVar("_Key")
_Made = TypeVar("_Made")


class Codes:
    """What is known of each table's making.

    Args:
        settings: where suites are.
        sources: specs by name.
    """

    def __init__(self, settings: Settings, sources: Mapping[str, SourceSpec]) -> None:
        self._settings, self._sources = settings, sources
        self._suites: dict[TableId, Suite] = {}
        self._digests: dict[object, str] = {}

    def suite(self, table: TableId) -> Suite:
        """The effective suite of a table: its file and what is derived (``penstock/suites.py``)."""
        from penstock.suites import effective_suite

        return _once(self._suites, table, lambda: effective_suite(self._settings, self._sources, table))

    def ingest_code(self, spec: SourceSpec, table: TableSpec) -> str:
        """Digest of what decides how a table's rows are read and judged: a batch of another code is not the same."""

        def make() -> str:
            suite = self.suite(spec.raw(table.name)).model_dump(mode="json")
            return digest(
                penstock.__version__, table.model_dump(mode="json", exclude={"events"}), spec.time_zone, suite
            )

        return _once(self._digests, (spec.source, table.name), make)

    def refine_code(self, name: str) -> str:
        """Digest of what decides how a refined table is made and judged."""
        from transformations.refine.stage import code_of_functions

        def make() -> str:
            suite = self.suite(TableId("refined", name)).model_dump(mode="json")
            return digest(penstock.__version__, *code_of_functions(), suite)

        return _once(self._digests, name, make)


def _once(known: dict[_Key, _Made], key: _Key, make: Callable[[], _Made]) -> _Made:
    if key not in known:
        known[key] = make()
    return known[key]
