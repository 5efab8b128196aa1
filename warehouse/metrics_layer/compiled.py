"""From dbt's semantic manifest to one SQL expression per metric, checked against the tables it is over.

What dbt can say and a single SELECT over one table cannot answer - cumulative and conversion metrics, offsets in time,
joins, time spines - is refused when the release is built, by the metric's name. Nothing is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from common.errors import BuildFailed
from lake.sql import identifier

GRAINS = ("hour", "day", "week", "month", "quarter", "year")
"""Of time, from fine to coarse; weeks begin on Monday."""

_AGGREGATES = {
    "sum": "sum({})",
    "min": "min({})",
    "max": "max({})",
    "average": "avg({})",
    "count": "count({})",
    "count_distinct": "count(DISTINCT {})",
    "sum_boolean": "sum(CAST({} AS INTEGER))",
    "median": "quantile_cont({}, 0.5)",
}
_REFERENCE = re.compile(r"\{\{\s*(Dimension|TimeDimension)\(\s*'(\w+)'\s*(?:,\s*'(\w+)'\s*)?\)\s*\}\}")


def _refused(kind: str, name: str, reason: str, remedy: str = "define it as docs/metrics.md says") -> BuildFailed:
    return BuildFailed(f"The {kind} {name} {reason}.", remedy=remedy)


def truncated(sql: str, grain: str) -> str:
    """A time at a grain; a date from the day upwards."""
    return f"date_trunc('{grain}', {sql})" if grain == "hour" else f"CAST(date_trunc('{grain}', {sql}) AS DATE)"


def compile_metrics(semantics: Mapping[str, Any], database: Path) -> dict[str, Any]:
    """Compile every metric of a project and bind it to the tables of a warehouse.

    Args:
        semantics: dbt's ``semantic_manifest.json``.
        database: a warehouse file that nobody writes.

    Returns:
        ``{"datasets": {model: {dataset, description, time_dimension, dimensions}}, "metrics": [...]}`` for the
        release's manifest; a dimension and a metric carry ``sql``, DuckDB ``type`` and the ``columns`` they need.

    Raises:
        BuildFailed: a metric asks for what is not supported, or does not fit its table; names it.
    """
    models = {model["name"]: _Model(model) for model in semantics.get("semantic_models", ())}
    project = _Project(models, {metric["name"]: metric for metric in semantics.get("metrics", ())})
    compiled = [project.metric(name) for name in project.metrics]
    with duckdb.connect(str(database), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        datasets = {name: model.bound(connection) for name, model in models.items()}
        for metric in compiled:
            model = models[metric["model"]]
            if metric["name"] in {*model.dimensions, *GRAINS}:
                raise _refused("metric", metric["name"], "is called like a dimension or a grain of time", "rename it")
            metric["type"] = model.type_of(connection, "metric", metric["name"], metric["sql"])
            metric["columns"] = _columns(metric["sql"])
    return {"datasets": datasets, "metrics": compiled}


class _Model:
    """A semantic model: a table, with what it can be grouped by and what can be measured of it."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        self.name, self._said = said["name"], said
        relation = said["node_relation"]
        schema, alias = relation["schema_name"], relation["alias"]
        self.dataset = alias if schema == "main" else f"{schema}.{alias}"
        self._relation = f"{identifier(schema)}.{identifier(alias)}"
        self.dimensions: dict[str, Mapping[str, Any]] = {each["name"]: each for each in said["dimensions"]}
        self.measures: dict[str, Mapping[str, Any]] = {each["name"]: each for each in said["measures"]}
        self.time_dimension: str | None = (said.get("defaults") or {}).get("agg_time_dimension")

    def dimension_sql(self, name: str) -> str:
        """What a dimension is in SQL."""
        expression = self.dimensions[name].get("expr")
        return f"({expression})" if expression and expression != name else identifier(name)

    def type_of(self, connection: duckdb.DuckDBPyConnection, kind: str, name: str, sql: str) -> str:
        """The DuckDB type of an expression over the table."""
        try:
            row = connection.execute(f"DESCRIBE SELECT {sql} AS value FROM {self._relation}").fetchone()
        except duckdb.Error as error:
            raise _refused(kind, name, f"does not fit {self.dataset}: {error}", "correct its definition") from None
        return str(row[1]) if row else ""

    def bound(self, connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
        """The model for the release's manifest, its dimensions bound."""
        rows = connection.execute(f"DESCRIBE {self._relation}").fetchall() if self._exists(connection) else []
        columns = {row[0] for row in rows}
        found = []
        for name, said in self.dimensions.items():
            sql = self.dimension_sql(name)
            if name in GRAINS or (name in columns and sql != identifier(name)):
                raise _refused("dimension", name, "is called like a grain of time or another column", "rename it")
            grains: Sequence[str] = ()
            if said["type"] == "time":
                finest = said["type_params"]["time_granularity"]
                if finest not in GRAINS:
                    raise _refused("dimension", name, f"has the grain {finest}", f"use one of {', '.join(GRAINS)}")
                grains = GRAINS[GRAINS.index(finest) :]
            found.append(
                {
                    "name": name,
                    "label": said.get("label") or name,
                    "description": said.get("description") or "",
                    "sql": sql,
                    "type": self.type_of(connection, "dimension", name, sql),
                    "columns": _columns(sql),
                    "grains": list(grains),
                }
            )
        return {
            "dataset": self.dataset,
            "description": self._said.get("description") or "",
            "time_dimension": self.time_dimension,
            "dimensions": found,
        }

    def _exists(self, connection: duckdb.DuckDBPyConnection) -> bool:
        try:
            connection.execute(f"SELECT 1 FROM {self._relation} LIMIT 0")
        except duckdb.CatalogException:
            raise _refused("semantic model", self.name, f"is over {self.dataset}, which is no table") from None
        return True


@dataclass(frozen=True)
class _Project:
    """All metrics, which refer to each other by name."""

    models: Mapping[str, _Model]
    metrics: Mapping[str, Mapping[str, Any]]

    def metric(self, name: str) -> dict[str, Any]:
        """One metric for the release's manifest, not yet bound."""
        said = self.metrics[name]
        models: set[str] = set()
        sql = self._sql(name, (), models)
        if len(models) != 1:
            raise _refused("metric", name, f"is made of several tables: {', '.join(sorted(models))}")
        parts = [said["type_params"].get("numerator"), said["type_params"].get("denominator")]
        made_of = [each["name"] for each in [*parts, *(said["type_params"].get("metrics") or ())] if each]
        return {
            "name": name,
            "label": said.get("label") or name,
            "description": said.get("description") or "",
            "unit": str(((said.get("config") or {}).get("meta") or {}).get("unit") or ""),
            "kind": said["type"],
            "made_of": made_of,
            "model": models.pop(),
            "sql": sql,
        }

    def _sql(self, name: str, filters: Sequence[str], models: set[str]) -> str:
        """A metric's expression; filters of whoever refers to it hold for all of its parts."""
        said = self.metrics[name]
        parameters, mine = said["type_params"], (*filters, *_filters(said.get("filter")))
        if said["type"] == "simple":
            return self._measured(name, parameters["measure"], mine, models)
        if said["type"] == "ratio":
            above, below = (self._input(name, parameters[part], mine, models) for part in ("numerator", "denominator"))
            return f"CAST({above} AS DOUBLE) / nullif({below}, 0)"
        if said["type"] == "derived":
            inputs = {
                each.get("alias") or each["name"]: self._input(name, each, mine, models)
                for each in parameters["metrics"]
            }
            return _put_in(name, parameters["expr"], inputs)
        raise _refused("metric", name, f"is of type {said['type']}", "use simple, ratio or derived")

    def _input(self, name: str, said: Mapping[str, Any], filters: Sequence[str], models: set[str]) -> str:
        if said.get("offset_window") or said.get("offset_to_grain"):
            raise _refused("metric", name, "is made of another one at another time", "leave the offset out")
        return f"({self._sql(said['name'], (*filters, *_filters(said.get('filter'))), models)})"

    def _measured(self, name: str, said: Mapping[str, Any], filters: Sequence[str], models: set[str]) -> str:
        model = next(each for each in self.models.values() if said["name"] in each.measures)
        measure = model.measures[said["name"]]
        if said.get("join_to_timespine") or measure.get("non_additive_dimension"):
            raise _refused("metric", name, "joins a time spine or is not additive", "ask for it as it is")
        models.add(model.name)
        sql = _aggregate(name, measure)
        conditions = [_condition(name, each, model) for each in (*filters, *_filters(said.get("filter")))]
        if conditions:
            sql += f" FILTER (WHERE {' AND '.join(f'({each})' for each in conditions)})"
        filled = said.get("fill_nulls_with")
        return sql if filled is None else f"coalesce({sql}, {int(filled)})"


def _aggregate(name: str, measure: Mapping[str, Any]) -> str:
    expression = str(measure.get("expr") or identifier(measure["name"]))
    if measure["agg"] == "percentile":
        given = measure.get("agg_params") or {}
        if given.get("use_approximate_percentile"):
            raise _refused("metric", name, "is an approximate percentile", "leave use_approximate_percentile out")
        function = "quantile_disc" if given.get("use_discrete_percentile") else "quantile_cont"
        return f"{function}({expression}, {float(given['percentile'])})"
    return _AGGREGATES[measure["agg"]].format(expression)


def _filters(said: Mapping[str, Any] | None) -> tuple[str, ...]:
    return tuple(each["where_sql_template"] for each in (said or {}).get("where_filters", ()))


def _condition(name: str, template: str, model: _Model) -> str:
    """A filter with its dimensions put in."""

    def one(found: re.Match[str]) -> str:
        kind, path, grain = found.groups()
        dimension = path.rpartition("__")[2]
        if dimension not in model.dimensions or (grain is not None and grain not in GRAINS):
            raise _refused("metric", name, f"filters by {path}, which {model.name} does not have")
        sql = model.dimension_sql(dimension)
        return truncated(sql, grain) if kind == "TimeDimension" and grain else sql

    condition = _REFERENCE.sub(one, template)
    if "{{" in condition or "{%" in condition:
        raise _refused("metric", name, f"has the filter {template!r}", "refer to dimensions of its own semantic model")
    return condition


def _put_in(name: str, expression: str, inputs: Mapping[str, str]) -> str:
    """An expression of metrics, with what each of them is."""
    import sqlglot
    from sqlglot import exp

    tree = sqlglot.parse_one(expression, dialect="duckdb")
    marks: dict[str, str] = {}
    for column in list(tree.find_all(exp.Column)):
        if column.name not in inputs:
            raise _refused("metric", name, f"names {column.name}, which is not among its metrics")
        mark = f"__metric_{len(marks)}__"
        marks[f'"{mark}"'] = inputs[column.name]
        replacement = exp.column(exp.to_identifier(mark, quoted=True))
        if column is tree:
            tree = replacement
        else:
            column.replace(replacement)
    sql = tree.sql(dialect="duckdb")
    for mark, put in marks.items():
        sql = sql.replace(mark, put)
    return sql


def _columns(sql: str) -> list[str]:
    """Columns that an expression reads."""
    import sqlglot
    from sqlglot import exp

    tree = sqlglot.parse_one(sql, dialect="duckdb")
    return sorted({column.name for column in tree.find_all(exp.Column)})
