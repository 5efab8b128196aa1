"""The calls from the DAG ``penstock_maintenance`` into ``penstock/maintenance.py``: figures come back as JSON."""

from __future__ import annotations

import logging
from typing import Any

from dags.penstock_dags.steps import pipeline_for

log = logging.getLogger(__name__)


def retain() -> dict[str, Any]:
    """Retire releases beyond the limit, and remove what killed processes left."""
    from penstock import maintenance

    done = maintenance.retain(pipeline_for(set()))
    for each in done.left_over:
        log.info("removed %(path)s (%(size_bytes)d bytes): %(why)s", each)
    if done.busy:
        log.info("a build holds the warehouse: its folder was left alone")
    return {"releases": done.releases, "left_over": len(done.left_over), "size_bytes": done.size_bytes}


def compact() -> dict[str, Any]:
    """Merge small files, and drop files of quarantine whose rows count for nothing."""
    from penstock import maintenance

    done = maintenance.compact_tables(pipeline_for(set()))
    for each in done:
        log.info("%s %s: %d files with %d bytes became %d bytes", *vars(each).values())
    return {"partitions": len(done), "files": sum(each.files for each in done)}


def expire() -> dict[str, Any]:
    """Take old snapshots out of every table."""
    from penstock import maintenance

    return {"snapshots": maintenance.expire(pipeline_for(set()))}


def sweep() -> dict[str, Any]:
    """Note and delete files that nothing names."""
    from penstock import maintenance

    done = maintenance.sweep_lake(pipeline_for(set()))
    for table in done.tables:
        log.info("%(table)s: %(files)d files with %(size_bytes)d bytes deleted, %(waiting)d wait", vars(table))
    for held, reason in done.held_back.items():
        log.warning("held back %s: %s. See: penstock doctor", held, reason)
    return {"files": done.files, "size_bytes": done.size_bytes, "held_back": sorted(done.held_back)}
