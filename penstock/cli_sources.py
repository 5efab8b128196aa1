"""Commands about sources and their specs: init, plan, validate, schema. ``cli.py`` registers them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli_options import Json, load_settings, print_json


def init(
    source: Annotated[str, typer.Argument(help="Name for the source; its spec becomes <source>.yml.")],
    url: Annotated[
        str | None,
        typer.Option(
            "--url", help="postgresql://..., mysql://... or s3://...; '-' reads it from standard input: hidden."
        ),
    ] = None,
    connection: Annotated[
        str | None, typer.Option("--connection", help="Name of the connection; the source's name by default.")
    ] = None,
    table: Annotated[list[str] | None, typer.Option("--table", help="Only this table; may be repeated.")] = None,
    exclude: Annotated[list[str] | None, typer.Option("--exclude", help="Not this table; may be repeated.")] = None,
    schema: Annotated[
        list[str] | None, typer.Option("--schema", help="Only this database schema; may be repeated.")
    ] = None,
    prefix: Annotated[str, typer.Option("--prefix", help="Only object keys that begin so.")] = "",
    owner: Annotated[
        str | None, typer.Option("--owner", help="Who answers for the source; git's user.email by default.")
    ] = None,
    time_zone: Annotated[
        str | None, typer.Option("--time-zone", help="Zone in which a partition key names a day, e.g. Europe/Berlin.")
    ] = None,
    sample: Annotated[bool, typer.Option(help="Look at a few values to see which columns look personal.")] = True,
    snapshot_rows: Annotated[
        int | None, typer.Option("--snapshot-rows", min=0, help="Estimated rows below which a table is read whole.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--print", help="Print the files instead of writing them.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over existing files, showing what changes.")] = False,
    as_json: Json = False,
) -> None:
    """Describe a live database, bucket or folder: writes its spec and a starting suite for every table."""
    from pydantic import SecretStr

    from penstock.init import InitRequest
    from penstock.init import init as describe
    from penstock.init_tables import SNAPSHOT_ROWS
    from penstock.show import progress_bars
    from penstock.show_sources import show_init

    if url == "-":
        url = sys.stdin.readline().strip()
    request = InitRequest(
        source,
        url=None if url is None else SecretStr(url),
        connection=connection,
        tables=table or (),
        exclude=exclude or (),
        schemas=schema or (),
        prefix=prefix,
        owner=owner,
        time_zone=time_zone,
        sample=sample,
        snapshot_rows=SNAPSHOT_ROWS if snapshot_rows is None else snapshot_rows,
        force=force,
        dry_run=dry_run,
    )
    settings = load_settings()
    with progress_bars() as progress:
        report = describe(settings, request, progress=progress)
    show_init(report, settings, given_url=url is not None, dry_run=dry_run, as_json=as_json)


def schema(
    write: Annotated[Path | None, typer.Option(help="Write it to this file instead of printing it.")] = None,
) -> None:
    """The JSON Schema of source specs, for editors."""
    from ingestion.spec import json_schema_text

    if write is None:
        sys.stdout.write(json_schema_text())
    else:
        write.write_text(json_schema_text())


def validate(
    connect: Annotated[bool, typer.Option("--connect", help="Also hold every spec against its live source.")] = False,
    source: Annotated[
        list[str] | None, typer.Option("--source", help="With --connect, only this source; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check every source spec and suite file, and with --connect every source; each problem with its remedy."""
    from common.errors import UsageError
    from penstock.show import progress_bars, say

    settings = load_settings()
    if not connect:
        from penstock.status import validate_files

        if source:
            raise UsageError("--source belongs to --connect.", remedy="penstock validate --connect --source ...")
        sentence = validate_files(settings)
        print_json({"valid": sentence}) if as_json else say(sentence)
        return
    from penstock.show_sources import show_findings
    from penstock.validate import check_sources, exit_code

    with progress_bars() as progress:
        findings = check_sources(settings, source or (), progress=progress)
    show_findings(findings, as_json=as_json)
    raise typer.Exit(exit_code(findings))


def plan(
    source: Annotated[str, typer.Argument(help="Source name, as in ingestion/sources/<source>.yml.")],
    start: Annotated[str, typer.Option("--from", help="First day, YYYY-MM-DD.")],
    end: Annotated[str, typer.Option("--to", help="Day after the last one, YYYY-MM-DD.")],
    as_json: Json = False,
) -> None:
    """Say what a run would do with a source's tables: intervals, rows and bytes expected. Changes nothing."""
    from common.intervals import day_keys

    day_keys(start, end)
    from penstock.plan import plan as plan_run
    from penstock.show_sources import show_plan

    show_plan(source, plan_run(load_settings(), source, start, end), as_json=as_json)


def reconcile(
    table: Annotated[str, typer.Argument(help="Raw or refined table, e.g. raw.flightops__flights.")],
    start: Annotated[str | None, typer.Option("--from", help="First day, YYYY-MM-DD; the first there is.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Day after the last one; the last there is.")] = None,
    sample: Annotated[int | None, typer.Option("--sample", min=1, help="Only so many of those intervals.")] = None,
    as_json: Json = False,
) -> None:
    """Compare source, raw lake, refined lake and release, interval by interval: rows, and a checksum of each column.

    Each engine counts its own rows. Names the intervals and columns that differ; the exit code is then 1.
    """
    from common.intervals import parse_day
    from lake.paths import TableId
    from penstock.pipeline import Pipeline
    from penstock.reconcile import reconcile as compare
    from penstock.reconcile import require_equal
    from penstock.show import show_reconciled
    from penstock.status import known_table

    for day in (start, end):
        if day is not None:
            parse_day(day)
    pipeline = Pipeline(load_settings())
    found = compare(pipeline, known_table(pipeline, TableId.parse(table)), start=start, end=end, sample=sample)
    show_reconciled(found, as_json=as_json)
    require_equal(found)


COMMANDS = (init, plan, reconcile, validate, schema)
