"""Pictures of the lineage around a dataset, of no more tables than its reader may know of."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from common.settings import Settings
from penstock.kept import Kept
from penstock.portal.render import table_name

if TYPE_CHECKING:
    from penstock.lineage import Graph

KEPT_S = 30.0
"""How long the lineage events that were read are used again, in s."""


class LineagePictures:
    """Draws from the lineage events; safe to use from many threads.

    Args:
        settings: where the events are.
        clock: monotonic time in s.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._kept = Kept(KEPT_S, clock)

    def are_told(self, dataset: str, around: Iterable[str]) -> bool:
        """Whether there is a picture: events tell of the dataset and of one more of these tables."""
        return len(self._wanted(dataset, around)) > 1

    def draw(self, dataset: str, around: Iterable[str]) -> str:
        """The SVG text of a dataset and these tables, if events tell of them.

        Args:
            dataset: the dataset.
            around: tables it is made of, or that are made of it, and that may be named.
        """
        from penstock.lineage import Graph
        from penstock.lineage_picture import draw

        tables, wanted = self._graph().tables, self._wanted(dataset, around)
        nodes = [
            replace(tables[name], name=_told(name), reads=frozenset(map(_told, tables[name].reads & wanted)))
            for name in wanted
        ]
        return draw(Graph({node.name: node for node in nodes}))

    def _wanted(self, dataset: str, around: Iterable[str]) -> frozenset[str]:
        return frozenset({dataset, f"warehouse.{dataset}", *around} & self._graph().tables.keys())

    def _graph(self) -> Graph:
        from penstock.lineage import graph_of

        return self._kept.get("lineage", lambda: graph_of(self._settings))


def _told(name: str) -> str:
    """A table's name in the picture, which tells its stage by what stands before the dot."""
    return table_name(name) if "/" in name else name
