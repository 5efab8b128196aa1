"""raw.flightops__airlines -> refined.airlines: plain names. One row per airline."""

from __future__ import annotations

import polars as pl

from lake.schema import Column
from transformations.refine.model import RefinedTable, conform

COLUMNS = (
    Column("carrier_code", "string", nullable=False, description="Airline, IATA code."),
    Column("carrier_name", "string", nullable=False, description="Name of the airline."),
    Column("updated_at", "timestamptz", nullable=False, description="When the source last changed the row, UTC."),
)


def refine_airlines(airlines: pl.LazyFrame) -> pl.LazyFrame:
    """Refine airlines.

    Args:
        airlines: rows of ``raw.flightops__airlines``.

    Returns:
        A LazyFrame with :data:`COLUMNS`, one row per input row.
    """
    return conform(airlines.rename({"carrier": "carrier_code", "name": "carrier_name"}), COLUMNS)


TABLE = RefinedTable(
    name="airlines",
    columns=COLUMNS,
    partitioned=False,
    primary_key=("carrier_code",),
    inputs={"airlines": "raw.flightops__airlines"},
    version_column="updated_at",
    function=refine_airlines,
)
