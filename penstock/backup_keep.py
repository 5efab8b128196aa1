"""Backups that are there: list them, read them back, keep the newest.

A prune removes indexes first: from then on those backups are not there, whatever else is left of them. Objects and
manifests that no index leads to go next - but none while a backup runs, for it counts on objects that it has seen.

::

    mark of this prune, alone? ─▶ indexes beyond the newest N ─▶ list objects ─▶ no mark of a backup?
        ─▶ read the manifests that are left ─▶ remove objects that were listed and that none of them names

Why nothing is removed that somebody needs: a backup that began before the look at the marks is seen by it, or has
published, and then its manifest is read. One that begins behind it takes only objects that a manifest names, and those
are the manifests that are read, for no other prune removes any meanwhile; what it writes itself has a name of its own.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from common.errors import LeaseHeld, StateCorrupt
from common.fault_points import reach
from lake.backup_place import REMEDY, BackupPlace
from lake.object_files import FileFacts
from lake.sweep import Progress, silent
from penstock.backup_manifest import (
    MANIFESTS,
    OBJECTS,
    RUNNING,
    Index,
    Manifest,
    backup_ids,
    index_name,
    newest,
    read_index,
    read_manifest,
)

_PRUNE = "prune-"
_PRUNE_LIVES = timedelta(hours=1)
"""How long the mark of a prune that does not renew it keeps others away."""
_RENEW_S = 60.0
_MARK = b'{"prune": true}'
_READS_AT_ONCE = 4


def listed(place: BackupPlace) -> list[Index]:
    """Every backup, oldest first.

    Raises:
        StateCorrupt: an index is damaged; the message names it.
        StoreUnavailable: the place does not answer.
    """
    return [read_index(place, backup_id) for backup_id in backup_ids(place)]


# -- reading back ------------------------------------------------------------------------------------------------------


@dataclass
class Verified:
    """What was read back.

    Attributes:
        backups: ids.
        objects, size_bytes: read.
        damaged: object -> what is wrong with it.
    """

    backups: list[str]
    objects: int = 0
    size_bytes: int = 0
    damaged: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return asdict(self)

    def raise_if_damaged(self, place: BackupPlace) -> None:
        """Say which objects are damaged.

        Raises:
            StateCorrupt: some are; the message names them.
        """
        if self.damaged:
            told = "; ".join(f"{name}: {problem}" for name, problem in sorted(self.damaged.items())[:5])
            raise StateCorrupt(f"{len(self.damaged)} objects in {place} are damaged: {told}.", remedy=REMEDY)


def verify(place: BackupPlace, backup_id: str | None = None, *, progress: Progress = silent) -> Verified:
    """Read back every byte of a backup and compare lengths and checksums.

    Args:
        place: where.
        backup_id: which; the newest by default, ``all`` for all of them.
        progress: told of each object.

    Raises:
        StateCorrupt: index or manifest is damaged.
        StoreUnavailable: the place does not answer.
        UnknownName: there is no such backup.
    """
    ids = backup_ids(place) if backup_id == "all" else [backup_id or newest(place)]
    with tempfile.TemporaryDirectory(prefix="penstock-verify-") as scratch:
        manifests = [read_manifest(place, read_index(place, each), Path(scratch)) for each in ids]
    wanted = {entry.object: entry.facts for manifest in manifests for entry in manifest.entries}
    outcome = Verified(ids)

    def problem(item: tuple[str, FileFacts]) -> str:
        name, facts = item
        try:
            found = place.facts(name)
        except StateCorrupt as error:
            return error.problem
        if found is None:
            return "it is missing"
        if found.size_bytes != facts.size_bytes:
            return f"it has {found.size_bytes} bytes, not {facts.size_bytes}"
        return "" if found == facts else "its checksum is another"

    with ThreadPoolExecutor(_READS_AT_ONCE, thread_name_prefix="verify") as workers:
        for (name, facts), told in zip(wanted.items(), workers.map(problem, wanted.items()), strict=True):
            outcome.objects += 1
            outcome.size_bytes += facts.size_bytes
            if told:
                outcome.damaged[name] = told
            progress("verify", outcome.objects, len(wanted), name.rsplit("/", 1)[-1][:12])
    return outcome


# -- retention ---------------------------------------------------------------------------------------------------------


@dataclass
class Pruned:
    """What a prune did.

    Attributes:
        dry_run: nothing was changed.
        removed: ids of backups that went.
        kept: ids of those that stay.
        objects, size_bytes: removed; in a dry run those that would be.
        waits_for: marks of backups that may still run: no object was removed.
    """

    dry_run: bool
    removed: list[str]
    kept: list[str]
    objects: int = 0
    size_bytes: int = 0
    waits_for: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return asdict(self)


def prune(
    place: BackupPlace, *, keep: int, grace: timedelta, dry_run: bool = False, progress: Progress = silent
) -> Pruned:
    """Keep the newest backups; remove the others, and every object that none of those left names.

    Args:
        place: where.
        keep: how many stay, at least 1.
        grace: for how long a mark that nobody renews counts as a backup that runs.
        dry_run: change nothing.
        progress: told of each object.

    Raises:
        LeaseHeld: another prune is at work.
        StateCorrupt: a manifest that stays is damaged, so nobody knows what it names: no object is removed.
        StoreUnavailable: the place does not answer.
    """
    ids = backup_ids(place)
    surplus, kept = ids[: max(0, len(ids) - max(1, keep))], ids[-max(1, keep) :]
    outcome = Pruned(dry_run, surplus, kept)
    mark = f"{RUNNING}/{_PRUNE}{uuid.uuid4().hex}.json"
    place.write(mark, _MARK)
    try:
        _running(place, mark, grace, prunes=True)
        if not dry_run:
            for backup_id in surplus:
                place.remove(index_name(backup_id))
            reach("backup.prune.before_objects")
        there = [*place.stored(OBJECTS), *place.stored(MANIFESTS)]
        outcome.waits_for = _running(place, mark, grace, prunes=False)
        if outcome.waits_for:
            return outcome
        needed = _needed(place, [each for each in backup_ids(place) if each not in surplus])
        doomed = [file for file in there if file.location not in needed]
        renewed_s = time.monotonic()
        for number, file in enumerate(doomed, start=1):
            if time.monotonic() - renewed_s > _RENEW_S:
                place.write(mark, _MARK)
                renewed_s = time.monotonic()
            if not dry_run:
                place.remove(file.location)
            outcome.objects, outcome.size_bytes = number, outcome.size_bytes + file.size_bytes
            progress("prune", number, len(doomed), file.location.rsplit("/", 1)[-1][:12])
    finally:
        place.remove(mark)
    return outcome


def _needed(place: BackupPlace, ids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="penstock-prune-") as scratch:
        for backup_id in ids:
            index = read_index(place, backup_id)
            manifest: Manifest = read_manifest(place, index, Path(scratch))
            found |= {index.manifest_name, *(entry.object for entry in manifest.entries)}
    return found


def _running(place: BackupPlace, own: str, grace: timedelta, *, prunes: bool) -> list[str]:
    """Marks of backups that may live; with ``prunes``, of other prunes instead.

    Raises:
        LeaseHeld: another prune is at work.
    """
    marks = {file.location: file.modified_at for file in place.stored(RUNNING)}
    now = marks.pop(own)
    others = {name for name in marks if name.startswith(f"{RUNNING}/{_PRUNE}")}
    if prunes and any(now - marks[name] < _PRUNE_LIVES for name in others):
        raise LeaseHeld(
            f"Another prune of {place} is at work, or died within the hour: {min(others)}.", remedy="try again later"
        )
    return sorted(
        name for name, since in marks.items() if name not in others and now - since < grace and "/." not in name
    )
