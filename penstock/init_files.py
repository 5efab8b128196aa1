"""Drafts -> the text of a spec and of starting suites, and the files they become. What is there is never lost."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from common.errors import UsageError
from ingestion.spec import SourceSpec
from penstock.init_draft import DraftColumn, DraftSource, DraftTable
from penstock.yaml_text import comment, flow, rule_lines, scalar
from quality.suite import Suite

_BUDGET_SHARE = 0.01


def spec_text(draft: DraftSource) -> str:
    """The source's spec as YAML, the reason for each suggestion as a comment."""
    lines = [
        f"# Written by 'penstock init {draft.source}'. Every line is a suggestion: read it, change it, and keep it in",
        "# version control. What each key means is in docs/source-specs.md.",
        f"source: {draft.source}",
        f"kind: {draft.kind}",
        f"connection: {draft.connection}",
        *_remark(draft.remarks.get("time_zone")),
        f"time_zone: {scalar(draft.time_zone)}",
        f"schedule: {scalar(draft.schedule, quoted=True)}",
        *_remark(draft.remarks.get("owner")),
        f"owner: {scalar(draft.owner)}",
        f"description: {scalar(draft.description, quoted=True)}",
        "",
    ]
    for name, reason in draft.left_out:
        lines.append(f"# left out: {comment(name)}: {comment(reason)}")
    lines.append("tables:")
    for table in draft.tables:
        lines += [*_table(table), ""]
    return "\n".join(lines).rstrip() + "\n"


def suite_text(draft: DraftSource, table: DraftTable) -> str:
    """A starting suite of one table. Its key and its nulls are judged anyhow: those rules are derived from the spec."""
    lines = [
        f"suite: raw/{draft.source}__{table.name}",
        "# A beginning. What the spec says - nulls, keys - is judged too: 'penstock suite show' lists all rules, and",
        "# 'penstock suite suggest' proposes more from the rows of the first batches. docs/gates.md says how to go on.",
        f"budget: {{max_rejected_share: {_BUDGET_SHARE}}}",
        "",
        "expectations:",
    ]
    why = "That nothing came at all is worth a look."
    rows = {"min_value": 1}
    lines += rule_lines("batch_has_rows", "expect_table_row_count_to_be_between", rows, why, severity="warning")
    return "\n".join(lines) + "\n"


def files_of(draft: DraftSource, sources: Path, suites: Path) -> dict[Path, str]:
    """Every file of a draft with its text, the spec first; each has been read back by the models that will load it."""
    text = spec_text(draft)
    SourceSpec.model_validate(yaml.safe_load(text))
    files = {sources / f"{draft.source}.yml": text}
    for table in draft.tables:
        suite = suite_text(draft, table)
        Suite.model_validate(yaml.safe_load(suite))
        files[suites / "raw" / f"{draft.source}__{table.name}.yml"] = suite
    return files


def refuse_existing(spec: Path, source: str) -> None:
    """Refuse to go on where there is a spec already.

    Raises:
        UsageError: naming it.
    """
    if spec.exists():
        raise UsageError(
            f"{spec} is there already.",
            source=source,
            remedy="see what a new one would say with --print, write it over with --force, or choose another name",
        )


def write_files(files: Mapping[Path, str], *, force: bool) -> tuple[list[Path], list[Path], str]:
    """Write what is new.

    Args:
        files: text by path.
        force: whether to write over files that differ.

    Returns:
        The files written, those kept as they were, and what changed in those that were written over, as a unified diff.

    Side effects: folders are made. A file is replaced whole or not at all.
    """
    written: list[Path] = []
    kept: list[Path] = []
    changes: list[str] = []
    for path, text in files.items():
        before = path.read_text(encoding="utf-8") if path.exists() else None
        if before == text or (before is not None and not force):
            kept.append(path)
            continue
        if before is not None:
            old, new = before.splitlines(keepends=True), text.splitlines(keepends=True)
            changes += difflib.unified_diff(old, new, fromfile=f"{path.name} (old)", tofile=f"{path.name} (new)")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
        written.append(path)
    return written, kept, "".join(changes)


def _table(table: DraftTable) -> Iterator[str]:
    yield f"  - name: {table.name}"
    if table.source_name and table.source_name != table.name:
        yield f"    source_name: {scalar(table.source_name)}"
    if table.schema is not None:
        yield f"    schema: {scalar(table.schema)}"
    if table.description:
        yield f"    description: {scalar(table.description, quoted=True)}"
    yield f"    # {table.mode}: {comment(table.reason)}"
    yield f"    mode: {table.mode}"
    if table.key_remark:
        yield f"    # {comment(table.key_remark)}"
    if table.primary_key:
        yield f"    primary_key: [{', '.join(map(scalar, table.primary_key))}]"
    for key, value in (("cursor", table.cursor), ("window", table.window)):
        if value:
            yield f"    {key}: {flow(value)}"
    if table.version_column:
        yield f"    version_column: {table.version_column}"
    if table.objects:
        yield "    objects:"
        for key, value in table.objects.items():
            yield f"      {key}: {flow(value)}"
    yield "    columns:"
    for column in table.columns:
        yield _column(column)


def _column(column: DraftColumn) -> str:
    if column.type is None:
        return f"      # left out: {comment(column.source_name)}: {comment(column.remark or 'no type word holds it')}"
    fields: dict[str, Any] = {"name": column.name}
    if column.source_name != column.name:
        fields["source_name"] = column.source_name
    fields |= {"type": column.type, "nullable": column.nullable}
    if column.personal:
        fields["pii"] = "suspected"
    if column.description:
        fields["description"] = column.description
    remark = "; ".join(filter(None, (column.personal, column.remark)))
    return f"      - {flow(fields)}" + (f"  # {comment(remark)}" if remark else "")


def _remark(text: str | None) -> list[str]:
    return [f"# {comment(text)}"] if text else []
