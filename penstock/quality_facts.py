"""What the quality pages show, read from ``ops.*``, suites and quarantine: by table, bounded, personal data masked.

Of each interval the attempt that was judged last counts; the two tables are read once for all pages. Nothing here is
HTML, and nothing that a page shows is read anywhere else.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from common.errors import PenstockError
from lake.ops import GATE_RESULTS, LEDGER, declare_ops, ops_relation
from lake.paths import WHOLE, TableId, engine_path, root_location
from penstock.anomalies import judge_ages
from penstock.quality_samples import add_sample
from penstock.status import lake_tables
from quality.suite import Rule, Suite

if TYPE_CHECKING:
    from penstock.pipeline import Pipeline

INTERVALS = 400
"""Newest intervals of a table that its page draws."""

RECENT = 14
"""Newest intervals, refusals and warnings that a page lists."""

_SUITE_STAGES = {"ingest": "raw", "refine": "refined", "warehouse": "warehouse"}
_SEVERITIES = ("critical", "warning", "info")
_STATES = ("failed", "noticed", "passed", "never judged")

Point = tuple[str, int, int, int]
"""Interval, rows published, rules that failed there, and how many of those were critical."""


@dataclass
class RuleFacts:
    """One rule over the intervals of its table; ``rule`` is None where the suite has it no more."""

    id: str
    rule: Rule | None
    expectation: str
    severity: str
    row_level: bool
    judged: int = 0
    failed: int = 0
    rows_unexpected: int = 0
    passed_last: bool = True
    observed_last: str = ""
    error_last: str = ""
    last_failed: str = ""
    series: list[tuple[str, int]] = field(default_factory=list)

    @property
    def state(self) -> str:
        """Of the last verdict: ``failed``, ``noticed`` (rows broke it), ``passed`` or ``never judged``."""
        if not self.judged:
            return "never judged"
        if not self.passed_last:
            return "failed"
        return "noticed" if self.series and self.series[-1][1] else "passed"

    @property
    def badge(self) -> str:
        """How the state is shown: what fails without being critical is a warning."""
        return self.severity if self.state == "failed" else self.state


@dataclass
class TableFacts:
    """One table at one stage."""

    stage: str
    name: str
    suite: Suite | None = None
    suite_problem: str = ""
    intervals: int = 0
    refused: int = 0
    rows_in: int = 0
    published: int = 0
    quarantined: int = 0
    deduplicated: int = 0
    judged_at: datetime | None = None
    refused_last: bool = False
    in_run: int = 0
    refused_in_run: int = 0
    points: list[Point] = field(default_factory=list)
    rules: list[RuleFacts] = field(default_factory=list)
    recent: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)
    rhythm: str = ""
    late: bool = False
    waiting: int = 0
    sample: list[dict[str, Any]] = field(default_factory=list)
    sample_columns: list[str] = field(default_factory=list)
    masked: list[str] = field(default_factory=list)

    @property
    def page(self) -> str:
        """File name of its page."""
        return f"{self.stage}.{self.name}.html"

    @property
    def failing(self) -> list[RuleFacts]:
        """Rules that the last verdict says failed, the gravest first."""
        failed = [rule for rule in self.rules if rule.state == "failed"]
        return sorted(failed, key=lambda rule: _SEVERITIES.index(rule.severity))

    @property
    def noticed(self) -> list[RuleFacts]:
        """Rules that some rows broke without failing."""
        return [rule for rule in self.rules if rule.state == "noticed"]

    @property
    def verdict(self) -> str:
        """``refused``, ``warning``, ``passed`` or ``not judged``."""
        if self.refused_last:
            return "refused"
        if not self.judged_at:
            return "not judged"
        return "warning" if self.failing or self.late else "passed"


def gather(pipeline: Pipeline, run_id: str) -> list[TableFacts]:
    """Facts of every table that has a suite or was judged, in the order data flows.

    Raises:
        StateCorrupt, StoreUnavailable: the lake cannot be read.
    """
    declare_ops(pipeline.lake)
    tables: dict[tuple[str, str], TableFacts] = {}
    for stage, folder in _SUITE_STAGES.items():
        for path in sorted((pipeline.settings.suites / folder).glob("*.yml")):
            name = path.stem if stage == "warehouse" else f"{folder}.{path.stem}"
            facts = tables.setdefault((stage, name), TableFacts(stage, name))
            try:
                facts.suite = pipeline.suite(TableId(folder, path.stem))
            except PenstockError as error:
                facts.suite_problem = str(error)
    with pipeline.lake.connect() as connection:
        _read(connection, pipeline)
        _accounts(connection, pipeline, tables, run_id)
        _rules(connection, tables)
    for table, judged in judge_ages(pipeline).items():
        if ("ingest", table) in tables:
            facts = tables["ingest", table]
            facts.rhythm, facts.late = judged.sentence, judged.exceeds(5.0)
    folders = {folder: stage for stage, folder in _SUITE_STAGES.items()}
    lake = {(folders[table.namespace], str(table)): table for table in lake_tables(pipeline)}
    for key, facts in tables.items():
        add_sample(pipeline, facts, lake.get(key))
    order = list(_SUITE_STAGES)
    return sorted(tables.values(), key=lambda facts: (order.index(facts.stage), facts.name))


# -- the two tables ----------------------------------------------------------------------------------------------------


def _read(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline) -> None:
    """Make ``ledger`` and ``results`` of the attempts that count, and ``everything`` of all of the ledger."""
    of = "stage, table_name, partition_key"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE everything AS SELECT * FROM {ops_relation(pipeline.lake, LEDGER)}"
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE ledger AS SELECT * FROM everything WHERE outcome = 'published' "
        f"QUALIFY row_number() OVER (PARTITION BY {of} ORDER BY published_at DESC, attempt_id) = 1"
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE results AS "
        f"SELECT * FROM {ops_relation(pipeline.lake, GATE_RESULTS)} "
        f"QUALIFY rank() OVER (PARTITION BY {of} ORDER BY judged_at DESC, attempt_id) = 1"
    )


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    cursor = connection.execute(query)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _accounts(
    connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, tables: dict[tuple[str, str], TableFacts], run_id: str
) -> None:
    def facts(row: dict[str, Any]) -> TableFacts:
        key = (row["stage"], row["table_name"])
        return tables.setdefault(key, TableFacts(*key))

    for row in _rows(
        connection,
        "SELECT stage, table_name, count(*) AS intervals, sum(rows_in) AS rows_in, sum(published) AS published, "
        "sum(quarantined) AS quarantined, sum(quarantined - coalesce(discarded, 0)) AS waiting, "
        "sum(deduplicated) AS deduplicated, max(published_at) AS judged_at "
        "FROM ledger GROUP BY ALL",
    ):
        found = facts(row)
        for name in ("intervals", "rows_in", "published", "quarantined", "waiting", "deduplicated"):
            setattr(found, name, int(row[name]))
        found.judged_at = row["judged_at"]
    for row in _rows(
        connection,
        "SELECT stage, table_name, count(*) FILTER (outcome = 'refused') AS refused, "
        "count(*) FILTER (run_id = $run) AS in_run, "
        "count(*) FILTER (outcome = 'refused' AND run_id = $run) AS refused_in_run, "
        "arg_max(outcome, (published_at, partition_key)) = 'refused' AS refused_last, max(published_at) AS judged_at "
        "FROM everything GROUP BY ALL".replace("$run", "'" + run_id.replace("'", "''") + "'"),
    ):
        found = facts(row)
        found.refused, found.in_run, found.refused_in_run = row["refused"], row["in_run"], row["refused_in_run"]
        found.refused_last, found.judged_at = row["refused_last"], row["judged_at"]
    recent = "QUALIFY row_number() OVER (PARTITION BY stage, table_name ORDER BY"
    for row in _rows(
        connection, f"SELECT * FROM everything {recent} published_at DESC, partition_key DESC) <= {RECENT}"
    ):
        facts(row).recent.append({**row, "link": _link(pipeline, row)})
    for row in _rows(
        connection, f"SELECT * FROM everything WHERE outcome = 'refused' {recent} published_at DESC) <= {RECENT}"
    ):
        facts(row).refusals.append(row)
    for row in _rows(
        connection, f"SELECT * FROM ledger WHERE warnings IS NOT NULL {recent} partition_key DESC) <= {RECENT}"
    ):
        facts(row).warnings += [(row["partition_key"], text) for text in json.loads(row["warnings"])]


def _link(pipeline: Pipeline, row: dict[str, Any]) -> str | None:
    """From a page to Great Expectations' own result of a batch, where it is a file of this machine."""
    lake = engine_path(root_location(pipeline.settings.lake_uri))
    if row["validation"] is None or row["release_id"] is not None or "://" in lake:
        return None
    return os.path.relpath(Path(lake) / row["validation"], pipeline.settings.home / "quality" / pipeline.run_id)


