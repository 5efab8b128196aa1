"""A database's catalog -> suggestions for its tables: the mode and the columns that carry it, each with the reason.

What is suggested must lose nothing. A table that is small by the database's own estimate is read whole: that sees every
change and every deletion. A larger one is read by interval, if it has a time column without nulls (a null is in no
interval) that an index finds; else it is read whole too, and the reason says what is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from common.errors import UnknownName
from ingestion.databases.catalog import Catalog, CatalogTable, Introspection
from penstock.init_draft import DraftColumn, DraftTable, distinct, lake_name
from penstock.init_personal import personal_by_name, personal_by_values

SNAPSHOT_ROWS = 100_000
"""Estimated rows below which a table is read whole."""

LATE_WINDOW_S = 86_400
"""A row stamped at the start of a long transaction appears after its day is over."""

_TIMES = {"timestamptz", "timestamp", "date"}
_CHANGE = {"updated", "update", "modified", "modification", "changed", "change", "mtime"}
_EVENT = {"created", "creation", "inserted", "occurred", "event", "placed", "ordered", "invoice", "logged", "recorded"}
_NO_EVENT = {"birth", "birthday", "dob", "due", "expires", "expiry", "expiration", "valid", "until", "deleted", "hire"}
"""Words of a column's name that say: when a row changed, when it happened, and another time altogether."""

Sample = Callable[[CatalogTable, Sequence[str]], list[tuple[str | None, ...]]]
"""Values of some columns of a table's first rows, as text."""


def chosen_tables(
    catalog: Catalog, names: Collection[str], exclude: Collection[str]
) -> tuple[list[CatalogTable], list[tuple[str, str]]]:
    """Tables to describe, and those left out with the reason.

    Args:
        catalog: what there is.
        names: only these, as ``table`` or ``schema.table``; all if there are none.
        exclude: not these.

    Raises:
        UnknownName: a name stands for no table; the message lists those there are.
    """
    known = {name for table in catalog.tables for name in (table.name, f"{table.schema}.{table.name}")}
    for name in [*names, *exclude]:
        if name not in known:
            listed = ", ".join(f"{table.schema}.{table.name}" for table in catalog.tables[:40])
            raise UnknownName(
                f"{catalog.database} has no table {name!r} that this role can see.",
                table=name,
                remedy=f"use one of {listed or '(it has none)'}",
            )
    chosen, left_out = [], []
    for table in catalog.tables:
        own = {table.name, f"{table.schema}.{table.name}"}
        full = f"{table.schema}.{table.name}"
        if own & set(exclude):
            left_out.append((full, "excluded by --exclude"))
        elif names and not own & set(names):
            continue
        elif not table.readable and not table.columns:
            left_out.append((full, "this role may not SELECT from it"))
        elif any(ord(character) < 32 for character in full):
            left_out.append((repr(full), "its name has control characters"))
        else:
            chosen.append(table)
    return chosen, left_out


def table_names(tables: Sequence[CatalogTable]) -> list[str]:
    """A name in the lake for each table: its own, behind its schema's where two schemas have one of the name."""
    own = [lake_name(table.name) for table in tables]
    schemas: dict[str, set[str]] = {}
    for name, table in zip(own, tables, strict=True):
        schemas.setdefault(name, set()).add(table.schema)
    return distinct(
        lake_name(f"{table.schema}_{name}") if len(schemas[name]) > 1 else name
        for name, table in zip(own, tables, strict=True)
    )


def draft_table(
    table: CatalogTable,
    name: str,
    *,
    catalog: Catalog,
    introspection: Introspection,
    sample: Sample | None,
    snapshot_rows: int = SNAPSHOT_ROWS,
) -> DraftTable | None:
    """The suggestion for one table; None if no column of it fits a type word.

    Args:
        table: the table.
        name: its name in the lake.
        catalog: the database it is in.
        introspection: suggests type words.
        sample: reads a few rows, to see which columns look personal; None to go by names alone.
        snapshot_rows: estimated rows below which it is read whole.
    """
    names = distinct(lake_name(column.name, number=n) for n, column in enumerate(table.columns, start=1))
    doubled = Counter(lake_name(column.name) for column in table.columns)
    types = [introspection.suggested_type(column) for column in table.columns]
    personal = _personal(table, name, names, types, sample)
    columns = tuple(
        DraftColumn(
            each,
            column.name,
            word,
            column.nullable,
            description=table.column_descriptions.get(column.name, ""),
            personal=personal.get(each, ""),
            remark=introspection.type_remark(column)
            or ("one of several of this name" * (doubled[lake_name(column.name)] > 1)),
        )
        for each, column, word in zip(names, table.columns, types, strict=True)
    )
    if not any(column.type for column in columns):
        return None
    key, key_remark = _key(table, columns)
    plan = _mode(table, columns, key, snapshot_rows)
    return DraftTable(
        name,
        table.name,
        None if table.schema == catalog.default_schema else table.schema,
        plan.mode,
        plan.reason,
        columns,
        primary_key=key,
        key_remark=key_remark,
        cursor=plan.cursor,
        window=plan.window,
        version_column=plan.version_column,
        rows_estimated=table.rows_estimated,
        description=table.description,
    )


