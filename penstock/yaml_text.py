"""YAML written line by line: specs and suites hold the reasons beside the keys, and a YAML library keeps no comments.

Every text that comes from a source passes :func:`scalar` or :func:`comment`, so that no name or value in a database can
become a key of a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def flow(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return scalar(value) if isinstance(value, str) else str(value)


def scalar(text: str, *, quoted: bool = False) -> str:
    """A text as a YAML scalar: plain where YAML reads that as the same text, else in double quotes."""
    if not quoted and _PLAIN.fullmatch(text) and yaml.safe_load(text) == text:
        return text
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=1 << 30).strip()


def comment(text: str) -> str:
    """A text that cannot leave its comment: one line of printable characters, not too long."""
    return "".join(character if character.isprintable() else " " for character in text)[:300]


def rule_lines(
    identity: str,
    expect: str,
    kwargs: Mapping[str, Any],
    why: str,
    *,
    severity: str = "critical",
    mostly: float | None = None,
    indent: int = 2,
) -> list[str]:
    """One rule of a suite."""
    lines = [f"- id: {identity}", f"  expect: {expect}", f"  kwargs: {flow(kwargs)}", f"  severity: {severity}"]
    lines += [f"  mostly: {mostly}"] if mostly is not None else []
    lines.append(f"  why: {scalar(why)}")
    return [" " * indent + line for line in lines]
