"""What the filter form of a dataset's page asks, as parameters of the HTTP API, and back into the form and into links.

::

    column=origin_code&operator=eq&value=JFK&sort=-flights ─▶ filter=origin_code:eq:JFK&sort=-flights
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from starlette.datastructures import QueryParams

OPERATORS = {
    "eq": "is",
    "ne": "is not",
    "lt": "is less than",
    "le": "is at most",
    "gt": "is more than",
    "ge": "is at least",
    "in": "is one of (by commas)",
    "starts_with": "starts with",
    "contains": "contains",
    "is_null": "is empty (true or false)",
}
"""The API's operators, in the form's words."""

LINES = 3
"""How many conditions the form has room for; an address may hold more."""

PAGE_ROWS = 20
"""Rows of one page."""


@dataclass(frozen=True)
class Condition:
    """One line of the form."""

    column: str
    operator: str
    value: str


@dataclass(frozen=True)
class Asked:
    """What the form asks.

    Attributes:
        conditions: those that name a column.
        sort: of the API, such as ``-flights``; empty for none.
    """

    conditions: tuple[Condition, ...] = ()
    sort: str = ""

    @classmethod
    def of(cls, query: QueryParams) -> Asked:
        """What stands in an address."""
        lines = zip(query.getlist("column"), query.getlist("operator"), query.getlist("value"), strict=False)
        found = (
            Condition(column, operator, value.strip() or ("true" if operator == "is_null" else ""))
            for column, operator, value in lines
            if column
        )
        column = query.get("sort", "")
        return cls(tuple(found), f"-{column}" if column and query.get("order") == "down" else column)

    @property
    def filters(self) -> list[str]:
        """Parameters ``filter`` of the API."""
        return [f"{each.column}:{each.operator}:{each.value}" for each in self.conditions]

    @property
    def api(self) -> list[tuple[str, str]]:
        """Parameters of the API."""
        return [("filter", each) for each in self.filters] + ([("sort", self.sort)] if self.sort else [])

    @property
    def lines(self) -> list[Condition]:
        """Lines of the form, empty ones for more."""
        empty = [Condition("", "eq", "")] * max(1, LINES - len(self.conditions))
        return [*self.conditions, *empty]

    def address(self, path: str, more: Sequence[tuple[str, str]] = ()) -> str:
        """A link to a path, not quoted yet, that asks the same."""
        pairs = [
            pair
            for each in self.conditions
            for pair in (("column", each.column), ("operator", each.operator), ("value", each.value))
        ]
        if self.sort:
            pairs += [("sort", self.sort.removeprefix("-")), ("order", "down" if self.sort.startswith("-") else "up")]
        pairs += more
        return quote(path) + (f"?{urlencode(pairs)}" if pairs else "")
