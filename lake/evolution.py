"""How a lake table's schema follows its declared columns: by field id, and only where no stored value changes.

::

    column declared, not in the lake      added; old files read null there
    declared wider than in the lake       promoted (int to long, float to double, a decimal gets more digits);
                                          old files keep their bytes and read as the wider type
    in the lake wider than declared       stays: narrower values fit
    in the lake, not declared             stays; new files hold null there
    any other type                        refused: no reader could make one column of both

Nothing is remembered apart from the table's schema: a column that once came in by drift is there because the schema has
it. Not Iceberg's ``union_by_name``, which takes any promotion of its own list as right, also those that DuckDB and
Polars do not read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pyiceberg.schema import Schema
from pyiceberg.table import Table

from common.errors import SpecError
from lake.paths import TableId
from lake.schema import Column, resolve_type, type_word

_PROMOTIONS = {("int32", "int64"), ("float32", "float64")}
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")


def promotable(word: str, wider: str) -> bool:
    """Whether a column of type ``word`` may become ``wider`` with its files as they are."""
    if (word, wider) in _PROMOTIONS:
        return True
    old, new = _DECIMAL.fullmatch(word), _DECIMAL.fullmatch(wider)
    # Iceberg lets a decimal grow in digits only: another scale would be other stored integers.
    return old is not None and new is not None and old[2] == new[2] and int(old[1]) < int(new[1])


def evolve(existing: Table, table: TableId, columns: Sequence[Column]) -> Table:
    """The table, its schema grown and widened to hold these columns.

    Raises:
        SpecError: a column has a type that what is stored cannot become.

    Side effects: one commit to the table's schema, or none.
    """
    known = {field.name: field for field in existing.schema().fields}
    added, widened, changed = [], [], []
    for column in columns:
        field = known.get(column.name)
        if field is None:
            added.append(column)
            continue
        word = type_word(field.field_type)
        if word is not None and promotable(word, column.type):
            widened.append(column)
        elif word != column.type and (word is None or not promotable(column.type, word)):
            changed.append(f"{column.name}: {word or field.field_type} in the lake, {column.type} declared")
    if changed:
        raise SpecError(
            f"The declared columns do not fit the lake table: {'; '.join(changed)}.",
            table=str(table),
            remedy="give the column a new name in the lake and keep its 'source_name' (the old one stays and reads "
            "null from now on), or give the table a new name and backfill it",
        )
    if added or widened:
        with existing.update_schema() as update:
            for column in added:
                update.add_column(column.name, resolve_type(column.type)[0], doc=column.description or None)
            for column in widened:
                update.update_column(column.name, field_type=resolve_type(column.type)[0])
    return existing


def stored_columns(schema: Schema, declared: Sequence[Column]) -> tuple[tuple[Column, ...], tuple[int, ...]]:
    """All columns of a lake table in its order, and their field ids: every file that is written holds all of them.

    Args:
        schema: the table's schema, which :func:`evolve` has made to hold ``declared``.
        declared: says which of them are without nulls, and what they hold.
    """
    named = {column.name: column for column in declared}
    columns = []
    for field in schema.fields:
        word = type_word(field.field_type)
        if word is None:
            raise SpecError(
                f"Column {field.name} of the lake table is {field.field_type}, a type that Penstock does not write.",
                remedy="take the column out of the table with the program that made it",
            )
        known = named.get(field.name)
        columns.append(
            Column(field.name, word, known.nullable, known.description)
            if known
            else Column(field.name, word, nullable=True, description=field.doc or "")
        )
    return tuple(columns), tuple(field.field_id for field in schema.fields)
