"""Data contracts in the Open Data Contract Standard, version 3: their words, how they are read, and what the lint says.

``export: spec + suite -> contract`` and ``import: contract -> spec + suite`` are in modules of their own. A contract is
held against the standard's own JSON schema, which its package carries; the package's model is not used, for it accepts
keys that the standard does not know.
"""

from __future__ import annotations

import json
import re
from datetime import date, datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pyiceberg.types import DecimalType

from common.errors import SpecError
from common.yaml_files import YamlFile
from lake.schema import resolve_type

STANDARD = "v3.2.0"

VENDOR = "penstock"
"""Marks custom properties that carry what the standard has no word for; ours read them, others keep them."""

WORDS = (
    *("bool", "int32", "int64", "float32", "float64", "string", "binary", "date", "time", "timestamp", "timestamptz"),
)

_LOGICAL: dict[str, tuple[str, dict[str, Any]]] = {
    "bool": ("boolean", {}),
    "int32": ("integer", {"format": "i32"}),
    "int64": ("integer", {"format": "i64"}),
    "float32": ("number", {"format": "f32"}),
    "float64": ("number", {"format": "f64"}),
    "string": ("string", {}),
    "binary": ("string", {"format": "binary"}),
    "date": ("date", {}),
    "time": ("time", {}),
    "timestamp": ("timestamp", {"timezone": False}),
    "timestamptz": ("timestamp", {"timezone": True, "defaultTimezone": "Etc/UTC"}),
}

_ALIASES = {
    "bool": ("boolean", "bool", "bit"),
    "int32": ("integer", "int", "int4", "int32", "smallint", "int2", "tinyint", "mediumint", "serial"),
    "int64": ("bigint", "int8", "int64", "long", "bigserial", "number"),
    "float32": ("real", "float4", "float32"),
    "float64": ("double", "double precision", "float", "float8", "float64"),
    "string": (
        "varchar",
        "text",
        "string",
        "char",
        "character varying",
        "character",
        "bpchar",
        "nvarchar",
        "uuid",
        "json",
    ),
    "binary": ("blob", "bytea", "binary", "varbinary", "bytes"),
    "date": ("date",),
    "time": ("time", "time without time zone"),
    "timestamp": ("timestamp", "datetime", "timestamp without time zone", "timestamp_ntz"),
    "timestamptz": ("timestamptz", "timestamp with time zone", "timestamp_tz"),
}
_BY_PHYSICAL = {alias: word for word, aliases in _ALIASES.items() for alias in aliases}
_BY_LOGICAL = {"string": "string", "date": "date", "time": "time", "integer": "int64", "number": "float64"}
_BY_LOGICAL |= {"boolean": "bool", "timestamp": "timestamptz"}
_DECIMAL = re.compile(r"(?:decimal|numeric|number)\s*\(\s*(\d{1,2})\s*(?:,\s*(\d{1,2})\s*)?\)")


def logical_type(word: str) -> tuple[str, dict[str, Any]]:
    """The standard's logical type of a type word, and its options."""
    if isinstance(resolve_type(word)[0], DecimalType):
        return "number", {}
    return _LOGICAL[word]


def type_word_of(logical: str | None, physical: str | None, size: str | None = None) -> str | None:
    """The type word of a property; None if neither of its types has one.

    Args:
        logical: the standard's logical type.
        physical: the type in the source, in the spelling of any database.
        size: the logical type's format such as ``f32``: what ``float`` means is another thing in each database.
    """
    spelled = " ".join((physical or "").lower().split())
    decimal = _DECIMAL.fullmatch(spelled)
    if decimal:
        word = f"decimal({int(decimal[1])},{int(decimal[2] or 0)})"
        try:
            resolve_type(word)
        except SpecError:
            return None
        return word
    if spelled == "float" and size == "f32":
        return "float32"
    without_length = re.sub(r"\s*\(\s*\d+\s*\)", "", spelled)
    return _BY_PHYSICAL.get(without_length) or _BY_LOGICAL.get(logical or "")


def own(element: dict[str, Any], name: str) -> Any:
    """The value of one of our custom properties of an element; None if it has none."""
    found = [each for each in element.get("customProperties") or () if each.get("property") == name]
    return next((each["value"] for each in found if each.get("vendor") == VENDOR), None)


def own_property(name: str, value: Any) -> dict[str, Any]:
    """A custom property of ours."""
    return {"property": name, "value": value, "vendor": VENDOR}


def read_contract(path: Path) -> dict[str, Any]:
    """A contract as it is written, not yet held against the standard. Dates stay text, as JSON has them.

    Raises:
        SpecError: no such file, or no YAML mapping; names file and line.
    """
    content: dict[str, Any] = _plain(YamlFile.read(path, remedy="a contract is a YAML mapping").content)
    return content


def lint(contract: dict[str, Any]) -> list[str]:
    """Where a contract is not as the standard has it: ``place: problem``, empty if it is."""
    from jsonschema import Draft201909Validator
    from jsonschema.exceptions import best_match

    problems = []
    for error in sorted(
        Draft201909Validator(_standard()).iter_errors(contract), key=lambda each: list(map(str, each.path))
    ):
        deepest = best_match([error]) or error
        place = ".".join(map(str, deepest.absolute_path)) or "the contract"
        problems.append(f"{place}: {deepest.message[:300]}")
    return list(dict.fromkeys(problems))


def refuse_invalid(contract: dict[str, Any], origin: str) -> None:
    """Refuse a contract that is not as the standard has it.

    Raises:
        SpecError: listing every problem.
    """
    problems = lint(contract)
    if problems:
        raise SpecError(
            f"{origin}: not a contract of the Open Data Contract Standard: {'; '.join(problems)}.",
            remedy="correct it at these places; penstock contract lint tells them one by one",
        )


@cache
def _standard() -> dict[str, Any]:
    text = (resources.files("open_data_contract_standard") / "schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.isoformat() if isinstance(value, date | datetime) else value
