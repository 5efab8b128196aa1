"""Is this text one SELECT over the tables that a role may see, and nothing else?

::

    text ─▶ duckdb.extract_statements: exactly one, a SELECT ─▶ json_serialize_sql: DuckDB's own tree
         ─▶ walk: every node, table, expression and function is on a list, or the statement is refused

The tree is the one that DuckDB will bind, so nothing is parsed twice in two ways. What a newer DuckDB adds to it is
refused until somebody has put it on the list. Names of common table expressions count only where they can be seen:
one that is called like a system table must not open that table elsewhere in the statement.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

import duckdb

from warehouse.serve import sql_allowed
from warehouse.serve.problems import Problem

MAX_SQL_BYTES = 65_536
"""Longest statement that is looked at, in bytes."""

CATALOG = "penstock"
"""Name of the one catalog that a statement may write before schema and dataset."""

_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_SYSTEM = ("duckdb_", "information_schema", "pg_", "pragma_", "sqlite_")
_REMEDY = "send one SELECT over the datasets that the catalog lists, with documented functions only"

Tree = Mapping[str, Any]


def refused(detail: str) -> Problem:
    """The problem ``sql_refused``."""
    return Problem("sql_refused", detail, remedy=_REMEDY)


def check(connection: duckdb.DuckDBPyConnection, sql: str, datasets: Collection[str], *, parameters: int = 0) -> str:
    """Let a statement pass, or refuse it.

    Args:
        connection: any connection; only its parser is used.
        sql: the text.
        datasets: names that may be read, ``table`` or ``schema.table``, in lower case.
        parameters: how many ``?`` it must have.

    Returns:
        The statement alone, without what ended it.

    Raises:
        Problem: ``sql_refused``, or ``sql_error`` if it is no SQL.
    """
    if len(sql.encode("utf-8", "surrogatepass")) > MAX_SQL_BYTES:
        raise refused(f"The statement is longer than {MAX_SQL_BYTES:,} bytes.")
    if "\0" in sql:
        raise refused("The statement holds a NUL character.")
    try:
        statements = connection.extract_statements(sql)
        if len(statements) != 1:
            raise refused(f"The text holds {len(statements)} statements, and not one.")
        if statements[0].type != duckdb.StatementType.SELECT:
            raise refused("The statement is no SELECT.")
        row = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
    except duckdb.ParserException as error:
        raise Problem("sql_error", _first_line(error), remedy="correct the statement") from None
    except (duckdb.Error, UnicodeError):
        raise refused("The statement is no plain SELECT.") from None
    try:
        document = json.loads(row[0]) if row else {}
        if document.get("error") or len(document.get("statements", ())) != 1:
            raise refused("The statement is no plain SELECT.")
        statement = document["statements"][0]
        named = {each["key"] for each in statement.get("named_param_map") or ()}
        if named != {str(number) for number in range(1, parameters + 1)}:
            raise refused(f"The statement has other parameters than the {parameters} that were given, written as ?.")
        _Walk({name.lower() for name in datasets}, has_parameters=parameters > 0).node(statement["node"], frozenset())
    except (RecursionError, ValueError):
        raise refused("The statement is nested too deeply.") from None
    return _without_end(statements[0].query)


def count_parameters(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    """How many ``?`` a statement has; 0 if it is none, which :func:`check` will tell."""
    try:
        return len(connection.extract_statements(sql)[0].named_parameters)
    except (duckdb.Error, IndexError):
        return 0


def _without_end(sql: str) -> str:
    """The statement without the semicolons and comments behind it, so that it can stand in parentheses."""
    text = sql.encode()
    end = len(text)
    for place, _ in reversed(duckdb.tokenize(sql)):  # comments are no tokens; places are in bytes
        if text[place : place + 1] != b";":
            break
        end = place
    return text[:end].decode()


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0][:500] or "The statement cannot be parsed."


class _Walk:
    """The walk of one statement."""

    def __init__(self, datasets: Collection[str], *, has_parameters: bool) -> None:
        self._datasets = datasets
        self._has_parameters = has_parameters

    def node(self, node: Tree, visible: frozenset[str]) -> None:
        """A query: its common table expressions in their order, then everything else."""
        kind = node.get("type")
        if kind not in sql_allowed.NODES:
            raise refused(f"{_word(kind)} is not allowed.")
        for entry in (node.get("cte_map") or {}).get("map") or ():
            name = str(entry["key"]).lower()
            self._common_name(name)
            query = entry["value"]["query"]["node"]
            own = {name} if query.get("type") == "RECURSIVE_CTE_NODE" else set()
            self._fields(entry["value"], visible | own, skip=("query",))
            self.node(query, visible | own)
            visible |= {name}
        if kind in {"CTE_NODE", "RECURSIVE_CTE_NODE"}:
            name = str(node["cte_name"]).lower()
            self._common_name(name)
            visible |= {name} if kind == "RECURSIVE_CTE_NODE" or "child" in node else frozenset()
        self._fields(node, visible, skip=("cte_map",))

    def _common_name(self, name: str) -> None:
        if not _NAME.fullmatch(name) or name.startswith(_SYSTEM):
            raise refused(f"A common table expression must not be called {_word(name)}.")

    def _fields(self, tree: Tree, visible: frozenset[str], *, skip: tuple[str, ...] = ()) -> None:
        for key, value in tree.items():
            if key not in skip:
                self._any(value, visible)

    def _any(self, value: Any, visible: frozenset[str]) -> None:
        if isinstance(value, list):
            for each in value:
                self._any(each, visible)
        elif isinstance(value, dict):
            if "class" in value:
                self._expression(value, visible)
            elif isinstance(value.get("type"), str):
                self._typed(value, visible)
            else:
                self._fields(value, visible)

    def _typed(self, tree: Tree, visible: frozenset[str]) -> None:
        kind = tree["type"]
        if kind in sql_allowed.NODES:
            self.node(tree, visible)
        elif kind in sql_allowed.TABLES:
            self._table(tree, visible)
        elif kind in sql_allowed.MODIFIERS | sql_allowed.ORDERS:
            self._fields(tree, visible)
        else:
            raise refused(f"{_word(kind)} is not allowed.")

    def _table(self, tree: Tree, visible: frozenset[str]) -> None:
        kind = tree["type"]
        if kind == "BASE_TABLE":
            name, schema = str(tree.get("table_name", "")).lower(), str(tree.get("schema_name") or "").lower()
            full = name if schema in {"", "main"} else f"{schema}.{name}"
            catalog = str(tree.get("catalog_name") or "").lower()
            is_common = not schema and not catalog and name in visible
            if catalog not in {"", CATALOG} or tree.get("at_clause") or not (is_common or full in self._datasets):
                raise refused(f"There is no dataset {_word(full)} for you.")
        elif kind == "TABLE_FUNCTION":
            self._function(tree["function"], visible, sql_allowed.TABLE_FUNCTIONS)
            self._fields(tree, visible, skip=("function",))
            return
        self._fields(tree, visible)

    def _expression(self, tree: Tree, visible: frozenset[str]) -> None:
        kind = tree["class"]
        if kind == "PARAMETER" and self._has_parameters:
            return
        if kind not in sql_allowed.EXPRESSION_CLASSES:
            raise refused(f"{_word(kind)} is not allowed.")
        if kind == "CONSTANT":
            return
        if kind in {"FUNCTION", "WINDOW"}:
            self._function(tree, visible, sql_allowed.FUNCTIONS)
            return
        if kind == "CAST":
            self._type(tree["cast_type"])
            self._fields(tree, visible, skip=("cast_type",))
            return
        self._fields(tree, visible)

    def _function(self, tree: Tree, visible: frozenset[str], allowed: Collection[str]) -> None:
        name = str(tree.get("function_name", "")).lower()
        elsewhere = tree.get("catalog") or tree.get("schema") not in {None, "", "main"}
        if tree.get("class") not in {"FUNCTION", "WINDOW"} or elsewhere or name not in allowed:
            raise refused(f"The function {_word(name)} is not allowed.")
        self._fields(tree, visible)

    def _type(self, tree: Any) -> None:
        """A type by DuckDB's own id, or one of the few that it looks up by name; nested types are looked into."""
        if isinstance(tree, list):
            for each in tree:
                self._type(each)
        elif isinstance(tree, dict):
            if tree.get("type") == "UNBOUND_TYPE_INFO":
                name = str(tree.get("name", "")).lower()
                if tree.get("catalog") or tree.get("schema") or name not in sql_allowed.NAMED_TYPES:
                    raise refused(f"The type {_word(name)} is not allowed.")
            for each in tree.values():
                self._type(each)


def _word(text: Any) -> str:
    """A name of the caller's, shortened and without what could break a line."""
    return repr(str(text)[:80])
