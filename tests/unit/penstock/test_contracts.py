"""Laws of data contracts: the standard accepts what is written, and what is written comes back as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import SpecError, UnknownName, UsageError
from common.settings import Settings
from ingestion.spec import SourceSpec
from lake.paths import TableId
from penstock.contract_export import contract_text, export
from penstock.contract_import import read_import
from penstock.contracts import WORDS, lint, logical_type, type_word_of
from penstock.pipeline import Pipeline
from penstock.status import validate_files
from quality.suite import Suite, load_suite
from tests.door import Door

BUNDLED = Settings.load({}, home="/nonexistent/state")
FOREIGN = """\
apiVersion: v3.1.0
kind: DataContract
id: 6f2a7c1e-orders
name: Order Entry
version: 2.0.0
status: active
description: {purpose: Orders of the shop.}
servers: [{server: prod, type: postgresql, host: db, port: 5432, database: shop, schema: sales}]
schema:
  - name: Orders
    physicalName: ORDERS
    logicalType: object
    description: One row per order.
    properties:
      - {name: Id, logicalType: integer, physicalType: bigint, primaryKey: true, primaryKeyPosition: 1, unique: true}
      - {name: placed, logicalType: timestamp, physicalType: timestamp with time zone, required: true}
      - {name: state, logicalType: string, physicalType: varchar(1), enum: [{value: F}, {value: O}]}
      - {name: total, logicalType: number, physicalType: "numeric(15,2)", logicalTypeOptions: {minimum: 0}}
      - {name: clerk, logicalType: string, tags: [PII], logicalTypeOptions: {pattern: "^C[0-9]+$", maxLength: 15}}
      - {name: shape, logicalType: object, physicalType: geometry}
      - name: note
        logicalType: string
        quality:
          - {id: note_given, metric: nullValues, mustBe: 0, severity: info, description: Somebody wrote one.}
          - {id: note_mostly, metric: nullValues, mustBeLessThan: 1, unit: percent}
    quality:
      - {id: enough, type: library, metric: rowCount, mustBeGreaterThan: 10, severity: error}
      - {id: fresh, type: sql, query: "select max(placed) from {object}", mustBeGreaterThan: 0}
      - id: gx
        type: custom
        engine: great-expectations
        severity: warning
        implementation: {type: expect_column_mean_to_be_between, kwargs: {column: total, min_value: 1}}
