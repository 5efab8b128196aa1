"""Drafts -> the text of a spec and of starting suites, and the files they become. What is there is never lost.

YAML is written line by line: a reader needs the reasons beside the keys, and a YAML library keeps no comments. Every
text that comes from a source passes :func:`_scalar` or :func:`_comment`, so that no name in a database can become a key
of a spec.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from common.errors import UsageError
from ingestion.spec import SourceSpec
from penstock.init_draft import DraftColumn, DraftSource, DraftTable
from quality.suite import Suite

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
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
        f"time_zone: {_scalar(draft.time_zone)}",
        f"schedule: {_scalar(draft.schedule, quoted=True)}",
        *_remark(draft.remarks.get("owner")),
        f"owner: {_scalar(draft.owner)}",
        f"description: {_scalar(draft.description, quoted=True)}",
        "",
    ]
    for name, reason in draft.left_out:
        lines.append(f"# left out: {_comment(name)}: {_comment(reason)}")
    lines.append("tables:")
    for table in draft.tables:
        lines += [*_table(table), ""]
    return "\n".join(lines).rstrip() + "\n"


def suite_text(draft: DraftSource, table: DraftTable) -> str:
    """A starting suite of one table: its key and the column that places it in an interval."""
    name = f"{draft.source}__{table.name}"
    lines = [
        f"suite: raw/{name}",
        "# A beginning: the key, and nothing about what the values may be. docs/gates.md says how to go on.",
        f"budget: {{max_rejected_share: {_BUDGET_SHARE}}}",
        "",
        "expectations:",
    ]
    interval = [str(chosen["column"]) for chosen in (table.cursor, table.window) if chosen]
    for column in dict.fromkeys([*table.primary_key, *interval]):
        why = "Part of the key." if column in table.primary_key else "It says in which interval a row lies."
        lines += _rule(f"{column}_is_given", "expect_column_values_to_not_be_null", {"column": column}, why)
    if len(table.primary_key) == 1:
        column = table.primary_key[0]
        why = "The key: two rows of one key are two answers."
        lines += _rule(f"{column}_is_unique", "expect_column_values_to_be_unique", {"column": column}, why)
    elif table.primary_key:
        columns = {"column_list": list(table.primary_key)}
        why = "The key: two rows of one key are two answers."
        lines += _rule("key_is_unique", "expect_compound_columns_to_be_unique", columns, why)
    if not table.primary_key and not interval:
        why = "There is no key to judge; that nothing came at all is worth a look."
        rows = {"min_value": 1}
        lines += _rule("batch_has_rows", "expect_table_row_count_to_be_between", rows, why, severity="warning")
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
        yield f"    source_name: {_scalar(table.source_name)}"
    if table.schema is not None:
        yield f"    schema: {_scalar(table.schema)}"
    if table.description:
        yield f"    description: {_scalar(table.description, quoted=True)}"
    yield f"    # {table.mode}: {_comment(table.reason)}"
    yield f"    mode: {table.mode}"
    if table.key_remark:
        yield f"    # {_comment(table.key_remark)}"
    if table.primary_key:
        yield f"    primary_key: [{', '.join(map(_scalar, table.primary_key))}]"
    for key, value in (("cursor", table.cursor), ("window", table.window)):
        if value:
            yield f"    {key}: {_flow(value)}"
    if table.version_column:
        yield f"    version_column: {table.version_column}"
    if table.objects:
        yield "    objects:"
        for key, value in table.objects.items():
            yield f"      {key}: {_flow(value)}"
    yield "    columns:"
    for column in table.columns:
        yield _column(column)


def _column(column: DraftColumn) -> str:
    if column.type is None:
        return f"      # left out: {_comment(column.source_name)}: {_comment(column.remark or 'no type word holds it')}"
    fields: dict[str, Any] = {"name": column.name}
    if column.source_name != column.name:
        fields["source_name"] = column.source_name
    fields |= {"type": column.type, "nullable": column.nullable}
    if column.personal:
        fields["pii"] = "suspected"
    if column.description:
        fields["description"] = column.description
    remark = "; ".join(filter(None, (column.personal, column.remark)))
    return f"      - {_flow(fields)}" + (f"  # {_comment(remark)}" if remark else "")


def _rule(identity: str, expect: str, kwargs: Mapping[str, Any], why: str, severity: str = "critical") -> list[str]:
    return [
        f"  - id: {identity}",
        f"    expect: {expect}",
        f"    kwargs: {_flow(kwargs)}",
        f"    severity: {severity}",
        f"    why: {_scalar(why)}",
    ]


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _scalar(value) if isinstance(value, str) else str(value)


def _scalar(text: str, *, quoted: bool = False) -> str:
    """A text as a YAML scalar: plain where YAML reads that as the same text, else in double quotes."""
    if not quoted and _PLAIN.fullmatch(text) and yaml.safe_load(text) == text:
        return text
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=1 << 30).strip()


def _comment(text: str) -> str:
    """A text that cannot leave its comment: one line of printable characters, not too long."""
    return "".join(character if character.isprintable() else " " for character in text)[:300]


def _remark(text: str | None) -> list[str]:
    return [f"# {_comment(text)}"] if text else []
