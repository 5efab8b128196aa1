"""What Flight SQL drivers ask about a database, answered from what the caller's role sees, and from nothing else.

::

    CommandGetTables {pattern} ─▶ datasets of the role ─▶ one Arrow table of the schema that the protocol asks for

One catalog, :data:`CATALOG`; its schemas are the release's. Drivers trust the columns and types of these answers
blindly (the ADBC driver panics on others), so each is written down here and cast to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from warehouse.flight.wire import Message
from warehouse.serve.formats import exact_rows
from warehouse.serve.opened import OpenRelease
from warehouse.serve.policy import Shown
from warehouse.serve.sql_check import CATALOG

TABLE_TYPE = "TABLE"
_TEXT = pa.utf8()


def _schema(**columns: Any) -> pa.Schema:
    """Columns by name; a type in a tuple may not be null."""
    return pa.schema(
        [
            pa.field(name, kind[0] if isinstance(kind, tuple) else kind, nullable=not isinstance(kind, tuple))
            for name, kind in columns.items()
        ]
    )


_VALUE = pa.dense_union(
    [
        pa.field("string_value", _TEXT),
        pa.field("bool_value", pa.bool_()),
        pa.field("bigint_value", pa.int64()),
        pa.field("int32_bitmask", pa.int32()),
        pa.field("string_list", pa.list_(_TEXT)),
        pa.field("int32_to_int32_list_map", pa.map_(pa.int32(), pa.list_(pa.int32()))),
    ]
)
_KEYS = _schema(
    pk_catalog_name=_TEXT,
    pk_db_schema_name=_TEXT,
    pk_table_name=(_TEXT,),
    pk_column_name=(_TEXT,),
    fk_catalog_name=_TEXT,
    fk_db_schema_name=_TEXT,
    fk_table_name=(_TEXT,),
    fk_column_name=(_TEXT,),
    key_sequence=(pa.int32(),),
    fk_key_name=_TEXT,
    pk_key_name=_TEXT,
    update_rule=(pa.uint8(),),
    delete_rule=(pa.uint8(),),
)
_TABLES = _schema(catalog_name=_TEXT, db_schema_name=_TEXT, table_name=(_TEXT,), table_type=(_TEXT,))
SCHEMAS: Mapping[str, pa.Schema] = {
    "CommandGetSqlInfo": pa.schema(
        [pa.field("info_name", pa.uint32(), nullable=False), pa.field("value", _VALUE, nullable=False)]
    ),
    "CommandGetCatalogs": _schema(catalog_name=(_TEXT,)),
    "CommandGetDbSchemas": _schema(catalog_name=_TEXT, db_schema_name=(_TEXT,)),
    "CommandGetTables": _TABLES,
    "CommandGetTableTypes": _schema(table_type=(_TEXT,)),
    "CommandGetPrimaryKeys": _schema(
        catalog_name=_TEXT,
        db_schema_name=_TEXT,
        table_name=(_TEXT,),
        column_name=(_TEXT,),
        key_name=_TEXT,
        key_sequence=(pa.int32(),),
    ),
    "CommandGetExportedKeys": _KEYS,
    "CommandGetImportedKeys": _KEYS,
    "CommandGetCrossReference": _KEYS,
}
"""Columns of each answer, by command."""

_INFO: Mapping[int, str | bool | int] = {
    0: "Penstock",
    1: "1",
    2: pa.__version__,
    3: True,  # read only
    4: True,  # SQL
    5: False,  # Substrait
    8: 0,  # no transactions
    9: False,  # no cancelling by an action
    10: False,  # no ingesting
    504: '"',  # quotes of identifiers
}
"""What the server tells of itself, by the protocol's number."""


def schema_of(command: Message) -> pa.Schema:
    """Columns of the answer to a command of :data:`SCHEMAS`."""
    schema = SCHEMAS[command.name]
    if command.name == "CommandGetTables" and any(command.numbers(5)):
        schema = schema.append(pa.field("table_schema", pa.binary(), nullable=False))
    return schema


