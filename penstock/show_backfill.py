"""Backfills for people: the preview, the list, the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.backfill import Plan, TablePlan
from penstock.backfill_plan import day_after
from penstock.show import print_table, say

_SHOWN = 12


def show_plan(plan: Plan) -> None:
    """The preview: what would run, what it would cost, what it would touch."""
    wish = plan.wish
    if plan.is_empty:
        say(f"Nothing to do for {', '.join(wish.targets)} from {wish.start} to {wish.end}: no interval is wanted.")
        return
    rows = [_line("ingest", each) for each in plan.ingest] + [_line("refine", each) for each in plan.refine]
    columns = ("stage", "table", "first", "last", "intervals", "states", "rows_expected", "work_min")
    print_table(f"Backfill {wish.start} to {wish.end}: {wish.mode}", rows, columns)
    for source, spans in plan.sources.items():
        stretches = [span.first if span.first == span.last else f"{span.first} to {span.last}" for span in spans]
        more = f" and {len(stretches) - _SHOWN} more" if len(stretches) > _SHOWN else ""
        say(f"{source}: {len(plan.days(source))} days in {len(spans)} stretches: {', '.join(stretches[:_SHOWN])}{more}")
    say(f"Models touched: {', '.join(plan.models) or 'none'}. One release at the end.")
    seconds = plan.work_s_expected
    say(
        "Work expected: not known, a table has no history yet."
        if seconds is None
        else f"Work expected, by history: {seconds / 60:.1f} min, {wish.parallel} intervals of a source at once."
    )


def _line(stage: str, each: TablePlan) -> dict[str, Any]:
    seconds = each.work_s_expected
    return {
        "stage": stage,
        "table": each.table,
        "first": each.keys[0],
        "last": each.keys[-1],
        "intervals": len(each.keys),
        "states": ", ".join(f"{count} {state}" for state, count in each.states.items()),
        "rows_expected": each.rows_expected,
        "work_min": None if seconds is None else round(seconds / 60, 2),
    }


def show_summary(summary: Mapping[str, Any]) -> None:
    """How a backfill ended: intervals, rows, what was refused and what to run next, the release."""
    columns = ("table", "intervals", "published", "not_done", "rows")
    print_table("Backfilled", summary["tables"], columns)
    for each in summary["not_done"][:_SHOWN]:
        say(f"{each['state']}: {each['table']} {each['interval']}: {each['reason']}")
    if len(summary["not_done"]) > _SHOWN:
        say(f"... and {len(summary['not_done']) - _SHOWN} more: penstock intervals --holes")
    if summary["not_done"]:
        first = summary["not_done"][0]
        end = summary["wish"]["end"] if first["interval"] == "whole" else day_after(first["interval"])
        begin = summary["wish"]["start"] if first["interval"] == "whole" else first["interval"]
        say(f"When it is mended: penstock backfill run {first['table']} --from {begin} --to {end}")
    if summary["stopped"]:
        asked = summary["wish"]["stop_on_failure"]
        say(f"No release was built: {'it was to stop at a failure' if asked else 'the build failed, see its log'}.")
    else:
        say(f"Release {summary['release']} is current." if summary["release"] else "No new release was needed.")


def show_backfills(found: Sequence[Mapping[str, Any]]) -> None:
    """Backfills that Airflow knows, newest first."""
    rows = [
        {
            "id": each["id"],
            "state": each["state"],
            "targets": ", ".join(each["wish"]["targets"]),
            "from": each["wish"]["start"],
            "to": each["wish"]["end"],
            "mode": each["wish"]["mode"],
            "done": ", ".join(f"{source} {n['done']} of {n['total']}" for source, n in each["sources"].items()),
            "failed": sum(n["failed"] for n in each["sources"].values()),
        }
        for each in found
    ]
    print_table("Backfills", rows, ("id", "state", "targets", "from", "to", "mode", "done", "failed"))
