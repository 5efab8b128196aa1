"""Interval states for people: a summary of all tables, and a calendar of one.

A calendar has a line a month and a letter a day, so that a year fits on a page and a hole is seen at once::

             1        10        20        30
    2013-01  ###############################
    2013-02  ######..####!#######~~######
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.text import Text

from lake.paths import WHOLE
from penstock.cli_options import print_json
from penstock.interval_state import HOLES, STATES, State, TableIntervals
from penstock.show import console, print_table, say

_SIGNS: dict[State, tuple[str, str]] = {
    "published": ("#", "green"),
    "empty": ("o", "cyan"),
    "stale": ("~", "yellow"),
    "failed": ("!", "bold red"),
    "missing": (".", "red"),
    "outside": ("-", "dim"),
}
_SPANS_SHOWN = 12


def show_intervals(found: Sequence[TableIntervals], *, holes: bool, calendar: bool, as_json: bool) -> None:
    """Print interval states.

    Args:
        found: the tables.
        holes: print only the intervals in which rows are missing.
        calendar: whether to draw each table's days; else one line a table.
        as_json: print one JSON document instead.
    """
    if as_json:
        tables = [each.to_dict() for each in found]
        for table in tables if holes else ():
            table["intervals"] = [each for each in table["intervals"] if each["state"] in HOLES]
        print_json(tables)
    elif holes:
        _show_holes(found)
    elif not calendar:
        print_table("Intervals", [_line(each) for each in found], ("stage", "table", "first", "last", *STATES))
        say("See one table's days with: penstock intervals <table>; what is missing with: penstock intervals --holes")
    else:
        for each in found:
            _show_calendar(each)


def _line(found: TableIntervals) -> dict[str, object]:
    days = [each.key for each in found.intervals if each.state != "outside"]
    first, last = (days[0], days[-1]) if days else ("", "")
    return {"stage": found.stage, "table": found.table, "first": first, "last": last, **found.count()}


def _show_holes(found: Sequence[TableIntervals]) -> None:
    rows = [
        {"table": table.table, "first": first, "last": last, "intervals": days, "state": state, "reason": reason}
        for table in found
        for state in sorted(HOLES)
        for first, last, days, reason in table.spans(state)
    ]
    if rows:
        print_table("Holes", rows, ("table", "state", "first", "last", "intervals", "reason"))
    else:
        say("No interval is missing and none failed.")


def _show_calendar(found: TableIntervals) -> None:
    counted = ", ".join(f"{count} {state}" for state, count in found.count().items() if count)
    say(f"{found.table} ({found.stage}): {counted or 'no intervals'}")
    for line in _calendar(found):
        console().print(line)
    for state in (state for state in STATES if state not in {"published", "outside"}):
        spans = found.spans(state)
        for first, last, days, reason in spans[:_SPANS_SHOWN]:
            say(f"  {state} {first if days == 1 else f'{first} to {last} ({days})'}: {reason}")
        if len(spans) > _SPANS_SHOWN:
            say(f"  ... and {len(spans) - _SPANS_SHOWN} more stretches that are {state}: --json names all")
    say("")


def _calendar(found: TableIntervals) -> Iterator[Text]:
    days = [each for each in found.intervals if each.key != WHOLE]
    if not days:
        return
    yield Text("           1        10        20        30", style="dim")
    for month, each_day in groupby(days, key=lambda each: each.key[:7]):
        signs = {int(each.key[8:]): _SIGNS[each.state] for each in each_day}
        line = Text(f"  {month}  ")
        for day in range(1, max(signs) + 1):
            line.append(*signs.get(day, (" ", "")))
        yield line
    legend = Text("  ")
    for state, (sign, style) in _SIGNS.items():
        legend.append(sign, style)
        legend.append(f" {state}  ")
    yield legend
