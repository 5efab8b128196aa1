"""Great Expectations' result of one rule -> :class:`common.verdict.RuleResult`, and its own JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from great_expectations import __version__ as gx_version
from great_expectations.core.expectation_validation_result import ExpectationValidationResult
from great_expectations.expectations.expectation import ColumnMapExpectation, ColumnPairMapExpectation
from great_expectations.util import convert_to_json_serializable
from great_expectations.validator.validation_statistics import calc_validation_statistics

from common.verdict import RuleResult
from quality.flags import ROW_NUMBER
from quality.plan import RulePlan


def rule_result(item: RulePlan, judged: ExpectationValidationResult, rows: Sequence[int]) -> RuleResult:
    """One rule's line of the verdict.

    Args:
        item: the rule.
        judged: GX's result of it.
        rows: the first bad rows, shown where GX shows no values.
    """
    error = (judged.exception_info or {}).get("exception_message")
    outcome = judged.result or {}
    observed, unexpected = outcome.get("observed_value"), None
    if observed is None:
        observed = {name: value for name, value in outcome.items() if value is not None} or None
    if item.row_level and not error:
        unexpected = int(outcome.get("unexpected_count", outcome.get("observed_value")) or 0)
        observed = {
            "unexpected_count": unexpected,
            "unexpected_percent": outcome.get("unexpected_percent"),
            "partial_unexpected": outcome.get("partial_unexpected_list", [{ROW_NUMBER: row} for row in rows]),
        }
    return RuleResult(
        rule=item.rule.id,
        expectation=item.rule.expect,
        severity=item.rule.severity,
        row_level=item.row_level,
        passed=bool(judged.success) and not error,
        observed=None if error else plain(observed),
        rows_unexpected=unexpected,
        why=item.rule.why,
        error=error,
    )


def failed_to_run(item: RulePlan, message: str) -> ExpectationValidationResult:
    """GX's form of a rule that raised."""
    return ExpectationValidationResult(
        success=False,
        expectation_config=item.configuration,
        exception_info={"raised_exception": True, "exception_message": message, "exception_traceback": None},
    )


def examples_of(item: RulePlan, rows: Sequence[dict[str, Any]]) -> list[Any]:
    """Bad rows in the form GX's own metric has: values, pairs of values, or records."""
    if isinstance(item.expectation, ColumnMapExpectation):
        return [row[item.columns[0]] for row in rows]
    if isinstance(item.expectation, ColumnPairMapExpectation):
        return [(row[item.columns[0]], row[item.columns[1]]) for row in rows]
    return [{column: row[column] for column in item.columns} for row in rows]


def suite_json(suite: str, judged: Sequence[tuple[RulePlan, ExpectationValidationResult]]) -> str:
    """GX's own JSON of a whole suite: what ``to_json_dict()`` of the result of ``ValidationDefinition.run`` says.

    GX copies and converts everything twice (5 CPU-ms for 25 rules, a fifth of auditing a small batch). An expectation's
    configuration is the same for every batch, so it is converted once per plan; a test compares the two.

    Args:
        suite: the suite's name.
        judged: each rule with its result, in suite order.
    """
    statistics = calc_validation_statistics([result for _, result in judged])
    document = {
        "success": statistics.success,
        "results": [
            {
                "success": bool(result.success),  # NumPy's own, where quantiles are compared
                "expectation_config": item.configuration_json,
                "result": convert_to_json_serializable(result.result),
                "meta": convert_to_json_serializable(result.meta),
                "exception_info": convert_to_json_serializable(result.exception_info),
            }
            for item, result in judged
        ],
        "suite_name": suite,
        "suite_parameters": {},
        "statistics": {
            "evaluated_expectations": statistics.evaluated_expectations,
            "successful_expectations": statistics.successful_expectations,
            "unsuccessful_expectations": statistics.unsuccessful_expectations,
            "success_percent": statistics.success_percent,
        },
        "meta": {"great_expectations_version": gx_version},
        "id": None,
    }
    try:
        return json.dumps(document, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(document))


def plain(value: Any) -> Any:
    """JSON-compatible form; what JSON cannot say (NaN, infinity) becomes text."""
    return _finite(convert_to_json_serializable(value)) if value is not None else None


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
