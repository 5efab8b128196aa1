"""How old what is there is: the newest interval of each table, and the current release.

``lag_s`` of a table is the time since the end of its newest interval that is live. So a backfill of old intervals
changes it in neither direction; and of a table without intervals, whose rows have no time, it is the time since it was
last published.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from common.intervals import day_interval
from lake.paths import WHOLE, TableId
from warehouse.releases import Releases

if TYPE_CHECKING:
    from penstock.pipeline import Pipeline


def table_lags(pipeline: Pipeline) -> dict[str, float]:
    """Table -> ``lag_s``, of the raw and refined tables of which anything is live."""
    now = pipeline.clock()
    zones = {str(spec.raw(table.name)): spec.time_zone for spec in pipeline.sources().values() for table in spec.tables}
    of = dict(zones)
    for name, refined in pipeline.refined_tables().items():
        of[f"refined.{name}"] = next((zones[raw] for raw in refined.inputs.values() if raw in zones), "UTC")
    found = {}
    for table, zone in of.items():
        lake_table = TableId.parse(table)
        newest = max(pipeline.lake.live_attempts(lake_table), default=None)
        if newest == WHOLE:
            receipt = pipeline.lake.receipt(lake_table, WHOLE)
            if receipt is not None:
                found[table] = (now - datetime.fromisoformat(receipt.published_at).astimezone(UTC)).total_seconds()
        elif newest is not None:
            found[table] = (now - day_interval(newest, zone).end).total_seconds()
    return found


def release_age_s(pipeline: Pipeline) -> float | None:
    """Time since the current release was published, in s; None before the first."""
    release = Releases(pipeline.settings.warehouse).current()
    if release is None:
        return None
    return (pipeline.clock() - datetime.fromisoformat(release.published_at).astimezone(UTC)).total_seconds()
