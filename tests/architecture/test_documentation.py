"""Documentation is part of the product: every setting, error, command, DAG, table and fault point is in it."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import pytest
import typer.main

from common import errors
from common.errors import PenstockError
from common.fault_points import POINTS
from common.settings import Settings
from ingestion.spec import SourceSpec, load_sources
from lake.ops import INCIDENTS, OPS_TABLES, QUERIES
from lake.quarantine import QUARANTINE_COLUMNS
from lake.schema import resolve_type
from penstock.cli import app
from penstock.pools import pools
from quality.suite import Budget, Rule, Suite, load_suite
from tests.architecture.source_tree import ROOT
from transformations.refine import RefinedTable

DOCS = ROOT / "docs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMMANDS: Any = typer.main.get_command(app)


def page(path: str) -> str:
    return (DOCS / path).read_text(encoding="utf-8")


def rows(path: str) -> list[list[str]]:
    """The cells of every table row of a page; backticks are left out."""
    lines = (line for line in page(path).splitlines() if line.startswith("|"))
    cells = ([cell.strip().replace("`", "") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines)
    return [row for row in cells if set("".join(row)) - set("-: ")]


def commands(prefix: tuple[str, ...] = (), group: Any = COMMANDS) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of the command line with its words."""
    for word, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands((*prefix, word), command)
        else:
            yield (*prefix, word), command


