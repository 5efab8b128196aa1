"""Delete what nothing names any more: in two steps, a grace apart, by one clock.

::

    sweep 1: orphans that are a grace old ─▶ noted in ops/maintenance/noticed.json
    sweep 2: orphans noted a grace ago    ─▶ deleted; what is named or gone leaves the note

Why each step is harmless:

* A running writer has files that no snapshot names yet. A file is noted only once it is a grace old, and no batch takes
  that long from its first file to its commit; so what is noted will never be named again.
* A reader may still read a snapshot that was expired a moment ago. Its files are deleted a grace after a sweep found
  them unnamed.
* Hosts' clocks differ. Both times are the store's own: that by which it dates files.
* A sweep that is killed leaves a note of files that are gone, or files without a note: the next one goes on. Two at
  once delete what both have noted; a note that one of them loses costs a day, not a file.

Without a grace everything unnamed goes at once: for a lake that nobody uses.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from common.errors import StateCorrupt
from common.fault_points import reach
from lake.inventory import take_inventory
from lake.lake import Lake
from lake.paths import clock_location, noticed_location, root_location
from lake.storage import StoredFile

_AT_ONCE = 500
"""Files deleted between two looks at how far it has got."""

Progress = Callable[[str, int, int, str], None]
"""Called with stage, steps done, steps in all, and what was just done."""


def silent(_stage: str, _done: int, _total: int, _label: str) -> None:
    """Tell nobody."""


@dataclass
class SweptTable:
    """What a sweep did with the files of one table that nothing names.

    Attributes:
        table: the lake table.
        files, size_bytes: deleted; in a dry run those that would be.
        waiting, waiting_bytes: noted, or too young to be.
    """

    table: str
    files: int = 0
    size_bytes: int = 0
    waiting: int = 0
    waiting_bytes: int = 0


@dataclass
class Sweep:
    """A sweep's outcome.

    Attributes:
        grace_h: the grace, in hours.
        dry_run: nothing was changed.
        tables: by name, those that have orphans.
        held_back: table -> why none of its files was judged.
        unclaimed, unclaimed_bytes: files that no table of the catalog owns; they stay.
        uploads: uploads in parts, begun longer than the grace ago, that were aborted.
    """

    grace_h: float
    dry_run: bool
    tables: list[SweptTable] = field(default_factory=list)
    held_back: dict[str, str] = field(default_factory=dict)
    unclaimed: int = 0
    unclaimed_bytes: int = 0
    uploads: int = 0

    @property
    def files(self) -> int:
        """Files deleted."""
        return sum(table.files for table in self.tables)

    @property
    def size_bytes(self) -> int:
        """Bytes reclaimed."""
        return sum(table.size_bytes for table in self.tables)

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {**asdict(self), "files": self.files, "size_bytes": self.size_bytes}


def sweep(
    lake: Lake,
    *,
    grace: timedelta,
    keep_files: Collection[str] = (),
    keep_receipts: Collection[str] = (),
    dry_run: bool = False,
    now: Callable[[], datetime] | None = None,
    progress: Progress = silent,
) -> Sweep:
    """Note what nothing names, and delete what was noted a grace ago.

    Args:
        lake: the lake.
        grace: see the module; nothing of a lake that is used may be given zero.
        keep_files: attempts whose files stay: of extracts that can be continued.
        keep_receipts: attempts whose receipts stay: those that kept releases name.
        dry_run: change nothing.
        now: the store's clock; asked of the store by default.
        progress: told of each step.

    Raises:
        StoreUnavailable: store or catalog does not answer; what was deleted was due.

    Side effects: files are deleted, the note is written.
    """
    root = root_location(lake.settings.lake_uri)
    progress("sweep", 0, 1, "listing")
    inventory = take_inventory(lake, keep_files=keep_files, keep_receipts=keep_receipts)
    outcome = Sweep(grace.total_seconds() / 3600, dry_run, held_back=inventory.held_back)
    outcome.unclaimed = len(inventory.unclaimed)
    outcome.unclaimed_bytes = sum(file.size_bytes for file in inventory.unclaimed)
    moment = now() if now else lake.clock() if dry_run else lake.storage.now(clock_location(lake.settings.lake_uri))
    before = _read_note(lake)
    noted: dict[str, str] = {}
    due: list[StoredFile] = []
    for table, files in sorted(inventory.orphans.items()):
        swept = SweptTable(table)
        for file in files:
            path = file.location.removeprefix(f"{root}/")
            since = before.get(path)
            if since is None and moment - file.modified_at >= grace:
                since = moment
            if since is not None:
                since = min(since, moment)  # a note of the future is of a clock that has been put right since
            if since is not None:
                noted[path] = since.isoformat()
            if since is not None and moment - since >= grace:
                due.append(file)
                swept.files, swept.size_bytes = swept.files + 1, swept.size_bytes + file.size_bytes
            else:
                swept.waiting, swept.waiting_bytes = swept.waiting + 1, swept.waiting_bytes + file.size_bytes
        outcome.tables.append(swept)
    if not dry_run:
        reach("maintain.sweep.before_note")
        if noted or before:
            _write_note(lake, noted)
        _delete(lake, due, progress)
        if due:
            _write_note(lake, _without(noted, due, root))
    outcome.uploads = lake.storage.abort_uploads(root, older_than=grace, now=moment, dry_run=dry_run)
    return outcome


def _delete(lake: Lake, due: Sequence[StoredFile], progress: Progress) -> None:
    for first in range(0, len(due), _AT_ONCE):
        some = due[first : first + _AT_ONCE]
        reach("maintain.sweep.before_delete")
        lake.storage.delete_many([file.location for file in some])
        progress("sweep", first + len(some), len(due), some[-1].location.rsplit("/", 1)[-1])


def _without(noted: dict[str, str], gone: Sequence[StoredFile], root: str) -> dict[str, str]:
    paths = {file.location.removeprefix(f"{root}/") for file in gone}
    return {path: since for path, since in noted.items() if path not in paths}


def _read_note(lake: Lake) -> dict[str, datetime]:
    """Path below the lake's root -> since when it is noted. A note that was torn is none: it is written anew."""
    try:
        found = lake.storage.read_json(noticed_location(lake.settings.lake_uri))
        return {str(path): datetime.fromisoformat(since) for path, since in found["files"].items()}
    except (StateCorrupt, TypeError, KeyError, ValueError, AttributeError):
        return {}


def _write_note(lake: Lake, noted: dict[str, str]) -> None:
    lake.storage.write_json(noticed_location(lake.settings.lake_uri), {"files": noted})