def answer(command: Message, opened: OpenRelease, role: str) -> pa.Table:
    """The answer to a command of :data:`SCHEMAS`, of what a role sees of a release.

    Raises:
        Problem: ``bad_body``.
    """
    schema = schema_of(command)
    if command.name == "CommandGetSqlInfo":
        return _sql_info(command.numbers(1), schema)
    rows: list[dict[str, Any]] = []
    shown = opened.shown(role)
    if command.name == "CommandGetCatalogs":
        rows = [{"catalog_name": CATALOG}]
    elif command.name == "CommandGetTableTypes":
        rows = [{"table_type": TABLE_TYPE}]
    elif command.name == "CommandGetDbSchemas" and command.text(1) in {None, CATALOG}:
        fits = _like(command.text(2))
        names = sorted({place(name)[0] for name in shown})
        rows = [{"catalog_name": CATALOG, "db_schema_name": name} for name in names if fits(name)]
    elif command.name == "CommandGetTables" and command.text(1) in {None, CATALOG}:
        rows = _tables(command, opened, shown)
    return pa.Table.from_pylist(rows, schema=schema)


def place(dataset: str) -> tuple[str, str]:
    """Schema and table of a dataset."""
    schema, _, table = dataset.rpartition(".")
    return schema or "main", table


def dataset_schema(opened: OpenRelease, shown: Shown) -> pa.Schema:
    """A dataset's columns in Arrow, with type and description as Flight SQL has them."""
    cursor = opened.borrow()
    try:
        plain = cursor.execute(f"{exact_rows(shown.select(), shown.columns)} LIMIT 0").to_arrow_table().schema
    finally:
        opened.give_back(cursor)
    texts = opened.descriptions[shown.name].columns
    fields = []
    for field, (name, kind) in zip(plain, shown.columns, strict=True):
        told: dict[bytes | str, bytes | str] = {
            "ARROW:FLIGHT:SQL:TYPE_NAME": kind,
            "ARROW:FLIGHT:SQL:TABLE_NAME": place(shown.name)[1],
        }
        if texts.get(name):
            told["ARROW:FLIGHT:SQL:REMARKS"] = texts[name]
        fields.append(field.with_metadata(told))
    return pa.schema(fields)


def _tables(command: Message, opened: OpenRelease, shown: Mapping[str, Shown]) -> list[dict[str, Any]]:
    schema_fits, table_fits = _like(command.text(2)), _like(command.text(3))
    types = command.texts(4)
    if types and TABLE_TYPE not in types:
        return []
    rows = []
    for name, each in sorted(shown.items()):
        schema, table = place(name)
        if schema_fits(schema) and table_fits(table):
            row: dict[str, Any] = {
                "catalog_name": CATALOG,
                "db_schema_name": schema,
                "table_name": table,
                "table_type": TABLE_TYPE,
            }
            if any(command.numbers(5)):
                row["table_schema"] = dataset_schema(opened, each).serialize().to_pybytes()
            rows.append(row)
    return rows


def _like(pattern: str | None) -> Callable[[str], bool]:
    """Whether a name fits a pattern of LIKE; every name does where there is none."""
    if pattern is None:
        return lambda _: True
    first, *rest = ["".join("." if each == "_" else re.escape(each) for each in part) for part in pattern.split("%")]
    # Atomic groups: of a pattern with many % no way but one is tried.
    middle = "".join(f"(?>.*?{part})" for part in rest[:-1])
    expression = re.compile(first + middle + (f".*{rest[-1]}" if rest else ""), re.DOTALL)
    return lambda name: expression.fullmatch(name) is not None


def _sql_info(wanted: list[int], schema: pa.Schema) -> pa.Table:
    numbers = [number for number in (wanted or _INFO) if number in _INFO]
    children: list[list[Any]] = [[] for _ in range(_VALUE.num_fields)]
    codes, offsets = [], []
    for number in numbers:
        value = _INFO[number]
        code = 0 if isinstance(value, str) else 1 if isinstance(value, bool) else 3
        codes.append(code)
        offsets.append(len(children[code]))
        children[code].append(value)
    values = pa.UnionArray.from_dense(
        pa.array(codes, pa.int8()),
        pa.array(offsets, pa.int32()),
        [pa.array(child, _VALUE.field(place).type) for place, child in enumerate(children)],
        [_VALUE.field(place).name for place in range(_VALUE.num_fields)],
    )
    return pa.table([pa.array(numbers, pa.uint32()), values], schema=schema)
