"""The columns of the warehouse's tables as the marts' YAML files declare them: names, types, descriptions, nullability.

Read from the files and not from dbt's manifest: no dbt is loaded, and a table is known before it was ever built.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.yaml_files import YamlFile

MARTS = Path(__file__).parent / "dbt" / "models" / "marts"
_DOC = re.compile(r"""\{\{\s*doc\(\s*['"](\w+)['"]\s*\)\s*\}\}""")
_BLOCK = re.compile(r"\{%\s*docs\s+(\w+)\s*%\}(.*?)\{%\s*enddocs\s*%\}", re.DOTALL)


@dataclass(frozen=True)
class DeclaredColumn:
    """One column: its SQL type as declared, what it holds, whether it is never null, and whether values repeat."""

    name: str
    data_type: str
    description: str
    not_null: bool
    unique: bool


@dataclass(frozen=True)
class DeclaredTable:
    """One table of the warehouse."""

    name: str
    description: str
    columns: tuple[DeclaredColumn, ...]


def declared_tables(folder: Path = MARTS) -> dict[str, DeclaredTable]:
    """Every table that a YAML file of the folder declares, by name.

    Raises:
        SpecError: a file is not a YAML mapping; names file and line.
    """
    docs = {
        name: " ".join(text.split())
        for path in folder.glob("*.md")
        for name, text in _BLOCK.findall(path.read_text(encoding="utf-8"))
    }
    found = {}
    for path in sorted(folder.glob("*.yml")):
        content = YamlFile.read(path, remedy="a model's YAML is a mapping with `models`").content
        for model in content.get("models") or ():
            columns = tuple(_column(column, docs) for column in model.get("columns") or ())
            found[model["name"]] = DeclaredTable(model["name"], _text(model.get("description"), docs), columns)
    return found


def _column(column: dict[str, Any], docs: dict[str, str]) -> DeclaredColumn:
    constraints = {each["type"] for each in column.get("constraints") or ()}
    tests = {each for each in column.get("data_tests") or () if isinstance(each, str)}
    return DeclaredColumn(
        column["name"],
        str(column.get("data_type") or ""),
        _text(column.get("description"), docs),
        not_null="not_null" in constraints | tests,
        unique="unique" in constraints | tests,
    )


def _text(description: str | None, docs: dict[str, str]) -> str:
    return " ".join(_DOC.sub(lambda found: docs.get(found[1], ""), description or "").split())
