"""The command line: thin commands over :class:`penstock.pipeline.Pipeline`.

Heavy modules load inside a command, so that ``penstock --help`` answers at once.

Exit codes: 0 done; 1 a gate refused data; 2 usage (wrong name, date, setting or spec); 3 infrastructure, or a defect of
Penstock; 130 interrupted (Ctrl-C or SIGTERM), after tidying up.
"""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Sequence
from logging import ERROR, WARNING
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common import interrupts, logs, work
from common.disk import disk_full, is_disk_full
from common.errors import PenstockError
from penstock import (
    cli_backfill,
    cli_backup,
    cli_bi,
    cli_incidents,
    cli_lineage,
    cli_maintenance,
    cli_metric,
    cli_quality,
    cli_quarantine,
    cli_serve,
    cli_services,
    cli_sources,
    cli_suites,
    cli_telemetry,
    cli_watch,
)
from penstock.cli_options import AcceptRefusal, AcceptVolume, By, Day, Json, Limit, load_settings, print_json, signed

if TYPE_CHECKING:
    from common.verdict import Signed
    from penstock.pipeline import Pipeline

app = typer.Typer(
    name="penstock",
    cls=cli_telemetry.Accounted,
    help="Data from databases and buckets through a Parquet lake into warehouse releases: "
    "written, audited and published at every stage.",
    epilog="Exit codes: 0 done, 1 a gate refused data, 2 usage, 3 infrastructure. "
    "Settings: PENSTOCK_* variables or penstock.toml.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # they print local variables, and those may hold passwords
)
app.add_typer(cli_quarantine.app, name="quarantine")
app.add_typer(cli_suites.suite_app, name="suite")
app.add_typer(cli_quality.contract_app, name="contract")
app.add_typer(cli_backfill.backfill_app, name="backfill")
app.add_typer(cli_backup.backup_app, name="backup")
app.add_typer(cli_serve.token_app, name="token")
app.add_typer(cli_bi.bi_app, name="bi")
app.add_typer(cli_bi.store_app, name="store")
app.add_typer(cli_metric.metric_app, name="metric")
app.add_typer(cli_incidents.incidents_app, name="incidents")
app.add_typer(cli_maintenance.maintain_app, name="maintain")
for command in (
    *cli_services.COMMANDS,
    *cli_sources.COMMANDS,
    *cli_backfill.COMMANDS,
    *cli_backup.COMMANDS,
    *cli_lineage.COMMANDS,
    *cli_maintenance.COMMANDS,
    *cli_quality.COMMANDS,
    *cli_serve.COMMANDS,
    *cli_telemetry.COMMANDS,
    *cli_watch.COMMANDS,
):
    app.command()(command)


def _pipeline(accept_volume: Sequence[str] | None = None, accept_refusal: Signed | None = None) -> Pipeline:
    from penstock.pipeline import Pipeline

    return Pipeline(load_settings(), accept_volume=accept_volume or (), accept_refusal=accept_refusal)


