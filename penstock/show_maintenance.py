"""What maintenance and the doctor did, for people or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from penstock.cli_options import print_json
from penstock.show import print_table, say

if TYPE_CHECKING:
    from lake.compaction import Compacted
    from lake.sweep import Sweep
    from penstock.doctor import Finding, Outcome
    from penstock.maintenance import Maintenance, Retained


def show_sweep(swept: Sweep, *, as_json: bool) -> None:
    """What a sweep deleted, table by table, and what it left."""
    if as_json:
        print_json(swept.to_dict())
        return
    columns = ("table", "files", "size_bytes", "waiting", "waiting_bytes")
    if swept.tables:
        print_table("Files that nothing names", [asdict(table) for table in swept.tables], columns)
    verb = "would be deleted" if swept.dry_run else "were deleted"
    say(f"{swept.files:,} files with {swept.size_bytes:,} bytes {verb}.")
    waiting = sum(table.waiting for table in swept.tables)
    if waiting:
        say(f"{waiting:,} others wait: they have to be {swept.grace_h:g} h old, and known for {swept.grace_h:g} h.")
    if swept.uploads:
        say(f"{swept.uploads:,} unfinished uploads {'would be' if swept.dry_run else 'were'} aborted.")
    if swept.unclaimed:
        say(f"{swept.unclaimed:,} files with {swept.unclaimed_bytes:,} bytes belong to no table of the catalog: left.")
    for table, reason in sorted(swept.held_back.items()):
        say(f"HELD BACK {table}: {reason}. See: penstock doctor")


def show_retained(retained: Retained, *, as_json: bool) -> None:
    """Which releases and leftovers were removed."""
    if as_json:
        print_json(retained.to_dict())
        return
    if retained.left_over:
        print_table("Left over", retained.left_over, ("path", "size_bytes", "why"))
    verb = "would be removed" if retained.dry_run else "were removed"
    named = f": {', '.join(retained.releases)}" if retained.releases else ""
    say(f"{len(retained.releases)} releases and {len(retained.left_over)} leftovers {verb}{named}.")
    say(f"{retained.size_bytes:,} bytes {'would be ' if retained.dry_run else ''}reclaimed.")
    if retained.busy:
        say("A build holds the warehouse: its folder was left alone.")


def show_compacted(compacted: Sequence[Compacted], *, dry_run: bool, as_json: bool) -> None:
    """Which partitions' files were merged or dropped."""
    if as_json:
        print_json([asdict(each) for each in compacted])
        return
    if compacted:
        print_table(
            "Small files", [asdict(each) for each in compacted], ("table", "key", "files", "size_bytes", "new_bytes")
        )
    files = sum(each.files for each in compacted)
    say(f"{files:,} files {'would be' if dry_run else 'were'} merged or dropped, in {len(compacted)} partitions.")


def show_expired(expired: dict[str, int], *, dry_run: bool, as_json: bool) -> None:
    """How many snapshots of which tables were expired."""
    if as_json:
        print_json(expired)
        return
    if expired:
        print_table("Snapshots", [{"table": t, "expired": n} for t, n in sorted(expired.items())], ("table", "expired"))
    say(f"{sum(expired.values()):,} snapshots {'would be' if dry_run else 'were'} expired.")


def show_maintenance(done: Maintenance, *, as_json: bool) -> None:
    """Everything one run of maintenance did."""
    if as_json:
        print_json(done.to_dict())
        return
    if done.retained is not None:
        show_retained(done.retained, as_json=False)
    if done.compacted is not None:
        show_compacted(done.compacted, dry_run=done.dry_run, as_json=False)
    if done.expired is not None:
        show_expired(done.expired, dry_run=done.dry_run, as_json=False)
    if done.swept is not None:
        show_sweep(done.swept, as_json=False)
    for step, error in done.errors.items():
        say(f"FAILED {step}: {error}")


def show_findings(findings: Sequence[Finding], outcomes: Sequence[Outcome], *, would: bool, as_json: bool) -> None:
    """What the doctor found, and what a repair did or would do.

    Args:
        findings: what was found.
        outcomes: what became of the repairs; empty if none was done.
        would: say what a repair would do.
        as_json: print one JSON document instead.
    """
    if as_json:
        repaired = [{**each.finding.to_dict(), "error": each.error} for each in outcomes]
        print_json({"findings": [each.to_dict() for each in findings], "repaired": repaired})
        return
    for each in findings:
        say(f"{each.severity.upper()} {each.kind}: {each.where}")
        say(f"  {each.meaning}.")
        say(f"  To mend it: {each.mend}")
        if would and each.repair:
            say(f"  --repair would {each.repair}.")
    damages = sum(each.severity == "damage" for each in findings)
    say(f"{damages} damages, {len(findings) - damages} notices." if findings else "Nothing is wrong.")
    for outcome in outcomes:
        done = f"FAILED ({outcome.error})" if outcome.error else "DONE"
        say(f"{done} {outcome.finding.where}: {outcome.finding.repair}")
