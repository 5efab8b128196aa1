"""The lineage graph as an SVG file: sources on the left, marts on the right, an arrow for every step.

A table stands one column to the right of the last one it is made from, so that every arrow points to the right.
"""

from __future__ import annotations

from html import escape
from itertools import pairwise

from penstock.lineage import Graph

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 250, 34, 90, 18, 20
_STAGES = ("raw", "refined", "warehouse")
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#0f172a}.small{font-size:10px;fill:#475569}"
    "path{fill:none;stroke:#94a3b8;stroke-width:1.4}.tip{fill:#94a3b8;stroke:none}rect{stroke:#64748b;stroke-width:1}"
    ".ground{fill:#fff;stroke:none}.source{fill:#f1f5f9}.raw{fill:#dbeafe}.refined{fill:#dcfce7}.warehouse{fill:#fef3c7}"
    "@media(prefers-color-scheme:dark){text{fill:#e7edf3}.small{fill:#9eacba}.ground{fill:#171f27}.source{fill:#26313c}"
    ".raw{fill:#1c3350}.refined{fill:#17392a}.warehouse{fill:#3d3113}}"
)


def draw(graph: Graph) -> str:
    """The SVG text of a graph.

    Args:
        graph: at least one table.
    """
    columns = _columns(graph)
    tallest = max(len(column) for column in columns)
    places: dict[str, tuple[int, int]] = {}
    for number, column in enumerate(columns):
        top = _MARGIN + (tallest - len(column)) * (_HEIGHT + _GAP_Y) // 2
        for row, name in enumerate(column):
            places[name] = (_MARGIN + number * (_WIDTH + _GAP_X), top + row * (_HEIGHT + _GAP_Y))
    width = 2 * _MARGIN + len(columns) * (_WIDTH + _GAP_X) - _GAP_X
    height = 2 * _MARGIN + tallest * (_HEIGHT + _GAP_Y) - _GAP_Y
    arrows = [
        _arrow(places[above], places[name])
        for name in sorted(graph.tables)
        for above in sorted(graph.tables[name].reads)
    ]
    boxes = [_box(name, *places[name]) for name in sorted(graph.tables)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="Lineage of {len(boxes)} tables"><style>{_STYLE}</style>'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>'
        f'<rect class="ground" width="{width}" height="{height}"/>'
        f"{''.join(arrows)}{''.join(boxes)}</svg>\n"
    )


def _columns(graph: Graph) -> list[list[str]]:
    """Tables by the number of steps from the farthest source; in each, those with the same neighbours side by side."""
    depths: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in depths:
            depths[name] = 0  # a table that is made from itself ends here
            depths[name] = max((depth(each) + 1 for each in graph.tables[name].reads if each != name), default=0)
        return depths[name]

    columns: list[list[str]] = [[] for _ in range(1 + max(depth(name) for name in graph.tables))]
    for name in sorted(graph.tables):
        columns[depths[name]].append(name)
    for before, column in pairwise(columns):
        places = {name: place for place, name in enumerate(before)}
        column.sort(key=lambda name: (_middle(graph.tables[name].reads, places), name))
    return columns


def _middle(names: frozenset[str], places: dict[str, int]) -> float:
    known = [places[name] for name in names if name in places]
    return sum(known) / len(known) if known else float(len(places))


def _box(name: str, x: int, y: int) -> str:
    stage, _, short = name.partition(".")
    own = stage in _STAGES
    head, label = (stage, short) if own else (name.rpartition("/")[0], name.rpartition("/")[2])
    return (
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="5" class="{stage if own else "source"}"/>'
        f'<text class="small" x="{x + 8}" y="{y + 12}">{escape(_cut(head, 44))}</text>'
        f'<text x="{x + 8}" y="{y + 27}">{escape(_cut(label, 32))}</text>'
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"…{text[1 - most :]}"


def _arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = start[0] + _WIDTH, start[1] + _HEIGHT // 2
    x2, y2 = end[0], end[1] + _HEIGHT // 2
    bend = _GAP_X * 2 // 3
    return f'<path d="M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}" marker-end="url(#tip)"/>'
