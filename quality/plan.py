"""A suite and a schema -> a plan: everything about an audit that does not depend on the rows.

GX answers an expectation from *metrics*, and computes metrics from pieces of SQL. The pieces are equal for every batch
of one schema, and building them is most of GX's time on a small batch. So they are built once, by GX, and kept:

* ``tests``: GX's own ``<metric>.condition`` of each row-level rule, as SQL for the flag pass (:mod:`quality.flags`);
* ``facts``: all aggregates GX needs (row counts, nulls, min, mean, ...), one statement per row filter;
* ``steps``: what remains, in order of dependency, left to GX (quantiles, distinct values, z-scores);
* ``inputs``: which metrics each expectation is judged from.

What is row level is read off GX's class: an expectation that counts unexpected rows by a condition. A query
(``unexpected_rows_expectation``) is row level when it returns a column ``row_number``. The rest judges the batch as a
whole. Uniqueness is the one condition not taken from GX: its window over all rows costs more than a grouping, and its
SQL form forgets partly-null keys that its pandas form reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import duckdb
from great_expectations.exceptions.exceptions import MetricProviderError
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
from great_expectations.expectations.registry import get_metric_kwargs
from great_expectations.util import convert_to_json_serializable
from great_expectations.validator.metric_configuration import MetricConfiguration, MetricConfigurationID
from great_expectations.validator.validation_graph import ValidationGraph

from lake.sql import identifier
from quality.engine import DuckDBExecutionEngine
from quality.expectations import QUERY_RULE, build_expectation
from quality.flags import BATCH_VIEW, EXAMPLES, ROW_NUMBER, ROWS_VIEW, RowTest
from quality.suite import Rule, Suite

_PIECES_OF_SQL = (".condition", ".map", ".aggregate_fn")
_COLUMN_UNIQUE, _COMPOUND_UNIQUE = "column_values.unique", "compound_columns.unique"
_ROW_COUNT = "count(*)"
_MOST = 0.8
"""Share of the columns that rules must read, so that reading the others as well costs little."""

_ROWS_METRIC, _COLUMNS_METRIC = "table.row_count", "table.columns"

Metrics = dict[MetricConfigurationID, Any]


class _NotYetKnown:
    """Stands for the number of rows, which GX names as an input of every piece of SQL and uses in none."""


@dataclass
class RulePlan:
    """One rule, ready to be judged.

    Attributes:
        rule: the rule of the suite.
        expectation: GX's object of it.
        row_level: whether it judges single rows.
        inputs: GX's metric names and ids the expectation is judged from.
        test: number of its test in the flag pass.
        count: metric that the flag pass answers.
        examples: metric that takes the example rows, and the columns they are made of.
        error: why it cannot be judged, if it cannot.
    """

    rule: Rule
    expectation: Expectation
    row_level: bool
    inputs: Mapping[str, MetricConfigurationID] = field(default_factory=dict)
    test: int | None = None
    count: MetricConfigurationID | None = None
    examples: MetricConfigurationID | None = None
    columns: tuple[str, ...] = ()
    error: str | None = None

    @cached_property
    def configuration(self) -> ExpectationConfiguration:
        """GX's description of the expectation; its own property makes a new one at each look."""
        return self.expectation.configuration

    @cached_property
    def configuration_json(self) -> dict[str, Any]:
        """The same, JSON-compatible."""
        return convert_to_json_serializable(self.configuration.to_json_dict())


@dataclass
class Plan:
    """Everything about auditing one suite on one schema, except the rows."""

    suite: Suite
    columns: tuple[str, ...] = ()
    rules: list[RulePlan] = field(default_factory=list)
    tests: list[RowTest] = field(default_factory=list)
    late: dict[int, MetricConfiguration] = field(default_factory=dict)
    known: Metrics = field(default_factory=dict)
    facts: dict[str | None, dict[MetricConfigurationID, str]] = field(default_factory=dict)
    queries: list[tuple[str, MetricConfigurationID, str]] = field(default_factory=list)
    steps: list[MetricConfiguration] = field(default_factory=list)

    @cached_property
    def rejecting(self) -> frozenset[int]:
        """Numbers of the tests whose rows may be rejected."""
        if self.suite.policy == "warn" or not self.columns:
            return frozenset()
        critical = (item for item in self.rules if item.rule.severity == "critical")
        return frozenset(item.test for item in critical if item.test is not None)

    @cached_property
    def kept(self) -> tuple[str, ...]:
        """Columns that the flag pass keeps of rows that may be rejected: all, if it reads most of them anyway."""
        read = {column for item in self.rules if item.test is not None for column in item.columns}
        return self.columns if self.rejecting and len(read) >= _MOST * len(self.columns) else ()

    def row_rules_in_words(self) -> str:
        """What the flag pass judges; of its rules the queries are named, which alone can be slow."""
        judged = [item for item in self.rules if item.test is not None]
        queries = [self.suite.named(item.rule.id) for item in judged if item.rule.expect == QUERY_RULE]
        among = f", among them {', '.join(queries)}" if queries else ""
        return f"the {len(judged)} rules on single rows of {self.suite.origin}{among}"


