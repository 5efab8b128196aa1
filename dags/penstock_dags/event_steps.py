"""The calls of the DAG ``ingest_on_events``; heavy imports inside, as in ``steps.py``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from common.errors import TerminalError, TransientError
from common.hashing import digest

log = logging.getLogger(__name__)


def version_of(versions: Sequence[str]) -> str:
    """One version of several."""
    return digest(sorted(versions))


def start(events: Sequence[Any]) -> list[str]:
    """Start a run of the source's ingest DAG for each source and day that the events name; the runs' ids.

    A run that is there already was started for the same arrivals, and is left alone.

    Args:
        events: asset events whose extra holds the payload of a trigger: a list of arrivals.

    Raises:
        TransientError: Airflow's API does not answer, or is busy.
        TerminalError: it refused, for all groups that it refused; the others are started.
    """
    from dags.penstock_dags.backfill_steps import airflow_api
    from ingestion.events.arrivals import Arrival, grouped, run_name

    arrivals = [Arrival.from_dict(fields) for event in events for fields in (event.extra or {}).get("payload") or ()]
    api, started, refused = airflow_api(), list[str](), list[str]()
    for (source, key), group in grouped(arrivals).items():
        run_id, dag_id = run_name(group), f"ingest_{source}"
        body = {
            "dag_run_id": run_id,
            "logical_date": None,
            "partition_key": key,
            "conf": {"tables": sorted({arrival.table for arrival in group}), "event": True},
        }
        status, answer = api.request("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)
        if status in {HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.CONFLICT}:
            log.info("%s %s: %s", dag_id, key, "known already" if status == HTTPStatus.CONFLICT else "started")
            started.append(run_id)
        elif status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
            raise TransientError(f"Airflow answered {status} to starting {dag_id} for {key}.", remedy="try again")
        else:
            refused.append(f"{dag_id} for {key}: {status} {answer.get('detail', answer)}")
    if refused:
        raise TerminalError(
            f"Airflow refused to start {'; '.join(refused)}.", remedy="correct the connection 'airflow' or its rights"
        )
    return started
