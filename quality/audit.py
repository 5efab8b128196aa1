"""Plan + rows -> Great Expectations' own results, and the bad rows in the flags table.

Four statements for most suites: facts, flags, counts, examples. Their answers are handed to GX as resolved metrics, and
each expectation judges itself from them, so that success, ``mostly``, percentages and the result's JSON are GX's.

Failing is isolated: when a statement that serves many rules fails, its parts are run one by one, and only the rules
that need the broken part carry the error. Any error refuses the batch (the gate sees to that).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import duckdb
from great_expectations.core.expectation_validation_result import ExpectationValidationResult
from great_expectations.util import convert_to_json_serializable
from great_expectations.validator.metric_configuration import MetricConfiguration, MetricConfigurationID

from common.verdict import RuleResult
from lake.sql import identifier
from quality.deadline import Deadline
from quality.engine import DuckDBExecutionEngine
from quality.flags import (
    BATCH_VIEW,
    ROW_NUMBER,
    ROWS_VIEW,
    RowTest,
    count_statement,
    failed_statement,
    failed_tests,
    flag_statement,
)
from quality.plan import Metrics, Plan, RulePlan, describe, runtime
from quality.results import examples_of, failed_to_run, rule_result


@dataclass(frozen=True)
class Judgement:
    """One rule's outcome: ours for the verdict, GX's for its own JSON."""

    result: RuleResult
    gx: ExpectationValidationResult
    plan: RulePlan

    @property
    def test(self) -> int | None:
        """Number of its test in the flag pass."""
        return self.plan.test


@dataclass(frozen=True)
class Audit:
    """All rules' outcomes on one batch. The bad rows stay in the flags table of the connection.

    Attributes:
        judgements: one per rule.
        rows_checked: rows of the batch.
        keeps_rows: whether the flags table also has the rows that may be rejected.
    """

    judgements: tuple[Judgement, ...]
    rows_checked: int
    keeps_rows: bool = False


def audit(plan: Plan, engine: DuckDBExecutionEngine, deadline: Deadline) -> Audit:
    """Judge the rows that the engine's connection shows as batch and rows view.

    Args:
        plan: made for the same schema.
        engine: GX's engine on that connection.
        deadline: told what is judged; asked whenever DuckDB fails whether that was its interrupt.

    Raises:
        duckdb.Error: the batch cannot be read at all.
        OutOfTime: the deadline is over.

    Side effects: replaces the flags table.
    """
    return _Run(plan, engine, deadline).judge()


class _Run:
    def __init__(self, plan: Plan, engine: DuckDBExecutionEngine, deadline: Deadline) -> None:
        self._plan = plan
        self._deadline = deadline
        self._engine = engine
        self._connection = engine.connection
        self._metrics: Metrics = dict(plan.known)
        self._errors: dict[MetricConfigurationID, str] = {}
        self._broken_tests: dict[int, str] = {}
        self._examples: dict[int, list[int]] = {}

    def judge(self) -> Audit:
        suite = self._plan.suite
        rows = self._scalar(f"SELECT count(*) FROM {BATCH_VIEW}")
        self._deadline.doing = f"the batch-level rules of {suite.origin}"
        for where, facts in self._plan.facts.items():
            self._find_facts(where, facts)
        for rule, metric, query in self._plan.queries:
            self._deadline.doing = f"rule {suite.named(rule)}"
            self._attempt(metric, query)
        for step in self._plan.steps:
            self._deadline.doing = f"{step.metric_name} for the rules of {suite.origin}"
            self._take(step)
        self._deadline.doing = self._plan.row_rules_in_words()
        self._find_bad_rows()
        return Audit(tuple(self._judge_rule(item) for item in self._plan.rules), rows, bool(self._plan.kept))

    def _scalar(self, query: str) -> int:
        row = self._connection.execute(query).fetchone()
        return int(row[0]) if row else 0

    def _attempt(self, metric: MetricConfigurationID, query: str) -> None:
        try:
            self._metrics[metric] = self._scalar(query)
        except duckdb.Error as error:
            self._deadline.check()
            self._errors[metric] = describe(error)

    def _take(self, step: MetricConfiguration) -> None:
        """Let GX compute one metric from those before it."""
        cause = next(
            (self._errors[need.id] for need in step.metric_dependencies.values() if need.id in self._errors), None
        )
        if cause is None:
            try:
                self._metrics.update(self._engine.resolve_metrics([step], self._metrics))
            except Exception as error:  # noqa: BLE001 - kept, and refused by the gate
                self._deadline.check()
                cause = describe(error)
        if cause is not None:
            self._errors[step.id] = cause

    def _find_facts(self, where: str | None, facts: Mapping[MetricConfigurationID, str]) -> None:
        source = f"FROM {BATCH_VIEW}" + (f" WHERE {where}" if where else "")
        try:
            answers = self._connection.execute(f"SELECT {', '.join(facts.values())} {source}").fetchone() or ()
        except duckdb.Error as error:
            self._deadline.check()
            if len(facts) == 1:
                self._errors[next(iter(facts))] = describe(error)
                return
            for metric, expression in facts.items():
                self._find_facts(where, {metric: expression})
            return
        for metric, answer in zip(facts, answers, strict=True):
            self._metrics[metric] = convert_to_json_serializable(answer)

    def _find_bad_rows(self) -> None:
        tests = dict(enumerate(self._plan.tests))
        for number, condition in self._plan.late.items():
            try:
                resolved = self._engine.sql(self._metrics[condition.id][0])
                tests[number] = replace(tests[number], condition=resolved)
            except Exception as error:  # noqa: BLE001 - kept, and refused by the gate
                self._break(tests, number, self._errors.get(condition.id) or describe(error))
        if not tests:
            return
        try:
            self._connection.execute(flag_statement(list(tests.values()), self._plan.kept, self._plan.rejecting))
        except duckdb.Error:
            self._deadline.check()
            for number, test in tests.items():
                try:
                    self._connection.execute(flag_statement([test]))
                except duckdb.Error as error:
                    self._deadline.check()
                    self._break(tests, number, describe(error))
            self._connection.execute(flag_statement(list(tests.values()), self._plan.kept, self._plan.rejecting))
        # Most tests of most batches fail on no row: asking for those alone spares two aggregates for each other one.
        failed = failed_tests(self._connection.execute(failed_statement(len(tests))).fetchone() or ())
        row = self._connection.execute(count_statement(failed)).fetchone() or () if failed else ()
        counts = dict(zip(failed, row[: len(failed)], strict=True))
        self._examples = {number: rows for number, rows in zip(failed, row[len(failed) :], strict=True) if rows}
        for item in self._plan.rules:
            if item.test is not None and item.count is not None:
                self._metrics[item.count] = int(counts.get(item.test, 0))
        self._find_examples()

    def _break(self, tests: dict[int, RowTest], number: int, reason: str) -> None:
        self._broken_tests[number] = reason
        tests[number] = RowTest(condition="false")

    def _find_examples(self) -> None:
        """The values of the first bad rows of each rule, in one scan of the columns concerned."""
        failing = {item.test: item for item in self._plan.rules if item.examples and item.test in self._examples}
        columns = list(dict.fromkeys(column for item in failing.values() for column in item.columns))
        numbers = sorted({number for test in failing if test is not None for number in self._examples[test]})
        found: dict[int, dict[str, Any]] = {}
        if failing:
            names = ", ".join(identifier(column) for column in columns)
            wanted = ", ".join(str(number) for number in numbers)
            rows = self._connection.execute(
                f"SELECT {ROW_NUMBER}, {names} FROM {ROWS_VIEW} WHERE {ROW_NUMBER} IN ({wanted})"
            ).fetchall()
            found = {row[0]: dict(zip(columns, row[1:], strict=True)) for row in rows}
        for item in self._plan.rules:
            if item.examples is not None and item.test is not None:
                bad = [found[number] for number in self._examples.get(item.test, [])]
                self._metrics[item.examples] = examples_of(item, bad)

    def _judge_rule(self, item: RulePlan) -> Judgement:
        error = item.error or self._broken_tests.get(-1 if item.test is None else item.test)
        error = error or next((self._errors[metric] for metric in item.inputs.values() if metric in self._errors), None)
        judged = failed_to_run(item, error) if error else self._ask_great_expectations(item)
        return Judgement(rule_result(item, judged, self._examples.get(item.test or 0, [])), judged, item)

    def _ask_great_expectations(self, item: RulePlan) -> ExpectationValidationResult:
        try:
            raw = item.expectation._validate(  # noqa: SLF001 - what GX's own metrics_validate() calls
                metrics={name: self._metrics[metric] for name, metric in item.inputs.items()},
                runtime_configuration=runtime(),
                execution_engine=self._engine,
            )
        except Exception as error:  # noqa: BLE001 - kept, and refused by the gate
            self._deadline.check()
            return failed_to_run(item, describe(error))
        result = raw if isinstance(raw, ExpectationValidationResult) else ExpectationValidationResult(**raw)
        result.expectation_config = item.configuration
        return result
