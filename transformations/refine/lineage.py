"""Which raw columns each column of a refined table is made of, read off the plan that Polars makes of its function.

::

    function(**frames) -> lazy plan -> walk it from the files up -> {column: raw columns}

Nothing is run and nothing is declared, so it cannot go stale: whoever changes the function changes its lineage. Polars
shows its optimized plan to other engines by ``NodeTraverser`` (the door that cudf-polars uses); it is no public
interface, so Polars is pinned and a test walks every kind of node. A node of a kind that is not known here makes every
column depend on everything below it: too much is said then, never too little.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from transformations.column_lineage import ColumnLineage, Source
from transformations.refine.model import RefinedTable

_Columns = dict[str, frozenset[Source]]

_PASSES = frozenset({"Cache", "Distinct", "Sort", "Slice", "HConcat", "MergeSorted"})
"""Nodes that make no column of their own."""


def lineage_of(table: RefinedTable, frames: Mapping[str, pl.LazyFrame]) -> ColumnLineage:
    """The lineage of one refined table.

    Args:
        table: what to look at.
        frames: its inputs by argument name. They should hold rows: a function may look into its reference inputs to
            decide what to do, so that its plan without rows is another one.

    Raises:
        polars.exceptions.PolarsError: an input cannot be read, or lacks a column.
    """
    walked = _Walk(table, frames).all()
    wanted = [column.name for column in table.columns]
    return ColumnLineage({name: walked.columns.get(name, frozenset()) for name in wanted}, walked.deciding)


class _Walk:
    """One walk over one plan, from its scans up."""

    def __init__(self, table: RefinedTable, frames: Mapping[str, pl.LazyFrame]) -> None:
        self._nodes: Any = table.function(**frames)._ldf.visit()  # noqa: SLF001 - see the module
        inputs = {**table.inputs, **table.reference_inputs}
        self._columns = {inputs[name]: set(frame.collect_schema().names()) for name, frame in frames.items()}
        self._paths = {path: inputs[name] for name, frame in frames.items() for path in _paths(frame)}
        self._deciding: set[Source] = set()

    def all(self) -> ColumnLineage:
        """Of each column of the result, and of its rows."""
        return ColumnLineage(self._node(self._nodes.get_node()), frozenset(self._deciding))

    def _node(self, number: int) -> _Columns:
        self._nodes.set_node(number)
        inputs, schema = list(self._nodes.get_inputs()), list(self._nodes.get_schema())
        below = [self._node(each) for each in inputs]
        self._nodes.set_node(number)
        known = _merged(below)
        try:
            node, expressions = self._nodes.view_current_node(), list(self._nodes.get_exprs())
        except NotImplementedError:  # a function of Python
            return dict.fromkeys(schema, _everything(known))
        kind = type(node).__name__
        if kind in {"Scan", "DataFrameScan"}:
            scanned = self._scanned(node, kind, schema)
            self._decide(scanned, expressions)  # a filter that was pushed down into it
            return scanned
        if kind == "Join":
            return self._join(node, below, schema)
        if kind in {"Select", "HStack"}:
            made = {each.output_name: self._sources(each.node, known) for each in expressions}
            return {name: made[name] if name in made else known[name] for name in schema}
        if kind == "GroupBy":
            made = {each.output_name: self._sources(each.node, known) for each in [*node.keys, *node.aggs]}
            self._decide(known, node.keys)
            return {name: made[name] for name in schema}
        if kind in {"Filter", *_PASSES}:
            self._decide(known, expressions)
        if kind in {"Filter", "SimpleProjection", "Union", *_PASSES}:
            return {name: known[name] for name in schema}
        return dict.fromkeys(schema, _everything(known))

    def _scanned(self, node: Any, kind: str, schema: list[str]) -> _Columns:
        """A scan's columns. A frame that the function has collected on its way is told by the columns it has."""
        if kind == "Scan":
            tables = {self._paths[path] for path in map(str, node.paths) if path in self._paths}
        else:
            tables = {table for table, columns in self._columns.items() if columns.issuperset(schema)}
        tables = tables or set(self._columns)
        return {
            name: frozenset((table, name) for table in tables if name in self._columns[table])
            or frozenset((table, column) for table in tables for column in self._columns[table])
            for name in schema
        }

    def _join(self, node: Any, below: list[_Columns], schema: list[str]) -> _Columns:
        left, right = below
        self._decide(left, node.left_on)
        self._decide(right, node.right_on)
        suffix = node.options[3]
        found = {}
        for name in schema:
            bare = name.removesuffix(suffix)
            found[name] = left[name] if name in left else right[name] if name in right else right[bare]
        return found

    def _decide(self, known: _Columns, expressions: list[Any]) -> None:
        for each in expressions:
            self._deciding |= self._sources(each.node, known)

    def _sources(self, number: int, known: _Columns) -> frozenset[Source]:
        try:
            names = set(self._column_names(number))
        except NotImplementedError:  # a function of Python
            return _everything(known)
        return frozenset[Source]().union(*(known[name] for name in names))

    def _column_names(self, number: int) -> Iterator[str]:
        expression = self._nodes.view_expression(number)
        if type(expression).__name__ == "Column":
            yield expression.name
            return
        for name in dir(expression):
            if name.startswith("_") or name in {"options", "dtype", "value", "function_data", "op", "name"}:
                continue
            value = getattr(expression, name)
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, int) and not isinstance(child, bool):
                    yield from self._column_names(child)


def _everything(known: _Columns) -> frozenset[Source]:
    return frozenset[Source]().union(*known.values())


def _merged(below: list[_Columns]) -> _Columns:
    merged: _Columns = {}
    for columns in below:
        for name, sources in columns.items():
            merged[name] = merged.get(name, frozenset()) | sources
    return merged


def _paths(frame: pl.LazyFrame) -> list[str]:
    """Files of a frame that is a scan of files; empty for others."""
    nodes: Any = frame._ldf.visit()  # noqa: SLF001
    node = nodes.view_current_node()
    return [str(path) for path in node.paths] if type(node).__name__ == "Scan" else []
