"""Where runs keep what their work has used: one small file a run or task, from which ``ops.costs`` is filled.

::

    ops/usage/<month>/<attempt>.json     rows of one run: what was used for which step of which table and interval

Not in receipts, because a receipt is written before the commit that makes it true, and the commit costs as well; and
because loading code, comparing with the source and the like belong to no batch. The file is written once, when the run
records or ends: an interval costs nothing more by it. A process that was killed leaves none. A sweep deletes files that
the table has, once they are older than last month: until then the table can be filled from them again.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from common.errors import StateCorrupt
from lake.lake import Lake
from lake.ops import COSTS, remembered
from lake.paths import new_attempt, root_location

_LOG = logging.getLogger(__name__)
_FILE = re.compile(r"/(\d{4}-\d\d)/([0-9a-f]{32})\.json$")

_LOOK_BACK = timedelta(days=31)
"""Files older than last month's are looked for only while the table is empty: a listing must not grow for ever."""


def keep_costs(lake: Lake, run_id: str, rows: Sequence[dict[str, Any]]) -> None:
    """Keep what a run has used.

    Args:
        lake: where.
        run_id: the run.
        rows: as :meth:`common.work.Work.take` gives them.

    Raises:
        StoreUnavailable: the store does not take it.
    """
    now = lake.clock().astimezone(UTC)
    location = f"{_folder(lake)}/{now:%Y-%m}/{new_attempt()}.json"
    lake.storage.write_json(location, {"run_id": run_id, "measured_at": now.isoformat(), "rows": list(rows)})


def pending_costs(lake: Lake) -> list[dict[str, Any]]:
    """Rows of ``ops.costs`` that the table does not have yet. The table must be declared.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    known = remembered(lake, COSTS)
    months = {first_month(lake), f"{lake.clock().astimezone(UTC):%Y-%m}"}
    folders = [f"{_folder(lake)}/{month}" for month in sorted(months)]
    found: list[dict[str, Any]] = []
    for folder in folders if known else [_folder(lake)]:
        for location in lake.storage.list_files(folder):
            match = _FILE.search(location)
            if match is None or match[2] in known:
                continue
            try:
                kept = lake.storage.read_json(location)
            except StateCorrupt as error:  # cut off by a crash: what one run used is not worth stopping all others
                _LOG.warning("%s", error)
                continue
            moment = datetime.fromisoformat(kept["measured_at"])
            of = {"month": match[1], "attempt_id": match[2], "run_id": kept["run_id"], "measured_at": moment}
            found += [{**row, **of} for row in kept["rows"]]
    return found


def first_month(lake: Lake) -> str:
    """The first month whose files are looked at, ``YYYY-MM``."""
    return f"{lake.clock().astimezone(UTC) - _LOOK_BACK:%Y-%m}"


def recorded(lake: Lake) -> set[str]:
    """Attempts whose files the table has; none if there is no table.

    Raises:
        StateCorrupt, StoreUnavailable: the table cannot be read.
    """
    if not lake.exists(COSTS.table):
        return set()
    lake.ensure(COSTS.table, COSTS.columns, partition_by="month")
    return remembered(lake, COSTS)


def _folder(lake: Lake) -> str:
    return f"{root_location(lake.settings.lake_uri)}/ops/usage"
