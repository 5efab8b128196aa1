"""A task of Airflow as OpenLineage calls it: under the very ids that Airflow's own OpenLineage provider tells it by.

Airflow has no lineage ids; its provider makes them of what a task is called and when its DAG run is due, a UUID of
version 7 whose random part is a digest::

    task     date of the run, "<namespace>.<dag_id>.<task_id>.<try>.<map index>"
    DAG run  date of the run, "<namespace>.<dag_id>.<times cleared>"

So a lineage server that hears both of us joins our events to Airflow's. Made here because the provider loads
OpenLineage's client, and need not be installed.
"""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime
from hashlib import sha1
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.lineage_events import Parent


def task_parent(task: Any, dag_run: Any, namespace: str) -> Parent:
    """A task instance as the parent of what it does, below its DAG run.

    Args:
        task: Airflow's task instance.
        dag_run: its DAG run.
        namespace: that the provider tells Airflow's jobs under.
    """
    from penstock.lineage_events import Parent

    due = dag_run.logical_date or dag_run.run_after
    own = f"{task.dag_id}.{task.task_id}"
    root = Parent(
        task.dag_id, task.run_id, namespace, dated_uuid(due, f"{namespace}.{task.dag_id}.{dag_run.clear_number or 0}")
    )
    return Parent(
        own,
        f"{task.run_id}[{task.map_index}]",
        namespace,
        dated_uuid(due, f"{namespace}.{own}.{task.try_number}.{task.map_index}"),
        root,
    )


def provider_namespace() -> str:
    """The namespace that the provider is, or would be, configured with."""
    from airflow.sdk.configuration import conf

    return str(conf.get("openlineage", "namespace", fallback="") or os.environ.get("OPENLINEAGE_NAMESPACE", "default"))


def dated_uuid(instant: datetime, text: str) -> str:
    """A UUID of version 7 that is the same for the same instant and text, as OpenLineage's clients make it."""
    moment = instant.astimezone(UTC)
    digest = sha1(moment.isoformat().encode() + text.encode(), usedforsecurity=False).digest()
    random_part = int.from_bytes(digest, "big") >> 84
    made = (int(moment.timestamp() * 1000) & (1 << 48) - 1) << 80 | random_part
    return str(uuid.UUID(int=made & ~(0xF << 76) & ~(0x3 << 62) | 7 << 76 | 2 << 62))
