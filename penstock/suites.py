"""The effective suite of a table: its file, and the rules that its spec, refined table or dbt contract implies.

The stages never import each other, so they meet here: specs and contracts become :class:`quality.derive.Promise`.
A table without a suite file stays refused: what is derived is a floor, and nobody has looked at that table yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from inspect import getsourcefile
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import UnknownName
from common.intervals import day_interval, zone
from common.settings import Settings
from common.yaml_files import YamlFile
from ingestion.spec import SourceSpec, TableSpec
from lake.paths import WHOLE, TableId
from quality.derive import FRESH_SINCE, Promise, with_derived
from quality.suite import Suite, suite_for

if TYPE_CHECKING:
    from transformations.dbt_contracts import Contract
    from transformations.refine.model import RefinedTable

_SPEC, _REFINED, _CONTRACT = "the source spec", "the refined table's description", "the dbt contract"


def raw_suite(settings: Settings, spec: SourceSpec, table: TableSpec) -> Suite:
    """The suite of a raw table.

    Raises:
        GateCrashed, SpecError: see :func:`quality.suite.suite_for`.
    """
    suite = suite_for("raw", spec.raw(table.name).name, suites_dir=settings.suites)
    return with_derived(suite, raw_promises(settings.sources / f"{spec.source}.yml", spec, table))


def refined_suite(settings: Settings, table: RefinedTable) -> Suite:
    """The suite of a refined table.

    Raises:
        GateCrashed, SpecError: see :func:`quality.suite.suite_for`.
    """
    return with_derived(suite_for("refined", table.name, suites_dir=settings.suites), refined_promises(table))


def warehouse_suites(settings: Settings) -> dict[str, Suite]:
    """The suites of a candidate's tables, by table.

    Raises:
        GateCrashed: a table of the dbt project has no suite: nobody would judge it.
        SpecError: a suite file is not valid.
    """
    from transformations.dbt_contracts import contracts

    promised = contracts()
    return {name: _warehouse_suite(settings, name, promised) for name in warehouse_tables(settings, promised)}


def warehouse_tables(settings: Settings, promised: Mapping[str, Contract]) -> list[str]:
    """Tables that have a contract or a suite: the gate judges each, or refuses to run."""
    return sorted({*promised, *(path.stem for path in (settings.suites / "warehouse").glob("*.yml"))})


def _warehouse_suite(settings: Settings, name: str, promised: Mapping[str, Contract]) -> Suite:
    suite = suite_for("warehouse", name, suites_dir=settings.suites)
    return with_derived(suite, contract_promises(promised[name]) if name in promised else ())


def effective_suite(settings: Settings, sources: Mapping[str, SourceSpec], table: TableId) -> Suite:
    """The suite of any table: ``raw.<source>__<table>``, ``refined.<table>``, ``warehouse.<table>``.

    Raises:
        UnknownName: there is no such table; the message lists those there are.
        GateCrashed, SpecError: see :func:`quality.suite.suite_for`.
    """
    if table.namespace == "raw":
        raw = {spec.raw(each.name): (spec, each) for spec in sources.values() for each in spec.tables}
        if table in raw:
            return raw_suite(settings, *raw[table])
        raise _unknown(table, raw)
    if table.namespace == "refined":
        from transformations.refine import REFINED  # polars: not for who only ingests

        if table.name in REFINED:
            return refined_suite(settings, REFINED[table.name])
        raise _unknown(table, (TableId("refined", name) for name in REFINED))
    from transformations.dbt_contracts import contracts

    promised = contracts()
    names = warehouse_tables(settings, promised)
    if table.namespace != "warehouse" or table.name not in names:
        raise _unknown(table, (TableId("warehouse", name) for name in names))
    return _warehouse_suite(settings, table.name, promised)


def _unknown(table: TableId, known: Iterable[TableId]) -> UnknownName:
    return UnknownName(f"There is no table {table}.", remedy=f"use one of {', '.join(sorted(map(str, known)))}")


def raw_promises(path: Path, spec: SourceSpec, table: TableSpec) -> Iterator[Promise]:
    """What a source spec promises of a table's rows.

    Args:
        path: the spec's file, for the places.
        spec: the spec.
        table: one of its tables.
    """
    file = YamlFile.read(path, remedy="see docs/source-specs.md")
    top = ("tables", spec.tables.index(table))
    for position, column in enumerate(table.columns):
        place = f"{path}:{file.line((*top, 'columns', position))}"
        if not column.nullable:
            yield Promise("given", (column.name,), _SPEC, place)
        if column.accepted_values:
            yield Promise("accepted", (column.name,), _SPEC, place, values=column.accepted_values)
    if table.primary_key:
        yield Promise("unique", table.primary_key, _SPEC, f"{path}:{file.line((*top, 'primary_key'))}")
    for position, each in enumerate(table.foreign_keys):
        place = f"{path}:{file.line((*top, 'foreign_keys', position))}"
        referred = str(spec.raw(each.references))
        yield Promise("refers", each.columns, _SPEC, place, table=referred, key=each.referred_columns)
    if table.freshness and table.freshness.max_lag_s and table.clock_column:
        place = f"{path}:{file.line((*top, 'freshness'))}"
        yield Promise("fresh", (table.clock_column,), _SPEC, place)


def fresh_since(spec: SourceSpec, table: TableSpec, end: datetime) -> dict[str, str]:
    """The parameters of a raw table's suite.

    Args:
        spec: the source.
        table: its table.
        end: the interval's end, or now for a table that is read whole.
    """
    if table.freshness is None or table.freshness.max_lag_s is None or table.clock_column is None:
        return {}
    since = end - timedelta(seconds=table.freshness.max_lag_s)
    kind = table.column(table.clock_column).type
    if kind == "timestamptz":
        return {FRESH_SINCE: since.isoformat()}
    local = since.astimezone(zone(spec.time_zone)).replace(tzinfo=None)
    return {FRESH_SINCE: (local.date() if kind == "date" else local).isoformat()}


def suite_parameters(sources: Mapping[str, SourceSpec], table: TableId, key: str, now: datetime) -> dict[str, str]:
    """The parameters of a table's suite for one interval; only raw tables have any.

    Args:
        sources: all sources.
        table: the lake table.
        key: partition key.
        now: the time now, UTC.
    """
    for spec in sources.values():
        for each in spec.tables:
            if spec.raw(each.name) == table:
                return fresh_since(spec, each, now if key == WHOLE else day_interval(key, spec.time_zone).end)
    return {}


def refined_promises(table: RefinedTable) -> Iterator[Promise]:
    """What a refined table's description promises of its rows."""
    place = getsourcefile(table.function) or table.name
    for column in table.columns:
        if not column.nullable:
            yield Promise("given", (column.name,), _REFINED, place)
    yield Promise("unique", table.primary_key, _REFINED, place)


def contract_promises(contract: Contract) -> Iterator[Promise]:
    """What a dbt contract promises of a table's rows."""
    import duckdb

    for column in contract.columns:
        place, name = f"{contract.path}:{column.line}", (column.name,)
        if column.data_type:
            yield Promise("typed", name, _CONTRACT, place, type=str(duckdb.sqltype(column.data_type)))
        if column.not_null:
            yield Promise("given", name, _CONTRACT, place)
        if column.unique:
            yield Promise("unique", name, _CONTRACT, place)
        if column.accepted_values is not None:
            yield Promise("accepted", name, _CONTRACT, place, values=column.accepted_values)
        for model, field in column.relationships:
            yield Promise("refers", name, _CONTRACT, place, table=model, key=(field,))
