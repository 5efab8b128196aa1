"""Lineage for people: trees against and with the flow of the rows, and a table of what a change would touch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.tree import Tree

from penstock.cli_options import print_json
from penstock.lineage import Direction, Graph, Reached
from penstock.show import console, print_table, say

_TITLES: dict[Direction, str] = {"upstream": "is made of", "downstream": "goes into"}


def show_graph(graph: Graph, *, as_json: bool) -> None:
    """Every table with the tables it was made from."""
    rows = [
        {"table": node.name, "columns": len(node.columns), "made of": ", ".join(sorted(node.reads)), "told at": node.at}
        for node in sorted(graph.tables.values(), key=lambda node: (node.at != "", node.name))
    ]
    if as_json:
        print_json(rows)
    elif rows:
        print_table("Lineage", rows, ("table", "columns", "made of", "told at"))
        say("One table or column: penstock lineage <name>; a picture: penstock lineage --picture lineage.svg")
    else:
        say("There are no lineage events yet; every run tells them.")


def show_walks(
    graph: Graph, table: str, column: str | None, walks: Mapping[Direction, Sequence[Reached]], *, as_json: bool
) -> None:
    """Trees of what a table or column is made of and goes into."""
    if as_json:
        print_json(_document(table, column, walks))
        return
    for direction, found in walks.items():
        start = table if column is None else f"{table}.{column}"
        if not found:
            say(f"{start} {_TITLES[direction]} nothing that is known.")
            continue
        tree = Tree(f"{escape(start)} {_TITLES[direction]}")
        branches = {table: tree}
        for reached in found:
            branches[reached.table] = branches[reached.via].add(_label(reached, whole=column is None))
        console().print(tree)
    if column is not None and "upstream" in walks:
        decided = sorted(graph.tables[table].deciding)
        if decided:
            say(f"Which rows {table} has is decided by: {', '.join(f'{each}.{name}' for each, name in decided)}")


def show_impact(table: str, column: str | None, found: Sequence[Reached], *, as_json: bool) -> None:
    """What a change would touch, the nearest first."""
    if as_json:
        print_json(_document(table, column, {"downstream": found}))
        return
    start = table if column is None else f"{table}.{column}"
    if not found:
        say(f"Nothing that is known is made of {start}.")
        return
    rows = [
        {
            "steps": reached.depth,
            "table": reached.table,
            "columns": ", ".join(reached.columns),
            "rows": reached.rows and column is not None,
        }
        for reached in found
    ]
    columns = ("steps", "table") if column is None else ("steps", "table", "columns", "rows")
    print_table(f"What a change of {start} touches", rows, columns)
    if column is not None:
        say("columns: their values are computed from it; rows: it decides which rows there are")


def _label(reached: Reached, *, whole: bool) -> str:
    what = [", ".join(reached.columns)] if reached.columns else []
    what += ["its rows"] if reached.rows and not whole else []
    return escape(f"{reached.table}  ({'; '.join(what)})" if what else reached.table)


def _document(table: str, column: str | None, walks: Mapping[Direction, Sequence[Reached]]) -> dict[str, Any]:
    found: dict[str, Any] = {str(direction): [asdict(each) for each in reached] for direction, reached in walks.items()}
    return {"table": table, "column": column, **found}
