"""One source system: its kind, connection, clock and tables; and how its file is read."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from common.errors import SpecError, UnknownName
from common.yaml_files import load_model
from ingestion.spec.policies import ForeignKey
from ingestion.spec.table import TableSpec
from ingestion.spec.words import Name, SpecModel, ZoneName
from lake.paths import TableId

_REMEDY = "see docs/source-specs.md for the keys and their meaning"


class SourceSpec(SpecModel):
    """One source system."""

    source: Name
    kind: Literal["postgresql", "mysql", "objects"]
    connection: Name = Field(description="Name of the connection, resolved from settings or the scheduler.")
    time_zone: ZoneName = Field(default="UTC", description="The zone in which a partition key names a day.")
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
            if table.history and f"{table.name}__history" in names:
                raise ValueError(f"table '{table.name}__history' has the name that the history of {table.name!r} needs")
            if (table.objects is not None) != (self.kind == "objects"):
                raise ValueError(f"table {table.name!r}: mode {table.mode} does not fit a source of kind {self.kind}")
            for reference in table.foreign_keys:
                self._check_reference(table, reference)
        return self

    def _check_reference(self, table: TableSpec, reference: ForeignKey) -> None:
        where = f"table {table.name!r}: foreign_keys to {reference.references!r}"
        referred = next((each for each in self.tables if each.name == reference.references), None)
        if referred is None or referred is table:
            raise ValueError(f"{where}: there is no other table of that name in this source")
        if referred.partitioned:
            raise ValueError(f"{where}: it must have mode snapshot, so that it is whole before this one is judged")
        columns = {column.name: column.type for column in referred.columns}
        for mine, theirs in zip(reference.columns, reference.referred_columns, strict=True):
            if columns.get(theirs) != table.column(mine).type:
                found = columns.get(theirs, "not among its columns")
                raise ValueError(f"{where}: {mine} is {table.column(mine).type}, {theirs} is {found}")

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

    def history(self, table: str) -> TableId:
        """The lake table that keeps every version of a source table's rows, where its spec asks for one."""
        return TableId("raw", f"{self.source}__{table}__history")


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
