"""What a table's spec decides: which rows belong to an interval, and what happens when the source surprises."""

from __future__ import annotations

from datetime import date
from typing import Literal, Self

from pydantic import Field, model_validator

from ingestion.spec.words import Name, SpecModel


class Cursor(SpecModel):
    """The column that says in which interval a row belongs."""

    column: Name = Field(
        description="A timestamptz, timestamp or date column; a row belongs to the interval it falls into."
    )
    late_window_s: int = Field(
        default=0, ge=0, le=31_536_000, description="How long after an interval's end its rows may still change, in s."
    )
    on_update: Literal["stays", "moves"] = Field(
        default="stays",
        description="stays: a row's cursor value never changes, like the time of an event. moves: a changed row gets a "
        "new one, like updated_at; then intervals are merged by key.",
    )


class Window(SpecModel):
    """The column whose day decides in which partition a row lies; an interval is replaced whole."""

    column: Name = Field(description="A timestamptz, timestamp or date column.")


class Coverage(SpecModel):
    """The days a source has at all; outside them there is nothing to expect."""

    start: date | None = Field(default=None, alias="from", description="First day.")
    end: date | None = Field(default=None, alias="to", description="Day after the last one.")
    why: str = Field(min_length=1, description="Why the source has nothing outside.")

    def holds(self, day: date) -> bool:
        """Whether the source is expected to have that day."""
        return (self.start is None or day >= self.start) and (self.end is None or day < self.end)


DriftPolicy = Literal["evolve", "reject", "quarantine"]


class Drift(SpecModel):
    """What happens when the source's columns differ from the spec, by kind of difference; see docs/drift.md."""

    added: Literal["ignore", "evolve", "reject", "quarantine"] = Field(
        default="ignore", description="A column that the spec does not name; ignore: it is not read, and a warning."
    )
    dropped: DriftPolicy = Field(default="reject", description="A column of the spec that the source does not have.")
    renamed: DriftPolicy = Field(default="reject", description="A dropped column that seems to have another name now.")
    widened: DriftPolicy = Field(default="reject", description="A number type that holds more than is declared.")
    narrowed: DriftPolicy = Field(default="evolve", description="A type that holds less, or another type.")
    nullability: DriftPolicy = Field(default="evolve", description="Nulls are allowed where the spec has none, or not.")
    reordered: DriftPolicy = Field(default="evolve", description="The columns stand in another order.")
    key_changed: DriftPolicy = Field(default="reject", description="No key of the source is the primary key declared.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        for kind, reason in _NO_ROW_CAN_BE_TOLD_APART.items():
            if getattr(self, kind) == "quarantine":
                raise ValueError(f"{kind}: quarantine makes no sense: {reason}; use evolve or reject")
        return self


_NO_ROW_CAN_BE_TOLD_APART = {
    "dropped": "every row lacks the column, so all of them would go to quarantine",
    "renamed": "every row lacks the column, so all of them would go to quarantine",
    "reordered": "the order is no property of a row, so none of them would go to quarantine",
}


class Volume(SpecModel):
    """How far a batch may shrink against the rows that are live for the same partition."""

    min_share: float = Field(
        default=0.5, ge=0, le=1, description="Smallest share of the live rows that may replace them; 0 allows any."
    )


class Deletes(SpecModel):
    """What becomes of rows that vanish from the source."""

    policy: Literal["ignore", "reconcile"] = Field(
        default="ignore",
        description="ignore: nobody looks for them. reconcile: they stay and are marked in source_deleted_at.",
    )
    max_share: float = Field(
        default=0.05, ge=0, le=1, description="Largest share of the live rows that may vanish at once."
    )


class Late(SpecModel):
    """What is done about rows that come later than the late window."""

    beyond: Literal["ignore", "count", "reopen"] = Field(
        default="ignore",
        description="ignore: nobody looks. count: a run counts the source's rows by day and warns of days that have "
        "more than the lake. reopen: such days are also read again.",
    )


class Freshness(SpecModel):
    """How old the newest interval, and the newest row of a batch, may be."""

    max_age_s: int | None = Field(
        default=None, gt=0, description="Largest age of the newest published interval's end, in s."
    )
    max_lag_s: int | None = Field(
        default=None,
        gt=0,
        description="Longest time from a batch's newest row to its interval's end, or to now for a snapshot, in s. The "
        "row's time is the cursor or window, of a snapshot the version_column.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_age_s is None and self.max_lag_s is None:
            raise ValueError("freshness needs max_age_s or max_lag_s")
        return self


class ForeignKey(SpecModel):
    """Columns whose values must be a key of another table of the source; a null among them refers to nothing."""

    columns: tuple[Name, ...] = Field(min_length=1, description="Columns of this table.")
    references: Name = Field(description="Name of the other table, which is read whole (mode snapshot).")
    key: tuple[Name, ...] = Field(default=(), description="Its columns, in the same order; the same names by default.")

    @property
    def referred_columns(self) -> tuple[str, ...]:
        """Columns of the other table."""
        return self.key or self.columns