def _rules(connection: duckdb.DuckDBPyConnection, tables: dict[tuple[str, str], TableFacts]) -> None:
    series: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(dict)
    for row in _rows(connection, "SELECT stage, table_name, partition_key, published FROM ledger ORDER BY ALL"):
        series[row["stage"], row["table_name"]][row["partition_key"]] = [int(row["published"]), 0, 0]
    for row in _rows(
        connection,
        "SELECT stage, table_name, partition_key, count(*) FILTER (NOT passed) AS failed, "
        "count(*) FILTER (NOT passed AND severity = 'critical') AS critical FROM results GROUP BY ALL ORDER BY ALL",
    ):
        point = series[row["stage"], row["table_name"]].setdefault(row["partition_key"], [0, 0, 0])
        point[1:] = [int(row["failed"]), int(row["critical"])]
    for key, points in series.items():
        if key in tables:
            if len(points) > 1:
                points.pop(WHOLE, None)  # a fact is judged as a whole and accounted for by interval
            newest = sorted(points.items())[-INTERVALS:]
            tables[key].points = [(interval, *figures) for interval, figures in newest]  # type: ignore[misc]
    found: dict[tuple[str, str], dict[str, RuleFacts]] = defaultdict(dict)
    for row in _rows(
        connection,
        "SELECT stage, table_name, rule, arg_max(expectation, judged_at) AS expectation, "
        "arg_max(severity, judged_at) AS severity, bool_or(is_row_level) AS row_level, count(*) AS judged, "
        "count(*) FILTER (NOT passed) AS failed, sum(coalesce(rows_unexpected, 0)) AS rows_unexpected, "
        "arg_max(passed, (partition_key, judged_at)) AS passed_last, "
        "arg_max(coalesce(observed, ''), (partition_key, judged_at)) AS observed_last, "
        "arg_max(coalesce(error, ''), (partition_key, judged_at)) AS error_last, "
        "coalesce(max(partition_key) FILTER (NOT passed), '') AS last_failed FROM results GROUP BY ALL",
    ):
        stage, table, rule_id = row.pop("stage"), row.pop("table_name"), row.pop("rule")
        found[stage, table][rule_id] = RuleFacts(rule_id, None, **row)
    for row in _rows(
        connection,
        "SELECT stage, table_name, rule, partition_key, coalesce(rows_unexpected, CASE WHEN passed THEN 0 ELSE 1 END) "
        "AS bad FROM results WHERE (stage, table_name, rule) IN "
        "(SELECT (stage, table_name, rule) FROM results WHERE NOT passed OR rows_unexpected > 0) ORDER BY ALL",
    ):
        found[row["stage"], row["table_name"]][row["rule"]].series.append((row["partition_key"], int(row["bad"])))
    for key, facts in tables.items():
        judged = found.get(key, {})
        for rule in facts.suite.expectations if facts.suite else ():
            known = judged.pop(rule.id, None) or RuleFacts(rule.id, rule, rule.expect, rule.severity, False)
            known.rule = rule
            facts.rules.append(known)
        facts.rules += sorted(judged.values(), key=lambda rule: rule.id)
        facts.rules.sort(key=lambda rule: (_STATES.index(rule.state), _SEVERITIES.index(rule.severity)))
        for rule_facts in facts.rules:
            rule_facts.series = rule_facts.series[-INTERVALS:]


def totals(tables: Sequence[TableFacts]) -> dict[str, int]:
    """What the head of the index says: verdicts by kind, rows in quarantine, what this run did."""
    return {
        "tables": len(tables),
        "refused": sum(facts.verdict == "refused" for facts in tables),
        "warning": sum(facts.verdict == "warning" for facts in tables),
        "passed": sum(facts.verdict == "passed" for facts in tables),
        "waiting": sum(facts.waiting for facts in tables),
        "rules": sum(len(facts.suite.expectations) for facts in tables if facts.suite),
        "in_run": sum(facts.in_run for facts in tables if facts.stage != "warehouse"),
        "refused_in_run": sum(facts.refused_in_run for facts in tables),
    }
