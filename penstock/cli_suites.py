"""Commands about suites: ``penstock suite show``, ``check`` and ``suggest``. ``cli.py`` registers them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from common import logs
from penstock.cli_options import Json, load_settings, print_json

suite_app = typer.Typer(no_args_is_help=True, help="What the gate asks of a table, and what its rows suggest.")

Table = Annotated[
    str, typer.Argument(help="raw.<source>__<table>, refined.<table> or warehouse.<table>, e.g. refined.flights.")
]


@suite_app.command()
def show(table: Table, as_json: Json = False) -> None:
    """The effective suite of a table: the rules of its file, and those its spec or contract implies."""
    from lake.paths import TableId
    from penstock.show_suites import show_suite
    from penstock.suite_files import describe_suite

    show_suite(describe_suite(load_settings(), TableId.parse(table)), as_json=as_json)


@suite_app.command()
def check(
    table: Table,
    start: Annotated[str | None, typer.Option("--from", help="First day, YYYY-MM-DD; all by default.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Day after the last one, YYYY-MM-DD.")] = None,
    as_json: Json = False,
) -> None:
    """What the suite of now says of the rows that readers have: judged, and nothing moves."""
    from common.intervals import parse_day
    from lake.paths import TableId
    from penstock.pipeline import Pipeline
    from penstock.show_suites import show_checked
    from penstock.suite_check import check_table

    for day in filter(None, (start, end)):
        parse_day(day)
    checked = list(check_table(Pipeline(load_settings()), TableId.parse(table), start, end))
    show_checked(table, checked, as_json=as_json)
    if not all(each.is_good for each in checked):
        raise typer.Exit(1)


@suite_app.command()
def suggest(
    table: Table,
    write: Annotated[bool, typer.Option("--write", help="Add the rules to the suite file.")] = False,
    as_json: Json = False,
) -> None:
    """Rules that a table's rows suggest, as a diff of its suite file for git apply or patch -p1."""
    from lake.paths import TableId
    from penstock.pipeline import Pipeline
    from penstock.suite_files import suggest_rules

    settings = load_settings()
    found = suggest_rules(Pipeline(settings), TableId.parse(table))
    if write and found.rules:
        found.write()
    if as_json:
        rules = [rule.model_dump(mode="json") for rule in found.rules]
        print_json({"file": found.path, "written": write and bool(rules), "rules": rules})
        return
    if not found.rules:
        logs.say("penstock: the rows suggest nothing that the suite does not ask already")
        return
    here = Path.cwd()
    folder = here if found.path.is_relative_to(here) else settings.suites.parent
    sys.stdout.write(found.diff(folder))
    done = f"written to {found.path}" if write else f"apply with 'git apply' or 'patch -p1' in {folder}"
    logs.say(f"penstock: {len(found.rules)} rules suggested; {done}")
