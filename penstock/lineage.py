"""The graph that the lineage events make: from a source's columns to the marts, and back.

Of every table the newest event that says how it was made counts; what an older one said is history. Nodes are tables
and columns; an edge says that values are computed from a column, or that a column decides which rows there are (a
filter, a join, a group).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from common.errors import StateCorrupt, UnknownName
from common.files import write_atomic
from common.settings import Settings
from lake.paths import lineage_folder
from lake.storage import Storage
from penstock.lineage_events import NAMESPACE

_LOG = logging.getLogger(__name__)

Direction = Literal["upstream", "downstream"]
Column = tuple[str, str]
"""A table and one of its columns."""


@dataclass(frozen=True)
class TableNode:
    """One table.

    Attributes:
        name: ``refined.flights`` for our own, ``<namespace>/<name>`` for a source's.
        columns: column -> its type; of a source, the columns that are read, with an empty type.
        made_of: column -> the columns its values are computed from.
        deciding: columns that decide which rows it has.
        reads: tables it was made from.
        job: what made it last; empty for a source.
        at: when, UTC, ISO 8601; empty for a source.
    """

    name: str
    columns: Mapping[str, str]
    made_of: Mapping[str, frozenset[Column]] = field(default_factory=dict)
    deciding: frozenset[Column] = frozenset()
    reads: frozenset[str] = frozenset()
    job: str = ""
    at: str = ""


@dataclass(frozen=True)
class Reached:
    """A table that a walk came to.

    Attributes:
        table: its name.
        depth: steps from where the walk began.
        via: the table one step nearer to the beginning.
        columns: of its columns, those that were reached by value.
        rows: whether what the walk began with decides which rows it has (downstream), or is decided by it (upstream).
    """

    table: str
    depth: int
    via: str
    columns: tuple[str, ...] = ()
    rows: bool = False


class Graph:
    """All tables that events tell of."""

    def __init__(self, tables: Mapping[str, TableNode]) -> None:
        self.tables = dict(tables)

    def find(self, name: str) -> tuple[str, str | None]:
        """The table, and the column if one is named, that a person means by a name.

        Args:
            name: ``refined.flights``, ``fct_flights.is_cancelled``, the end of a source table's name.

        Raises:
            UnknownName: nothing, or more than one thing, is called so.
        """
        for table, column in ((name, None), *([tuple(name.rsplit(".", 1))] if "." in name else [])):
            found = [each for each in self.tables if each == table or each.endswith((f".{table}", f"/{table}"))]
            exact = [each for each in found if each in {table, f"warehouse.{table}"}] or found
            if len(exact) > 1:
                raise UnknownName(f"{table!r} may be any of {', '.join(exact)}.", remedy="write more of the name")
            if exact and (column is None or column in self.tables[exact[0]].columns):
                return exact[0], column
            if exact:
                known = ", ".join(self.tables[exact[0]].columns)
                raise UnknownName(f"{exact[0]} has no column {column!r}.", table=exact[0], remedy=f"use one of {known}")
        raise UnknownName(
            f"No lineage event names {name!r}.",
            remedy=f"run its tables first; known are {', '.join(sorted(self.tables)) or 'none yet'}",
        )

    def walk(self, table: str, column: str | None, direction: Direction) -> list[Reached]:
        """Every table that can be reached from a table or a column, the nearest first.

        A column leads to the columns that are computed from it (or that it is computed from). Where it decides which
        rows a table has, it leads to that table as a whole.

        Args:
            table: where to begin.
            column: one of its columns; None for the whole table.
            direction: against or with the flow of the rows.
        """
        step = self._above if direction == "upstream" else self._below
        seen = {(table, column)}
        frontier, found = [(table, column)], dict[str, Reached]()
        depth = 0
        while frontier:
            depth += 1
            following = []
            for here in frontier:
                for node in sorted(step(*here), key=str):
                    if node not in seen and (node[0], None) not in seen and node[0] != table:
                        seen.add(node)
                        following.append(node)
                        found[node[0]] = _with(found.get(node[0]), node, depth, here[0])
            frontier = following
        return sorted(found.values(), key=lambda reached: (reached.depth, reached.table))

    def _above(self, table: str, column: str | None) -> Iterator[tuple[str, str | None]]:
        node = self.tables[table]
        if column is None:
            yield from ((each, None) for each in node.reads)
            return
        yield from node.made_of.get(column, ())

    def _below(self, table: str, column: str | None) -> Iterator[tuple[str, str | None]]:
        for node in self.tables.values():
            if column is None:
                if table in node.reads:
                    yield node.name, None
                continue
            if (table, column) in node.deciding:
                yield node.name, None
            for name, sources in node.made_of.items():
                if (table, column) in sources:
                    yield node.name, name


def _with(before: Reached | None, node: tuple[str, str | None], depth: int, via: str) -> Reached:
    table, column = node
    before = before or Reached(table, depth, via)
    if column is None:
        return Reached(table, before.depth, before.via, before.columns, rows=True)
    return Reached(table, before.depth, before.via, tuple(sorted({*before.columns, column})), before.rows)


def graph_of(settings: Settings) -> Graph:
    """The graph of all that was told: on this machine, and of a lake on S3 by every other one.

    Raises:
        StateCorrupt: see :func:`read_graph`; or an event in the lake is damaged.
    """
    shared: list[Mapping[str, Any]] = []
    if "://" in settings.lake_uri:
        storage = Storage(settings)
        shared = [storage.read_json(path) for path in storage.list_files(lineage_folder(settings.lake_uri))]
    return read_graph(settings.home / "lineage", shared)


def read_graph(folder: Path, shared: Iterable[Mapping[str, Any]] = ()) -> Graph:
    """The graph of all events in a folder's files, and of others.

    Args:
        folder: ``<home>/lineage``.
        shared: events from elsewhere.

    Raises:
        StateCorrupt: a line that is not the last of its file is no event.
    """
    tables = {name: _table(name, event, output) for name, (event, output) in _newest(folder, shared).items()}
    sources: dict[str, dict[str, str]] = {}
    for node in tables.values():
        for name in node.reads - tables.keys():
            sources.setdefault(name, {})
        for table, column in frozenset[Column]().union(node.deciding, *node.made_of.values()):
            if table not in tables:
                sources.setdefault(table, {})[column] = ""
    return Graph({name: TableNode(name, dict(sorted(columns.items()))) for name, columns in sources.items()} | tables)


def drop_replaced(folder: Path, *, before: str, dry_run: bool = False) -> dict[Path, int]:
    """Take out of the files of old months what no graph is made of any more.

    Of each table the newest ``COMPLETE`` stays, in whichever month it was told; so the graph is the same before and
    after, and at any moment between. Files of months in which nobody writes any more are written anew at once, or
    removed where nothing of them stays.

    Args:
        folder: ``<home>/lineage``.
        before: ``YYYY-MM``, the first month that is left alone. Nobody may write to an earlier one any more.
        dry_run: change nothing.

    Returns:
        File -> bytes given back, of files that are or would be changed.

    Raises:
        StateCorrupt: see :func:`read_graph`.
    """
    old = [path for path in sorted(folder.glob("*.ndjson")) if path.stem < before]
    kept = {_id(event) for event, _ in _newest(folder).values()} if old else set()
    given: dict[Path, int] = {}
    for path in old:
        lines = path.read_bytes().splitlines(keepends=True)
        stay = b"".join(line for line, event in zip(lines, _events(path), strict=False) if _id(event) in kept)
        size_bytes = sum(map(len, lines)) - len(stay)
        if not size_bytes:
            continue
        given[path] = size_bytes
        if not dry_run and stay:
            write_atomic(path, stay)
        elif not dry_run:
            path.unlink(missing_ok=True)
    return given


def _id(event: Mapping[str, Any]) -> tuple[str, str, str]:
    return event["run"]["runId"], event["eventType"], event["eventTime"]


def _newest(
    folder: Path, shared: Iterable[Mapping[str, Any]] = ()
) -> dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Table -> its newest ``COMPLETE``, and what that says of it."""
    newest: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
    for event in chain(_told(folder), shared):
        for output in event["outputs"] if event["eventType"] == "COMPLETE" else ():
            name = _name(output)
            if name not in newest or newest[name][0]["eventTime"] <= event["eventTime"]:
                newest[name] = (event, output)
    return newest