@app.command()
def ingest(
    source: Annotated[str, typer.Argument(help="Source name, as in ingestion/sources/<source>.yml.")],
    day: Day,
    table: Annotated[list[str] | None, typer.Option("--table", help="Only this table; may be repeated.")] = None,
    accept_volume: AcceptVolume = None,
    accept_refusal: AcceptRefusal = None,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Bring one interval of a source's tables into the raw lake: extract, audit, publish."""
    from common.errors import located
    from common.intervals import parse_day
    from penstock.show import show_receipts

    parse_day(day)
    pipeline = _pipeline(accept_volume, signed(accept_refusal, by, table))
    spec = pipeline.source(source)
    # Tables of the whole come first: the rules of the others refer to them.
    tables = sorted([spec.table(name) for name in table] if table else spec.tables, key=lambda t: t.partitioned)
    names = [t.name for t in tables]
    for name in names:
        pipeline.refuse_future(source, name, day)
    with located(source=source, table=", ".join(names), interval=day), pipeline.reading(source, day) as reader:
        receipts = [pipeline.ingest(source, name, day, reader=reader) for name in names]
    for name in names:
        pipeline.sync_history(source, name)
    show_receipts(receipts, as_json=as_json)


@app.command("reconcile-deletes")
def reconcile_deletes(
    source: Annotated[str, typer.Argument(help="Source name, as in ingestion/sources/<source>.yml.")],
    table: Annotated[list[str] | None, typer.Option("--table", help="Only this table; may be repeated.")] = None,
    accept_volume: AcceptVolume = None,
    as_json: Json = False,
) -> None:
    """Compare a source's keys with the lake's and mark rows that the source no longer has."""
    from penstock.show import show_reconciliations

    pipeline = _pipeline(accept_volume)
    spec = pipeline.source(source)
    names = table or [each.name for each in spec.tables if each.keeps_deleted]
    found = [pipeline.reconcile_deletes(source, name) for name in names]
    for name in names:
        pipeline.sync_history(source, name)
    show_reconciliations(found, as_json=as_json)


@app.command()
def refine(
    day: Day,
    table: Annotated[
        list[str] | None, typer.Option("--table", help="Only this refined table; may be repeated.")
    ] = None,
    accept_refusal: AcceptRefusal = None,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Refine one interval of the raw lake: clean, convert, dedupe, audit, publish."""
    from common.errors import UnknownName
    from common.intervals import parse_day
    from penstock.show import show_receipts

    parse_day(day)
    pipeline = _pipeline(accept_refusal=signed(accept_refusal, by, table))
    names = table or sorted(pipeline.refined_tables(), key=lambda name: pipeline.refined(name).partitioned)
    found = {name: pipeline.refine(name, day) for name in names}
    missing = [name for name, receipt in found.items() if receipt is None]
    if missing and (table or len(missing) == sum(pipeline.refined(name).partitioned for name in names)):
        raise UnknownName(
            "The raw lake does not have the interval this is made from.",
            table=", ".join(f"refined.{name}" for name in missing),
            interval=day,
            remedy="ingest it first: penstock ingest <source> --day " + day,
        )
    show_receipts([receipt for receipt in found.values() if receipt is not None], as_json=as_json)


@app.command()
def build(
    full_refresh: Annotated[bool, typer.Option(help="Build every model from nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Run the models into a candidate warehouse and have the gate judge it. Nobody reads a candidate."""
    from penstock.show import say

    candidate = _pipeline().build(full_refresh=full_refresh)
    if as_json:
        print_json({"candidate": candidate.id if candidate else None})
    elif candidate is None:
        say("Nothing changed since the current release; no candidate was built.")
    else:
        say(f"Candidate {candidate.id} is built, judged and sealed. Publish it with: penstock publish")


@app.command()
def publish(
    candidate: Annotated[str | None, typer.Argument(help="Candidate id; the newest by default.")] = None,
    as_json: Json = False,
) -> None:
    """Make a sealed candidate the current release, by one pointer move. Again, it changes nothing."""
    from common.errors import UnknownName
    from penstock.show import say
    from warehouse.releases import Releases

    pipeline, done = _pipeline(), False
    try:
        release = pipeline.publish(candidate)
    except UnknownName:
        current = Releases(pipeline.settings.warehouse).current()
        if current is None or candidate not in (None, current.id):
            raise
        release, done = current, True
    if as_json:
        print_json({"release": release.id, "database": release.database})
    elif done:
        say(f"Nothing to publish: release {release.id} is current. Make the next candidate with: penstock build")
    else:
        say(f"Release {release.id} is current: {release.database}")


@app.command()
def run(
    start: Annotated[str, typer.Option("--from", help="First day, YYYY-MM-DD.")],
    end: Annotated[str, typer.Option("--to", help="Day after the last one, YYYY-MM-DD.")],
    source: Annotated[list[str] | None, typer.Option("--source", help="Only this source; may be repeated.")] = None,
    build: Annotated[bool, typer.Option(help="Build and publish at the end.")] = True,
    accept_volume: AcceptVolume = None,
    as_json: Json = False,
) -> None:
    """Run a range of days through all stages: ingest, refine, build, publish."""
    from common.intervals import day_keys

    day_keys(start, end)  # a slip of the finger is answered before anything heavy is loaded
    from penstock.quality_pages import try_to_write_pages
    from penstock.run import run as run_days
    from penstock.show import progress_bars, show_run

    pipeline = _pipeline(accept_volume)
    with progress_bars() as progress:
        report = run_days(pipeline, start, end, sources=source, build=build, progress=progress)
    report.pages = try_to_write_pages(pipeline, report.notices)
    show_run(report, as_json=as_json)
    raise typer.Exit(report.exit_code)


@app.command()
def status(as_json: Json = False) -> None:
    """What is published: intervals of each table, the current release, what waits in quarantine."""
    from penstock.show import show_status
    from penstock.status import status as read_status

    show_status(read_status(_pipeline()), as_json=as_json)


@app.command()
def ledger(
    as_json: Json = False,
    verify: Annotated[
        bool, typer.Option(help="Also count and checksum the database sources themselves and compare.")
    ] = False,
) -> None:
    """The account of every row per table, stage and interval. Exit code 1 if an account does not add up.

    Rows in = published + quarantined + deduplicated; quarantined = waiting + discarded. No batch that does not add up
    can be published, whatever is configured; this checks it again, also against the rows that are stored.
    """
    from penstock import ledger as books
    from penstock.show import show_ledger

    pipeline = _pipeline()
    entries = books.entries(pipeline)
    verified = books.verify(pipeline) if verify else []
    problems = books.problems(entries, verified) + books.stored(pipeline)
    refused = books.refusals(pipeline)
    show_ledger(entries, books.totals(entries), verified, problems, refused=refused, as_json=as_json)
    if problems:
        logs.say(f"penstock: the ledger has {len(problems)} problem(s), the first: {problems[0]}", level=WARNING)
    raise typer.Exit(1 if problems else 0)


@app.command()
def drift(
    source: Annotated[str | None, typer.Argument(help="Source name; all by default.")] = None,
    connect: Annotated[bool, typer.Option("--connect", help="Also compare the sources as they are now.")] = False,
    as_json: Json = False,
) -> None:
    """Where sources differ from their specs: as recorded by runs and, with --connect, now; and what to write."""
    from penstock import drift as drifts
    from penstock.show import show_drift

    pipeline = _pipeline()
    specs = [pipeline.source(source)] if source else list(pipeline.sources().values())
    now = drifts.live(pipeline, specs) if connect else None
    show_drift(drifts.recorded(pipeline, specs), now, as_json=as_json)


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help="One SELECT over the release's tables, or the lake's.")],
    release: Annotated[
        str | None, typer.Option(help="Release id, or 'as of <time>'; the current one by default.")
    ] = None,
    lake: Annotated[
        bool, typer.Option("--lake", help="Ask the lake instead: raw.<source>__<table>, refined.*.")
    ] = False,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """Ask the published warehouse, or the lake as it is now. Read only; blocks nothing and is never blocked."""
    import penstock
    from common.errors import UsageError
    from penstock.show import show_query

    settings = load_settings()
    if not lake:
        with penstock.connect(release, settings=settings) as connection:
            show_query(connection, sql, limit=limit, as_json=as_json)
        return
    if release is not None:
        raise UsageError("--release and --lake do not go together.", remedy="leave one of them out")
    from lake.lake import Lake
    from lake.views import lake_views

    with lake_views(Lake(settings), sql) as connection:
        show_query(connection, sql, limit=limit, as_json=as_json)


