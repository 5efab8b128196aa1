"""The pools of Airflow that the DAGs need, and how many tasks may be at work for them never to wait for each other.

``pools bound what works; a worker is also taken while its task starts and ends, and by whoever only holds a snapshot``
"""

from __future__ import annotations


def pools(parallelism: int) -> dict[str, tuple[int, str]]:
    """By name, slots and what they are for (see ``dags/penstock_dags/defaults.py``).

    Args:
        parallelism: how many tasks may read sources at once.
    """
    return {
        "source_load": (parallelism, "Tasks that read sources: how many connections are open to them at once."),
        "backfill": (max(1, parallelism // 2), "Tasks of backfills: they never take a slot of a live run."),
        "snapshots": (max(1, parallelism // 2), "Runs whose tables are read in one snapshot: one task holds it."),
        "backfill_snapshots": (max(1, parallelism // 2), "The same for runs of backfills."),
        "maintenance": (1, "The one maintenance step that runs at a time: beside everything else, in nobody's slots."),
        "warehouse": (4, "Between raw lake and release: to refine takes one slot, to build or publish takes all."),
    }


def workers(parallelism: int) -> int:
    """How many tasks the local Airflow runs at once: twice those that work, for starting and ending is mostly waiting.

    Holders of snapshots come on top: they hold their workers for as long as others read.

    Args:
        parallelism: how many tasks may read sources at once.
    """
    of = pools(parallelism)
    return 2 * parallelism + of["snapshots"][0] + of["backfill_snapshots"][0]
