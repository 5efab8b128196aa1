"""What people see of rows in quarantine, and of what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from common.errors import UnknownName
from penstock.cli_options import print_json
from penstock.show import print_table, say

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.replay import ReplayReport
    from penstock.replay_downstream import Refreshed

_SHOWN_CHARACTERS = 2_000
_SHOWN_OUTCOMES = 50


def show_counts(counts: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """Rows in quarantine by table, interval and rules."""
    if as_json:
        print_json(list(counts))
    elif not counts:
        say("Quarantine is empty.")
    else:
        print_table("Quarantine", counts, ("table", "interval", "rules", "rows"))


def show_rows(rows: pa.Table, *, as_json: bool) -> None:
    """Rejected rows; very long ones are cut, with ``--json`` none is.

    Raises:
        UnknownName: there is none.
    """
    records = rows.to_pylist()
    if as_json:
        print_json(records)
        return
    if not records:
        raise UnknownName("No row of that table is in quarantine.", remedy="see 'penstock quarantine list'")
    for record in records:
        say(f"{record['partition_key']}  {record['position']}  broke {record['rules']}: {record['reason']}")
        say(f"    id {record['row_id']}  run {record['run_id']}  batch {record['batch_id']}")
        if record["discarded_at"] is not None:
            say(f"    discarded by {record['discarded_by']}: {record['discard_reason']}")
        row = record["row"]
        cut = f" ... and {len(row) - _SHOWN_CHARACTERS} characters" if len(row) > _SHOWN_CHARACTERS else ""
        say(f"    {row[:_SHOWN_CHARACTERS]}{cut}")


def show_history(records: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """What was replayed and discarded."""
    if as_json:
        print_json(list(records))
    elif not records:
        say("Nothing has been replayed or discarded.")
    else:
        lines = [{**each, "interval": each["key"], "at": str(each["at"])[:19]} for each in records]
        columns = ("table", "interval", "at", "by", "replayed", "discarded", "reason", "in_force")
        print_table("Replayed and discarded", lines, columns)


def show_replay(report: ReplayReport, refreshed: Refreshed | None, *, as_json: bool) -> None:
    """What became of each row, and what to do next."""
    if as_json:
        print_json({**report.to_dict(), "downstream": refreshed.to_dict() if refreshed else None})
        return
    kinds = ("published", "stays", "discarded", "not waiting")
    counts = [f"{report.count(kind)} {kind}" for kind in kinds if report.count(kind)]
    say(f"{report.table}: {', '.join(counts) or 'no such row waits in quarantine'}.")
    others = [outcome for outcome in report.outcomes if outcome.outcome in {"stays", "not waiting"}]
    for outcome in others[:_SHOWN_OUTCOMES]:
        broke = f" broke {outcome.rules}" if outcome.rules else ""
        say(f"    {outcome.row_id} {outcome.key} {outcome.outcome}{broke}: {outcome.reason}")
    if len(others) > _SHOWN_OUTCOMES:
        say(f"    ... and {len(others) - _SHOWN_OUTCOMES} more; see them all with --json")
    if refreshed is not None:
        release = f"release {refreshed.release} is current" if refreshed.release else "no new release was needed"
        say(f"{len(refreshed.receipts)} refined intervals were made again; {release}.")
    elif report.count("published"):
        refine = "" if report.table.startswith("refined.") else "penstock refine --day DAY, "
        days = ", ".join(sorted({receipt.key for receipt in report.receipts}))
        say(f"What was made from {days} is outdated: {refine}penstock build, penstock publish (or use --downstream).")