@app.command()
def releases(as_json: Json = False) -> None:
    """Published releases, oldest first; the current one is marked."""
    import penstock
    from penstock.show import show_releases

    show_releases(penstock.releases(settings=load_settings()), as_json=as_json)


@app.command()
def rollback(
    release: Annotated[str | None, typer.Argument(help="Release id; the one before the current by default.")] = None,
    as_json: Json = False,
) -> None:
    """Point back to an earlier release: the same move as publishing, and as fast."""
    from penstock.doors import roll_back
    from penstock.show import say

    now = roll_back(load_settings(), release)
    if as_json:
        print_json({"release": now.id, "database": now.database})
    else:
        say(f"Release {now.id} is current again.")


def main() -> None:
    """Entry point: run a command and turn errors into one clear line and an exit code.

    Side effects: Ctrl-C and SIGTERM end the process through every ``finally`` on the way.
    """

    def interrupt(number: int, _frame: object) -> None:
        interrupts.note(number)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    work.own_process()
    try:
        app()
    except BaseException as error:
        # Engines turn an interrupt into errors of their own; whatever comes after one is its consequence.
        if interrupts.is_noted() and not (isinstance(error, SystemExit) and error.code in {0, None}):
            logs.say("penstock: interrupted; what was published stays, run the command again to go on", level=WARNING)
            sys.exit(130)
        if isinstance(error, Exception) and not isinstance(error, PenstockError) and is_disk_full(error):
            error = disk_full(error, Path.cwd())
        if isinstance(error, PenstockError):
            logs.say(f"penstock: {type(error).__name__}: {error}", level=ERROR, work=error.where)
            sys.exit(error.exit_code)
        if not isinstance(error, Exception):
            raise
        if not logs.is_json():
            traceback.print_exc()
        told = "penstock: this is a defect of Penstock. Remedy: report it with the lines above"
        logs.say(told, level=ERROR, exc_info=logs.is_json())
        sys.exit(3)


if __name__ == "__main__":
    main()
