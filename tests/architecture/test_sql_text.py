"""SQL text of the ingestion stage is made of quoted names and literals: nobody quotes by hand, nobody forgets to."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.architecture.source_tree import modules, name

SQL = re.compile(r"\b(SELECT|FROM|WHERE|CASE|COPY|ATTACH|SET|CREATE|INSERT|DELETE|CALL|ON|BETWEEN)\b|::|<>|IS NOT")
"""What makes a text look like SQL; messages are not written so."""

FOREIGN = {"name", "in_source", "source_name", "schema_name", "schema", "domain"}
"""Attributes that hold names as the source has them: ``lake.sql.identifier`` or ``literal`` goes around them."""


def offences(source: str) -> Iterator[str]:
    """Each f-string of SQL that holds a bare name, or quotes a placeholder by hand."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr):
            continue
        parts = [part.value if isinstance(part, ast.Constant) else part for part in node.values]
        if not SQL.search(" ".join(str(part) for part in parts if isinstance(part, str))):
            continue
        for position, part in enumerate(parts):
            if not isinstance(part, ast.FormattedValue):
                continue
            bare = part.value  # of a plain variable: what a list holds may have been quoted when it was made
            if isinstance(bare, ast.Attribute) and isinstance(bare.value, ast.Name) and bare.attr in FOREIGN:
                yield f"line {part.lineno}: {ast.unparse(part.value)} is not quoted"
            around = [parts[at] if 0 <= at < len(parts) else "" for at in (position - 1, position + 1)]
            before, after = ["" if isinstance(each, ast.FormattedValue) else str(each) for each in around]
            if before[-1:] in {"'", '"'} and before[-1:] == after[:1] and not _is_ours(part.value):
                yield f"line {part.lineno}: {ast.unparse(part.value)} is quoted by hand"


def _is_ours(value: ast.expr) -> bool:
    """A constant of the module, by its name: no text from outside."""
    return isinstance(value, ast.Name) and value.id.isupper()


def test_no_sql_of_the_ingestion_stage_holds_a_bare_name_or_quotes_one_by_hand() -> None:
    found = {name(path): list(offences(path.read_text(encoding="utf-8"))) for path in modules("ingestion")}
    assert len(found) > 15
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "text",
    [
        'f"SELECT * FROM {table.in_source}"',
        'f"SELECT {column.name} FROM t"',
        "f\"SELECT 1 FROM t WHERE a = '{value}'\"",
        "f'SELECT \"{value}\" FROM t'",
        'f"{column.name}::int8"',
    ],
)
def test_a_bare_or_hand_quoted_name_is_caught(text: str) -> None:
    assert list(offences(text)) != []


@pytest.mark.parametrize(
    "text",
    [
        'f"SELECT {identifier(column.name)} FROM {relation}"',
        'f"SELECT 1 FROM t WHERE a = {literal(value)}"',
        'f"{column.name} is infinite or out of range"',
        "f\"a >= '{LAST_INSTANT}'::timestamp\"",
    ],
)
def test_quoted_names_and_messages_pass(text: str) -> None:
    assert list(offences(text)) == []
