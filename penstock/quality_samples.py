"""Bad rows for the quality pages, and what of them may be shown: no value of a personal column, and none too long.

Who reads a page need not be allowed to read the rows. Where a column may be personal, nothing that could hold its
values is shown: neither cells nor what a rule has observed of them, only counts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lake.paths import TableId
from lake.quarantine import quarantined, rows_stored
from quality.suite import Rule

if TYPE_CHECKING:
    from penstock.pipeline import Pipeline
    from penstock.quality_facts import RuleFacts, TableFacts

SAMPLE_ROWS = 10
CELL_CHARACTERS = 160
"""How many bad rows a page shows, and how much of each value."""

MASK = "••••"
"""What is shown of personal data."""


def add_sample(pipeline: Pipeline, facts: TableFacts, table: TableId | None) -> None:
    """Give a table's facts its newest bad rows, and mask what its rules observed.

    Args:
        pipeline: for specs and the lake.
        facts: the table's facts.
        table: its lake table; None for a table of the warehouse.
    """
    shown = _shown_columns(pipeline, table)
    if shown is not None:
        _mask_observed(facts.rules, shown)
    if table is None or not facts.waiting:
        return
    for day in sorted(rows_stored(pipeline.lake, table), reverse=True):
        wanted = SAMPLE_ROWS - len(facts.sample)
        if wanted > 0:
            rows = quarantined(pipeline.lake, table, day, wanted).to_pylist()
            facts.sample += [_sample_row(row, shown) for row in rows]
    facts.sample_columns = list(dict.fromkeys(name for row in facts.sample for name in row["values"]))
    facts.masked = [name for name in facts.sample_columns if shown is not None and name not in shown]


def _mask_observed(rules: Sequence[RuleFacts], shown: set[str]) -> None:
    """Leave of what rules observed the counts only, where it may be of a column that is not shown."""
    for each in rules:
        if _speaks_only_of(each.rule, shown):
            continue
        each.error_last = "could not be judged" if each.error_last else ""
        observed = json.loads(each.observed_last) if each.observed_last else None
        if isinstance(observed, dict) and "unexpected_count" in observed:
            each.observed_last = json.dumps({**observed, "partial_unexpected": []})
        elif observed is not None:
            each.observed_last = MASK


def _shown_columns(pipeline: Pipeline, table: TableId | None) -> set[str] | None:
    """Columns whose values may be shown; None: all of them, since nothing in the table's sources is personal.

    A refined table is made of raw ones by a function, which may rename a column: where any of its inputs is personal,
    only columns that an input declares as not personal are shown. A table of the warehouse (None) is made of any.
    """
    raw = {str(spec.raw(each.name)): each for spec in pipeline.sources().values() for each in spec.tables}
    if table is None:
        inputs = list(raw.values())
    elif table.namespace == "raw":
        inputs = [raw[str(table)]]
    else:
        refined = pipeline.refined(table.name)
        names = {*refined.inputs.values(), *refined.reference_inputs.values()}
        inputs = [raw[name] for name in names if name in raw]
    if not any(column.pii for each in inputs for column in each.columns):
        return None
    personal = {column.name for each in inputs for column in each.columns if column.pii}
    return {column.name for each in inputs for column in each.lake_columns()} - personal


def _speaks_only_of(rule: Rule | None, shown: set[str]) -> bool:
    """Whether a rule names its columns, and all of them may be shown; what a query observes may be anything."""
    if rule is None:
        return False
    names = [rule.kwargs[key] for key in ("column", "column_A", "column_B") if key in rule.kwargs]
    names += list(rule.kwargs.get("column_list", ()))
    return (bool(names) and set(names) <= shown) or rule.expect.startswith("expect_table_")


def _sample_row(row: dict[str, Any], shown: set[str] | None) -> dict[str, Any]:
    try:
        values = json.loads(row["row"])
    except ValueError:
        values = None
    if not isinstance(values, dict):  # a record that could not even be read
        values = {"record": row["row"]}
    typed = row["rules"] not in {"exact_value", "csv_record"}
    return {
        "interval": row["partition_key"],
        "position": row["position"],
        "rules": row["rules"],
        "reason": _cut(row["reason"]) if shown is None or typed else "a value does not fit its type",
        "values": {
            name: MASK if shown is not None and name not in shown else _cut(value) for name, value in values.items()
        },
    }


def _cut(value: Any) -> str:
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= CELL_CHARACTERS else f"{text[:CELL_CHARACTERS]}… ({len(text):,} characters)"