def _personal(
    table: CatalogTable, name: str, names: Sequence[str], types: Sequence[str | None], sample: Sample | None
) -> dict[str, str]:
    """Why columns look personal, by their names in the lake."""
    found = {each: reason for each in names if (reason := personal_by_name(name, each))}
    texts = [n for n, word in enumerate(types) if word == "string"]
    if sample is not None and texts and table.readable:
        rows = sample(table, [table.columns[n].name for n in texts])
        for position, n in enumerate(texts):
            reason = personal_by_values([row[position] for row in rows])
            if reason:
                found[names[n]] = "; ".join(filter(None, (found.get(names[n]), reason)))
    return found


def _key(table: CatalogTable, columns: Sequence[DraftColumn]) -> tuple[tuple[str, ...], str]:
    """The key by its names in the lake, and where it comes from if that is not the primary key."""
    by_source = {column.source_name: column for column in columns if column.type is not None}

    def usable(names: Sequence[str], *, required: bool) -> bool:
        return bool(names) and all(n in by_source and not (required and by_source[n].nullable) for n in names)

    if usable(table.primary_key, required=True):
        return tuple(by_source[name].name for name in table.primary_key), ""
    unique = [index.columns for index in table.indexes if index.unique and usable(index.columns, required=True)]
    if not unique:
        return (), "no key: the database declares none without nulls" if table.kind == "table" else "a view has no key"
    shortest = min(unique, key=len)
    return tuple(by_source[name].name for name in shortest), "no primary key: of a unique index"


@dataclass(frozen=True)
class _Mode:
    mode: str
    reason: str
    cursor: dict[str, object]
    window: dict[str, object]
    version_column: str | None = None


def _mode(table: CatalogTable, columns: Sequence[DraftColumn], key: Sequence[str], snapshot_rows: int) -> _Mode:
    times = [column for column in columns if column.type in _TIMES]
    changes = [column for column in times if _words(column) & _CHANGE]
    usable = [column for column in times if not column.nullable and table.leads_an_index(column.source_name)]
    version = next((column.name for column in changes if not column.nullable), None)
    rows = table.rows_estimated
    size = "rows not known" if rows is None else f"{rows:,} rows estimated"
    if rows is not None and not table.analysed:
        size += " by its size (never analysed)"
    if rows is not None and rows < snapshot_rows:
        why = "no time column" if not times else "small enough to be read whole, which misses no change and no deletion"
        return _Mode("snapshot", f"{size}, {why}", {}, {}, version)
    change = next((column for column in usable if column in changes), None)
    if change is not None and key:
        reason = f"{size}; {change.name} is not null, indexed and named like a change time"
        # A changed row comes again in another day, and must stand once.
        cursor = {"column": change.name, "late_window_s": LATE_WINDOW_S, "on_update": "moves"}
        return _Mode("incremental", reason, cursor, {}, change.name)
    event = _event([column for column in usable if column not in changes], key)
    if event is not None and event.name in key:
        cursor = {"column": event.name, "late_window_s": LATE_WINDOW_S}
        reason = f"{size}; {event.name} is not null, indexed and part of the key, so a row stays in its day"
        return _Mode("incremental", reason, cursor, {}, version)
    if event is not None:
        reason = (
            f"{size}; {event.name} is not null and indexed, but tells when a row began, not when it changed: "
            "run a day again to see what changed in it"
        )
        return _Mode("window", reason, {}, {"column": event.name}, version)
    return _Mode("snapshot", f"{size}, read whole: {_lacking(table, times)}", {}, {}, version)


def _event(usable: Sequence[DraftColumn], key: Sequence[str]) -> DraftColumn | None:
    """The column that most likely says when a row happened."""
    candidates = [column for column in usable if not _words(column) & _NO_EVENT]
    candidates.sort(key=lambda column: (column.name not in key, not _words(column) & _EVENT))
    return candidates[0] if candidates else None


def _lacking(table: CatalogTable, times: Sequence[DraftColumn]) -> str:
    if not times:
        return "it has no time column"
    if table.kind == "view":
        return "a view has no index that would find an interval"
    found = [
        f"{column.name} {' and '.join(problems)}"
        for column in times
        if (
            problems := ["may be null"] * column.nullable
            + ["leads no index"] * (not table.leads_an_index(column.source_name))
        )
    ]
    return ", ".join(found) if found else "its time columns do not say when a row happened or changed"


def _words(column: DraftColumn) -> set[str]:
    return set(column.name.split("_"))
