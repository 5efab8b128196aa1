"""How much a GraphQL document may ask for, counted before anything of it is validated or done.

::

    text ─▶ tokens ─▶ parsed ─▶ depth, aliases, cost of what it selects ─▶ validation and answer

A short document can ask for very much: by nesting, by aliases of one field, by fragments that hold fragments. Each
fragment is counted once and its figures are used wherever it stands, so the counting itself stays small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    parse,
)

from warehouse.serve.problems import Problem
from warehouse.serve.query import MAX_PAGE_ROWS

MAX_TOKENS = 2000
MAX_DEPTH = 10
MAX_ALIASES = 30
MAX_COST = 2000
"""1 a field; 10 and one more per 100 rows for each question to a dataset; of a list as often as it has entries."""

_QUESTION = 10
_ROWS_PER_COST = 100
_DEFAULT_LIMIT = {"rows": 100, "aggregate": 1000, "metric": 1000}


@dataclass(frozen=True)
class _Size:
    """Depth, aliases and cost of a part of a document."""

    depth: int = 0
    aliases: int = 0
    cost: int = 0


@dataclass
class _Counter:
    fragments: Mapping[str, FragmentDefinitionNode]
    variables: Mapping[str, Any]
    entries: Mapping[str, int]
    known: dict[str, _Size] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)

    def of(self, selected: SelectionSetNode | None) -> _Size:
        depth, aliases, cost = 0, 0, 0
        for each in selected.selections if selected else ():
            if isinstance(each, FieldNode):
                size = self._field(each)
            elif isinstance(each, InlineFragmentNode):
                size = self.of(each.selection_set)
            elif isinstance(each, FragmentSpreadNode):
                size = self._fragment(each.name.value)
            depth, aliases, cost = max(depth, size.depth), aliases + size.aliases, cost + size.cost
        return _Size(depth, aliases, cost)

    def _field(self, node: FieldNode) -> _Size:
        inner, name = self.of(node.selection_set), node.name.value
        own = 1
        if name in _DEFAULT_LIMIT:
            own += _QUESTION + self._limit(node) // _ROWS_PER_COST
        times = self.entries.get(name, 1)
        depth = 1 if name.startswith("__") else 1 + inner.depth  # of introspection a rule of validation sees to it
        return _Size(depth, (node.alias is not None) + inner.aliases, own + times * inner.cost)

    def _limit(self, node: FieldNode) -> int:
        for argument in node.arguments or ():
            if argument.name.value == "limit":
                value: Any = argument.value
                if isinstance(value, VariableNode):
                    value = self.variables.get(value.name.value, _DEFAULT_LIMIT[node.name.value])
                elif isinstance(value, IntValueNode) and len(value.value) < 10:
                    value = int(value.value)
                return min(max(value, 0), MAX_PAGE_ROWS) if isinstance(value, int) else MAX_PAGE_ROWS
        return _DEFAULT_LIMIT[node.name.value]

    def _fragment(self, name: str) -> _Size:
        if name not in self.known:
            fragment = self.fragments.get(name)
            if fragment is None or name in self.open:
                return _Size()  # validation refuses it
            self.open.add(name)
            self.known[name] = self.of(fragment.selection_set)
            self.open.discard(name)
        return self.known[name]


def measure(query: str, operation: str | None, variables: Mapping[str, Any], entries: Mapping[str, int]) -> None:
    """See that a document asks for no more than is allowed.

    Args:
        query: its text.
        operation: which of its operations is meant.
        variables: values of its variables.
        entries: fields that are lists: how many entries they have.

    Raises:
        Problem: ``bad_query``, ``query_too_large``.
    """
    try:
        document = parse(query, no_location=True, max_tokens=MAX_TOKENS)
    except (GraphQLError, RecursionError) as error:
        said = error.message if isinstance(error, GraphQLError) else "It is nested too deeply."
        raise Problem("bad_query", said[:300], remedy="correct the document") from None
    fragments = {each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)}
    counter = _Counter(fragments, variables, entries)
    operations = [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
    if operation is None and len(operations) > 1:
        raise Problem("bad_query", "It has several operations.", remedy="say which: operationName")
    for each in operations:
        size = counter.of(each.selection_set)
        for said, found, most in (
            ("levels", size.depth, MAX_DEPTH),
            ("aliases", size.aliases, MAX_ALIASES),
            ("points of cost", size.cost, MAX_COST),
        ):
            if found > most:
                raise Problem(
                    "query_too_large",
                    f"The document has more than {most:,} {said}.",
                    remedy="ask for less, in several requests",
                )
