"""Commands about intervals: which are good, and how to fill those that are not."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from common.errors import UsageError
from penstock.cli_options import Json, RunByDefault, load_settings, print_json


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


backfill_app = typer.Typer(
    cls=RunByDefault,
    no_args_is_help=True,
    help="Plan and run the intervals that are missing or stale; Airflow runs them where there is one.",
)


class Mode(StrEnum):
    """Which intervals a backfill runs."""

    only_missing = "only-missing"
    stale = "stale"
    all = "all"


@backfill_app.command("run")
def backfill_run(
    targets: Annotated[list[str], typer.Argument(help="Sources, tables of any stage, or models.")],
    start: Annotated[str, typer.Option("--from", help="First day, YYYY-MM-DD.")],
    end: Annotated[str, typer.Option("--to", help="Day after the last one, YYYY-MM-DD.")],
    only_missing: Annotated[
        bool, typer.Option("--only-missing", help="Intervals that are missing or failed; the default.")
    ] = False,
    stale: Annotated[bool, typer.Option("--stale", help="Also those whose upstream or rules changed.")] = False,
    all_: Annotated[bool, typer.Option("--all", help="Every interval again, good ones too.")] = False,
    newest_first: Annotated[bool, typer.Option("--newest-first", help="Begin with the latest day.")] = False,
    parallel: Annotated[int, typer.Option(min=1, help="Intervals of one source that run at once.")] = 2,
    max_per_hour: Annotated[
        int | None, typer.Option(min=1, help="Intervals of one source that may start within an hour.")
    ] = None,
    stop_on_failure: Annotated[
        bool, typer.Option("--stop-on-failure", help="Start nothing more once an interval failed; no release then.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and end.")] = False,
    local: Annotated[bool, typer.Option("--local", help="Run in this process even if there is an Airflow.")] = False,
    unpause: Annotated[
        bool, typer.Option("--unpause", help="Unpause the DAGs it needs; a live source's latest due run starts then.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fill intervals from the sources up to one release: preview, run, account. Run it again to resume."""
    from penstock.backfill_plan import Wish
    from penstock.backfill_run import run_backfill

    chosen = [mode for mode, given in zip(Mode, (only_missing, stale, all_), strict=True) if given]
    if len(chosen) > 1:
        raise UsageError("--only-missing, --stale and --all do not go together.", remedy="give one of them")
    mode = chosen[0] if chosen else Mode.only_missing
    wish = Wish.from_dict(
        {
            "targets": targets,
            "start": start,
            "end": end,
            "mode": mode.value,
            "newest_first": newest_first,
            "parallel": parallel,
            "max_per_hour": max_per_hour,
            "stop_on_failure": stop_on_failure,
        }
    )
    code = run_backfill(load_settings(), wish, dry_run=dry_run, local=local, unpause=unpause, as_json=as_json)
    raise typer.Exit(code)


BackfillId = Annotated[str | None, typer.Argument(help="Its id; the newest active one by default.")]


@backfill_app.command("status")
def backfill_status(
    backfill_id: Annotated[str | None, typer.Argument(help="Only this one, with what is not done.")] = None,
    as_json: Json = False,
) -> None:
    """Backfills that Airflow knows: how far they are, and how they ended."""
    from penstock.backfill_run import show_status

    show_status(load_settings(), backfill_id, as_json=as_json)


@backfill_app.command("pause")
def backfill_pause(backfill_id: BackfillId = None, as_json: Json = False) -> None:
    """Start no more intervals of a backfill; those at work go on to their end."""
    _control("pause", backfill_id, as_json=as_json)


@backfill_app.command("resume")
def backfill_resume(backfill_id: BackfillId = None, as_json: Json = False) -> None:
    """Let a paused backfill go on."""
    _control("resume", backfill_id, as_json=as_json)


@backfill_app.command("cancel")
def backfill_cancel(backfill_id: BackfillId = None, as_json: Json = False) -> None:
    """End a backfill: no more intervals, no release. What was published stays; ask again to go on from there."""
    _control("cancel", backfill_id, as_json=as_json)


def _control(action: str, backfill_id: str | None, *, as_json: bool) -> None:
    from penstock.backfill_run import control
    from penstock.show import say

    found = control(load_settings(), action, backfill_id)
    if as_json:
        print_json(found)
    else:
        say(f"Backfill {found['id']} is {found['state']}.")


COMMANDS = (intervals,)