def runtime() -> dict[str, Any]:
    """What GX is asked to observe: counts and a few examples. A new dict each time, because GX writes into it."""
    return {
        "result_format": {
            "result_format": "BASIC",
            "partial_unexpected_count": EXAMPLES,
            "include_unexpected_rows": False,
            "map_expectation_unexpected_rows_as_dict": False,
        }
    }


class Planner:
    """Builds the plan of one suite on the schema of the views that the engine's connection has now."""

    def __init__(self, engine: DuckDBExecutionEngine, suite: Suite, parameters: Mapping[str, Any]) -> None:
        self._engine = engine
        self._parameters = parameters
        self._graph = ValidationGraph(execution_engine=engine)
        self._types = _describe(engine.connection, f"SELECT * FROM {BATCH_VIEW}")
        self._plan = Plan(suite, tuple(self._types))
        self._promised: set[MetricConfigurationID] = set()
        self._seen: set[MetricConfigurationID] = set()

    def build(self) -> Plan:
        """The plan. A rule that cannot be planned carries the reason; the gate refuses such a batch.

        Raises:
            SpecError: the suite names an unknown expectation or argument.
        """
        suite = self._plan.suite
        for rule in suite.expectations:
            expectation = build_expectation(suite, rule, self._parameters)
            item = RulePlan(rule, expectation, row_level=False)
            self._plan.rules.append(item)
            try:
                self._add(item)
            except Exception as error:  # noqa: BLE001 - any failure to plan is that rule's failure to judge
                item.error = describe(error)
        return self._plan

    def _add(self, item: RulePlan) -> None:
        dependencies = item.expectation.get_validation_dependencies(
            execution_engine=self._engine, runtime_configuration=runtime()
        ).metric_configurations
        item.inputs = {name: metric.id for name, metric in dependencies.items()}
        if item.rule.expect == QUERY_RULE:
            self._add_query(item)
        else:
            map_metric = getattr(item.expectation, "map_metric", None)
            if map_metric and f"{map_metric}.unexpected_count" in dependencies:
                item.row_level = True
                self._add_condition(item, map_metric, dependencies)
        for metric in dependencies.values():
            if metric.id not in self._promised:
                self._resolve(metric)

    def _add_query(self, item: RulePlan) -> None:
        """A query of the suite: row level if it returns the position of bad rows, else any row is a failure."""
        query = str(getattr(item.expectation, "unexpected_rows_query")).format(batch=ROWS_VIEW)  # noqa: B009
        rows, count = item.inputs["unexpected_rows_query.table"], item.inputs["unexpected_rows_query.row_count"]
        self._plan.known[rows] = []
        self._promised.add(count)
        names = [name.lower() for name in _describe(self._engine.connection, query)]
        if ROW_NUMBER in names:
            item.row_level = True
            item.count = count
            item.test = self._new_test(RowTest(query=query))
        else:
            self._plan.queries.append((item.rule.id, count, f"SELECT count(*) FROM ({query}\n)"))

    def _add_condition(self, item: RulePlan, map_metric: str, dependencies: Mapping[str, MetricConfiguration]) -> None:
        """A condition on rows, in GX's words."""
        count = dependencies[f"{map_metric}.unexpected_count"]
        domain = count.metric_domain_kwargs
        columns = domain.get("column_list") or [
            domain[key] for key in ("column", "column_A", "column_B") if key in domain
        ]
        unknown = [column for column in columns if column not in self._types]
        if unknown:
            raise LookupError(f"no column {', '.join(unknown)}; there are {', '.join(self._types)}")
        where = self._engine.domain_filter(dict(domain))
        late: MetricConfiguration | None = None
        if map_metric in (_COLUMN_UNIQUE, _COMPOUND_UNIQUE):
            test = RowTest(duplicates=tuple(columns), domain=_unique_domain(map_metric, columns, where))
        else:
            name = f"{map_metric}.condition"
            kwargs = get_metric_kwargs(
                name, configuration=item.expectation.configuration, runtime_configuration=runtime()
            )
            condition = MetricConfiguration(name, kwargs["metric_domain_kwargs"], kwargs["metric_value_kwargs"])
            self._resolve(condition)
            if condition.id in self._plan.known:
                test = RowTest(condition=self.condition_sql(condition, self._plan.known), domain=where)
            else:
                test, late = RowTest(condition="false", domain=where), condition
        item.test = self._new_test(test)
        if late is not None:
            self._plan.late[item.test] = late
        item.count = count.id
        item.columns = tuple(columns)
        self._promised.add(count.id)
        for suffix in ("unexpected_values", "filtered_row_count"):
            metric = dependencies.get(f"{map_metric}.{suffix}")
            if metric is None:
                continue
            self._promised.add(metric.id)
            if suffix == "unexpected_values":
                item.examples = metric.id
            else:
                counted = f"{_ROW_COUNT} FILTER (WHERE {where})" if where else _ROW_COUNT
                self._plan.facts.setdefault(None, {})[metric.id] = counted

    def condition_sql(self, condition: MetricConfiguration, metrics: Metrics) -> str:
        """SQL of a resolved ``.condition`` metric."""
        return self._engine.sql(metrics[condition.id][0])

    def _new_test(self, test: RowTest) -> int:
        self._plan.tests.append(test)
        return len(self._plan.tests) - 1

    def _resolve(self, metric: MetricConfiguration) -> None:
        """Place a metric: known now, a fact, or a step for each batch."""
        if metric.id in self._seen or metric.id in self._plan.known:
            return
        self._seen.add(metric.id)
        other_table = metric.metric_domain_kwargs.get("table")
        if metric.metric_name == "table.column_types" and not other_table:
            self._plan.known[metric.id] = [{"name": name, "type": kind} for name, kind in self._types.items()]
            return
        function: Any
        provider, function = self._graph.set_metric_configuration_default_kwargs_if_absent(metric)
        needs = provider.get_evaluation_dependencies(
            metric=metric, execution_engine=self._engine, runtime_configuration=runtime()
        )
        metric.metric_dependencies = needs
        for need in needs.values():
            self._resolve(need)
        known = self._plan.known
        settled = all(need.id in known or need.metric_name == _ROWS_METRIC for need in needs.values())
        if settled and metric.metric_name.endswith((*_PIECES_OF_SQL, _COLUMNS_METRIC)):
            unused = {need.id: _NotYetKnown() for need in needs.values() if need.metric_name == _ROWS_METRIC}
            resolved = self._engine.resolve_metrics([metric], {**unused, **known})
            known[metric.id] = resolved[metric.id]
        elif settled and function is None and not other_table:
            self._add_fact(metric, known[needs["metric_partial_fn"].id])
        else:
            self._plan.steps.append(metric)

    def _add_fact(self, metric: MetricConfiguration, partial: tuple[Any, dict[str, Any], dict[str, Any]]) -> None:
        expression, domain, _ = partial
        where = self._engine.domain_filter(domain)
        self._plan.facts.setdefault(where, {})[metric.id] = self._engine.sql(expression)


def describe(error: BaseException) -> str:
    """An error in one line: what GX hides in its own message is the first cause."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    text = " ".join(str(cause).split()) or type(cause).__name__
    if isinstance(cause, MetricProviderError):
        text = f"Great Expectations cannot express this rule in SQL ({text})"
    return text if len(text) <= 500 else text[:500] + "..."


def _unique_domain(map_metric: str, columns: Sequence[str], where: str | None) -> str | None:
    """A single column's nulls are no values and do not repeat; which compound keys to skip, GX's own filter says."""
    if map_metric == _COMPOUND_UNIQUE:
        return where
    present = f"{identifier(columns[0])} IS NOT NULL"
    return f"({where}) AND {present}" if where else present


def _describe(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, str]:
    """Column names and DuckDB types of a query, without running it."""
    return {str(row[0]): str(row[1]) for row in connection.execute(f"DESCRIBE {query}").fetchall()}
