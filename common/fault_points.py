"""Named points at which a test can stop the process, to prove that a crash leaves the old version or the new one.

A point does nothing unless it is armed: ``PENSTOCK_FAULT_POINT=lake.publish.before_commit`` kills this process with
SIGKILL when the point is reached for the first time; ``...:3`` at the third. Stages call :func:`reach` where state is
about to change or has just changed.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

_ARMED = os.environ.get("PENSTOCK_FAULT_POINT", "")  # noqa: TID251 - must work before any settings exist
_reached: Counter[str] = Counter()

POINTS = (
    "backup.prune.before_objects",
    "backup.take.after_copy",
    "backup.take.before_publish",
    "ingest.extract.before_read",
    "ingest.extract.after_chunk",
    "ingest.extract.after_write",
    "lake.deletes.before_commit",
    "lake.history.before_commit",
    "lake.incidents.before_commit",
    "lake.merge.before_commit",
    "lake.ops.before_commit",
    "lake.rework.before_commit",
    "lake.publish.before_commit",
    "lake.publish.after_commit",
    "maintain.sweep.before_note",
    "maintain.sweep.before_delete",
    "maintain.expire.before_commit",
    "maintain.compact.before_commit",
    "restore.after_file",
    "restore.before_catalog",
    "restore.before_pointer",
    "refine.write.before_write",
    "refine.write.after_write",
    "warehouse.build.before_models",
    "warehouse.build.after_models",
    "warehouse.publish.before_swap",
    "warehouse.publish.after_swap",
    "warehouse.store.before_pointer",
    "warehouse.bi.before_swap",
)
"""Every point there is; a test arms each of them."""


def reach(point: str) -> None:
    """Die here if this point is armed for this occurrence; otherwise do nothing."""
    if not _ARMED:
        return
    name, _, occurrence = _ARMED.partition(":")
    if name == point:
        _reached[point] += 1
        if _reached[point] == int(occurrence or 1):
            os.kill(os.getpid(), signal.SIGKILL)
