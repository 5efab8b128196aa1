"""raw.flightops__airports -> refined.airports: names with units. One row per airport.

Coordinates and zones pass as the source has them: the suite names the airports whose degrees lost their sign or were
swapped, since nobody here can know which.
"""

from __future__ import annotations

import polars as pl

from lake.schema import Column
from transformations.refine.model import RefinedTable, conform

COLUMNS = (
    Column("airport_code", "string", nullable=False, description="FAA code."),
    Column("airport_name", "string", nullable=False, description="Name; not unique."),
    Column("latitude_deg", "float64", nullable=False, description="Latitude, degrees north."),
    Column("longitude_deg", "float64", nullable=False, description="Longitude, degrees east (America is negative)."),
    Column("altitude_ft", "int32", nullable=False, description="Altitude, feet above sea level."),
    Column("utc_offset_h", "int32", nullable=False, description="Standard time's offset from UTC, hours, as given."),
    Column(
        "dst_rule_code",
        "string",
        nullable=False,
        description="Daylight saving: A as in the United States, U unknown, N none.",
    ),
    Column("time_zone", "string", description="IANA time zone; null when the source lacks it."),
    Column("updated_at", "timestamptz", nullable=False, description="When the source last changed the row, UTC."),
)

_NAMES = {
    "faa": "airport_code",
    "name": "airport_name",
    "lat": "latitude_deg",
    "lon": "longitude_deg",
    "alt": "altitude_ft",
    "tz": "utc_offset_h",
    "dst": "dst_rule_code",
    "tzone": "time_zone",
}


def refine_airports(airports: pl.LazyFrame) -> pl.LazyFrame:
    """Refine airports.

    Args:
        airports: rows of ``raw.flightops__airports``.

    Returns:
        A LazyFrame with :data:`COLUMNS`, one row per input row.
    """
    return conform(airports.rename(_NAMES), COLUMNS)


TABLE = RefinedTable(
    name="airports",
    columns=COLUMNS,
    partitioned=False,
    primary_key=("airport_code",),
    inputs={"airports": "raw.flightops__airports"},
    version_column="updated_at",
    function=refine_airports,
    unchanged={refined: raw for raw, refined in _NAMES.items()},
)
