"""Suites for people: the effective rules and where each comes from; suggested rules as a diff of the suite file."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any

import yaml

from common.errors import GateCrashed, UsageError
from common.settings import Settings
from ingestion.spec import load_sources
from lake.paths import TableId
from lake.schema import PARTITION_COLUMN
from lake.sql import identifier
from penstock.pipeline import Pipeline
from penstock.suites import effective_suite
from penstock.yaml_text import rule_lines
from quality.decide import UNNOTICED_ROWS, UNNOTICED_SHARE
from quality.derive import is_derived
from quality.expectations import check_suite
from quality.suggest import Table, suggest
from quality.suite import Rule, Suite, load_suite


def describe_suite(settings: Settings, table: TableId) -> dict[str, Any]:
    """The effective suite of a table.

    Returns:
        ``suite``, ``policy``, ``budget`` in words, ``references`` and ``rules``; each rule with ``origin``, which is
        ``file`` or ``derived``, and ``place``.

    Raises:
        UnknownName: there is no such table.
        GateCrashed, SpecError: its suite is missing, empty or not valid.
    """
    suite = effective_suite(settings, load_sources(settings.sources), table)
    return {
        "suite": suite.name,
        "file": suite.origin,
        "description": suite.description,
        "policy": suite.policy,
        "policy_by": suite.policy_by,
        "policy_reason": suite.policy_reason,
        "budget": _budget(suite),
        "references": list(suite.references),
        "rules": [
            {
                **rule.model_dump(mode="json"),
                "origin": "derived" if is_derived(rule) else "file",
                "place": suite.where(rule.id),
            }
            for rule in suite.expectations
        ],
    }


def _budget(suite: Suite) -> str:
    if suite.policy != "quarantine":
        return ""
    if suite.budget is None:
        return f"none stated: at most {UNNOTICED_ROWS} rows, or {UNNOTICED_SHARE:.0%} of the batch if that is more"
    limits = suite.budget.model_dump(exclude_none=True)
    return ", ".join(f"{name} = {limit}" for name, limit in limits.items()) or "no limit"


@dataclass(frozen=True)
class Suggestion:
    """Rules for a suite file.

    Attributes:
        path: the file; it may not exist yet.
        rules: what rows suggest; empty if they suggest nothing new.
        before, after: the file's text without and with them.
    """

    path: Path
    rules: tuple[Rule, ...]
    before: str
    after: str

    def diff(self, folder: Path) -> str:
        """The change as a unified diff that ``git apply`` and ``patch -p1`` take.

        Args:
            folder: where they will be run; paths in the diff are below it.
        """
        if not self.rules:
            return ""
        path = self.path.relative_to(folder).as_posix()
        old = f"a/{path}" if self.before else "/dev/null"
        lines = unified_diff(_lines(self.before), _lines(self.after), fromfile=old, tofile=f"b/{path}")
        return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)

    def write(self) -> None:
        """Replace the file, whole or not at all. Side effects: its folder is made."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.new")
        temporary.write_text(self.after, encoding="utf-8")
        temporary.replace(self.path)


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def suggest_rules(pipeline: Pipeline, table: TableId) -> Suggestion:
    """What the rows that readers have now suggest for a table's suite.

    Raises:
        UnknownName: there is no such table, or it has no rows.
        UsageError: its suite file is written in a way that cannot be added to.
    """
    settings = pipeline.settings
    path = settings.suites / table.namespace / f"{table.name}.yml"
    try:
        suite = effective_suite(settings, pipeline.sources(), table)
    except GateCrashed:  # no suite, or an empty one
        suite = Suite(suite=f"{table.namespace}/{table.name}", expectations=())
    rules = tuple(_look(pipeline, table, suite))
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    after = _with_rules(before, path, suite.name, rules) if rules else before
    if rules:
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / path.name
            written.write_text(after, encoding="utf-8")
            check_suite(load_suite(written))
    return Suggestion(path, rules, before, after)


def _look(pipeline: Pipeline, table: TableId, suite: Suite) -> list[Rule]:
    if table.namespace == "warehouse":
        from warehouse.releases import Releases

        with Releases(pipeline.settings.warehouse).connect() as connection:
            return suggest(connection, Table(identifier(table.name), None, ()), suite)
    rows = _rows(pipeline, table)
    with pipeline.lake.connect() as connection:
        return suggest(connection, rows, suite)


def _rows(pipeline: Pipeline, table: TableId) -> Table:
    """The live rows of a lake table."""
    if table.namespace == "refined":
        refined = pipeline.refined(table.name)
        by = PARTITION_COLUMN if refined.partitioned else None
        pipeline.lake.ensure(table, refined.columns, partition_by=by)
        return Table(pipeline.lake.relation(table), by, refined.primary_key)
    pipeline.declare_raw()
    declared = next(
        each for spec in pipeline.sources().values() for each in spec.tables if spec.raw(each.name) == table
    )
    by = PARTITION_COLUMN if declared.partitioned else None
    own = {column.name for column in declared.lake_columns()} - {column.name for column in declared.columns}
    return Table(pipeline.lake.relation(table), by, declared.primary_key, frozenset(own))


def _with_rules(before: str, path: Path, name: str, rules: Sequence[Rule]) -> str:
    """The file's text with the rules behind its last one."""
    if not before.strip():
        head = [f"suite: {name}", "", "expectations:"]
        return "\n".join([*head, *_texts(rules, indent=2)]) + "\n"
    root: Any = yaml.compose(before, Loader=yaml.SafeLoader)
    listed = next((value for key, value in root.value if key.value == "expectations"), None)
    if listed is None or listed.flow_style or not listed.value:
        raise UsageError(
            f"{path} has no list of rules, one below the other, that could be added to.",
            remedy="write `expectations:` with one rule as `- id: ...` on lines of its own",
        )
    lines = before.splitlines()
    at = listed.end_mark.line if listed.end_mark.column == 0 else listed.end_mark.line + 1
    while at > 0 and (not lines[at - 1].strip() or lines[at - 1].lstrip().startswith("#")):
        at -= 1
    added = _texts(rules, indent=listed.start_mark.column)
    return "\n".join([*lines[:at], *added, *lines[at:]]) + "\n"


def _texts(rules: Sequence[Rule], indent: int) -> list[str]:
    return [
        line
        for rule in rules
        for line in rule_lines(
            rule.id,
            rule.expect,
            rule.kwargs,
            rule.why,
            severity=rule.severity,
            mostly=rule.mostly,
            indent=indent,
        )
    ]
