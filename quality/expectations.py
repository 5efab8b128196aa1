"""The door to Great Expectations: a rule of a suite file -> GX's own Expectation object.

Everything that touches GX imports it through here, inside functions: the import costs 6 CPU-s, redirects Python's
warnings into logging and would print its log records to the terminal of an application without logging. The last two
are undone here, once. No data context is made: a context would write an id into the home folder and could send usage
events; expectations, metrics and results, which are all a gate needs, work without one.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from functools import cache
from string import Formatter
from typing import TYPE_CHECKING, Any

from common.errors import GateCrashed, SpecError
from quality.suite import Rule, Suite

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

BATCH_ID = "batch"
"""GX's name of the one batch an audit looks at. Constant, so that metric ids are equal from batch to batch."""

QUERY_RULE = "unexpected_rows_expectation"
"""The expectation whose rows come from a query of the suite."""

NOT_IN_SQL = frozenset(
    {
        "expect_column_values_to_be_dateutil_parseable",
        "expect_column_values_to_be_decreasing",
        "expect_column_values_to_be_increasing",
        "expect_column_values_to_be_json_parseable",
        "expect_column_values_to_match_json_schema",
        "expect_column_values_to_match_strftime_format",
        "expect_column_values_to_not_be_outliers",
        "expect_query_results_to_match_comparison",
    }
)
"""Expectations that GX 1.24 can only judge on a data frame, or on two data sources; refused when the suite is read."""

_PARAMETER = "$PARAMETER"


@cache
def load_great_expectations() -> Mapping[str, type[Expectation]]:
    """Import Great Expectations and list its expectations by snake_case name.

    Side effects: the import, once per process.
    """
    showwarning = warnings.showwarning
    import great_expectations.expectations as gxe
    from great_expectations.expectations.expectation import Expectation as Base

    if warnings.showwarning is not showwarning:
        logging.captureWarnings(capture=False)
    logging.getLogger("great_expectations").addHandler(logging.NullHandler())
    classes = [item for item in vars(gxe).values() if isinstance(item, type) and issubclass(item, Base)]
    return {kind.expectation_type: kind for kind in classes if getattr(kind, "expectation_type", None)}


def check_suite(suite: Suite) -> None:
    """Ask Great Expectations whether every name and argument of a suite exists.

    Parameters (``{$PARAMETER: name}``) are checked when they have a value.

    Raises:
        SpecError: an unknown expectation, or arguments it does not take; names file, line and remedy.

    Side effects: imports Great Expectations.
    """
    for rule in suite.expectations:
        if not parameters_of(rule):
            build_expectation(suite, rule)


def parameters_of(rule: Rule) -> set[str]:
    """Names of the parameters a rule takes."""
    return set(_parameter_names(rule.kwargs))


def build_expectation(suite: Suite, rule: Rule, parameters: Mapping[str, Any] | None = None) -> Expectation:
    """The GX object of one rule.

    Args:
        suite: the rule's suite, for messages.
        rule: the rule.
        parameters: values of ``{$PARAMETER: name}`` arguments.

    Raises:
        SpecError: unknown expectation, wrong arguments, or a query without ``{batch}``.
        GateCrashed: a parameter without a value.
    """
    known = load_great_expectations()
    from great_expectations.expectations.metadata_types import FailureSeverity

    kind = known.get(rule.expect)
    if rule.expect in NOT_IN_SQL:
        raise SpecError(
            f"{suite.where(rule.id)}: rule {rule.id!r}: Great Expectations cannot judge {rule.expect} in SQL.",
            table=suite.name,
            remedy=f"write it as {QUERY_RULE} with a query that returns the row_number of bad rows",
        )
    if kind is None:
        raise SpecError(
            f"{suite.where(rule.id)}: rule {rule.id!r}: no expectation is called {rule.expect!r} here.",
            table=suite.name,
            remedy=f"use Great Expectations' snake_case name{_nearest(rule.expect, known)}",
        )
    kwargs = _with_parameters(dict(rule.kwargs), parameters or {}, suite, rule)
    if rule.expect == QUERY_RULE and not _reads_batch(str(kwargs.get("unexpected_rows_query", ""))):
        raise SpecError(
            f"{suite.where(rule.id)}: rule {rule.id!r}: its query does not read {{batch}}.",
            table=suite.name,
            remedy="select from {batch}, which stands for the rows under audit; double literal braces",
        )
    if isinstance(kwargs.get("row_condition"), str):
        kwargs.setdefault("condition_parser", "great_expectations")
    if rule.mostly is not None:
        kwargs["mostly"] = rule.mostly
    kwargs["batch_id"] = BATCH_ID
    meta = {"rule": rule.id, "why": rule.why}
    try:
        return kind(severity=FailureSeverity(rule.severity), meta=meta, **kwargs)
    except (ValueError, TypeError) as error:
        raise SpecError(
            f"{suite.where(rule.id)}: rule {rule.id!r}: {rule.expect} does not take these arguments: {_brief(error)}.",
            table=suite.name,
            remedy=f"it takes {', '.join(sorted(_arguments(kind)))}",
        ) from error


def _reads_batch(query: str) -> bool:
    """Whether ``{batch}`` is a placeholder of the query. GX only prints a remark when it is not."""
    try:
        return any(field == "batch" for _, field, _, _ in Formatter().parse(query))
    except ValueError:
        return True  # an unpaired brace: GX refuses it with a better message


def _arguments(kind: type[Expectation]) -> set[str]:
    from great_expectations.expectations.expectation import Expectation as Base

    hidden = set(Base.__fields__) | {"batch_id", "windows"}
    return set(kind.__fields__) - hidden


def _brief(error: Exception) -> str:
    """A pydantic v1 error on one line; other errors as they are."""
    details = getattr(error, "errors", None)
    if not callable(details):
        return str(error).rstrip(".")
    return "; ".join(f"{'.'.join(str(step) for step in item['loc'])}: {item['msg']}" for item in details())


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=3)
    return f", e.g. {', '.join(close)}" if close else ""


def _parameter_names(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        if set(value) == {_PARAMETER}:
            return [str(value[_PARAMETER])]
        return [name for item in value.values() for name in _parameter_names(item)]
    if isinstance(value, list | tuple):
        return [name for item in value for name in _parameter_names(item)]
    return []


def _with_parameters(value: Any, parameters: Mapping[str, Any], suite: Suite, rule: Rule) -> Any:
    if isinstance(value, Mapping):
        if set(value) == {_PARAMETER}:
            name = value[_PARAMETER]
            if name not in parameters:
                raise GateCrashed(
                    f"{suite.where(rule.id)}: rule {rule.id!r} needs a value for parameter {name!r}.",
                    table=suite.name,
                    remedy="pass it in `parameters`",
                )
            return parameters[name]
        return {key: _with_parameters(item, parameters, suite, rule) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_parameters(item, parameters, suite, rule) for item in value]
    return value
