"""A table's spec, columns and suite as a contract of the Open Data Contract Standard.

Everything that the standard has a word for is said in its words; the rest - the mode of loading, policies, units - goes
along in custom properties of vendor ``penstock``, so that an import gives back the same spec. Rules keep Great
Expectations' own names and arguments, which the standard provides for (``type: custom``).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import yaml

from common.errors import UnknownName
from ingestion.spec import ColumnSpec, SourceSpec, TableSpec
from lake.paths import TableId, table_location
from lake.schema import PARTITION_COLUMN, Column, resolve_type
from penstock.contracts import STANDARD, logical_type, own_property, refuse_invalid, type_word_of
from quality.suite import Rule, Suite, load_suite

if TYPE_CHECKING:
    from penstock.pipeline import Pipeline
    from transformations.dbt_contracts import Contract
    from transformations.refine.model import RefinedTable

_ID = uuid.UUID("6f1d5a52-5a6e-4b57-9d0f-3c8f4c1f8a11")
"""Namespace of contract ids: the same table always has the same id."""

_COLUMN_WORDS = {"name", "type", "nullable", "description", "source_name", "pii"}
_TABLE_WORDS = {"columns", "primary_key", "description"}
_SOURCE_WORDS = {"tables", "description"}

_DIMENSIONS = (
    ("not_be_null", "completeness"),
    ("unique", "uniqueness"),
    ("row_count", "coverage"),
    ("in_set", "conformity"),
    ("match", "conformity"),
    ("of_type", "conformity"),
    ("between", "accuracy"),
    ("unexpected_rows", "consistency"),
)


def export(pipeline: Pipeline, table: TableId, *, version: str = "1.0.0") -> dict[str, Any]:
    """The contract of a raw, refined or warehouse table.

    Args:
        pipeline: for specs, suites and where the data lies.
        table: ``raw.<source>__<table>``, ``refined.<table>`` or ``warehouse.<table>``.
        version: of the contract.

    Raises:
        UnknownName: there is no such table; the message lists those there are.
        SpecError: its suite is not valid.
    """
    path = pipeline.settings.suites / table.namespace / f"{table.name}.yml"
    suite = load_suite(path) if path.is_file() else None
    if table.namespace == "raw":
        raw = {spec.raw(each.name): (spec, each) for spec in pipeline.sources().values() for each in spec.tables}
        spec, found = _known(table, raw)
        contract = _raw(pipeline, spec, found, suite)
    elif table.namespace == "refined":
        known = {TableId("refined", name): each for name, each in pipeline.refined_tables().items()}
        contract = _refined(pipeline, _known(table, known), suite)
    else:
        from transformations.dbt_contracts import contracts

        declared = {TableId("warehouse", name): each for name, each in contracts().items()}
        contract = _warehouse(pipeline, _known(table, declared), suite)
    contract = {
        "apiVersion": STANDARD,
        "kind": "DataContract",
        "id": str(uuid.uuid5(_ID, str(table))),
        "name": str(table),
        "version": version,
        "status": "active",
        **contract,
    }
    refuse_invalid(contract, str(table))
    return contract


def contract_text(contract: Mapping[str, Any]) -> str:
    """A contract as YAML."""
    return yaml.safe_dump(dict(contract), sort_keys=False, allow_unicode=True, width=110)


def _known(table: TableId, tables: Mapping[TableId, Any]) -> Any:
    if table not in tables:
        known = ", ".join(map(str, sorted(tables))) or "raw.*, refined.* or warehouse.*"
        raise UnknownName(f"There is no table {table}.", table=str(table), remedy=f"use one of {known}")
    return tables[table]


# -- tables of each stage ----------------------------------------------------------------------------------------------


def _raw(pipeline: Pipeline, spec: SourceSpec, table: TableSpec, suite: Suite | None) -> dict[str, Any]:
    declared = {column.name: column for column in table.columns}
    properties = []
    for column in table.lake_columns():
        position = table.primary_key.index(column.name) + 1 if column.name in table.primary_key else None
        made = _property(column, position, alone=len(table.primary_key) == 1)
        if column.name in declared:
            made |= _declared(declared[column.name])
        else:
            made["customProperties"] = [own_property("addedBy", "penstock")]
        properties.append(made)
    rest = table.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=_TABLE_WORDS)
    source = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=_SOURCE_WORDS)
    raw = spec.raw(table.name)
    return {
        "description": {"purpose": table.description or spec.description or str(raw)},
        "servers": _lake(pipeline, raw),
        "schema": [
            {
                **_object(raw, table.name, table.description, properties, suite),
                "customProperties": [own_property("table", rest), *_suite_property(suite)],
            }
        ],
        "team": _team(table.owner or spec.owner),
        "slaProperties": _sla(spec, table),
        "customProperties": [own_property("source", source), own_property("sourceDescription", spec.description)],
    }


def _declared(column: ColumnSpec) -> dict[str, Any]:
    """What a source's column has besides what every lake column has."""
    made: dict[str, Any] = {}
    if column.source_name:
        made["physicalName"] = column.source_name
    if column.accepted_values:
        made["enum"] = [{"value": value} for value in column.accepted_values]
    if column.pii:
        made |= {"classification": "restricted", "tags": ["pii"]}
    custom = [own_property("pii", column.pii)] if column.pii else []
    rest = column.model_dump(mode="json", exclude_defaults=True, exclude=_COLUMN_WORDS)
    if column.description != column.to_column().description:  # which tells the unit as well
        rest["description"] = column.description
    custom += [own_property("column", rest)] if rest else []
    return made | ({"customProperties": custom} if custom else {})


