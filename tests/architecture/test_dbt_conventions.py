"""The dbt project keeps its own rules: layers, names, documents, contracts. Read from the files; dbt is not run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from transformations.dbt_session import PROJECT
from transformations.refine import REFINED

MODELS = PROJECT / "models"
SUITES = PROJECT.parent.parent / "quality" / "suites" / "warehouse"

SQL = {path.stem: path for path in MODELS.rglob("*.sql")}
YML = {path.stem: path for path in MODELS.rglob("*.yml") if not path.name.startswith("_")}
LAYERS = {
    "staging": re.compile(r"stg_[a-z]+__[a-z_]+"),
    "intermediate": re.compile(r"int_[a-z]+_[a-z_]+"),
    "marts": re.compile(r"(dim|fct|mart)_[a-z_]+"),
}
MARTS = sorted(name for name, path in SQL.items() if path.parent.name == "marts")

# Their answer depends on the order of rows, on the clock or on chance; a float average on the order of addition.
NOT_REPRODUCIBLE = re.compile(
    r"\b(any_value|arbitrary|first|last|avg|mean|median|fsum|stddev|approx_\w+|random|uuid|gen_random_uuid|now|today|"
    r"current_date|current_timestamp|get_current_timestamp|list|array_agg|string_agg|reservoir_quantile|setseed|sample)\s*\("
    r"|\bcurrent_(date|timestamp)\b|\blimit\b|\busing sample\b|\bread_\w+\s*\(|union_by_name",
    re.IGNORECASE,
)


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def _model(name: str) -> dict[str, Any]:
    [model] = _yaml(YML[name])["models"]
    return dict(model)


def _code(name: str) -> str:
    """A model's SQL without comments."""
    return re.sub(r"--[^\n]*|\{#.*?#\}", "", SQL[name].read_text(), flags=re.DOTALL)


def _refs(name: str) -> set[str]:
    return set(re.findall(r"ref\('(\w+)'\)", _code(name)))


def _layer(name: str) -> str:
    return SQL[name].relative_to(MODELS).parts[0]


def test_every_model_has_one_yml_of_its_own_beside_it() -> None:
    assert SQL
    assert SQL.keys() == YML.keys()
    for name, path in SQL.items():
        assert YML[name] == path.with_suffix(".yml")
        assert _model(name)["name"] == name


@pytest.mark.parametrize("name", SQL)
def test_names_carry_the_layer_and_descriptions_end_with_the_grain(name: str) -> None:
    assert LAYERS[_layer(name)].fullmatch(name)
    assert re.search(r"Grain: one row per [^.:]+\.$", _model(name)["description"].strip())


@pytest.mark.parametrize("name", SQL)
def test_layers_are_read_downwards_only(name: str) -> None:
    sources = set(re.findall(r"source\('(\w+)', '(\w+)'\)", _code(name)))
    below = {_layer(ref) for ref in _refs(name)}
    if _layer(name) == "staging":
        assert sources == {("refined", name.removeprefix("stg_lake__"))}
        assert below == set()
    else:
        assert not {source for source, _ in sources} - {"build"}
        assert below <= ({"staging", "intermediate"} if _layer(name) == "intermediate" else set(LAYERS))


def test_staging_has_one_model_per_refined_table() -> None:
    staged = {name.removeprefix("stg_lake__") for name in SQL if _layer(name) == "staging"}
    assert staged == set(REFINED)


def test_only_incremental_models_read_partitioned_lake_tables() -> None:
    """In an incremental build these tables show the changed days only: any other reader would lose the rest."""
    partitioned = {f"stg_lake__{name}" for name, table in REFINED.items() if table.partitioned}
    reached = set(partitioned)
    while more := {name for name in SQL if _layer(name) != "marts" and _refs(name) & reached} - reached:
        reached |= more
    readers = {name for name in MARTS if _refs(name) & reached}
    assert readers
    for name in readers:
        code = _code(name)
        [follows] = re.findall(r"'lake_table': '(\w+)'", code)
        assert "incremental_strategy='replace_changed_days'" in code
        assert REFINED[follows].partitioned


def test_sources_are_the_refined_tables_column_by_column() -> None:
    [refined] = [
        source for source in _yaml(MODELS / "staging" / "_sources.yml")["sources"] if source["name"] == "refined"
    ]
    declared = {
        table["name"]: [(column["name"], column["data_type"].upper()) for column in table["columns"]]
        for table in refined["tables"]
    }
    assert declared == {
        name: [(column.name, column.duckdb) for column in table.columns] for name, table in REFINED.items()
    }


@pytest.mark.parametrize("name", MARTS)
def test_a_mart_is_a_contract_of_typed_documented_columns_with_a_tested_key(name: str) -> None:
    assert _yaml(PROJECT / "dbt_project.yml")["models"]["penstock"]["marts"]["+contract"] == {"enforced": True}
    assert "contract" not in _code(name)
    model = _model(name)
    assert model.get("config", {}).keys() <= {"meta"}
    for column in model["columns"]:
        assert column["data_type"], column
        assert column["description"].strip(), column
    tests = {test for column in model["columns"] for test in column.get("data_tests", []) if isinstance(test, str)}
    assert "not_null" in tests
    assert "unique" in tests or f"ref('{name}')" in "".join(p.read_text() for p in (PROJECT / "tests").glob("assert_*"))


@pytest.mark.parametrize("name", MARTS)
def test_column_names_say_their_type(name: str) -> None:
    for column in _model(name)["columns"]:
        kind, label = column["data_type"], column["name"]
        assert label.endswith("_at") == (kind == "timestamp with time zone"), label
        assert label.endswith("_on") == (kind == "date"), label
        assert label.startswith(("is_", "has_")) == (kind == "boolean"), label


@pytest.mark.parametrize("name", SQL)
def test_the_same_rows_always_make_the_same_table(name: str) -> None:
    assert NOT_REPRODUCIBLE.findall(_code(name)) == []


def test_singular_tests_are_sentences_and_say_what_a_returned_row_means() -> None:
    paths = list((PROJECT / "tests").glob("*.sql"))
    assert paths
    for path in paths:
        assert re.fullmatch(r"assert_[a-z]+(_[a-z]+){2,}", path.stem)
        assert path.read_text().startswith("-- A returned row is ")


def test_every_table_of_the_warehouse_has_a_suite_and_every_suite_a_table() -> None:
    assert sorted(path.stem for path in SUITES.glob("*.yml")) == MARTS


def test_the_project_needs_no_packages_and_no_settings_from_outside() -> None:
    assert not {path.name for path in PROJECT.iterdir()} & {"packages.yml", "dependencies.yml", "dbt_packages"}
    text = "".join(path.read_text() for path in PROJECT.rglob("*") if path.suffix in {".sql", ".yml"})
    assert "env_var(" not in text
    assert "var(" not in text
