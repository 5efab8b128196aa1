"""Commands that answer from the lineage events: what is made of what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli_options import Json, load_settings

Name = Annotated[
    str,
    typer.Argument(help="A table, or a column of it: 'fct_flights', 'refined.flights.departed_at', 'public.flights'."),
]


def lineage(
    name: Annotated[
        str | None, typer.Argument(help="A table or a column: 'fct_flights', 'refined.flights.departed_at'.")
    ] = None,
    upstream: Annotated[bool, typer.Option("--upstream", help="Only what it is made of.")] = False,
    downstream: Annotated[bool, typer.Option("--downstream", help="Only what is made of it.")] = False,
    picture: Annotated[Path | None, typer.Option("--picture", help="Write the whole graph to this SVG file.")] = None,
    as_json: Json = False,
) -> None:
    """What a table or column is made of, and what is made of it; without a name, every table with its inputs."""
    from common.errors import UsageError
    from common.files import write_atomic
    from penstock.lineage import Direction, graph_of
    from penstock.show import say
    from penstock.show_lineage import show_graph, show_walks

    graph = graph_of(load_settings())
    if picture is not None:
        if not graph.tables:
            raise UsageError("There are no lineage events yet.", remedy="run something first: penstock run")
        from penstock.lineage_picture import draw

        write_atomic(picture, draw(graph))
        say(f"The graph of {len(graph.tables)} tables is in {picture}.")
        return
    if name is None:
        show_graph(graph, as_json=as_json)
        return
    table, column = graph.find(name)
    wanted: list[Direction] = ["upstream"] if upstream and not downstream else ["downstream"]
    if upstream == downstream:
        wanted = ["upstream", "downstream"]
    show_walks(graph, table, column, {each: graph.walk(table, column, each) for each in wanted}, as_json=as_json)


def impact(name: Name, as_json: Json = False) -> None:
    """What a change of a table or column would touch: tables, columns, and tables whose rows it decides."""
    from penstock.lineage import graph_of
    from penstock.show_lineage import show_impact

    graph = graph_of(load_settings())
    table, column = graph.find(name)
    show_impact(table, column, graph.walk(table, column, "downstream"), as_json=as_json)


COMMANDS = (lineage, impact)
