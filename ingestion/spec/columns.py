"""One column of a source table, as its spec describes it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from ingestion.spec.words import Identifier, Name, SpecModel, TypeWord
from lake.schema import Column

_VALUES_OF = {"string": str, "int32": int, "int64": int, "bool": bool}
"""Types whose values can be listed, and what YAML makes of such values."""


class ColumnSpec(SpecModel):
    """One column of a source table."""

    name: Name = Field(description="Column name in the raw table.")
    source_name: Identifier | None = Field(default=None, description="Its name in the source, where that is another.")
    type: TypeWord = Field(description="Type word, see docs/source-specs.md.")
    policy: Literal["exact", "cast"] = Field(
        default="exact",
        description="exact: a value that the type cannot hold as it is goes to quarantine. "
        "cast: the database's own cast decides, which may round; what even that refuses goes to quarantine.",
    )
    why: str = Field(default="", description="Why the policy is not exact.")
    nullable: bool = Field(default=True, description="Whether the source may hold nulls.")
    accepted_values: tuple[bool | int | str, ...] = Field(
        default=(), description="The only values the column may hold, besides null."
    )
    unit: str | None = Field(default=None, description="Unit of measure, where there is one.")
    pii: bool | Literal["suspected"] = Field(default=False, description="Whether the column holds personal data.")
    description: str = Field(default="", description="What the column holds.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.policy == "cast" and not self.why.strip():
            raise ValueError(f"column {self.name!r} has policy cast: say with 'why:' why a changed value is right")
        if self.policy == "exact" and self.why:
            raise ValueError(f"column {self.name!r} has a 'why:', which belongs to 'policy: cast'")
        kind = _VALUES_OF.get(self.type)
        if self.accepted_values and kind is None:
            raise ValueError(f"column {self.name!r} is {self.type}: accepted_values fit {', '.join(_VALUES_OF)}")
        odd = [value for value in self.accepted_values if type(value) is not kind]
        if odd:
            raise ValueError(f"column {self.name!r} is {self.type}: {odd[0]!r} of accepted_values is no such value")
        return self

    @property
    def in_source(self) -> str:
        """The column's name in the source."""
        return self.source_name or self.name

    def to_column(self) -> Column:
        """The lake column; its unit becomes part of the description."""
        unit = f" Unit: {self.unit}." if self.unit else ""
        return Column(self.name, self.type, self.nullable, f"{self.description}{unit}".strip())
