"""The calls of the DAG ``backfill`` into the pipeline; heavy imports inside, as in ``steps.py``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from common.errors import BuildFailed, DataRejected, TransientError, UsageError
from dags.penstock_dags.accounted import accounted
from dags.penstock_dags.connections import airflow_address
from dags.penstock_dags.steps import give_way, pipeline_for

if TYPE_CHECKING:
    from penstock.airflow_api import AirflowApi

KEYS_PER_TASK = 31
"""Intervals of one table that one task refines: a month, so that a process's start is paid once a month."""

log = logging.getLogger(__name__)


def plan(params: Mapping[str, Any]) -> dict[str, Any]:
    """What the backfill will do, as the lake is now (:meth:`penstock.backfill.Plan.to_dict`)."""
    from penstock.backfill import plan_backfill
    from penstock.backfill_plan import Wish

    found = plan_backfill(pipeline_for(set()), Wish.from_dict(params)).to_dict()
    for source, spans in found["sources"].items():
        log.info("%s: %s", source, ", ".join(f"{each['first']}..{each['last']} {each['tables']}" for each in spans))
    for each in (*found["ingest"], *found["refine"]):
        log.info("%s: %d intervals, %s", each["table"], len(each["keys"]), each["states"])
    log.info("models touched: %s; work expected: %s s", ", ".join(found["models"]), found["work_s_expected"])
    return found


def advance(backfill_id: str, planned: Mapping[str, Any]) -> bool:
    """Start what may start now; whether all of it has ended. An Airflow that is busy is asked again later."""
    from penstock.backfill_airflow import advance as go_on

    try:
        return go_on(airflow_api(), backfill_id, planned, datetime.now(UTC))
    except TransientError as error:
        log.warning("asked again later: %s", error)
        return False


def work(planned: Mapping[str, Any], *, whole: bool) -> list[dict[str, Any]]:
    """The one refine pass in pieces, each the work of one task: of whole tables, or of days."""
    from lake.paths import WHOLE
    from penstock.backfill import refine_work
    from penstock.backfill_plan import chunks

    keys = {each["table"].removeprefix("refined."): each["keys"] for each in planned["refine"]}
    return [
        {"table": table, "keys": part, "label": f"{table} {part[0]}" + (f" to {part[-1]}" if len(part) > 1 else "")}
        for table, found in refine_work(pipeline_for(set()), keys).items()
        for part in chunks(found, KEYS_PER_TASK)
        if (part == [WHOLE]) == whole
    ]


@accounted
def refine(piece: Mapping[str, Any]) -> dict[str, int]:
    """Refine some intervals of one table; how many were published and how many were as they should be.

    A refused interval does not keep the others from being published: all are tried, then the first refusal is raised
    with the others as notes.
    """
    give_way()
    pipeline, refusals, counted = pipeline_for(set()), list[DataRejected](), {"published": 0, "unchanged": 0}
    for key in piece["keys"]:
        try:
            receipt = pipeline.refine(piece["table"], key)
        except DataRejected as error:
            log.error("refining %s for %s failed: %s", piece["table"], key, error)  # noqa: TRY400 - raised below
            refusals.append(error)
        else:
            if receipt is not None:
                counted[receipt.state] = counted.get(receipt.state, 0) + 1
    if refusals:
        for other in refusals[1:]:
            refusals[0].add_note(f"also: {other}")
        raise refusals[0]
    return counted


def summary(planned: Mapping[str, Any], release: str | None, *, built: bool) -> dict[str, Any]:
    """The account of a backfill at its end (:func:`penstock.backfill.summarize`).

    Args:
        planned: what it was to do.
        release: the release it published.
        built: whether it came as far as to build.
    """
    from penstock.backfill import summarize
    from penstock.incidents import try_to_sync
    from penstock.records import record

    pipeline = pipeline_for(set())
    record(pipeline)  # refused batches, too: no build may have come behind them
    for notice in try_to_sync(pipeline):
        log.warning("%s", notice)
    found = summarize(pipeline, planned, release)
    for each in found["not_done"]:
        log.warning("%s: %s %s: %s", each["state"], each["table"], each["interval"], each["reason"])
    return {**found, "stopped": not built}


def judge(account: Mapping[str, Any]) -> None:
    """Fail the backfill's last task if something was not done, after its account is stored.

    Raises:
        BuildFailed: no release could be built, or the backfill was stopped.
        DataRejected: intervals were not done.
    """
    if account["stopped"]:
        raise BuildFailed("The backfill built no release.", remedy="see the log of the task that failed")
    if account["not_done"]:
        first = account["not_done"][0]
        raise DataRejected(
            f"{len(account['not_done'])} intervals were not done; the release is {account['release']}.",
            table=first["table"],
            interval=first["interval"],
            remedy="mend the cause and start the same backfill again: it goes on from there",
        )


def airflow_api() -> AirflowApi:
    """This Airflow's own REST API: tasks have no other way to make a backfill."""
    from common.settings import Settings
    from penstock.backfill_run import airflow_of

    url = airflow_address()
    settings = Settings.load(connections={"airflow": url}) if url else Settings.load()
    found = airflow_of(settings)
    if found is None:
        raise UsageError(
            "This task does not know how to reach Airflow's REST API.",
            remedy="make an Airflow connection 'airflow' of type http with host, port, login and password",
        )
    return found