def error_classes(kind: type[PenstockError] = PenstockError) -> Iterator[type[PenstockError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from error_classes(child)


@pytest.mark.parametrize("setting", Settings.model_fields)
def test_every_setting_is_documented_with_its_variable_and_default(setting: str) -> None:
    [row] = [row for row in rows("settings.md") if row[0] == setting]
    assert row[1].removesuffix("__<NAME>") == f"PENSTOCK_{setting.upper()}"
    default = Settings.model_fields[setting].default
    if isinstance(default, int | float):
        assert float(row[2]) == default
    if setting == "home":
        assert row[2] == str(default)


@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.__name__)
def test_every_error_is_documented_with_its_exit_code_and_retry(kind: type[PenstockError]) -> None:
    [row] = [row for row in rows("errors.md") if row[0] == kind.__name__]
    assert row[1:3] == [str(kind.exit_code), "yes" if kind.retryable else "no"]


@pytest.mark.parametrize(
    ("words", "command"), commands(), ids=lambda value: "-".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_has_a_section_with_an_example_and_all_its_options(words: tuple[str, ...], command: Any) -> None:
    title = f"### penstock {' '.join(words)}\n"
    section = page("cli.md").split(title)[1].split("\n#")[0]
    assert re.search(rf"```sh\npenstock {' '.join(words)}\b", section)
    for parameter in command.params:
        for option in [*parameter.opts, *parameter.secondary_opts]:
            if option.startswith("--"):
                assert f"`{option}`" in section, option


def test_every_dag_is_documented() -> None:
    found = {f"ingest_{source}" for source in load_sources(ROOT / "ingestion" / "sources")}
    for path in (ROOT / "dags").glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            match node:
                case ast.Assign(targets=[ast.Name(id="DAG_ID")], value=ast.Constant(value=str(dag_id))):
                    found.add(dag_id)
    assert len(found) >= 3
    assert {dag_id for dag_id in found if f"`{dag_id}`" not in page("airflow.md")} == set()


def test_every_pool_is_documented_with_its_slots() -> None:
    documented = {row[0]: row[1] for row in rows("airflow.md")}
    assert {pool: documented.get(pool) for pool in pools(4)} == {pool: str(n) for pool, (n, _) in pools(4).items()}


def test_every_table_of_the_warehouse_and_every_refined_and_raw_table_is_documented() -> None:
    marts = (ROOT / "transformations" / "dbt" / "models" / "marts").glob("*.sql")
    sources = load_sources(ROOT / "ingestion" / "sources").values()
    raw = [str(source.raw(table.name)) for source in sources for table in source.tables]
    refined = [f"refined.{path.stem}" for path in (ROOT / "quality" / "suites" / "refined").glob("*.yml")]
    found = [*(path.stem for path in marts), *raw, *refined]
    assert len(found) >= 17
    assert [table for table in found if f"`{table}`" not in page("data.md")] == []


@pytest.mark.parametrize("point", POINTS)
def test_every_fault_point_is_documented(point: str) -> None:
    assert [row for row in rows("testing.md") if row[0] == point]


def test_every_key_of_a_source_spec_is_documented() -> None:
    documented = {row[0] for row in rows("source-specs.md")} | set(re.findall(r"`(\w+)`", page("source-specs.md")))
    documented |= set(re.findall(r"^\s*(\w+):", page("source-specs.md"), re.MULTILINE))
    schema = SourceSpec.model_json_schema(by_alias=True)
    keys = {key for model in [schema, *schema["$defs"].values()] for key in model["properties"]}
    assert keys - documented == set()
    assert set(RefinedTable.__dataclass_fields__) - documented == set()


def test_the_documented_type_words_are_those_there_are() -> None:
    table = page("source-specs.md").split("### Type words")[1].split("\n## ")[0]
    words = re.findall(r"^\| `([\w(,)]+)`", table, re.MULTILINE)
    assert len(words) == 12
    for word in words:
        resolve_type(word.replace("p,s", "10,2"))


def test_every_key_of_a_suite_and_every_column_of_quarantine_is_documented() -> None:
    documented = set(re.findall(r"`(\w+)`", page("gates.md") + page("quarantine.md")))
    keys = {*Suite.model_fields, *Rule.model_fields, *Budget.model_fields}
    columns = {column.name for column in QUARANTINE_COLUMNS}
    assert (keys | columns) - documented == set()


def test_every_table_of_the_history_and_its_columns_are_documented() -> None:
    for ops in OPS_TABLES:
        told_in = {INCIDENTS: "incidents.md", QUERIES: "telemetry.md"}.get(ops, "history.md")
        documented = {row[0]: row[2] for row in rows(told_in) if len(row) == 3}
        assert f"`{ops.table}`" in page("history.md")
        assert {column.name: documented.get(column.name) for column in ops.columns} == {
            column.name: column.description for column in ops.columns
        }


def test_the_known_defects_name_rules_that_exist_with_their_severity() -> None:
    severities: dict[str, set[str]] = {}
    for path in (ROOT / "quality" / "suites").glob("*/*.yml"):
        for rule in load_suite(path).expectations:
            severities.setdefault(rule.id, set()).add(rule.severity)
    table = page("data.md").split("## Known defects")[1]
    found = [
        (rule, cells[4])
        for line in table.splitlines()
        if len(cells := line.split("|")) == 7
        for rule in re.findall(r"`(\w+)`", cells[3])
    ]
    assert len(found) > 15
    assert [rule for rule, severity in found if not any(s in severity for s in severities.get(rule, ()))] == []


def test_every_direct_dependency_is_documented_with_the_licence_it_states() -> None:
    groups = [
        PROJECT["project"]["dependencies"],
        *PROJECT["dependency-groups"].values(),
        PROJECT["build-system"]["requires"],
    ]
    wanted = {re.match(r"[\w.-]+", text)[0].lower() for group in groups for text in group}  # type: ignore[index]
    documented = {row[0]: row[3] for row in rows("dependencies.md") if len(row) == 4 and row[0] != "package"}
    assert set(documented) - {"uv"} == wanted
    for package, licence in documented.items():
        if package in {"hatchling", "uv"}:  # tools that need not be in this environment
            continue
        about = metadata.metadata(package)
        fields = ("Classifier", "License-Expression", "License")
        stated = " ".join(text for field in fields for text in about.get_all(field) or [])
        family = licence.split("-")[0]
        assert family.lower() in stated.lower(), f"{package}: {licence} documented, {stated} stated"


def test_every_decision_is_listed_dated_and_has_its_three_parts() -> None:
    found = sorted(path for path in (DOCS / "decisions").glob("*.md") if path.name != "README.md")
    assert [int(path.name[:4]) for path in found] == list(range(1, len(found) + 1))
    for path in found:
        text = path.read_text()
        assert f"]({path.name})" in page("decisions/README.md"), path.name
        assert re.search(r"^Date: \d{4}-\d\d-\d\d\. Status: (accepted|superseded by \[)", text, re.MULTILINE), path.name
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"], path.name


def test_the_index_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [path.name for path in DOCS.glob("*.md") if f"](docs/{path.name})" not in readme] == []
