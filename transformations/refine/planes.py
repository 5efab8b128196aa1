"""raw.flightops__planes -> refined.planes: names with units. One row per aircraft registration."""

from __future__ import annotations

import polars as pl

from lake.schema import Column
from transformations.refine.model import RefinedTable, conform

COLUMNS = (
    Column("tail_number", "string", nullable=False, description="Registration of the aircraft."),
    Column("manufactured_year", "int32", description="Year of manufacture; null when the register lacks it."),
    Column("plane_type", "string", nullable=False, description="Fixed wing with one or more engines, or rotorcraft."),
    Column("manufacturer", "string", nullable=False, description="Manufacturer, as registered."),
    Column("model", "string", nullable=False, description="Model, as registered."),
    Column("engine_count", "int32", nullable=False, description="Number of engines."),
    Column("seat_count", "int32", nullable=False, description="Number of seats."),
    Column("cruising_speed_mph", "int32", description="Cruising speed, miles per hour; mostly not registered."),
    Column("engine_type", "string", nullable=False, description="Kind of engine, such as Turbo-fan."),
    Column("updated_at", "timestamptz", nullable=False, description="When the source last changed the row, UTC."),
)

_NAMES = {
    "tailnum": "tail_number",
    "year": "manufactured_year",
    "type": "plane_type",
    "engines": "engine_count",
    "seats": "seat_count",
    "speed": "cruising_speed_mph",
    "engine": "engine_type",
}


def refine_planes(planes: pl.LazyFrame) -> pl.LazyFrame:
    """Refine planes.

    Args:
        planes: rows of ``raw.flightops__planes``.

    Returns:
        A LazyFrame with :data:`COLUMNS`, one row per input row.
    """
    return conform(planes.rename(_NAMES), COLUMNS)


TABLE = RefinedTable(
    name="planes",
    columns=COLUMNS,
    partitioned=False,
    primary_key=("tail_number",),
    inputs={"planes": "raw.flightops__planes"},
    version_column="updated_at",
    function=refine_planes,
    unchanged={refined: raw for raw, refined in _NAMES.items()},
)
