"""What people see of ``penstock init``, ``validate --connect`` and ``plan``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

from common.intervals import zone
from common.settings import Settings
from penstock.cli_options import print_json
from penstock.init import InitReport, summary_of
from penstock.show import print_table, say


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


def _short(path: Path) -> str:
    """A path as it is from here, where it lies below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
