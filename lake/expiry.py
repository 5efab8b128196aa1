"""Take old snapshots out of a table's metadata; their files become orphans, which a sweep deletes later.

Every commit does so when there are twice :data:`lake.commit.KEEP_SNAPSHOTS` (``lake/commit.py``). Here it is done on
request: to fewer, and sparing snapshots that somebody names - the releases that are kept, as far as those are still
there. A commit spares nothing but the newest ones, so a release's snapshot outlives ten to twenty later commits and no
more: releases, not snapshots, are what people go back to.
"""

from __future__ import annotations

import random
import time
from collections.abc import Collection

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table.update.snapshot import ExpireSnapshots

from common.errors import CommitConflict
from common.fault_points import reach
from lake.catalog import find_table
from lake.commit import COMMIT_ATTEMPTS
from lake.lake import Lake
from lake.paths import TableId
from lake.remembering import LeanTransaction


def expire_snapshots(
    lake: Lake, table: TableId, *, keep: int, spared: Collection[int] = (), dry_run: bool = False
) -> int:
    """Leave the newest snapshots of a table, and those that are spared.

    Args:
        lake: the lake.
        table: the table.
        keep: how many of the newest stay, at least 1.
        spared: ids of snapshots that stay whatever their age.
        dry_run: change nothing.

    Returns:
        Snapshots taken out.

    Raises:
        CommitConflict: other writers kept winning; nothing was taken out.
        StoreUnavailable: the catalog does not answer.

    Side effects: one commit that adds no snapshot, or none.
    """
    for _ in range(COMMIT_ATTEMPTS):
        loaded = find_table(lake.catalog, table)
        if loaded is None:
            return 0
        named = {reference.snapshot_id for reference in loaded.metadata.refs.values()} | set(spared)
        snapshots = sorted(loaded.metadata.snapshots, key=lambda snapshot: snapshot.sequence_number or 0)
        old = [each.snapshot_id for each in snapshots[: -max(1, keep)] if each.snapshot_id not in named]
        if dry_run or not old:
            return len(old)
        reach("maintain.expire.before_commit")
        try:
            with LeanTransaction(loaded) as transaction:
                ExpireSnapshots(transaction).by_ids(old).commit()
            return len(old)
        except CommitFailedException:
            time.sleep(random.uniform(0.02, 0.2))  # noqa: S311 - jitter, not a secret
    raise CommitConflict(
        f"Other writers won {COMMIT_ATTEMPTS} times in a row.", table=str(table), remedy="expire its snapshots later"
    )
