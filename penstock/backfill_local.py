"""A backfill in this process, where there is no Airflow: the same plan, one interval after another, then one release.

``spans of each source --ingest--> raw lake --one refine pass--> refined lake --one build--> release``

A batch that its gate refuses does not stop the others unless that was asked for; infrastructure that fails does. Run
the same command again: what was published is not wanted any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from common.errors import DataRejected
from penstock.backfill import Plan, refine_work, summarize
from penstock.backfill_plan import allowance
from penstock.pipeline import Pipeline
from penstock.records import record
from penstock.run import Progress


class _Stopped(Exception):
    """An interval failed, and the backfill is to stop then."""


def run_local(
    pipeline: Pipeline, plan: Plan, progress: Progress, *, sleep: Callable[[float], None] = time.sleep
) -> dict[str, Any]:
    """Run a plan; its summary (:func:`penstock.backfill.summarize`).

    Args:
        pipeline: the stages.
        plan: what to do.
        progress: told of every step.
        sleep: waits that many seconds; only a limit of intervals per hour does.

    Raises:
        UsageError, TransientError, TerminalError: the backfill stops; what was published stays.
    """
    refusals: list[DataRejected] = []

    @contextmanager
    def going_on() -> Iterator[None]:
        try:
            yield
        except DataRejected as error:
            refusals.append(error)
            if plan.wish.stop_on_failure:
                raise _Stopped from None

    release = None
    try:
        for source in plan.sources:
            _ingest(pipeline, plan, source, progress, going_on, sleep)
        work = refine_work(pipeline, {each.table.removeprefix("refined."): each.keys for each in plan.refine})
        steps = [(name, key) for name, keys in work.items() for key in keys]
        for done, (name, key) in enumerate(steps, start=1):
            with going_on():
                pipeline.refine(name, key)
            progress("refine", done, len(steps), f"{name} {key}")
        progress("build", 0, 1, "models")
        built = pipeline.build_and_publish()
        release = built.id if built else None
        progress("build", 1, 1, release or "nothing changed")
    except _Stopped:
        pass
    record(pipeline)
    summary = summarize(pipeline, plan.to_dict(), release)
    return {**summary, "stopped": bool(refusals and plan.wish.stop_on_failure)}


def _ingest(
    pipeline: Pipeline,
    plan: Plan,
    source: str,
    progress: Progress,
    going_on: Callable[[], Any],
    sleep: Callable[[float], None],
) -> None:
    stage, total, done = f"ingest {source}", len(plan.days(source)), 0
    started: list[datetime] = []
    progress(stage, 0, total, "connecting")
    with pipeline.reading(source) as reader:
        for span in plan.sources[source]:
            for key in span.keys[::-1] if plan.wish.newest_first else span.keys:
                while allowance(plan.wish.max_per_hour, started, pipeline.clock()) == 0:
                    free_at = started[-(plan.wish.max_per_hour or 1)] + timedelta(hours=1)
                    sleep(max(1.0, (free_at - pipeline.clock()).total_seconds()))
                started.append(pipeline.clock())
                for table in span.tables:
                    with going_on():
                        pipeline.ingest(source, table, key, reader=reader)
                done += 1
                for state, days in (("done", done), ("left", total - done)):
                    pipeline.work.measure("penstock.backfill.intervals", days, source=source, state=state)
                progress(stage, done, total, key)
    for table in {table for span in plan.sources[source] for table in span.tables}:
        pipeline.sync_history(source, table)
