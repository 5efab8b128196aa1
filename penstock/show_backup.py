"""What backups and restores did, for people or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from penstock.cli_options import print_json
from penstock.show import print_table, say

if TYPE_CHECKING:
    from lake.backup_place import BackupPlace
    from penstock.backup import Taken
    from penstock.backup_keep import Pruned, Verified
    from penstock.backup_manifest import Index
    from penstock.restore import Restored
    from penstock.restore_plan import RestorePlan
    from penstock.restore_table import RestoredTable
    from penstock.restore_table_plan import TableRestore

_COLUMNS = ("id", "taken_at", "tables", "releases", "current", "files", "size_bytes", "new_bytes", "covers_data")


def show_taken(taken: Taken, place: BackupPlace, *, as_json: bool) -> None:
    """What a backup holds, and what had to be copied."""
    if as_json:
        print_json(taken.to_dict())
        return
    index = taken.index
    say(f"Backup {index.id} is in {place}.")
    say(f"{index.tables} tables, {index.releases} releases (current: {index.current or 'none'}).")
    say(
        f"{index.files:,} files with {index.size_bytes:,} bytes, of which {index.new_files:,} objects with "
        f"{index.new_bytes:,} bytes were new; {index.seconds:.1f} s."
    )
    if not index.covers_data:
        say("DATA FILES ARE NOT IN IT: they stay in the lake's own object storage (--data copies them).")
    for table in taken.foreign:
        say(f"NOT IN IT: {table} lies outside of the lake.")
    for notice in taken.notices:
        say(f"NOTICE: {notice}")


def show_backups(backups: Sequence[Index], place: BackupPlace, *, as_json: bool) -> None:
    """Which backups there are."""
    if as_json:
        print_json([asdict(each) for each in backups])
        return
    if backups:
        print_table(f"Backups in {place}", [asdict(each) for each in backups], _COLUMNS)
    else:
        say(f"There is no backup in {place}.")


def show_verified(found: Verified, *, as_json: bool) -> None:
    """What was read back."""
    if as_json:
        print_json(found.to_dict())
        return
    say(f"{found.objects:,} objects with {found.size_bytes:,} bytes of {', '.join(found.backups) or 'none'} were read.")
    for name, problem in sorted(found.damaged.items()):
        say(f"DAMAGED {name}: {problem}")
    if not found.damaged:
        say("Every length and checksum is right.")


def show_pruned(pruned: Pruned, *, as_json: bool) -> None:
    """Which backups went."""
    if as_json:
        print_json(pruned.to_dict())
        return
    verb = "would be removed" if pruned.dry_run else "were removed"
    named = f": {', '.join(pruned.removed)}" if pruned.removed else ""
    say(f"{len(pruned.removed)} backups {verb}{named}; {len(pruned.kept)} stay.")
    if pruned.waits_for:
        say(f"No object was removed: a backup runs, or died ({', '.join(pruned.waits_for)}). The next prune does it.")
    else:
        say(f"{pruned.objects:,} objects with {pruned.size_bytes:,} bytes {verb}.")


def show_plan(plan: RestorePlan, *, overwrite: bool, as_json: bool) -> None:
    """What a restore would do."""
    if as_json:
        print_json(plan.to_dict())
        return
    _told(plan)
    for each in plan.occupied:
        say(f"{'WOULD BE MOVED ASIDE' if overwrite else 'IN THE WAY'}: {each}.")
    if plan.occupied and not overwrite:
        say("It would be refused: restore into another folder (--into), or move that aside (--overwrite).")
    else:
        say("Nothing was changed. To do it, add --yes.")


def show_restored(restored: Restored, *, as_json: bool) -> None:
    """What a restore did."""
    if as_json:
        print_json(restored.to_dict())
        return
    _told(restored.plan)
    if restored.aside:
        say(f"What was there before lies in {restored.aside}.")
    say(f"Restored in {restored.seconds:.1f} s. Look at it: penstock doctor --deep")


def _told(plan: RestorePlan) -> None:
    when = f" as of {plan.at.isoformat()}" if plan.at else ""
    say(f"Backup {plan.manifest.id}, taken at {plan.manifest.taken_at}{when}.")
    say(f"{len(plan.tables)} tables into {plan.new_root}; metadata {_how(plan)}.")
    if plan.not_yet:
        say(f"Not there yet at that time: {', '.join(plan.not_yet)}.")
    say(f"{len(plan.releases)} releases into {plan.settings.warehouse}; current: {plan.current or 'none'}.")
    say(f"{len(plan.files):,} files with {plan.size_bytes:,} bytes.")
    if not plan.manifest.covers_data:
        say(f"Data files are not in it: {len(plan.manifest.data):,} must still be in the lake's object storage.")
    for notice in plan.notices:
        say(f"NOTICE: {notice}.")


def _how(plan: RestorePlan) -> str:
    return "as they were" if plan.old_root == plan.new_root else f"written anew, they were of {plan.old_root}"


def show_table_plan(plan: TableRestore, *, as_json: bool) -> None:
    """What a restore of one table would do."""
    if as_json:
        print_json(plan.to_dict())
        return
    _told_of_table(plan)
    if plan.back or plan.gone:
        say("Nothing was changed. To do it, pause the runs of the table and add --yes.")


def show_restored_table(restored: RestoredTable, *, as_json: bool) -> None:
    """What a restore of one table did."""
    if as_json:
        print_json(restored.to_dict())
        return
    _told_of_table(restored.plan)
    if restored.snapshot_id is not None:
        say(f"Restored in {restored.seconds:.1f} s as snapshot {restored.snapshot_id}.")
        say("What is made of the table is outdated now; the next run brings in what the source has since.")


def _told_of_table(plan: TableRestore) -> None:
    told = plan.to_dict()
    say(f"Backup {plan.manifest.id}, taken at {plan.manifest.taken_at}.")
    say(f"{plan.table} as committed at {told['committed_at']}, snapshot {plan.snapshot_id}.")
    if not plan.back and not plan.gone:
        say(f"All of its {plan.same} intervals are what they were then: there is nothing to do.")
        return
    say(
        f"{len(plan.back)} intervals {_some(told['back'])}come back with {told['rows']:,} rows, "
        f"{told['quarantined']:,} in quarantine, {told['size_bytes']:,} bytes; {plan.same} are what they were."
    )
    if plan.gone:
        say(f"{len(plan.gone)} intervals {_some(plan.gone)}were not there then and are taken out.")


def _some(keys: Sequence[str]) -> str:
    """Which ones, in brackets; first and last of many."""
    if not keys:
        return ""
    return f"({', '.join(keys) if len(keys) < 4 else f'{keys[0]} to {keys[-1]}'}) "
