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