slaProperties: [{property: freshness, value: 1.5, unit: d, element: Orders.placed}]
team: {name: sales, members: [{username: ana@example.org, role: owner}]}
"""


def shop(folder: Path, spec: dict[str, Any], suite: dict[str, Any]) -> Pipeline:
    """A pipeline over one table and its suite."""
    for name in ("sources", "suites/raw"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "sources" / "shop.yml").write_text(yaml.safe_dump(spec))
    (folder / "suites" / "raw" / "shop__t.yml").write_text(yaml.safe_dump(suite))
    folders = {"sources": folder / "sources", "suites": folder / "suites"}
    return Pipeline(Settings.load({}, home=folder / "state", **folders))


def again(contract: dict[str, Any]) -> dict[str, Any]:
    """The contract as another process reads it."""
    read: dict[str, Any] = yaml.safe_load(contract_text(contract))
    return read


def test_every_bundled_table_has_a_contract_that_the_standard_accepts() -> None:
    pipeline = Pipeline(BUNDLED)
    tables = [f"raw.{spec.source}__{table.name}" for spec in pipeline.sources().values() for table in spec.tables]
    tables += [f"{folder}.{path.stem}" for folder in ("refined", "warehouse") for path in _suites(folder)]
    assert len(tables) == 17
    for table in tables:
        contract = again(export(pipeline, TableId.parse(table)))
        assert lint(contract) == []
        (found,) = contract["schema"]
        assert len(found["quality"]) == len(load_suite(_suite_of(table)).expectations)
        assert all(each["description"] for each in found["properties"]), table
        assert contract["team"]["members"][0]["username"] == "data-platform@penstock.example"
        assert {"frequency", "retention"} <= {term["property"] for term in contract["slaProperties"]}


def _suites(folder: str) -> list[Path]:
    return sorted((BUNDLED.suites / folder).glob("*.yml"))


def _suite_of(table: str) -> Path:
    namespace, name = table.split(".")
    return BUNDLED.suites / namespace / f"{name}.yml"


@pytest.mark.parametrize("source", ["flightops", "stations"])
def test_an_exported_table_comes_back_as_the_same_spec_and_the_same_rules(source: str) -> None:
    pipeline = Pipeline(BUNDLED)
    spec = pipeline.source(source)
    for table in spec.tables:
        imported = read_import(again(export(pipeline, spec.raw(table.name))), "here")
        assert imported.left_out == []
        assert SourceSpec.model_validate(imported.spec) == spec.model_copy(update={"tables": (table,)})
        raw = spec.raw(table.name).name
        before = load_suite(BUNDLED.suites / "raw" / f"{raw}.yml")
        assert Suite.model_validate(imported.suites[raw]).model_dump() == before.model_dump()


TEXT = st.text(st.characters(exclude_categories=["C"]), max_size=20)
DECIMALS = st.integers(1, 38).flatmap(lambda p: st.integers(0, p).map(lambda s: f"decimal({p},{s})"))
COLUMN = st.fixed_dictionaries(
    {"type": st.sampled_from(WORDS) | DECIMALS, "nullable": st.booleans(), "description": TEXT},
    optional={
        "unit": TEXT,
        "pii": st.sampled_from([True, "suspected"]),
        "source_name": st.sampled_from(["Größe", "a b", "x:y"]),
        "policy": st.just("cast"),
        "accepted_values": st.lists(st.sampled_from(["a", "b", "c d"]), min_size=1, max_size=3, unique=True),
    },
)
KWARGS = st.dictionaries(
    st.sampled_from(["column", "min_value", "value_set"]),
    st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT | st.lists(TEXT, max_size=3) | st.none(),
)
RULE = st.fixed_dictionaries(
    {"kwargs": KWARGS, "severity": st.sampled_from(["critical", "warning", "info"]), "why": TEXT.filter(bool)},
    optional={"mostly": st.sampled_from([0.5, 1.0])},
)


@settings(max_examples=15)
@given(
    columns=st.lists(COLUMN, min_size=1, max_size=6), rules=st.lists(RULE, min_size=1, max_size=4), key=st.booleans()
)
def test_whatever_a_column_or_a_rule_says_comes_back(
    tmp_path_factory: pytest.TempPathFactory, columns: list[Any], rules: list[Any], key: bool
) -> None:
    named = [{"name": f"c{n}", **column} for n, column in enumerate(columns)]
    for column in named:
        if "policy" in column:
            column["why"] = "It rounds."
        if column["type"] != "string":
            column.pop("accepted_values", None)
    table: dict[str, Any] = {"name": "t", "mode": "snapshot", "columns": named}
    if key:
        named.append({"name": "id", "type": "int64", "nullable": False})
        table |= {"primary_key": ["id"], "deletes": {"policy": "reconcile"}, "volume": {"min_share": 0.25}}
    spec = {"source": "shop", "kind": "mysql", "connection": "c", "owner": "o", "time_zone": "Asia/Tokyo"}
    suite = {"suite": "raw/shop__t", "budget": {"max_rejected_rows": 3}, "references": ["raw.shop__other"]}
    expectations = [{"id": f"r{n}", "expect": "expect_some_thing", **rule} for n, rule in enumerate(rules)]
    pipeline = shop(
        tmp_path_factory.mktemp("shop"), {**spec, "tables": [table]}, {**suite, "expectations": expectations}
    )
    imported = read_import(again(export(pipeline, TableId("raw", "shop__t"))), "here")
    assert imported.left_out == []
    assert SourceSpec.model_validate(imported.spec) == pipeline.source("shop")
    before = load_suite(pipeline.settings.suites / "raw" / "shop__t.yml")
    assert Suite.model_validate(imported.suites["shop__t"]).model_dump() == before.model_dump()


@given(st.sampled_from(WORDS) | DECIMALS)
def test_every_type_word_comes_back_from_its_own_spelling(word: str) -> None:
    from lake.schema import resolve_type

    logical, options = logical_type(word)
    assert type_word_of(logical, resolve_type(word)[1], options.get("format")) == word


@pytest.mark.parametrize(
    ("logical", "physical", "word"),
    [
        (None, "character varying(20)", "string"),
        (None, "NUMERIC(10)", "decimal(10,0)"),
        (None, "numeric(99,2)", None),
        ("integer", None, "int64"),
        ("timestamp", "TIMESTAMP_NTZ", "timestamp"),
        ("array", "int[]", None),
        ("number", "weird", "float64"),
        (None, None, None),
    ],
)
def test_types_are_read_in_the_spelling_of_any_database(logical: str | None, physical: str | None, word: str) -> None:
    assert type_word_of(logical, physical) == word


def test_a_contract_of_another_system_becomes_what_it_says_and_the_rest_is_told() -> None:
    imported = read_import(yaml.safe_load(FOREIGN), "orders.yml")
    spec = SourceSpec.model_validate(imported.spec)
    (table,) = spec.tables
    assert (spec.source, spec.kind, spec.owner) == ("order_entry", "postgresql", "ana@example.org")
    assert (table.name, table.source_name, table.schema_name, table.mode) == ("orders", "ORDERS", "sales", "snapshot")
    assert table.primary_key == ("id",)
    assert table.freshness is not None
    assert table.freshness.max_age_s == 129_600
    assert [(c.name, c.type, c.nullable, c.pii) for c in table.columns] == [
        ("id", "int64", False, False),
        ("placed", "timestamptz", False, False),
        ("state", "string", True, False),
        ("total", "decimal(15,2)", True, False),
        ("clerk", "string", True, True),
        ("note", "string", True, False),
    ]
    suite = Suite.model_validate(imported.suites["order_entry__orders"])
    assert {rule.id: (rule.expect.removeprefix("expect_"), rule.severity) for rule in suite.expectations} == {
        "enough": ("table_row_count_to_be_between", "critical"),
        "gx": ("column_mean_to_be_between", "warning"),
        "id_is_given": ("column_values_to_not_be_null", "critical"),
        "id_is_unique": ("column_values_to_be_unique", "critical"),
        "placed_is_given": ("column_values_to_not_be_null", "critical"),
        "state_is_known": ("column_values_to_be_in_set", "critical"),
        "total_is_in_range": ("column_values_to_be_between", "critical"),
        "clerk_has_its_length": ("column_value_lengths_to_be_between", "critical"),
        "clerk_matches": ("column_values_to_match_regex", "critical"),
        "note_given": ("column_values_to_not_be_null", "info"),
    }
    assert suite.expectations[0].kwargs == {"min_value": 11}
    assert imported.left_out == [
        "column Orders.shape: no type word holds geometry",
        "quality 'fresh' of Orders: no expectation says the same",
        "quality 'note_mostly' of Orders.note: no expectation says the same",
    ]


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("kind: DataContract", "kind: Contract", "kind: 'Contract' is not one of"),
        ("status: active", "state: active", "the contract: Additional properties are not allowed"),
        ("unique: true", "uniq: true", "schema.0.properties.0"),
        ("id: 6f2a7c1e-orders\n", "", "the contract: 'id' is a required property"),
        ("logicalType: timestamp", "logicalType: moment", "schema.0.properties.1.logicalType"),
    ],
)
def test_the_lint_names_the_place_of_what_the_standard_does_not_know(old: str, new: str, place: str) -> None:
    assert FOREIGN.count(old) >= 1
    problems = lint(yaml.safe_load(FOREIGN.replace(old, new, 1)))
    assert any(problem.startswith(place) for problem in problems), problems
    with pytest.raises(SpecError, match="not a contract of the Open Data Contract Standard"):
        read_import(yaml.safe_load(FOREIGN.replace(old, new, 1)), "orders.yml")


def test_contracts_that_cannot_be_a_source_are_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match=r"refined\.flights, which is made here"):
        read_import(again(export(Pipeline(BUNDLED), TableId.parse("refined.flights"))), "x")
    with pytest.raises(UsageError, match=r"no PostgreSQL or MySQL server \(it names: none\)"):
        read_import({**yaml.safe_load(FOREIGN), "servers": []}, "x")
    with pytest.raises(UnknownName, match=r"use one of raw\.flightops__airlines"):
        export(Pipeline(BUNDLED), TableId.parse("raw.nothing"))


def test_an_imported_contract_passes_validate_and_the_next_one_only_adds_to_it(tmp_path: Path) -> None:
    door = Door(tmp_path, {})
    for number in (1, 2):
        text = FOREIGN.replace("name: Orders", f"name: Orders{number}")
        (tmp_path / f"orders{number}.yml").write_text(text)
        assert door.run("contract", "lint", f"orders{number}.yml").code == 0
    assert (
        "# " + str(tmp_path / "sources" / "shop.yml")
        in door.run("contract", "import", "orders1.yml", "--source", "shop", "--print").out
    )
    assert not door.spec.exists()
    answer = json.loads(door.run("contract", "import", "orders1.yml", "--source", "shop", "--json").out)
    assert len(answer["written"]) == 2
    door.spec.write_text(door.spec.read_text() + "  # kept\n")
    assert door.run("contract", "import", "orders2.yml", "--source", "shop").code == 0
    assert "# kept" in door.spec.read_text()
    refused = door.run("contract", "import", "orders2.yml", "--source", "shop")
    assert (refused.code, "has a table 'orders2' already" in refused.err) == (2, True)
    settings_ = Settings.load({}, home=tmp_path / "state", sources=tmp_path / "sources", suites=tmp_path / "suites")
    assert validate_files(settings_).startswith("1 sources with 2 tables and 2 suites are valid")
    written = tmp_path / "out.yml"
    assert door.run("contract", "export", "raw.shop__orders1", "--version", "3.1.4", "--write", str(written)).code == 0
    assert yaml.safe_load(written.read_text())["version"] == "3.1.4"
    (tmp_path / "bad.yml").write_text(FOREIGN.replace("kind: DataContract", "kind: x"))
    assert door.run("contract", "lint", "bad.yml").code == 2