def _refined(pipeline: Pipeline, table: RefinedTable, suite: Suite | None) -> dict[str, Any]:
    target = TableId("refined", table.name)
    keys = table.primary_key
    properties = [
        _property(column, keys.index(column.name) + 1 if column.name in keys else None, alone=len(keys) == 1)
        for column in table.columns
    ]
    inputs = sorted({*table.inputs.values(), *table.reference_inputs.values()})
    description = suite.description if suite else ""
    owners = {
        spec.owner for spec in pipeline.sources().values() for each in spec.tables if str(spec.raw(each.name)) in inputs
    }
    return {
        "description": {"purpose": description or str(target), "usage": f"Made from {', '.join(inputs)}."},
        "servers": _lake(pipeline, target),
        "schema": [_object(target, table.name, description, properties, suite)],
        "team": _team(*sorted(owners)),
        "slaProperties": [_frequency(None), _retention()],
    }


def _warehouse(pipeline: Pipeline, table: Contract, suite: Suite | None) -> dict[str, Any]:
    properties = []
    for column in table.columns:
        data_type = column.data_type or ""
        word = type_word_of(None, data_type)
        logical, options = logical_type(word) if word else ("string", {})
        made: dict[str, Any] = {"name": column.name, "logicalType": logical, "physicalType": data_type}
        made |= {"logicalTypeOptions": dict(options)} if options else {}
        made |= {"description": column.description} if column.description else {}
        made |= {"required": True} if column.not_null else {}
        properties.append(made | ({"unique": True} if column.unique else {}))
    database = pipeline.settings.warehouse / "current" / "warehouse.duckdb"
    return {
        "description": {"purpose": table.description or table.name},
        "servers": [{"server": "warehouse", "type": "duckdb", "database": str(database), "schema": "main"}],
        "schema": [_object(TableId("warehouse", table.name), table.name, table.description, properties, suite)],
        "team": _team(*sorted({spec.owner for spec in pipeline.sources().values()})),
        "slaProperties": [
            _frequency(None),
            {
                "property": "retention",
                "value": pipeline.settings.keep_releases,
                "unit": "releases",
                "description": "Published releases that are kept to go back to.",
            },
        ],
    }


# -- parts -------------------------------------------------------------------------------------------------------------


def _object(
    table: TableId, name: str, description: str, properties: list[dict[str, Any]], suite: Suite | None
) -> dict[str, Any]:
    made = {
        "name": name,
        "physicalName": str(table),
        "physicalType": "table",
        "logicalType": "object",
        "description": description,
        "properties": properties,
        "quality": [_quality(rule) for rule in suite.expectations] if suite else [],
    }
    return {key: value for key, value in made.items() if value not in ("", [])}


def _property(column: Column, key_position: int | None, *, alone: bool) -> dict[str, Any]:
    logical, options = logical_type(column.type)
    made: dict[str, Any] = {"name": column.name, "logicalType": logical, "physicalType": resolve_type(column.type)[1]}
    made |= {"logicalTypeOptions": dict(options)} if options else {}
    made |= {"description": column.description} if column.description else {}
    made |= {"required": True} if not column.nullable else {}
    if key_position is not None:
        made |= {"primaryKey": True, "primaryKeyPosition": key_position} | ({"unique": True} if alone else {})
    if column.name == PARTITION_COLUMN:
        made |= {"partitioned": True, "partitionKeyPosition": 1}
    return made


def _quality(rule: Rule) -> dict[str, Any]:
    kwargs = {**rule.kwargs, **({} if rule.mostly is None else {"mostly": rule.mostly})}
    dimension = next((word for part, word in _DIMENSIONS if part in rule.expect), None)
    made = {
        "id": rule.id,
        "description": rule.why,
        "type": "custom",
        "engine": "greatExpectations",
        "implementation": {"type": rule.expect, "kwargs": kwargs},
        "severity": rule.severity,
    }
    return made | ({"dimension": dimension} if dimension else {})


def _suite_property(suite: Suite | None) -> list[dict[str, Any]]:
    """What a suite says besides its rules."""
    if suite is None:
        return []
    rest = suite.model_dump(mode="json", exclude_defaults=True, exclude={"suite", "expectations"})
    return [own_property("suite", rest)] if rest else []


def _lake(pipeline: Pipeline, table: TableId) -> list[dict[str, Any]]:
    """Where a lake table lies. The standard's word for Iceberg asks for a REST catalog, which a lake need not have."""
    location = table_location(pipeline.settings.lake_uri, table)
    where = {"catalog": "penstock", "schema": table.namespace, "location": location, "format": "iceberg"}
    return [{"server": "lake", "type": "custom", **where}]


def _team(*owners: str) -> dict[str, Any]:
    return {"members": [{"username": owner, "role": "owner"} for owner in owners]}


def _sla(spec: SourceSpec, table: TableSpec) -> Iterable[dict[str, Any]]:
    terms = [_frequency(spec.schedule), _retention()]
    if table.freshness is not None:
        element = f"{table.name}.{table.interval_column}" if table.interval_column else table.name
        values = table.freshness.model_dump(exclude_none=True)
        terms += [
            {"property": "freshness", "value": seconds, "unit": "s", "element": element, "description": name}
            for name, seconds in values.items()
        ]
    if table.cursor is not None and table.cursor.late_window_s:
        told = "Rows may still change for so long after their interval's end."
        terms.append({"property": "latency", "value": table.cursor.late_window_s, "unit": "s", "description": told})
    return terms


def _frequency(schedule: str | None) -> dict[str, Any]:
    made: dict[str, Any] = {"property": "frequency", "value": 1, "unit": "d"}
    return made | ({"scheduler": "cron", "schedule": schedule} if schedule else {})


def _retention() -> dict[str, Any]:
    return {"property": "retention", "value": "unlimited", "description": "No row is deleted for its age."}
