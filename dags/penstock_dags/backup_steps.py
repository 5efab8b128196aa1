"""The calls from the DAG ``penstock_backup`` into ``penstock/backup*.py``: figures come back as JSON."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from dags.penstock_dags.steps import pipeline_for

log = logging.getLogger(__name__)


def take() -> dict[str, Any]:
    """Take a backup; its id and figures."""
    from lake.backup_place import CONNECTION, open_place
    from penstock import backup

    pipeline = pipeline_for({CONNECTION})
    taken = backup.take(pipeline, open_place(pipeline.settings))
    for table in taken.foreign:
        log.warning("%s lies outside of the lake and is not in the backup", table)
    for notice in taken.notices:
        log.warning("%s", notice)
    return {name: getattr(taken.index, name) for name in ("id", "files", "size_bytes", "new_files", "new_bytes")}


def verify(backup_id: str) -> dict[str, Any]:
    """Read a backup back.

    Raises:
        StateCorrupt: something of it is damaged; the message names the objects.
    """
    from lake.backup_place import CONNECTION, open_place
    from penstock import backup_keep

    place = open_place(pipeline_for({CONNECTION}).settings)
    found = backup_keep.verify(place, backup_id)
    found.raise_if_damaged(place)
    return {"objects": found.objects, "size_bytes": found.size_bytes}


def prune() -> dict[str, Any]:
    """Keep the newest backups."""
    from lake.backup_place import CONNECTION, open_place
    from penstock import backup_keep

    settings = pipeline_for({CONNECTION}).settings
    grace = timedelta(hours=settings.sweep_grace_h)
    done = backup_keep.prune(open_place(settings), keep=settings.keep_backups, grace=grace)
    return {"removed": done.removed, "objects": done.objects, "size_bytes": done.size_bytes}
