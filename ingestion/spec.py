"""Source specs: one YAML file per source system, parsed into frozen models that refuse nonsense at load time.

A spec says what a source is, never how to log in: ``connection`` is a name that settings or the scheduler resolve. A
JSON Schema for editors is generated from these models (``ingestion/sources/schema.json``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from common.errors import PenstockError, SpecError, UnknownName
from common.intervals import zone
from common.yaml_files import load_model
from lake.paths import TableId
from lake.schema import PARTITION_COLUMN, Column, resolve_type

_REMEDY = "see docs/source-specs.md for the keys and their meaning"


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", text):
        raise ValueError(f"{text!r} must be lower-case letters, digits and underscores, starting with a letter")
    return text


def _type(text: str) -> str:
    try:
        resolve_type(text)
    except PenstockError as error:
        raise ValueError(f"{error.problem} {error.remedy}") from None
    return text


def _zone(text: str) -> str:
    try:
        zone(text)
    except PenstockError as error:
        raise ValueError(f"{error.problem} {error.remedy}") from None
    return text


def _identifier(text: str) -> str:
    if not text or len(text.encode()) > 63 or any(ord(character) < 32 for character in text):
        raise ValueError("a database identifier has 1 to 63 bytes and no control characters")
    return text


Name = Annotated[str, AfterValidator(_name)]
Identifier = Annotated[str, AfterValidator(_identifier)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ColumnSpec(_Model):
    """One column of a source table."""

    name: Name = Field(description="Column name, the same in the source and in the raw table.")
    type: Annotated[str, AfterValidator(_type)] = Field(description="Type word, see docs/source-specs.md.")
    nullable: bool = Field(default=True, description="Whether the source may hold nulls.")
    unit: str | None = Field(default=None, description="Unit of measure, where there is one.")
    pii: bool = Field(default=False, description="Whether the column holds personal data.")
    description: str = Field(default="", description="What the column holds.")

    def to_column(self) -> Column:
        """The lake column; its unit becomes part of the description."""
        unit = f" Unit: {self.unit}." if self.unit else ""
        return Column(self.name, self.type, self.nullable, f"{self.description}{unit}".strip())


class Cursor(_Model):
    """The column that says in which interval a row belongs."""

    column: Name = Field(description="A timestamptz or date column; a row belongs to the interval it falls into.")
    late_window_s: int = Field(
        default=0, ge=0, le=31_536_000, description="How long after an interval's end its rows may still change, in s."
    )


class Objects(_Model):
    """Where a table's objects lie and how to read them."""

    path: str = Field(description="Key template; {key} stands for the partition key, other {names} for any segment.")
    format: Literal["csv"] = "csv"
    compression: Literal["none", "gzip"] = "none"
    encoding: Literal["utf-8"] = "utf-8"
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    null_tokens: tuple[str, ...] = ("",)
    header: Literal[True] = True
    max_object_bytes: int = Field(default=1 << 30, gt=0, description="Largest object, uncompressed, that is read.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.delimiter.isascii() or (self.delimiter != "\t" and not self.delimiter.isprintable()):
            raise ValueError("delimiter must be a printable ASCII character or a tab")
        if self.delimiter.isalnum() or self.delimiter == '"':
            raise ValueError("delimiter must be neither a letter, a digit nor the quote")
        if self.path.count("{key}") != 1:
            raise ValueError("path must contain {key} exactly once: it is how an object names its interval")
        if self.path.startswith("/") or ".." in self.path:
            raise ValueError("path must be a plain object key: no leading slash, no '..'")
        if not re.fullmatch(r"(?:[A-Za-z0-9_=./-]|\{[a-z_]+\})+", self.path):
            raise ValueError("path may hold letters, digits, '_', '=', '.', '/', '-' and {names}")
        return self

    @property
    def prefix(self) -> str:
        """The part of the path before its first placeholder: what is listed."""
        return self.path.split("{", 1)[0]

    def key_pattern(self) -> re.Pattern[str]:
        """Matches an object key; group ``key`` is its partition key."""
        pattern = re.escape(self.path).replace(r"\{key\}", r"(?P<key>\d{4}-\d{2}-\d{2})")
        return re.compile(re.sub(r"\\\{[a-z_]+\\\}", r"[^/]+", pattern))


class Coverage(_Model):
    """The days a source has at all; outside them there is nothing to expect."""

    start: date | None = Field(default=None, alias="from", description="First day.")
    end: date | None = Field(default=None, alias="to", description="Day after the last one.")
    why: str = Field(min_length=1, description="Why the source has nothing outside.")

    def holds(self, day: date) -> bool:
        """Whether the source is expected to have that day."""
        return (self.start is None or day >= self.start) and (self.end is None or day < self.end)


class Drift(_Model):
    """What happens when the source's columns differ from the spec. A missing or changed column is always refused."""

    added_column: Literal["warn", "refuse"] = "warn"


class Volume(_Model):
    """How far a batch may shrink against the rows that are live for the same partition."""

    min_share: float = Field(
        default=0.5, ge=0, le=1, description="Smallest share of the live rows that may replace them; 0 allows any."
    )


class Freshness(_Model):
    """How old the newest interval may be."""

    max_age_s: int = Field(gt=0, description="Largest age of the newest published interval's end, in s.")


class TableSpec(_Model):
    """One table of a source."""

    name: Name
    mode: Literal["snapshot", "incremental", "append"] = Field(
        description="snapshot: the whole table, replaced when it changes. incremental: rows of the interval by cursor. "
        "append: the interval's objects."
    )
    primary_key: tuple[Name, ...] = Field(min_length=1)
    description: str = ""
    schema_name: Identifier = Field(default="public", alias="schema", description="Database schema.")
    cursor: Cursor | None = None
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
        return self

    def _check_mode(self, by_name: Mapping[str, ColumnSpec]) -> None:
        if self.mode == "incremental":
            if self.cursor is None:
                raise ValueError("mode incremental needs 'cursor: {column: ...}'")
            if self.cursor.column not in by_name:
                raise ValueError(f"cursor names {self.cursor.column!r}, which is not among the columns")
            column = by_name[self.cursor.column]
            if column.type not in {"timestamptz", "date"}:
                raise ValueError(f"cursor column {column.name!r} is {column.type}: it must be timestamptz or date")
            if column.nullable:
                raise ValueError(f"cursor column {column.name!r} must be 'nullable: false': a null is in no interval")
        elif self.cursor is not None:
            raise ValueError(f"mode {self.mode} has no cursor: remove it or use mode incremental")
        if (self.mode == "append") != (self.objects is not None):
            raise ValueError("mode append and 'objects:' go together")

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
            columns.append(Column("object_line", "int64", False, "Line of the row in that object, the header being 1."))
        return tuple(columns)


class SourceSpec(_Model):
    """One source system."""

    source: Name
    kind: Literal["postgresql", "objects"]
    connection: Name = Field(description="Name of the connection, resolved from settings or the scheduler.")
    time_zone: Annotated[str, AfterValidator(_zone)] = Field(
        default="UTC", description="The zone in which a partition key names a day."
    )
    schedule: str = Field(
        default="0 3 * * *", pattern=r"^\S+( \S+){4}$", description="Cron expression of the daily run."
    )
    start_date: date | None = Field(default=None, description="First day the scheduler runs for.")
    end_date: date | None = Field(default=None, description="Day after the last one the scheduler runs for.")
    owner: str = Field(min_length=1)
    description: str = ""
    tables: tuple[TableSpec, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [table.name for table in self.tables]
        for table in self.tables:
            if names.count(table.name) > 1:
                raise ValueError(f"table {table.name!r} stands twice")
            if (table.mode == "append") != (self.kind == "objects"):
                raise ValueError(f"table {table.name!r}: mode {table.mode} does not fit a source of kind {self.kind}")
        return self

    def table(self, name: str) -> TableSpec:
        """The table of that name.

        Raises:
            UnknownName: no such table; the message lists those there are.
        """
        for table in self.tables:
            if table.name == name:
                return table
        raise UnknownName(
            f"Source {self.source} has no table {name!r}.",
            source=self.source,
            table=name,
            remedy=f"use one of {', '.join(table.name for table in self.tables)}",
        )

    def raw(self, table: str) -> TableId:
        """The raw lake table of a source table."""
        return TableId("raw", f"{self.source}__{table}")


def load_source(path: Path) -> SourceSpec:
    """Read one spec.

    Raises:
        SpecError: naming file, line and problem.
    """
    spec = load_model(path, SourceSpec, remedy=_REMEDY)
    if spec.source != path.stem:
        raise SpecError(f"{path}:1: source {spec.source!r} must be the file's name.", remedy=f"name it {path.stem!r}")
    return spec


def load_sources(folder: Path) -> dict[str, SourceSpec]:
    """Read every ``*.yml`` of a folder, by source name.

    Raises:
        SpecError: a spec is not valid, or there is none.
    """
    specs = {spec.source: spec for spec in (load_source(path) for path in sorted(folder.glob("*.yml")))}
    if not specs:
        raise SpecError(f"No source spec (*.yml) in {folder}.", remedy="add one; see docs/source-specs.md")
    return specs


def json_schema() -> dict[str, Any]:
    """JSON Schema of a source spec, for editors."""
    return SourceSpec.model_json_schema(by_alias=True)


def json_schema_text() -> str:
    """The schema as it is stored in ``ingestion/sources/schema.json``."""
    return json.dumps(json_schema(), indent=2) + "\n"
