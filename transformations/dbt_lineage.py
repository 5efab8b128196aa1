"""Which columns each warehouse column is made of, read off the SQL that dbt compiled.

::

    manifest.json: models in order, compiled SQL ─┐
    columns of the refined tables ────────────────┴─> sqlglot -> {table: columns and what they are made of}

Views are looked through: what remains are the warehouse's tables and, below them, refined tables and other tables of
the warehouse. sqlglot resolves names and stars by the rules of DuckDB's dialect and says which query a name comes from;
following a column down from query to query is done here, since sqlglot's own walk starts anew for every column and says
nothing of columns that only decide which rows there are. Nothing is run.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from common.errors import BuildFailed
from transformations.column_lineage import ColumnLineage, Source

_Parents = dict[tuple[str, ...], Mapping[str, frozenset[Source]]]
"""Relation a query reads, as (catalog, schema, name) -> column -> what it is made of."""


def model_lineage(manifest_path: Path, refined: Mapping[str, Sequence[str]]) -> dict[str, ColumnLineage]:
    """The lineage of every table that the models make, by name; its sources are ``refined.<name>`` or such tables.

    Args:
        manifest_path: dbt's ``manifest.json`` of a build.
        refined: refined table, without namespace -> its columns.

    Raises:
        BuildFailed: sqlglot does not understand a model's SQL.

    Side effects: imports sqlglot (0.3 CPU s).
    """
    from sqlglot import errors

    manifest = json.loads(manifest_path.read_bytes())
    names = {source["unique_id"]: f"{source['schema']}.{source['name']}" for source in manifest["sources"].values()}
    known: dict[str, ColumnLineage] = {}
    for unique_id, name in names.items():
        columns = refined.get(name.removeprefix("refined."), ())
        known[unique_id] = ColumnLineage({column: frozenset({(name, column)}) for column in columns}, frozenset())
    tables: dict[str, ColumnLineage] = {}
    for model in _in_order(manifest["nodes"]):
        below = {parent: known[parent] for parent in model["depends_on"]["nodes"] if known[parent].columns}
        relations = {parent: (manifest["nodes"] | manifest["sources"])[parent]["relation_name"] for parent in below}
        parents = {tuple(relations[parent].replace('"', "").split(".")): each.columns for parent, each in below.items()}
        try:
            found = _Query(model["compiled_code"], parents).lineage()
        except errors.SqlglotError as error:
            cause = " ".join(str(error).split())[:300]
            raise BuildFailed(
                f"The lineage of model {model['name']} cannot be read from its SQL: {cause}",
                table=model["name"],
                remedy="write the model so that sqlglot's DuckDB dialect understands it",
            ) from error
        deciding = found.deciding.union(*(each.deciding for each in below.values()))
        if model["config"]["materialized"] == "view":
            known[model["unique_id"]] = ColumnLineage(found.columns, deciding)
            continue
        tables[model["name"]] = ColumnLineage(found.columns, deciding)
        own = {column: frozenset({(str(model["name"]), column)}) for column in found.columns}
        known[model["unique_id"]] = ColumnLineage(own, frozenset())
    return tables


def _in_order(nodes: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Models, each after those it reads."""
    models = {name: node for name, node in nodes.items() if node["resource_type"] == "model"}
    order = TopologicalSorter({name: set(node["depends_on"]["nodes"]) & set(models) for name, node in models.items()})
    yield from (models[name] for name in order.static_order())


class _Query:
    """One query, its names resolved: columns can be followed down to the relations it reads."""

    def __init__(self, sql: str, parents: _Parents) -> None:
        from sqlglot import optimizer, parse_one
        from sqlglot.optimizer.scope import build_scope

        schema: dict[str, Any] = {}
        for (catalog, database, table), columns in parents.items():
            schema.setdefault(catalog, {}).setdefault(database, {})[table] = dict.fromkeys(columns, "VARCHAR")
        with _quiet():  # it says of an UNPIVOT statement that it does not look inside; here that is done below
            query: Any = optimizer.qualify.qualify(
                parse_one(sql, dialect="duckdb"), schema=schema, dialect="duckdb", validate_qualify_columns=False
            )
            self._root: Any = build_scope(query)
        self._parents = parents
        self._statements = {cte.alias: cte.this for cte in query.ctes}

    def lineage(self) -> ColumnLineage:
        """Of each output column, and of the rows."""
        names = self._root.expression.named_selects
        columns = {name: self._output(self._root, place) for place, name in enumerate(names)}
        deciding = frozenset[Source]().union(*(self._deciding(scope) for scope in self._root.traverse()))
        return ColumnLineage(columns, deciding)

    def _output(self, scope: Any, place: int) -> frozenset[Source]:
        """What the output column at a place of a query is made of."""
        if scope.set_operation_scopes:
            return frozenset[Source]().union(*(self._output(branch, place) for branch in scope.set_operation_scopes))
        return self._below(scope, scope.expression.selects[place])

    def _below(self, scope: Any, expression: Any) -> frozenset[Source]:
        """What an expression in a query is made of, its subqueries included."""
        from sqlglot import exp

        found: set[Source] = set()
        for column in expression.find_all(exp.Column):
            owner = scope
            for inner in scope.subquery_scopes:
                owner = inner if any(column is each for each in inner.columns) else owner
            found |= self._origin(owner, column)
        return frozenset(found)

    def _origin(self, scope: Any, column: Any) -> frozenset[Source]:
        from sqlglot import exp

        source = scope.sources.get(column.table)
        if isinstance(source, exp.Table):
            relation = tuple(part.name for part in source.parts)
            if relation in self._parents:
                return self._parents[relation].get(column.name, frozenset())
            return self._statement(self._statements.get(source.name), column.name)
        if source is None:
            return frozenset()  # an alias of the same query, such as that of a lambda
        names = source.expression.named_selects
        return self._output(source, names.index(column.name)) if column.name in names else frozenset()

    def _statement(self, statement: Any, name: str) -> frozenset[Source]:
        """A column of what is no query (UNPIVOT as a statement): the relation's own, or made of all that are named."""
        from sqlglot import exp

        if statement is None:
            return frozenset()
        relations = [tuple(part.name for part in table.parts) for table in statement.find_all(exp.Table)]
        columns = [self._parents[relation] for relation in relations if relation in self._parents]
        for each in columns:
            if name in each:
                return each[name]
        named = {column.name for column in statement.find_all(exp.Column)}
        return frozenset[Source]().union(*(each[one] for each in columns for one in named if one in each))

    def _deciding(self, scope: Any) -> frozenset[Source]:
        from sqlglot import exp

        select = scope.expression
        if not isinstance(select, exp.Select):
            return frozenset()
        parts = [select.args[name] for name in ("where", "having", "qualify", "group") if select.args.get(name)]
        parts += [join.args["on"] for join in select.args.get("joins") or () if join.args.get("on")]
        group = select.args.get("group")
        if select.args.get("distinct"):
            parts += select.selects
        elif group is not None and group.args.get("all"):
            parts += [each for each in select.selects if not each.find(exp.AggFunc)]
        return frozenset[Source]().union(*(self._below(scope, part) for part in parts))


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("sqlglot")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
