"""What people see of ``penstock init``, ``validate --connect`` and ``plan``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

from common import logs
from common.intervals import zone
from common.settings import Settings
from penstock.cli_options import print_json
from penstock.init import InitReport, summary_of
from penstock.plan import PlannedTable
from penstock.show import print_table, say
from penstock.validate import Finding


def show_init(report: InitReport, settings: Settings, *, given_url: bool, dry_run: bool, as_json: bool) -> None:
    """The files of a dry run on standard output; else what was suggested, what was written, and how to go on."""
    if as_json:
        print_json(report.to_dict())
        return
    if dry_run:
        for path, text in report.files.items():
            sys.stdout.write(f"# ---- {_short(path)}\n{text}\n")
        return
    draft = report.draft
    rows = [summary_of(table) for table in draft.tables]
    say(draft.description)
    print_table("Suggested", rows, ("table", "rows_estimated", "columns", "key", "mode", "by"))
    for row in rows:
        if row["personal"]:
            say(f"{row['table']}: looks personal, marked 'pii: suspected': {row['personal']}")
    for table in draft.tables:
        out = [column.source_name for column in table.columns if column.type is None]
        if out:
            say(f"{table.name}: no type word holds {', '.join(out)}; left out")
    for name, reason in draft.left_out:
        say(f"left out: {name}: {reason}")
    if report.changes:
        say("")
        sys.stdout.write(report.changes)
    say("")
    for word, paths in (("Wrote", report.written), ("Kept as it was:", report.kept)):
        _show_files(word, paths)
    _show_next(report, settings, given_url=given_url)


def _show_files(word: str, paths: Sequence[Path]) -> None:
    suites = [path for path in paths if path.parent.name == "raw"]
    told = [_short(path) for path in paths if path not in suites]
    if suites:
        told.append(f"{len(suites)} {'suite' if len(suites) == 1 else 'suites'} in {_short(suites[0].parent)}")
    if told:
        say(f"{word} {' and '.join(told)}")


def _show_next(report: InitReport, settings: Settings, *, given_url: bool) -> None:
    draft, spec = report.draft, _short(next(iter(report.files)))
    say(f"Read {spec}: every suggestion has its reason beside it. Then:")
    say("")
    if given_url and draft.connection not in settings.connections:
        variable = f"PENSTOCK_CONNECTIONS__{draft.connection.upper()}"
        say("  # paste the URL and press Enter: it is neither shown nor kept in the shell's history")
        say(f"  read -rs {variable} && export {variable}")
    yesterday = datetime.now(zone(draft.time_zone)).date() - timedelta(days=1)
    day = min(date.fromisoformat(draft.last_day), yesterday) if draft.last_day else yesterday
    days = f"--from {day} --to {day + timedelta(days=1)}"
    say(f"  penstock validate --connect --source {draft.source}")
    say(f"  penstock plan {draft.source} {days}")
    say(f"  penstock run --source {draft.source} {days} --no-build")
    say(f'  penstock query --lake "select * from raw.{draft.source}__{draft.tables[0].name}"')


def show_findings(findings: Sequence[Finding], *, as_json: bool) -> None:
    """What does not fit between specs and sources; errors on standard error as well, as every error is."""
    errors = [finding for finding in findings if finding.severity == "error"]
    if as_json:
        print_json([finding.to_dict() for finding in findings])
    else:
        for finding in findings:
            where = ".".join(filter(None, (finding.source, finding.table)))
            say(f"{finding.severity.upper():<7} {where}: {finding.problem}")
            say(f"        Remedy: {finding.remedy}")
        warnings = len(findings) - len(errors)
        say(f"{_count(len(errors), 'error')}, {_count(warnings, 'warning')}.")
    if errors:
        first = errors[0]
        logs.say(f"penstock: {_count(len(errors), 'problem')}, the first: {first.error}: {first.problem}")


def show_plan(source: str, tables: Sequence[PlannedTable], *, as_json: bool) -> None:
    """What a run would do, a line for each table, and the days of each."""
    if as_json:
        print_json([table.to_dict() for table in tables])
        return
    rows = [
        {
            "table": table.table.removeprefix(f"raw.{source}__"),
            "mode": table.mode,
            "missing": len(table.keys("read")),
            "published": len(table.keys("read again", "unchanged", late=False)),
            "late": len(table.keys("read again", late=True)),
            "rows_expected": _or_unknown(table.total("rows_expected")),
            "MB_expected": _or_unknown(_megabytes(table.total("bytes_expected"))),
        }
        for table in tables
    ]
    print_table(f"A run of {source} would take these intervals", rows, tuple(rows[0]))
    for table in tables:
        for told, keys in (
            ("would be read for the first time", table.keys("read")),
            ("published, would be read again", table.keys("read again", late=False)),
            ("published, read again as their rows may be late", table.keys("read again", late=True)),
            ("known to be unchanged, not read", table.keys("unchanged")),
            ("outside of the declared coverage", table.keys("outside coverage")),
            ("without objects: a run would refuse them", table.keys("no objects")),
        ):
            if keys and keys != ["whole"]:
                say(f"{table.table}: {told}: {_ranges(keys)}")
        for what in table.also:
            say(f"{table.table}: a run {what}")
    say("Rows are the source's own estimate. Nothing was read or changed.")


def _ranges(keys: Sequence[str]) -> str:
    """Days in order, runs of days as ``first to last``."""
    runs: list[list[str]] = []
    for key in sorted(keys):
        if runs and date.fromisoformat(key) - date.fromisoformat(runs[-1][-1]) == timedelta(days=1):
            runs[-1].append(key)
        else:
            runs.append([key])
    told = [run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    return ", ".join(told[:10]) + (f" and {len(told) - 10} more spans" if len(told) > 10 else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _megabytes(size_bytes: int | None) -> float | None:
    return None if size_bytes is None else size_bytes / 1e6


def _or_unknown(value: float | None) -> float | str:
    return "not known" if value is None else value


def _short(path: Path) -> str:
    """A path as it is from here, where it lies below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
