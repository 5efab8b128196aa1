"""Who may see what: a file of roles, and the SELECT that each dataset is to each role. Default: nothing.

::

    policy file ─▶ Policy ─(a release's tables)─▶ one SELECT per role and dataset ─▶ HTTP, guarded SQL, every other door

A door never reads a table, only that SELECT: hidden columns are not in it, masked ones are masked in it, and the rows
that a role may not see are filtered in it. A policy that does not fit a release - a column that it names is gone, a
condition that cannot be bound - closes that dataset for that role: renaming a column must not lay bare what was hidden.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import duckdb
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from common.errors import SpecError
from common.files import write_private_once
from common.yaml_files import YamlFile
from lake.sql import identifier, literal
from warehouse.serve.formats import Column
from warehouse.serve.problems import Problem
from warehouse.serve.sql_check import check

_LOG = logging.getLogger(__name__)

Scope = Literal["read", "sql", "operate"]
Mask = Literal["null", "redacted", "hash"]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
ROW = "_row"
"""Name under which a SELECT for paging gives the number of a row."""

NAMED_ONLY = frozenset({"ops.queries"})
"""Datasets that ``*`` does not mean: what people ask is shown only to whom somebody decided to show it."""

_REMEDY = "write it as docs/policy.md says"


class DatasetRule(BaseModel):
    """What a role sees of a dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: Literal["all"] | tuple[_Name, ...] = Field(description="all, or the only columns that are shown.")
    hide: tuple[_Name, ...] = Field(default=(), description="Columns that are left out.")
    mask: Mapping[_Name, Mask] = Field(default_factory=dict, description="Column -> null, redacted or hash.")
    rows: str = Field(default="", description="SQL condition on the dataset's own columns; all rows by default.")


class Role(BaseModel):
    """What a role may do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scopes: tuple[Scope, ...] = Field(default=("read",), description="The most that a token of this role may do.")
    datasets: Mapping[_Name, DatasetRule] = Field(
        default_factory=dict, description="By name; '*' is every dataset that is not named, ops.queries aside."
    )


class Policy(BaseModel):
    """A policy file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    roles: Mapping[_Name, Role] = Field(description="By name. Of several roles of a token the first one here counts.")


@dataclass(frozen=True)
class Table:
    """A table of a release.

    Attributes:
        name: ``table``, or ``schema.table`` outside the schema main.
        columns: name and DuckDB type.
    """

    name: str
    columns: tuple[Column, ...]

    @property
    def relation(self) -> str:
        """Its quoted full name."""
        schema, _, table = self.name.rpartition(".")
        return f"warehouse.{identifier(schema or 'main')}.{identifier(table)}"


@dataclass(frozen=True)
class Shown:
    """A dataset as one role sees it.

    Attributes:
        name: the dataset.
        columns: name and DuckDB type of what is shown, masked ones with the type of their mask.
        masked: names of masked columns.
        filtered: whether rows are left out.
    """

    name: str
    columns: tuple[Column, ...]
    masked: frozenset[str]
    filtered: bool
    _fields: str
    _source: str

    def select(self, *, with_row: bool = False) -> str:
        """The SELECT that the dataset is; ``with_row`` also numbers the rows, for paging."""
        row = f"rowid AS {identifier(ROW)}, " if with_row else ""
        return f"SELECT {row}{self._fields} FROM {self._source}"

    def guarded(self) -> str:
        """The SELECT for statements of other people: the filter is finished before anything of theirs is computed."""
        if not self.filtered:
            return self.select()
        return f"WITH visible AS MATERIALIZED ({self.select()}) SELECT * FROM visible"


def mask_salt(state: Path) -> str:
    """What hashed values are salted with: a key of this installation, made when it is first needed.

    Args:
        state: ``<home>/serve``.
    """
    path = state / "mask.key"
    write_private_once(path, os.urandom(16).hex())
    return path.read_text()


def load_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        SpecError: it is not valid; each problem names file and line.
    """
    file = YamlFile.read(path, remedy=_REMEDY)
    policy = file.parse(Policy, remedy=lambda _kind, _location: _REMEDY)
    with duckdb.connect() as connection:
        for role, rules in policy.roles.items():
            for name, rule in rules.datasets.items():
                place = f"{path}:{file.line(('roles', role, 'datasets', name))}: roles.{role}.datasets.{name}"
                twice = sorted({*rule.hide} & {*rule.mask})
                if twice:
                    raise SpecError(f"{place}: {twice[0]} is both hidden and masked.", remedy="keep one of the two")
                if name == "*" and (rule.columns != "all" or rule.hide or rule.mask or rule.rows):
                    raise SpecError(f"{place}: only 'columns: all' goes with '*'.", remedy="name the dataset")
                try:
                    if rule.rows:
                        check(connection, _condition(rule.rows), {"dataset"})
                except Problem as problem:
                    raise SpecError(f"{place}.rows: {problem.problem}", remedy=_REMEDY) from None
    return policy


def _condition(rows: str) -> str:
    return f"SELECT 1 FROM dataset WHERE ({rows}\n)"


def shown_to(
    connection: duckdb.DuckDBPyConnection, role: Role, tables: Mapping[str, Table], *, salt: str
) -> dict[str, Shown]:
    """The datasets of a role in one release.

    Args:
        connection: the release, attached as ``warehouse``; each SELECT is bound once.
        role: the role.
        tables: the release's tables by name.
        salt: what hashed values are salted with; the same salt makes the same hashes.
    """
    found = {}
    for name, table in tables.items():
        rule = role.datasets.get(name) or (None if name in NAMED_ONLY else role.datasets.get("*"))
        if rule is None:
            continue
        try:
            found[name] = _shown(table, rule, salt)
            connection.execute(f"SELECT * FROM ({found[name].select(with_row=True)}) LIMIT 0")
        except (LookupError, duckdb.Error) as error:
            found.pop(name, None)
            _LOG.error("the policy does not fit %s, which is closed for its role: %s", name, error)
    return found


def _shown(table: Table, rule: DatasetRule, salt: str) -> Shown:
    types = dict(table.columns)
    named: Sequence[str] = tuple(types) if rule.columns == "all" else rule.columns
    for column in (*named, *rule.hide, *rule.mask):
        if column not in types:
            raise LookupError(f"there is no column {column}")
    fields, columns = [], []
    for column in named:
        if column in rule.hide:
            continue
        value, kind = identifier(column), types[column]
        if column in rule.mask:
            value, kind = _masked(value, kind, rule.mask[column], salt)
        fields.append(f"{value} AS {identifier(column)}")
        columns.append((column, kind))
    if not fields:
        raise LookupError("no column is left")
    where = f"{table.relation} WHERE ({rule.rows}\n)" if rule.rows else table.relation
    return Shown(table.name, tuple(columns), frozenset(rule.mask), bool(rule.rows), ", ".join(fields), where)


def _masked(value: str, kind: str, mask: Mask, salt: str) -> Column:
    if mask == "null":
        return f"CAST(NULL AS {kind})", kind
    if mask == "redacted":
        return f"CASE WHEN {value} IS NOT NULL THEN '***' END", "VARCHAR"
    return f"left(sha256({literal(salt)} || {value}::VARCHAR), 16)", "VARCHAR"
