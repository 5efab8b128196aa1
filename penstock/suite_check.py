"""What the suite of now says of rows that were published before: the gate on a snapshot, and nothing moves.

A changed suite judges the next batch. What it would have said of all that is live is asked here: interval by interval
of a lake table, each as a batch of its own, all of one snapshot; of a table of the warehouse as a whole, in the current
release. Nothing is written, no verdict is kept, no row goes to quarantine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import UnknownName
from common.verdict import Verdict
from lake.paths import WHOLE, TableId
from penstock.replay_interval import declare
from penstock.suites import effective_suite, suite_parameters

if TYPE_CHECKING:
    from penstock.pipeline import Pipeline


@dataclass(frozen=True)
class Checked:
    """One interval, judged again.

    Attributes:
        interval: partition key; ``whole`` for a table without intervals, and for one of the warehouse.
        verdict: what its suite says of it now.
    """

    interval: str
    verdict: Verdict

    @property
    def is_good(self) -> bool:
        """Whether it would be published again as it is: no row rejected, nothing refused."""
        return self.verdict.passed and not self.verdict.rejects.num_rows

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; of the rules those that failed, or that would reject rows."""
        return {
            "interval": self.interval,
            "rows": self.verdict.rows_checked,
            "would_reject": self.verdict.rejects.num_rows,
            "would_refuse": not self.verdict.passed,
            "reasons": list(self.verdict.reasons),
            "failed": [
                {
                    "rule": result.rule,
                    "severity": result.severity,
                    "rows_unexpected": result.rows_unexpected,
                    "observed": result.observed,
                    "error": result.error,
                }
                for result in self.verdict.results
                if not result.passed or (result.severity == "critical" and result.rows_unexpected)
            ],
        }


def check_table(
    pipeline: Pipeline, table: TableId, start: str | None = None, end: str | None = None
) -> Iterator[Checked]:
    """Judge what readers have of a table now, interval by interval.

    Args:
        pipeline: whose lake, releases, suites and gate.
        table: ``raw.<source>__<table>``, ``refined.<table>`` or ``warehouse.<table>``.
        start: the first day; all by default. Tables without intervals are judged whatever the days.
        end: the day after the last one.

    Raises:
        UnknownName: there is no such table, or nothing of it is live.
        GateCrashed: a suite is missing or empty, or the gate could not run.
    """
    suite = effective_suite(pipeline.settings, pipeline.sources(), table)
    if table.namespace == "warehouse":
        yield Checked(WHOLE, pipeline.gate.audit_database({table.name: suite}, _release(pipeline))[table.name])
        return
    declare(pipeline, table)
    columns, field_ids = pipeline.lake.columns(table)
    references, pinned = pipeline.references(suite), pipeline.lake.pin(table)
    wanted = [
        key
        for key in sorted(pinned.attempts)
        if key == WHOLE or ((start is None or key >= start) and (end is None or key < end))
    ]
    if not wanted:
        raise UnknownName(f"Nothing of {table} is live in these days.", remedy="run them first, or name other days")
    for key in wanted:
        verdict = pipeline.gate.audit_files(
            suite,
            pinned.paths.get(key, ()),
            columns=columns,
            field_ids=field_ids,
            references=references,
            parameters=suite_parameters(pipeline.sources(), table, key, pipeline.clock()),
        )
        yield Checked(key, verdict)


def _release(pipeline: Pipeline) -> Path:
    from warehouse.releases import Releases

    current = Releases(pipeline.settings.warehouse).current()
    if current is None:
        raise UnknownName("Nothing has been published yet.", remedy="penstock run, or penstock publish")
    return current.database
