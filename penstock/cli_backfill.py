"""Commands about intervals: which are good, and how to fill those that are not."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli_options import Json, load_settings


def intervals(
    table: Annotated[
        list[str] | None,
        typer.Argument(
            help="Tables to draw day by day: 'raw.flightops__flights', 'refined.flights', 'fct_flights', or 'flights' "
            "for all stages of it. Without one: a line for every table."
        ),
    ] = None,
    start: Annotated[str | None, typer.Option("--from", help="First day; where the table begins by default.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Day after the last one; today by default.")] = None,
    holes: Annotated[bool, typer.Option("--holes", help="Only intervals that are missing or were refused.")] = False,
    as_json: Json = False,
) -> None:
    """Which intervals of a table are published, empty, stale, failed or missing, as the lake itself says."""
    from penstock.interval_state import interval_states
    from penstock.pipeline import Pipeline
    from penstock.show_intervals import show_intervals

    found = interval_states(Pipeline(load_settings()), table or (), start=start, end=end)
    show_intervals(found, holes=holes, calendar=bool(table), as_json=as_json)


COMMANDS = (intervals,)
