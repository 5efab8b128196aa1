"""Batches and tables that are odd against their own past: where the past is read, and what follows a judgement.

A batch's rows are compared with the rows of the days before it, before its gate, where the volume guard compares them
with what they would replace (``penstock/volume.py``). The past of a table with intervals is the live files' own row
counts; of a table that is replaced as a whole it is ``ops.ledger``. Either is read once per run and table.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from common.errors import VolumeRefused
from common.intervals import day_interval
from lake.batches import StagedBatch
from lake.lake import Lake
from lake.ops import LEDGER, declare_ops, ops_relation
from lake.paths import WHOLE, TableId
from lake.sql import literal
from lake.verdicts import record_refusal
from quality.suite import Anomaly, Suite
from quality.trends import Judgement, judge_age, judge_rows

if TYPE_CHECKING:
    from ingestion.spec import SourceSpec, TableSpec
    from penstock.pipeline import Pipeline

_LOG = logging.getLogger(__name__)

LATE_LIMIT = 5.0
"""Spreads beyond its rhythm at which a run warns of a table that nothing new has come to."""


class Anomalies:
    """The past of the tables of one run, as far as it was asked for.

    Args:
        lake: where the past is read.
        suites: suite by table.
        accepted: raw tables whose batches may be of any size.
        run_id: the run, for the record of a refusal.
    """

    def __init__(
        self, lake: Lake, suites: Callable[[TableId], Suite], *, accepted: frozenset[str], run_id: str
    ) -> None:
        self._lake, self._suites, self._accepted, self._run_id = lake, suites, accepted, run_id
        self._past: dict[TableId, dict[date, int]] = {}

    def check(self, staged: StagedBatch) -> StagedBatch:
        """The batch, with a warning if its number of rows is unusual for its table.

        Args:
            staged: the batch; its table's suite says what is unusual.

        Raises:
            VolumeRefused: it is further off than the suite's ``anomaly: {refuse: ...}`` allows.
            GateCrashed, SpecError: there is no suite to say so.

        Side effects: a batch that may not be published is deleted; the account of a refused one is kept beside the
        gate's refusals.
        """
        try:
            return self._checked(staged, self._suites(staged.table).anomaly_limits)
        except BaseException:
            self._lake.discard(staged)
            raise

    def _checked(self, staged: StagedBatch, limits: Anomaly | None) -> StagedBatch:
        if limits is None or (staged.merge is not None and staged.merge.moves):
            return staged  # of a table whose rows move, an interval that is read again has few
        day = self._lake.clock().date() if staged.key == WHOLE else date.fromisoformat(staged.key)
        past = self._past_of(staged.table, staged.key)
        if past.get(day) == staged.rows_staged:
            return staged  # as many as are there: they were judged when they came
        judged = judge_rows(list(past.items()), day, staged.rows_staged)
        past[day] = staged.rows_staged
        if not judged.exceeds(limits.warn_limit):
            return staged
        if judged.exceeds(limits.refuse_limit) and str(staged.table) not in self._accepted:
            raise self._refused(staged, judged, limits)
        warning = f"{staged.key}: unusual volume: {judged.sentence}"
        _LOG.warning("%s %s", staged.table, warning)
        return replace(staged, warnings=(*staged.warnings, warning))

    def _past_of(self, table: TableId, key: str) -> dict[date, int]:
        if table not in self._past:
            found: dict[date, int] = defaultdict(int)
            if key == WHOLE:
                found.update(published_rows(self._lake, table))
            else:
                for file in self._lake.live(table):
                    found[date.fromisoformat(file.key)] += file.rows
            self._past[table] = found
        return self._past[table]

    def _refused(self, staged: StagedBatch, judged: Judgement, limits: Anomaly) -> VolumeRefused:
        figures = {
            "rows": staged.rows_staged,
            "median": judged.median,
            "low": judged.low,
            "high": judged.high,
            "deviations": round(judged.deviations or 0.0, 1),
            "refuse": limits.refuse,
        }
        account = record_refusal(
            self._lake,
            staged.table,
            staged.key,
            self._run_id,
            {"rows_in": staged.rows_in, "anomaly": figures, "reason": judged.sentence},
            attempt=staged.attempt,
        )
        return VolumeRefused(
            f"The number of rows is unusual for this table: {judged.sentence}. Nothing was published.",
            table=str(staged.table),
            interval=staged.key,
            remedy=f"look whether the source is whole; if it is, run again with --accept-volume {staged.table}, or "
            f"raise 'anomaly: {{refuse: ...}}' in the suite. The account: {account}",
        )


def published_rows(lake: Lake, table: TableId) -> dict[date, int]:
    """Rows that were published last on each day, by ``ops.ledger``."""
    if not lake.exists(LEDGER.table):
        return {}
    declare_ops(lake)
    query = (
        f"SELECT published_at::DATE, arg_max(published, published_at) FROM {ops_relation(lake, LEDGER)} "
        f"WHERE table_name = {literal(str(table))} AND outcome = 'published' GROUP BY 1"
    )
    with lake.connect() as connection:
        return {day: int(rows) for day, rows in connection.execute(query).fetchall()}


def judge_ages(pipeline: Pipeline) -> dict[str, Judgement]:
    """How late the newest interval of each raw table is, by ``ops.ledger``; tables without intervals are left out."""
    lake = pipeline.lake
    declare_ops(lake)
    query = (
        f"SELECT table_name, partition_key, min(published_at) FROM {ops_relation(lake, LEDGER)} "
        f"WHERE stage = 'ingest' AND outcome = 'published' AND partition_key <> {literal(WHOLE)} GROUP BY ALL"
    )
    past: dict[str, list[tuple[str, datetime]]] = defaultdict(list)
    with lake.connect() as connection:
        for table, key, moment in connection.execute(query).fetchall():
            past[table].append((key, moment))
    found = {}
    for spec in pipeline.sources().values():
        for table in spec.tables:
            raw = str(spec.raw(table.name))
            if table.partitioned and past[raw] and not _is_over(spec, table, max(past[raw])[0]):
                arrivals = [(day_interval(key, spec.time_zone).end, moment) for key, moment in past[raw]]
                found[raw] = judge_age(arrivals, lake.clock())
    return found


def late_tables(pipeline: Pipeline) -> list[str]:
    """What to tell of tables that nothing new has come to for longer than usual."""
    judged = judge_ages(pipeline)
    return [f"{table}: late: {found.sentence}" for table, found in judged.items() if found.exceeds(LATE_LIMIT)]


def _is_over(spec: SourceSpec, table: TableSpec, newest: str) -> bool:
    """Whether the source declares that nothing comes behind that day."""
    after = date.fromisoformat(newest) + timedelta(days=1)
    ends = [spec.end_date, table.coverage.end if table.coverage else None]
    return any(end is not None and after >= end for end in ends)
