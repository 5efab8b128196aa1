"""What people see: tables, progress bars, or JSON of the same facts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from logging import ERROR, WARNING
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from common import logs
from common.errors import UsageError

if TYPE_CHECKING:
    import duckdb

    from lake.batches import Receipt
    from penstock.ledger import Entry
    from penstock.reconcile import Line
    from penstock.run import Progress as ProgressCallback
    from penstock.run import RunReport
    from penstock.versions import Reconciliation
    from warehouse.releases import Release

_NUMBERS = {
    "rows",
    "rows_in",
    "published",
    "quarantined",
    "deduplicated",
    "discarded",
    "replayed",
    "rejected",
    "intervals",
    "unchanged",
    "seconds",
    "columns",
}


def console() -> Console:
    """The terminal; 120 columns where the output is no terminal, so that nothing is cut."""
    return Console(width=None if sys.stdout.isatty() else 140, soft_wrap=False, highlight=False)


def say(text: str) -> None:
    """Print one line."""
    console().print(text, markup=False)


def print_table(title: str, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Print rows as a table; numbers right-aligned with thousands separators."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for column in columns:
        numeric = column in _NUMBERS or any(isinstance(row.get(column), int | float) for row in rows[:5])
        table.add_column(column.replace("_", " "), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    console().print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.2f}"
    return str(value).replace("[", r"\[")


def _json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


@contextmanager
def progress_bars() -> Iterator[ProgressCallback]:
    """Progress on standard error: bars on a terminal, else a line at each tenth of a long stage, or each quarter."""
    bars = Progress(
        TextColumn("{task.description:<18}"),
        BarColumn(bar_width=36),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[label]}"),
        console=Console(stderr=True),
        disable=logs.is_json() or not sys.stderr.isatty(),
    )
    tasks: dict[str, Any] = {}

    def report(stage: str, done: int, total: int, label: str) -> None:
        if bars.disable:
            parts = 10 if total >= 100 else 4
            if done and (done == total or done * parts // total > (done - 1) * parts // total):
                logs.say(f"{stage}: {done} of {total}  {label}")
            return
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total, label="")
        bars.update(tasks[stage], completed=done, total=total, label=label)

    with bars:
        yield report


def show_receipts(receipts: Sequence[Receipt], *, as_json: bool) -> None:
    """Receipts of single batches."""
    if as_json:
        _json([receipt.to_dict() for receipt in receipts])
        return
    rows = [
        {**receipt.to_dict(), "interval": receipt.key, "seconds": sum(receipt.seconds.values())} for receipt in receipts
    ]
    columns = ("table", "interval", "state", "rows_in", "published", "quarantined", "deduplicated", "seconds")
    print_table("Batches", rows, columns)
    for receipt in receipts:
        for warning in receipt.warnings:
            say(f"WARNING {receipt.table} {receipt.key}: {warning}")
        accepted = receipt.verdict.get("accepted")
        if accepted:
            say(f"ACCEPTED {receipt.table} {receipt.key} by {accepted['by']}: {accepted['reason']}")
            say(f"  It was refused: {'; '.join(receipt.verdict['reasons'])}")
        _show_noticed(receipt.verdict.get("results", []), receipt.table, receipt.key)


def show_reconciliations(found: Sequence[Reconciliation], *, as_json: bool) -> None:
    """What comparing keys with the source found; warnings go to standard error."""
    for each in found:
        for warning in each.warnings:
            logs.say(f"penstock warning: {each.table}: {warning}", level=WARNING)
    if as_json:
        _json([each.to_dict() for each in found])
    elif not found:
        say("No table of this source asks for it ('deletes: {policy: reconcile}').")
    else:
        rows = [{**each.to_dict(), "missing": sum(each.missing.values())} for each in found]
        columns = ("table", "rows_compared", "marked", "missing", "buckets", "buckets_pulled")
        print_table("Keys compared with the source", rows, columns)


def _show_noticed(results: Sequence[dict[str, Any]], table: str, key: str) -> None:
    rows = [{**r, "rows": r["rows_unexpected"]} for r in results if not r["passed"] or (r["rows_unexpected"] or 0) > 0]
    if rows:
        print_table(f"Noticed in {table} {key}", rows, ("rule", "severity", "rows", "why"))


def show_run(report: RunReport, *, as_json: bool) -> None:
    """The summary of a run; warnings and refusals go to standard error in either form."""
    for warning in report.warnings:
        logs.say(f"penstock warning: {warning}", level=WARNING)
    for error in report.refusals:
        logs.say(f"penstock: {type(error).__name__}: {error}", level=ERROR, work=error.where)
    if as_json:
        _json(report.to_dict())
        return
    columns = (
        "stage",
        "table",
        "intervals",
        "unchanged",
        "rows_in",
        "published",
        "quarantined",
        "deduplicated",
        "seconds",
    )
    print_table(f"Run {report.run_id}: {report.start} to {report.end}", report.totals(), columns)
    steps = [{"step": step, "seconds": seconds} for step, seconds in report.seconds.items()]
    print_table("Seconds per step", steps, ("step", "seconds"))
    _say_reconciled(report)
    if report.pages is not None:
        say(f"Quality pages: {report.pages}")
    if report.release:
        say(f'Release {report.release} is current. Ask it: penstock query "select * from mart_daily_route_performance"')
    elif not report.build:
        say("No build was asked for: the current release is what it was.")
    else:
        say("Nothing changed: no new release was needed.")


def _say_reconciled(report: RunReport) -> None:
    compared, differing = len(report.reconciled), sum(not line.is_equal for line in report.reconciled)
    if compared:
        columns = sum(len(line.columns) for line in report.reconciled)
        found = f"{differing} of them differ" if differing else "all are equal"
        say(f"Reconciled: {compared} intervals and {columns} columns between source, lake and release; {found}.")


def show_reconciled(lines: Sequence[Line], *, as_json: bool) -> None:
    """Intervals side by side; as text those that differ, and the others summed up."""
    if as_json:
        _json([line.to_dict() for line in lines])
        return
    totals: dict[tuple[str, str], dict[str, Any]] = {}
    for line in lines:
        total = totals.setdefault(
            (line.left, line.right),
            {"left": line.left, "right": line.right, "intervals": 0, "rows_left": 0, "rows_right": 0}
            | {"set_apart": 0, "columns": 0, "differ": 0},
        )
        total["intervals"] += 1
        total["rows_left"] += line.rows_left
        total["rows_right"] += line.rows_right
        total["set_apart"] += line.apart
        total["columns"] = max(total["columns"], len(line.columns))
        total["differ"] += not line.is_equal
    names = ("left", "right", "intervals", "rows_left", "rows_right", "set_apart", "columns", "differ")
    print_table("Reconciled", list(totals.values()), names)
    for line in [line for line in lines if line.note and line.is_equal][:20]:
        say(f"{line.left} and {line.right}, {line.interval}: {line.note}")
    for line in lines:
        if not line.is_equal:
            say(f"DIFFERENT {line.problem}")


def show_status(found: dict[str, Any], *, as_json: bool) -> None:
    """Tables and the current release."""
    if as_json:
        _json(found)
        return
    columns = ("table", "intervals", "first", "last", "rows", "quarantined", "published_at")
    print_table(f"Lake under {found['home']}", found["tables"], columns)
    release = found["release"]
    if release is None:
        say("Nothing has been published yet. Start with: penstock run --from ... --to ...")
        return
    rows = [{"table": name, "rows": n} for name, n in release["tables"].items()]
    print_table(f"Release {release['id']}, published {release['published_at'][:19]}", rows, ("table", "rows"))


def show_ledger(
    entries: Sequence[Entry],
    totals: Sequence[dict[str, Any]],
    verified: Sequence[dict[str, Any]],
    problems: Sequence[str],
    *,
    refused: Sequence[dict[str, Any]] = (),
    as_json: bool,
) -> None:
    """The row account; batches that were refused whole stand apart, for none of their rows is live."""
    if as_json:
        _json(
            {
                "entries": [entry.to_dict() for entry in entries],
                "totals": list(totals),
                "verified": list(verified),
                "refused": list(refused),
                "problems": list(problems),
            }
        )
        return
    some = tuple(name for name in ("discarded", "replayed", "deleted") if any(total[name] for total in totals))
    columns = (
        "stage",
        "table",
        "intervals",
        "rows_in",
        "published",
        "quarantined",
        "deduplicated",
        *some,
        "balanced",
    )
    print_table("Ledger: rows in = published + quarantined + deduplicated", totals, columns)
    if verified:
        rows = [{**line, "columns_that_differ": ", ".join(line["columns_that_differ"]) or "none"} for line in verified]
        compared = ("table", "source_rows", "ledger_rows", "columns_compared", "columns_that_differ")
        print_table("Compared with the sources: rows and a checksum of each column", rows, compared)
    for total in totals:
        for reason, rows in total["because"].items():
            say(f"{total['table']}: {rows} deduplicated because {reason}")
    if refused:
        lines = [{**each, "interval": each["key"], "reasons": "; ".join(each["reasons"])} for each in refused[-20:]]
        columns = ("table", "interval", "refused_at", "rejected", "reasons")
        print_table(f"Refused whole, {len(refused)} in all: none of their rows is in the account above", lines, columns)
    for problem in problems[:20]:
        say(f"PROBLEM {problem}")
    if len(problems) > 20:
        say(f"... and {len(problems) - 20} more; see them all with --json")
    if not problems:
        say("Every row is accounted for.")


def show_drift(recorded: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]] | None, *, as_json: bool) -> None:
    """Drift as receipts have it, and as the sources have it now where they were asked."""
    from penstock.drift import to_write

    lines = [*recorded, *(now or ())]
    if as_json:
        _json({"recorded": list(recorded), "now": None if now is None else list(now), "write": to_write(lines)})
        return
    columns = ("table", "kind", "column", "declared", "observed", "policy", "outcome")
    if now is not None:
        for line in now:
            if "problem" in line:
                say(f"PROBLEM {line['table']}: {line['problem']}")
        differing = [line for line in now if "problem" not in line]
        if differing:
            print_table("The sources now", differing, columns)
        else:
            say("The sources that could be compared are as their specs declare.")
    if recorded:
        print_table("Recorded by runs", recorded, (*columns, "first", "last", "intervals"))
    else:
        say("No live or refused batch differed from its spec.")
    for table, written in to_write(lines).items():
        say(f"{table}: to make the spec agree, write")
        for text in written:
            say(f"  {text}")


def show_query(connection: duckdb.DuckDBPyConnection, sql: str, *, limit: int, as_json: bool) -> None:
    """The answer to one SELECT.

    Raises:
        UsageError: not one SELECT, or it does not run; the message is DuckDB's.
    """
    import duckdb

    try:
        statements = connection.extract_statements(sql)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise UsageError("Give exactly one SELECT.", remedy='e.g. penstock query "select * from dim_carriers"')
        answer = connection.execute(statements[0])
        names = [column[0] for column in answer.description or []]
        rows = answer.fetchmany(limit + 1)
    except duckdb.Error as error:
        raise UsageError(f"The query does not run: {error}", remedy="see the tables with: penstock status") from None
    records = [dict(zip(names, row, strict=True)) for row in rows[:limit]]
    if as_json:
        _json(records)
        return
    print_table("", records, names)
    if len(rows) > limit:
        say(f"... more than {limit} rows; raise --limit to see them")


def show_releases(releases: Sequence[Release], *, as_json: bool) -> None:
    """Published releases."""
    rows = [
        {
            "release": release.id,
            "current": release.current,
            "published_at": release.published_at[:19],
            "rows": sum(table["rows"] for table in release.manifest["tables"]),
            "built_on": release.manifest.get("parent"),
            "database": str(release.database),
        }
        for release in releases
    ]
    if as_json:
        _json(rows)
    else:
        print_table("Releases", rows, ("release", "current", "published_at", "rows", "built_on"))
