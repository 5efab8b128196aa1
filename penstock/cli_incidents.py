"""Commands about incidents: what is open, one in full, take one on, look now. ``cli.py`` registers them."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli_options import Json, load_settings

incidents_app = typer.Typer(invoke_without_command=True, help="What is wrong, by root cause, and what to run next.")

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the incident, such as i000012.")]


@incidents_app.callback()
def incidents(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are resolved.")] = False,
    as_json: Json = False,
) -> None:
    """What is open, the gravest first, as the last look found it."""
    if context.invoked_subcommand is not None:
        return
    from lake.lake import Lake
    from penstock.incidents import incidents_of
    from penstock.show_incidents import show_incidents

    found = incidents_of(Lake(load_settings()))
    show_incidents([each for each in found if everything or each.is_open], as_json=as_json)


@incidents_app.command("show")
def show(incident_id: Id, as_json: Json = False) -> None:
    """One incident in full: reason, intervals, what is affected, who was told, the command to run next."""
    from lake.lake import Lake
    from penstock.incidents import incident_of
    from penstock.show_incidents import show_incident

    show_incident(incident_of(Lake(load_settings()), incident_id), as_json=as_json)


@incidents_app.command("acknowledge")
def acknowledge(
    incident_id: Id,
    by: Annotated[str, typer.Option("--by", help="Who takes it on.")],
    note: Annotated[str, typer.Option("--note", help="What they say.")] = "",
    as_json: Json = False,
) -> None:
    """Take an incident on: nobody is reminded of it any more."""
    from penstock.incidents import acknowledge as take_on
    from penstock.pipeline import Pipeline
    from penstock.show_incidents import show_incident

    show_incident(take_on(Pipeline(load_settings()), incident_id, by=by, note=note), as_json=as_json)


@incidents_app.command("check")
def check(as_json: Json = False) -> None:
    """Look now: open, update and resolve incidents, and deliver what is due. Runs do the same at their end.

    Freshness is judged, too. Exit code 0, whatever is open.
    """
    from penstock.incidents import sync
    from penstock.pipeline import Pipeline
    from penstock.records import record
    from penstock.show_incidents import show_synced

    pipeline = Pipeline(load_settings())
    record(pipeline)
    show_synced(sync(pipeline), as_json=as_json)
