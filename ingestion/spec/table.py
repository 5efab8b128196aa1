"""One table of a source: its mode, key, columns and policies, checked against each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from ingestion.spec.columns import ColumnSpec
from ingestion.spec.objects import Objects
from ingestion.spec.policies import Coverage, Cursor, Drift, Freshness, Volume, Window
from ingestion.spec.words import Identifier, Name, SpecModel
from lake.schema import PARTITION_COLUMN, Column


class TableSpec(SpecModel):
    """One table of a source."""

    name: Name = Field(description="Name of the raw table behind the source's name.")
    source_name: Identifier | None = Field(default=None, description="Its name in the source, where that is another.")
    mode: Literal["snapshot", "incremental", "append", "window"] = Field(
        description="snapshot: the whole table, replaced when it changes. incremental: rows of the interval by cursor. "
        "append: the interval's objects, or the interval's rows of a table that only grows. "
        "window: rows of the interval by a column of their own, replaced whole."
    )
    primary_key: tuple[Name, ...] = Field(
        default=(), description="Columns that name one row; may be empty where nothing is merged by key."
    )
    description: str = ""
    schema_name: Identifier = Field(default="public", alias="schema", description="Database schema.")
    cursor: Cursor | None = None
    window: Window | None = None
    version_column: Name | None = Field(default=None, description="Largest value wins among rows of one key.")
    objects: Objects | None = None
    coverage: Coverage | None = None
    on_drift: Drift = Drift()
    volume: Volume = Volume()
    freshness: Freshness | None = None
    owner: str | None = None
    columns: tuple[ColumnSpec, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [column.name for column in self.columns]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"column {doubled[0]!r} stands twice")
        reserved = {PARTITION_COLUMN, "object_key", "object_line"} & set(names)
        if reserved:
            raise ValueError(f"{sorted(reserved)[0]!r} is a column that Penstock adds itself: rename it in the source")
        by_name = {column.name: column for column in self.columns}
        for key in self.primary_key:
            if key not in by_name:
                raise ValueError(f"primary_key names {key!r}, which is not among the columns")
            if by_name[key].nullable:
                raise ValueError(f"primary key column {key!r} must be 'nullable: false'")
        if self.version_column and self.version_column not in by_name:
            raise ValueError(f"version_column names {self.version_column!r}, which is not among the columns")
        self._check_mode(by_name)
        if self.objects is not None and "key_changed" in self.on_drift.model_fields_set:
            raise ValueError("on_drift: objects have no key that could change: leave key_changed out")
        return self

    def _check_mode(self, by_name: Mapping[str, ColumnSpec]) -> None:
        if self.mode == "incremental" and not self.primary_key:
            raise ValueError("mode incremental needs 'primary_key: [...]': late rows find their older version by it")
        if self.mode == "incremental" and self.cursor is None:
            raise ValueError("mode incremental needs 'cursor: {column: ...}'")
        if self.mode == "window" and self.window is None:
            raise ValueError("mode window needs 'window: {column: ...}'")
        if self.mode == "append" and (self.cursor is None) == (self.objects is None):
            raise ValueError("mode append needs 'objects:', or for a database table 'cursor: {column: ...}'")
        if self.cursor is not None and self.mode not in {"incremental", "append"}:
            raise ValueError(f"mode {self.mode} has no cursor: remove it or use mode incremental")
        if self.window is not None and self.mode != "window":
            raise ValueError(f"mode {self.mode} has no window: remove it or use mode window")
        if self.objects is not None and self.mode != "append":
            raise ValueError("mode append and 'objects:' go together")
        self._check_interval_column(by_name)

    def _check_interval_column(self, by_name: Mapping[str, ColumnSpec]) -> None:
        if self.interval_column is None:
            return
        key = "cursor" if self.cursor else "window"
        if self.interval_column not in by_name:
            raise ValueError(f"{key} names {self.interval_column!r}, which is not among the columns")
        column = by_name[self.interval_column]
        if column.type not in {"timestamptz", "timestamp", "date"}:
            raise ValueError(f"{key} column {column.name!r} is {column.type}: it must be timestamptz or date")
        if column.nullable:
            raise ValueError(f"{key} column {column.name!r} must be 'nullable: false': a null is in no interval")

    @property
    def in_source(self) -> str:
        """The table's name in the source."""
        return self.source_name or self.name

    @property
    def interval_column(self) -> str | None:
        """The column that decides in which interval a row lies; None where the whole, or an object's key, decides."""
        chosen = self.cursor or self.window
        return chosen.column if chosen else None

    def column(self, name: str) -> ColumnSpec:
        """The column of that name, which must be one of the table's."""
        return next(column for column in self.columns if column.name == name)

    @property
    def partitioned(self) -> bool:
        """Whether the table has one partition per interval (a snapshot table is replaced as a whole)."""
        return self.mode != "snapshot"

    def lake_columns(self) -> tuple[Column, ...]:
        """Columns of the raw lake table."""
        columns = [column.to_column() for column in self.columns]
        if self.partitioned:
            columns.insert(0, Column(PARTITION_COLUMN, "date", False, "Day of the interval the row belongs to."))
        if self.objects:
            columns.append(Column("object_key", "string", False, "Key of the object the row was read from."))
            columns.append(
                Column(
                    "object_line",
                    "int64",
                    False,
                    "Line of the row in that object, the first being 1; of Parquet the row.",
                )
            )
        return tuple(columns)
