"""Work, as the HTTP door and the portal see it and may ask for it; :mod:`warehouse.serve.operations` says which.

Everything is done by the functions that the command line calls. A backfill that is started here is run by Airflow: a
server that answers others is no place for hours of work, and where it ends so would the backfill.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from common.errors import UsageError
from common.settings import Settings
from penstock.kept import Kept
from warehouse.serve.problems import Problem

if TYPE_CHECKING:
    from penstock.airflow_api import AirflowApi
    from penstock.backfill_plan import Wish
    from penstock.incident import Incident
    from penstock.pipeline import Pipeline
    from warehouse.serve.operations import Action

_LOG = logging.getLogger(__name__)

KEPT_S = 5.0
"""How long what was read of the lake is shown again, in s: a listing reads whole tables."""

ROLLBACK_WAIT_S = 5.0
"""How long a rollback by HTTP waits for a build, in s."""

Document = dict[str, Any]


class PipelineOperations:
    """Operations on the lake and warehouse of some settings; safe to call from many threads.

    Args:
        settings: where they are; specs are loaded when they are first needed.
        clock: monotonic time in s.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._kept = Kept(KEPT_S, clock)

    @cached_property
    def _pipeline(self) -> Pipeline:
        """For reading, one thread at a time; specs and code are those of the server's start."""
        return self._new_pipeline()

    def _new_pipeline(self) -> Pipeline:
        from penstock.pipeline import Pipeline

        return Pipeline(self._settings)

    # -- looking ---------------------------------------------------------------------------------------------------

    def runs(self) -> list[Document]:
        """See :func:`penstock.runs.runs`; at most :data:`KEPT_S` old."""
        from penstock.runs import runs

        return self._kept.get("runs", lambda: runs(self._pipeline))

    def quarantine(self) -> list[Document]:
        """See :func:`penstock.status.quarantine_counts`; at most :data:`KEPT_S` old."""
        from penstock.status import quarantine_counts

        return self._kept.get("quarantine", lambda: quarantine_counts(self._pipeline))

    def quarantined_rows(self, table: str, limit: int) -> list[Document]:
        """Rows of a table that wait, as they came.

        Raises:
            UnknownName: there is no such lake table.
        """
        from lake.paths import TableId
        from lake.quarantine import quarantined
        from penstock.status import known_table

        with self._kept.guard:
            found = known_table(self._pipeline, TableId.parse(table))
            rows = quarantined(self._pipeline.lake, found, limit=limit).to_pylist()
        return [{**row, **{name: _iso(row[name]) for name in ("quarantined_at", "discarded_at")}} for row in rows]

    def incidents(self) -> list[Document]:
        """All incidents, those that are open first, the gravest of them first; at most :data:`KEPT_S` old."""
        from penstock.incident import gravest_first
        from penstock.incidents import incidents_of

        return self._kept.get(
            "incidents", lambda: [_incident(each) for each in gravest_first(incidents_of(self._pipeline.lake))]
        )

    # -- doing -----------------------------------------------------------------------------------------------------

    def plan_backfill(self, wish: Mapping[str, Any]) -> Document:
        """See :func:`penstock.backfill.plan_backfill`."""
        from penstock.backfill import plan_backfill

        return plan_backfill(self._new_pipeline(), _wish(wish)).to_dict()

    def backfills(self, backfill_id: str | None = None) -> list[Document]:
        """See :func:`penstock.backfill_airflow.status`."""
        from penstock.backfill_airflow import status

        return status(self._airflow(), backfill_id)

    def start_backfill(self, wish: Mapping[str, Any], *, unpause: bool) -> Document:
        """See :func:`penstock.backfill_run.start_in_airflow`."""
        from penstock.backfill_run import start_in_airflow

        wanted, api = _wish(wish), self._airflow()
        running, plan = start_in_airflow(self._new_pipeline(), api, wanted, unpause=unpause)
        return {
            "id": running.run_id if running else None,
            "started": running is not None and plan is not None,
            "plan": plan.to_dict() if plan else None,
        }

    def control_backfill(self, action: Action, backfill_id: str) -> Document:
        """See :func:`penstock.backfill_airflow.control`."""
        from penstock.backfill_airflow import control

        return control(self._airflow(), action, backfill_id)

    def roll_back(self, release_id: str) -> None:
        """See :func:`penstock.doors.roll_back`."""
        from penstock.doors import roll_back

        roll_back(self._settings, release_id, wait_s=ROLLBACK_WAIT_S)

    def _airflow(self) -> AirflowApi:
        from penstock.backfill_run import airflow_of

        try:
            api = airflow_of(self._settings)
        except UsageError as error:
            _LOG.warning("the scheduler cannot be used: %s", error)
            api = None
        if api is None:
            raise Problem(
                "no_scheduler",
                "No Airflow is up that could run or tell of backfills.",
                remedy="start one with 'penstock up', set the connection 'airflow', or run 'penstock backfill run'",
            )
        return api


def _wish(given: Mapping[str, Any]) -> Wish:
    from penstock.backfill_plan import Wish

    try:
        return Wish.from_dict(given)
    except UsageError as error:
        raise Problem("bad_body", error.problem, remedy=error.remedy or "correct the wish") from None


def _incident(incident: Incident) -> Document:
    """What the API tells of an incident: all but who was told of it how."""
    times = {
        name: _iso(getattr(incident, name))
        for name in ("first_seen_at", "last_seen_at", "resolved_at", "acknowledged_at")
    }
    same = ("cause", "kind", "subject", "severity", "owner", "reason", "command", "part_of", "occurrences")
    return {
        "id": incident.incident_id,
        "state": incident.state,
        **{name: getattr(incident, name) for name in same},
        **times,
        "acknowledged_by": incident.acknowledged_by,
        "intervals": list(incident.intervals),
        "tables": [incident.cause.partition(":")[2]],
        "affected": list(incident.affected),
    }


def _iso(moment: Any) -> str | None:
    return moment.isoformat() if moment else None