def _told(folder: Path) -> Iterator[Mapping[str, Any]]:
    """All events, the oldest month first: what is taken out of an old file was told anew in one that is read later."""
    seen: set[Path] = set()
    while unseen := sorted({*folder.glob("*.ndjson")} - seen):
        for path in unseen:
            with suppress(FileNotFoundError):  # nothing of it stayed
                yield from _events(path)
        seen.update(unseen)


def _events(path: Path) -> Iterator[Mapping[str, Any]]:
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            yield json.loads(line)
        except ValueError:
            if number == len(lines):  # its writer was killed, or is at work
                _LOG.warning("%s: the last line is not whole and is left out", path)
                continue
            raise StateCorrupt(
                f"{path}:{number} is no lineage event.", remedy="remove that line; the next run tells anew"
            ) from None


def _table(name: str, event: Mapping[str, Any], output: Mapping[str, Any]) -> TableNode:
    facets = output["facets"]
    lineage = facets["columnLineage"]
    made_of = {
        column: frozenset((_name(each), each["field"]) for each in of["inputFields"])
        for column, of in lineage["fields"].items()
    }
    return TableNode(
        name,
        {each["name"]: each["type"] for each in facets["schema"]["fields"]},
        made_of,
        frozenset((_name(each), each["field"]) for each in lineage["dataset"]),
        frozenset(_name(each) for each in event["inputs"]),
        event["job"]["name"],
        event["eventTime"],
    )


def _name(dataset: Mapping[str, Any]) -> str:
    own = dataset["namespace"] == NAMESPACE
    return str(dataset["name"]) if own else f"{dataset['namespace']}/{dataset['name']}"
