"""raw.stations__weather -> refined.weather: names with units, one row per station and hour.

Values pass unchanged, NaN and infinity included: the refined suite rejects such rows where they can be seen, a quiet
null here would hide a broken sensor. The calendar columns of the source are dropped but for the hour: ``observed_at``
says them exactly, also in the night in which New York's clocks show 01:00 twice.
"""

from __future__ import annotations

import polars as pl

from lake.schema import Column
from transformations.refine.model import RefinedTable, conform

COLUMNS = (
    Column("ds", "date", nullable=False, description="New York day of the observation: the partition."),
    Column("station_code", "string", nullable=False, description="Airport of the station, FAA code."),
    Column("observed_at", "timestamptz", nullable=False, description="Hour of the observation, UTC."),
    Column("local_hour", "int32", nullable=False, description="Hour on the station's clock, 0 to 23."),
    Column("temperature_f", "float64", description="Temperature, degrees Fahrenheit."),
    Column("dew_point_f", "float64", description="Dew point, degrees Fahrenheit."),
    Column("humidity_pct", "float64", description="Relative humidity, percent."),
    Column("wind_direction_deg", "int32", description="Where the wind comes from, degrees; 0 in a calm."),
    Column("wind_speed_mph", "float64", description="Wind speed, miles per hour."),
    Column("wind_gust_mph", "float64", description="Gust speed, miles per hour; null without gusts."),
    Column("precipitation_in", "float64", description="Precipitation in the hour, inches."),
    Column("pressure_mbar", "float64", description="Pressure at sea level, millibars."),
    Column("visibility_mi", "float64", description="Visibility, miles; 10 means 10 or more."),
)

_NAMES = {
    "origin": "station_code",
    "time_hour": "observed_at",
    "hour": "local_hour",
    "temp": "temperature_f",
    "dewp": "dew_point_f",
    "humid": "humidity_pct",
    "wind_dir": "wind_direction_deg",
    "wind_speed": "wind_speed_mph",
    "wind_gust": "wind_gust_mph",
    "precip": "precipitation_in",
    "pressure": "pressure_mbar",
    "visib": "visibility_mi",
}


def refine_weather(weather: pl.LazyFrame) -> pl.LazyFrame:
    """Refine weather.

    Args:
        weather: rows of ``raw.stations__weather``.

    Returns:
        A LazyFrame with :data:`COLUMNS`, one row per input row.
    """
    return conform(weather.rename(_NAMES), COLUMNS)


TABLE = RefinedTable(
    name="weather",
    columns=COLUMNS,
    partitioned=True,
    primary_key=("station_code", "observed_at"),
    inputs={"weather": "raw.stations__weather"},
    function=refine_weather,
    unchanged={refined: raw for raw, refined in _NAMES.items()},
)
