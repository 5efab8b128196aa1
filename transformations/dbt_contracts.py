"""What the dbt project promises of the warehouse's tables: the contracts and generic tests of its marts' YAML files.

Read from the files and not from dbt's manifest: a suite can be shown before dbt has ever run, and no dbt is loaded.
Tests that the gate has no word for (``unit_tests``, singular tests, other packages' tests) stay dbt's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import SpecError
from common.yaml_files import YamlFile

PROJECT = Path(__file__).parent / "dbt"
_DOC = re.compile(r"""\{\{\s*doc\(\s*['"](\w+)['"]\s*\)\s*\}\}""")
_BLOCK = re.compile(r"\{%\s*docs\s+(\w+)\s*%\}(.*?)\{%\s*enddocs\s*%\}", re.DOTALL)
_REF = re.compile(r"""\s*ref\(\s*['"](\w+)['"]\s*\)\s*""")


@dataclass(frozen=True)
class ContractColumn:
    """One column of a contract.

    Attributes:
        name: the column.
        data_type: as dbt has it; None where it says nothing.
        description: what it holds; empty where nothing is said.
        line: where it stands in the file.
        not_null, unique: whether a constraint or a test says so.
        accepted_values: of the test of that name; None where there is none.
        relationships: model and column of each test of that name.
    """

    name: str
    data_type: str | None
    description: str
    line: int
    not_null: bool
    unique: bool
    accepted_values: tuple[Any, ...] | None
    relationships: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Contract:
    """One table of the warehouse."""

    name: str
    path: Path
    description: str
    columns: tuple[ContractColumn, ...]


@dataclass(frozen=True)
class ModelMeta:
    """What a model says of itself in ``config: {meta: ...}``.

    Attributes:
        owner: who answers for it; empty if it does not say.
        max_age_s: how old the end of its newest interval may be, in s; None if it promises nothing.
        bi: how it goes to the BI database (``primary_key``, ``indexes``, ``partition_by``); None if it does not.
    """

    owner: str = ""
    max_age_s: int | None = None
    bi: Mapping[str, Any] | None = field(default_factory=dict)


def model_meta(folder: Path = PROJECT / "models" / "marts") -> dict[str, ModelMeta]:
    """What the models of a folder say of themselves, by name.

    Raises:
        SpecError: a file is not a YAML mapping, ``max_age_s`` no number of seconds, or ``bi`` neither a boolean nor a
            mapping of ``primary_key``, ``indexes`` and ``partition_by``; names file and line.
    """
    found = {}
    for path in sorted(folder.glob("*.yml")):
        file = YamlFile.read(path, remedy="a model's YAML is a mapping with `models`")
        for position, model in enumerate(file.content.get("models") or []):
            meta = (model.get("config") or {}).get("meta") or {}
            age = meta.get("max_age_s")
            if age is not None and (not isinstance(age, int) or age <= 0):
                raise SpecError(
                    f"{path}:{file.line(('models', position, 'config', 'meta', 'max_age_s'))}: max_age_s is {age!r}.",
                    table=str(model["name"]),
                    remedy="write a number of seconds above 0",
                )
            bi = meta.get("bi", True)
            if not isinstance(bi, bool) and not _is_bi(bi):
                raise SpecError(
                    f"{path}:{file.line(('models', position, 'config', 'meta', 'bi'))}: bi is {bi!r}.",
                    table=str(model["name"]),
                    remedy="write false, or {primary_key: [column], indexes: [[column, column]], partition_by: column}",
                )
            own = bi if isinstance(bi, Mapping) else {} if bi else None
            found[str(model["name"])] = ModelMeta(str(meta.get("owner") or ""), age, own)
    return found


def contracts(folder: Path = PROJECT / "models" / "marts") -> dict[str, Contract]:
    """The contracts of a folder's models, by table name.

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
        file = YamlFile.read(path, remedy="a model's YAML is a mapping with `models`")
        for position, model in enumerate(file.content.get("models") or []):
            place = ("models", position, "columns")
            columns = tuple(
                _column(column, file.line((*place, number)), docs)
                for number, column in enumerate(model.get("columns") or [])
            )
            found[model["name"]] = Contract(model["name"], path, _text(model.get("description"), docs), columns)
    return found


def _is_bi(value: Any) -> bool:
    kinds = {"primary_key": list, "indexes": list, "partition_by": str}
    return isinstance(value, Mapping) and all(isinstance(each, kinds.get(name, ())) for name, each in value.items())


def _text(description: str | None, docs: Mapping[str, str]) -> str:
    """A description on one line, with the blocks it refers to."""
    return " ".join(_DOC.sub(lambda found: docs.get(found[1], ""), description or "").split())


def _column(column: Mapping[str, Any], line: int, docs: Mapping[str, str]) -> ContractColumn:
    tests = dict(_test(test) for test in [*(column.get("data_tests") or []), *(column.get("tests") or [])])
    constraints = {constraint["type"] for constraint in column.get("constraints") or []}
    accepted = tests.get("accepted_values")
    relations = [_test(test) for test in [*(column.get("data_tests") or []), *(column.get("tests") or [])]]
    return ContractColumn(
        name=str(column["name"]),
        data_type=column.get("data_type"),
        description=_text(column.get("description"), docs),
        line=line,
        not_null="not_null" in constraints or tests.get("not_null") == {},
        unique="unique" in constraints or tests.get("unique") == {},
        accepted_values=tuple(accepted["values"]) if accepted else None,
        relationships=tuple(
            (reference[1], str(given["field"]))
            for name, given in relations
            if name == "relationships" and (reference := _REF.fullmatch(str(given["to"])))
        ),
    )


def _test(test: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a generic test; one that is limited (``where``, ``severity`` ...) says less than it seems
    and is left to dbt, under a name that means nothing here.
    """
    if isinstance(test, str):
        return test, {}
    ((name, given),) = test.items()
    given = given or {}
    arguments = dict(given.get("arguments") or {key: value for key, value in given.items() if key != "config"})
    limited = bool(given.get("config")) or bool(given.keys() & {"where", "severity", "limit", "error_if", "warn_if"})
    return (f"{name} limited by config", {}) if limited else (str(name), arguments)
