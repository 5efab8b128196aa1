"""One table of a source: its mode, key, columns and policies, checked against each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from ingestion.spec.columns import ColumnSpec
from ingestion.spec.events import Events
from ingestion.spec.objects import Objects
from ingestion.spec.policies import Coverage, Cursor, Deletes, Drift, ForeignKey, Freshness, Late, Volume, Window
from ingestion.spec.words import Identifier, Name, SpecModel
from lake.batches import MergeRule
from lake.schema import DELETED_COLUMN, PARTITION_COLUMN, Column

_KEYED = {"snapshot", "incremental", "window"}
"""Modes in which one key is one row of the table, and not one row of each interval."""

COMPARABLE = {"bool", "int32", "int64", "string", "date", "timestamp", "timestamptz"}
"""Types, beside decimals, whose values have the same text in every database and in DuckDB."""

HISTORY_COLUMNS = (
    Column("part", "string", False, "Partition: the row's raw partition while it is current, then the month it ended."),
    Column("valid_from", "timestamptz", False, "When this version began: version_column, else when it was first seen."),
    Column("valid_to", "timestamptz", True, "When it ended, exclusive; null for the current version."),
    Column("is_deleted", "bool", False, "Whether it ended because the row vanished from the source."),
)
"""What the history of a table has besides the table's own columns."""


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
    chunk_rows: int = Field(
        default=2_000_000, ge=1_000, description="Rows of a database table above which it is read in chunks."
    )
    coverage: Coverage | None = None
    on_drift: Drift = Drift()
    volume: Volume = Volume()
    deletes: Deletes = Deletes()
    late: Late = Late()
    history: bool = Field(default=False, description="Keep every version of each row in a table of its own.")
    freshness: Freshness | None = None
    foreign_keys: tuple[ForeignKey, ...] = Field(default=(), description="References to tables of the same source.")
    events: Events | None = None
    owner: str | None = None
    columns: tuple[ColumnSpec, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [column.name for column in self.columns]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"column {doubled[0]!r} stands twice")
        taken = {PARTITION_COLUMN, DELETED_COLUMN, "object_key", "object_line"}
        taken |= {column.name for column in HISTORY_COLUMNS} if self.history else set()
        reserved = taken & set(names)
        if reserved:
            raise ValueError(f"{sorted(reserved)[0]!r} is a column that Penstock adds itself: rename it in the source")
        by_name = {column.name: column for column in self.columns}
        for key in self.primary_key:
            if key not in by_name:
                raise ValueError(f"primary_key names {key!r}, which is not among the columns")
            if by_name[key].nullable:
                raise ValueError(f"primary key column {key!r} must be 'nullable: false'")
            if by_name[key].policy == "cast":
                raise ValueError(f"primary key column {key!r} has policy cast: a cast may make two keys one")
        if self.version_column and self.version_column not in by_name:
            raise ValueError(f"version_column names {self.version_column!r}, which is not among the columns")
        self._check_mode(by_name)
        if self.events is not None and self.events.watch and self.objects is None:
            raise ValueError("'events: {watch: bucket}' needs 'objects:': a database tells of its rows by a queue")
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
        if self.objects is not None and any(column.policy == "cast" for column in by_name.values()):
            raise ValueError("policy cast is a database's: objects have no cast of their own")
        self._check_interval_column(by_name)
        self._check_versions(by_name)
        self._check_promises(by_name)

    def _check_promises(self, by_name: Mapping[str, ColumnSpec]) -> None:
        for reference in self.foreign_keys:
            unknown = [name for name in reference.columns if name not in by_name]
            if unknown:
                raise ValueError(f"foreign_keys names {unknown[0]!r}, which is not among the columns")
            if len(reference.columns) != len(reference.referred_columns):
                raise ValueError(f"foreign_keys to {reference.references!r}: 'columns' and 'key' differ in number")
        if self.freshness and self.freshness.max_lag_s:
            column = by_name.get(self.clock_column or "")
            if column is None or column.type not in {"timestamptz", "timestamp", "date"}:
                raise ValueError("'max_lag_s' needs a cursor, window or version_column that is a time")

    def _check_versions(self, by_name: Mapping[str, ColumnSpec]) -> None:
        """Policies that need to know one row from another, or an interval column to look by."""
        asked = {"deletes: {policy: reconcile}": self.deletes.policy == "reconcile", "history: true": self.history}
        for key in (key for key, wanted in asked.items() if wanted):
            if not self.primary_key:
                raise ValueError(f"{key!r} needs 'primary_key: [...]'")
            if self.mode not in _KEYED:
                raise ValueError(f"{key!r} does not fit mode {self.mode}, in which rows neither change nor vanish")
        kinds = {name: by_name[name].type for name in self.primary_key}
        odd = [name for name, kind in kinds.items() if kind not in COMPARABLE and not kind.startswith("decimal")]
        if odd and self.deletes.policy == "reconcile":
            raise ValueError(f"key column {odd[0]!r} is {kinds[odd[0]]}: such keys cannot be compared with the source")
        if self.moves and self.mode != "incremental":
            raise ValueError("'on_update: moves' needs mode incremental: its intervals are merged by key")
        if self.late.beyond != "ignore" and self.interval_column is None:
            raise ValueError("'late: {beyond: ...}' needs a cursor or window: without one no row is late")

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
        if column.policy == "cast":
            raise ValueError(f"{key} column {column.name!r} has policy cast: intervals are asked of the column itself")

    @property
    def in_source(self) -> str:
        """The table's name in the source."""
        return self.source_name or self.name

    @property
    def interval_column(self) -> str | None:
        """The column that decides in which interval a row lies; None where the whole, or an object's key, decides."""
        chosen = self.cursor or self.window
        return chosen.column if chosen else None

    @property
    def clock_column(self) -> str | None:
        """The column that says how new a row is; None where nothing does."""
        return self.interval_column or self.version_column

    def column(self, name: str) -> ColumnSpec:
        """The column of that name, which must be one of the table's."""
        return next(column for column in self.columns if column.name == name)

    @property
    def partitioned(self) -> bool:
        """Whether the table has one partition per interval (a snapshot table is replaced as a whole)."""
        return self.mode != "snapshot"

    @property
    def moves(self) -> bool:
        """Whether a row that changes comes again in another interval."""
        return self.cursor is not None and self.cursor.on_update == "moves"

    @property
    def keeps_deleted(self) -> bool:
        """Whether rows that vanish from the source stay, marked."""
        return self.deletes.policy == "reconcile"

    @property
    def rewrites_others(self) -> bool:
        """Whether work on one interval may rewrite the partitions of others."""
        return self.moves or (self.keeps_deleted and self.partitioned)

    def merge_rule(self, *, any_share: bool = False) -> MergeRule | None:
        """How a batch meets the rows that are live; None: it takes their place.

        Args:
            any_share: any number of rows may vanish.
        """
        if not (self.moves or self.keeps_deleted):
            return None
        versions = (self.version_column, self.interval_column if self.moves else None)
        return MergeRule(
            keys=self.primary_key,
            versions=tuple(dict.fromkeys(name for name in versions if name)),
            moves=self.moves,
            marks=self.keeps_deleted and not self.moves,
            max_deleted_share=None if any_share else self.deletes.max_share,
        )

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
        if self.keeps_deleted:
            columns.append(Column(DELETED_COLUMN, "timestamptz", True, "When the row was found gone from the source."))
        return tuple(columns)

    def history_columns(self) -> tuple[Column, ...]:
        """Columns of the table that keeps every version of each row."""
        return (*HISTORY_COLUMNS, *(column.to_column() for column in self.columns))
