"""The commands on rows that a gate rejected: look, take out, repair and replay, discard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli_options import Json, Limit, load_settings, print_json

if TYPE_CHECKING:
    from lake.paths import TableId
    from penstock.pipeline import Pipeline

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Rows that a gate rejected, with the rules they broke: look at them, repair and replay them, or discard them.",
    epilog="The way of a row: list, show, export, edit the file, replay it. Rows that nobody needs: discard, with a "
    "reason. Both are recorded; see list --history.",
)

Table = Annotated[str, typer.Argument(help="Lake table, e.g. raw.stations__weather.")]
OneDay = Annotated[list[str] | None, typer.Option("--day", help="Only this interval; may be repeated.")]
RowId = Annotated[list[str] | None, typer.Option("--id", help="Only the row of this id; may be repeated.")]
RuleId = Annotated[str | None, typer.Option("--rule", help="Only rows that broke this rule.")]
RunId = Annotated[str | None, typer.Option("--run", help="Only rows that this run rejected.")]
By = Annotated[str | None, typer.Option("--by", help="Who decides; the user of this machine by default.")]
Discarded = Annotated[bool, typer.Option("--discarded", help="The rows that were discarded, not those that wait.")]


def _pipeline() -> Pipeline:
    from penstock.pipeline import Pipeline

    return Pipeline(load_settings())


def _table(pipeline: Pipeline, name: str) -> TableId:
    from lake.paths import TableId
    from penstock.status import known_table

    return known_table(pipeline, TableId.parse(name))


def _who(by: str | None) -> str:
    import getpass

    from common.errors import UsageError

    try:
        name = by or getpass.getuser()
    except (KeyError, OSError):
        name = ""
    if not name.strip():
        raise UsageError("Nobody is named.", remedy="say who decides: --by NAME")
    return name.strip()


@app.command("list")
def quarantine_list(
    table: Annotated[str | None, typer.Argument(help="Lake table; all by default.")] = None,
    day: OneDay = None,
    rule: RuleId = None,
    run: RunId = None,
    discarded: Discarded = False,
    history: Annotated[
        bool, typer.Option("--history", help="What was replayed and discarded: who, when, why.")
    ] = False,
    as_json: Json = False,
) -> None:
    """How many rows of each table wait in quarantine, by rules and interval."""
    from lake.quarantine import Chosen
    from penstock.show_quarantine import show_counts, show_history
    from penstock.status import lake_tables, quarantine_counts

    pipeline = _pipeline()
    tables = [_table(pipeline, table)] if table else lake_tables(pipeline)
    if history:
        from penstock.replay import history as records

        show_history([line for each in tables for line in records(pipeline.lake, each)], as_json=as_json)
        return
    chosen = Chosen(keys=day, rule=rule, run=run, discarded=discarded)
    show_counts(quarantine_counts(pipeline, tables, chosen), as_json=as_json)


@app.command("show")
def quarantine_show(
    table: Table,
    day: OneDay = None,
    row_id: RowId = None,
    rule: RuleId = None,
    run: RunId = None,
    discarded: Discarded = False,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """The rejected rows of one table as they came, with their ids, the rules they broke and where they stood."""
    from lake.quarantine import Chosen, quarantined
    from penstock.show_quarantine import show_rows

    pipeline = _pipeline()
    chosen = Chosen(keys=day, ids=row_id, rule=rule, run=run, discarded=discarded)
    show_rows(quarantined(pipeline.lake, _table(pipeline, table), limit=limit, chosen=chosen), as_json=as_json)


@app.command("export", epilog="penstock quarantine export raw.stations__weather --to bad.jsonl")
def quarantine_export(
    table: Table,
    to: Annotated[Path, typer.Option("--to", help="File to write: CSV if its name ends in .csv, else JSON lines.")],
    day: OneDay = None,
    row_id: RowId = None,
    rule: RuleId = None,
    run: RunId = None,
    as_json: Json = False,
) -> None:
    """Write waiting rows into a file to be repaired: correct the columns, keep the row ids, then replay the file."""
    from common.errors import UnknownName
    from lake.quarantine import Chosen, quarantined
    from penstock.repair_rows import write_file
    from penstock.replay_interval import declare
    from penstock.show import say

    pipeline = _pipeline()
    found = _table(pipeline, table)
    declare(pipeline, found)
    rows = quarantined(pipeline.lake, found, chosen=Chosen(keys=day, ids=row_id, rule=rule, run=run))
    if not rows.num_rows:
        raise UnknownName("No such row waits in quarantine.", table=table, remedy="see 'penstock quarantine list'")
    written = write_file(to, rows.to_pylist(), pipeline.lake.columns(found)[0])
    if as_json:
        print_json({"rows": written, "file": str(to)})
    else:
        say(f"{written} rows are in {to}. Correct them, then: penstock quarantine replay {table} --file {to}")


@app.command("replay", epilog="penstock quarantine replay raw.stations__weather --file bad.jsonl --downstream")
def quarantine_replay(
    table: Table,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="Repaired rows, as export wrote them; else rows are tried as they came."),
    ] = None,
    day: OneDay = None,
    row_id: RowId = None,
    rule: RuleId = None,
    run: RunId = None,
    by: By = None,
    reason: Annotated[str, typer.Option("--reason", help="Why the rows are right now; for the record.")] = "",
    downstream: Annotated[
        bool, typer.Option("--downstream", help="Then refine what was made from those intervals, build and publish.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Judge waiting rows again, with their interval, and publish those that pass; the others stay.

    Without a file the rows are tried as they came: after a rule, a suite or a refining function was changed. Replaying
    twice changes nothing. The exit code is 1 if a row stays.
    """
    from lake.quarantine import Chosen
    from penstock.repair_rows import read_file
    from penstock.replay import replay
    from penstock.replay_downstream import refresh
    from penstock.replay_interval import declare
    from penstock.show_quarantine import show_replay

    pipeline, who = _pipeline(), _who(by)
    found = _table(pipeline, table)
    declare(pipeline, found)
    repaired = read_file(file, pipeline.lake.columns(found)[0]) if file else None
    if repaired is not None and row_id:
        repaired = {each: values for each, values in repaired.items() if each in row_id}
    chosen = Chosen(keys=day, ids=row_id, rule=rule, run=run)
    report = replay(pipeline, found, chosen, repaired=repaired, by=who, reason=reason)
    refreshed = refresh(pipeline, report) if downstream and report.receipts else None
    show_replay(report, refreshed, as_json=as_json)
    raise typer.Exit(1 if report.count("stays") else 0)


@app.command("discard", epilog="penstock quarantine discard raw.stations__weather --day 2013-02-12 --reason '...'")
def quarantine_discard(
    table: Table,
    reason: Annotated[str, typer.Option("--reason", help="Why nobody needs these rows.")],
    day: OneDay = None,
    row_id: RowId = None,
    rule: RuleId = None,
    run: RunId = None,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Say of waiting rows that nobody needs them. They stay readable (--discarded) and count as discarded."""
    from common.errors import UnknownName, UsageError
    from lake.quarantine import Chosen
    from penstock.replay import discard
    from penstock.show_quarantine import show_replay

    if not reason.strip():
        raise UsageError("A reason is needed.", remedy="say why: --reason '...'")
    if not (day or row_id or rule or run):
        raise UsageError("Say which rows: all of a table are not meant.", remedy="use --id, --day, --rule or --run")
    pipeline, who = _pipeline(), _who(by)
    chosen = Chosen(keys=day, ids=row_id, rule=rule, run=run)
    report = discard(pipeline, _table(pipeline, table), chosen, by=who, reason=reason.strip())
    if not report.outcomes:
        raise UnknownName("No such row waits in quarantine.", table=table, remedy="see 'penstock quarantine list'")
    show_replay(report, None, as_json=as_json)
