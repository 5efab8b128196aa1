"""What a refined table is: its columns, its inputs, its key, and the function that makes it.

A table is described beside its function so that the two cannot drift apart: :func:`conform` gives the result exactly
the described columns, types and order, and the tests call every function on empty input to prove it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from common.errors import SpecError
from lake.schema import PARTITION_COLUMN, Column, arrow_schema


@dataclass(frozen=True)
class RefinedTable:
    """One refined table.

    Attributes:
        name: table name; the lake table is ``refined.<name>``.
        columns: exactly the columns the function gives, in order.
        partitioned: whether rows belong to intervals (then ``ds`` is the first column).
        primary_key: columns that name one row.
        inputs: argument name -> raw lake table, read for the interval (whole when not partitioned).
        reference_inputs: argument name -> raw lake table, read whole whatever the interval.
        version_column: the newest row of a key wins by this column; None where versions do not occur.
        function: LazyFrames by argument name -> LazyFrame, before :func:`latest_per_key`.
        unchanged: refined column -> raw column whose values it takes over as they are: their checksums must agree.

    Raises:
        SpecError: key, version, partition or unchanged column is not among ``columns``.
    """

    name: str
    columns: tuple[Column, ...]
    partitioned: bool
    primary_key: tuple[str, ...]
    inputs: Mapping[str, str]
    function: Callable[..., pl.LazyFrame]
    reference_inputs: Mapping[str, str] = field(default_factory=dict)
    version_column: str | None = None
    unchanged: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        used = [*self.primary_key, *([self.version_column] if self.version_column else []), *self.unchanged]
        missing = [name for name in used if name not in names]
        if missing or not self.primary_key:
            raise SpecError(
                f"Key, version or unchanged columns {missing} are not columns of the refined table.",
                table=f"refined.{self.name}",
                remedy=f"use some of {', '.join(names)}",
            )
        if self.partitioned and names[0] != PARTITION_COLUMN:
            raise SpecError(
                "A partitioned table starts with its partition column.",
                table=f"refined.{self.name}",
                remedy=f"make {PARTITION_COLUMN} (date) the first column",
            )


def polars_schema(columns: Sequence[Column]) -> pl.Schema:
    """Polars form of lake columns, derived from their Arrow form so that there is one table of types."""
    return pl.DataFrame(arrow_schema(columns).empty_table()).schema


def conform(frame: pl.LazyFrame, columns: Sequence[Column]) -> pl.LazyFrame:
    """Exactly ``columns``, in order and type. Casts are strict: a value that does not fit raises, it is not cut."""
    schema = polars_schema(columns)
    return frame.select(pl.col(column.name).cast(schema[column.name]) for column in columns)


def latest_per_key(frame: pl.LazyFrame, key: Sequence[str], version_column: str | None) -> pl.LazyFrame:
    """One row per key: the one with the newest version, in key order.

    Deterministic whatever the input order: among equal versions the row that is greatest column by column wins (nulls
    smallest). Rows with a null in the key are all kept, since they name nothing; the gate's not-null rule judges them.

    Args:
        frame: rows with versions.
        key: columns that name one row.
        version_column: newest wins, null is oldest. None: there are no versions to choose from, so only exact copies
            of a row are dropped and the gate's uniqueness rule judges the rest.
    """
    names = frame.collect_schema().names()
    first = [*key, *([version_column] if version_column else [])]
    order = [*first, *(name for name in names if name not in first)]
    descending = [name not in key for name in order]
    if version_column is None:
        repeats = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(1)) for name in names)
        # The first row of all-null columns equals the null that shift() puts before it.
        repeated = repeats & (pl.int_range(pl.len()) > 0)
    else:
        repeated = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in key).fill_null(value=False)
    return frame.sort(order, descending=descending, nulls_last=True).filter(~repeated)
