"""raw.flightops__flights + raw.flightops__airports -> refined.flights: clocks become instants.

The source writes departures as clocks of the origin and arrivals as clocks of the **destination**, with one date: the
origin's day of the scheduled departure. The rules, checked on all 336,776 flights of 2013:

- *Scheduled departure*: date and clock, in the origin's zone (``time_hour`` decides between the two readings of the
  hour that autumn repeats).
- *Departure*: the reading of ``dep_time`` nearest to scheduled departure + delay. ``2400`` is midnight; late flights
  leave on the next day and early ones on the day before without a rule of their own.
- *Scheduled arrival*: the first reading of ``sched_arr_time`` from :data:`SHORTEST_FLIGHT_MIN` after the scheduled
  departure on. A clock comes round every 24 hours and no scheduled flight takes a day, so the first one is the one
  (scheduled block times come out from 50 to 700 minutes, never near the ends of that window).
- *Arrival*: the reading of ``arr_time`` nearest to scheduled arrival + delay; a diverted flight has no arrival delay,
  then the first reading from :data:`SHORTEST_FLIGHT_MIN` after departure on.

Not done: guessing the zone of an airport that the reference table lacks (its arrivals are null and
``is_destination_known`` is false), and computing an arrival as departure + air time (taxi time is not in the source).
"""

from __future__ import annotations

import polars as pl

from lake.schema import Column
from transformations.refine.clocks import (
    calendar_day,
    convertible_zones,
    minutes_of_clock,
    with_first_reading,
    with_nearest_reading,
    with_wall_reading,
)
from transformations.refine.model import RefinedTable, conform, latest_per_key

SHORTEST_FLIGHT_MIN = 20
"""No arrival is sooner than this after its departure. The shortest air time of 2013 is 20 minutes (the shortest whole
flight, gate to gate, 33); the window for the arrival clock is therefore 20 minutes to 24 hours 20 minutes."""

COLUMNS = (
    Column("ds", "date", nullable=False, description="New York day of the scheduled departure: the partition."),
    Column(
        "flight_id",
        "string",
        nullable=False,
        description="Scheduled UTC hour, carrier and number, such as 20130101T10Z-UA-1545.",
    ),
    Column("carrier_code", "string", nullable=False, description="Airline, IATA code."),
    Column("flight_number", "int32", nullable=False, description="The airline's number of the flight."),
    Column("tail_number", "string", description="Registration of the aircraft; null for some cancelled flights."),
    Column("origin_code", "string", nullable=False, description="Airport of departure, FAA code."),
    Column("destination_code", "string", nullable=False, description="Airport of arrival, FAA code."),
    Column("scheduled_departure_at", "timestamptz", nullable=False, description="Scheduled departure, UTC."),
    Column("departed_at", "timestamptz", description="Departure, UTC; null when cancelled."),
    Column(
        "scheduled_arrival_at",
        "timestamptz",
        description="Scheduled arrival, UTC; null when the destination's time zone is not known.",
    ),
    Column(
        "arrived_at",
        "timestamptz",
        description="Arrival, UTC; null when cancelled, not recorded, or the destination's time zone is not known.",
    ),
    Column("departure_delay_min", "int32", description="Departure after schedule, minutes; early is negative."),
    Column("arrival_delay_min", "int32", description="Arrival after schedule, minutes; null when diverted."),
    Column("air_time_min", "int32", description="Time in the air, minutes; null when diverted or cancelled."),
    Column("distance_mi", "int32", nullable=False, description="Distance between the airports, miles."),
    Column("is_cancelled", "bool", nullable=False, description="No departure was recorded."),
    Column(
        "is_destination_known",
        "bool",
        nullable=False,
        description="Whether the airports table has the destination (its time zone may still be null).",
    ),
    Column("weather_hour_at", "timestamptz", nullable=False, description="Hour to look up in weather, UTC."),
    Column("updated_at", "timestamptz", nullable=False, description="When the source last changed the row, UTC."),
)


def refine_flights(flights: pl.LazyFrame, airports: pl.LazyFrame) -> pl.LazyFrame:
    """Refine flights.

    Args:
        flights: rows of ``raw.flightops__flights``.
        airports: all of ``raw.flightops__airports``; small, collected once for its zones.

    Returns:
        A LazyFrame with :data:`COLUMNS`, one row per input row.
    """
    known = latest_per_key(airports, ["faa"], "updated_at").select("faa", "tzone").collect()
    zones = convertible_zones(known["tzone"].to_list())
    reference = known.lazy()
    located = flights.join(
        reference.rename({"faa": "origin", "tzone": "_origin_zone"}), on="origin", how="left", maintain_order="left"
    ).join(
        reference.select(
            pl.col("faa").alias("dest"), pl.col("tzone").alias("_zone"), pl.lit(value=True).alias("_known")
        ),
        on="dest",
        how="left",
        maintain_order="left",
    )
    return conform(_with_names(_with_instants(located, zones)), COLUMNS)


def _with_instants(flights: pl.LazyFrame, zones: tuple[str, ...]) -> pl.LazyFrame:
    here, there = pl.col("_origin_zone"), pl.col("_zone")
    scheduled_min = minutes_of_clock(pl.col("sched_dep_time"))
    shortest = pl.duration(minutes=SHORTEST_FLIGHT_MIN)
    frame = with_wall_reading(
        flights,
        "scheduled_departure_at",
        wall=calendar_day(pl.col("year"), pl.col("month"), pl.col("day")) + pl.duration(minutes=scheduled_min),
        near=pl.col("time_hour") + pl.duration(minutes=scheduled_min % 60),
        zone=here,
        zones=zones,
    )
    frame = with_nearest_reading(
        frame,
        "departed_at",
        clock=pl.col("dep_time"),
        expected=pl.col("scheduled_departure_at") + pl.duration(minutes=pl.col("dep_delay").fill_null(0)),
        zone=here,
        zones=zones,
    )
    frame = with_first_reading(
        frame,
        "scheduled_arrival_at",
        clock=pl.col("sched_arr_time"),
        floor=pl.col("scheduled_departure_at") + shortest,
        zone=there,
        zones=zones,
    )
    frame = with_nearest_reading(
        frame,
        "_by_delay",
        clock=pl.col("arr_time"),
        expected=pl.col("scheduled_arrival_at") + pl.duration(minutes=pl.col("arr_delay")),
        zone=there,
        zones=zones,
    )
    frame = with_first_reading(
        frame,
        "_diverted",
        clock=pl.col("arr_time"),
        floor=pl.col("departed_at") + shortest,
        zone=there,
        zones=zones,
    )
    arrived = pl.when(pl.col("arr_delay").is_null()).then(pl.col("_diverted")).otherwise(pl.col("_by_delay"))
    return frame.with_columns(arrived.alias("arrived_at"))


def _with_names(flights: pl.LazyFrame) -> pl.LazyFrame:
    hour = pl.col("time_hour").dt.strftime("%Y%m%dT%HZ")
    return flights.with_columns(
        pl.concat_str(hour, pl.col("carrier"), pl.col("flight"), separator="-").alias("flight_id"),
        pl.col("carrier").alias("carrier_code"),
        pl.col("flight").alias("flight_number"),
        pl.col("tailnum").alias("tail_number"),
        pl.col("origin").alias("origin_code"),
        pl.col("dest").alias("destination_code"),
        pl.col("dep_delay").alias("departure_delay_min"),
        pl.col("arr_delay").alias("arrival_delay_min"),
        pl.col("air_time").alias("air_time_min"),
        pl.col("distance").alias("distance_mi"),
        pl.col("dep_time").is_null().alias("is_cancelled"),
        pl.col("_known").fill_null(value=False).alias("is_destination_known"),
        pl.col("time_hour").alias("weather_hour_at"),
    )


TABLE = RefinedTable(
    name="flights",
    columns=COLUMNS,
    partitioned=True,
    primary_key=("flight_id",),
    inputs={"flights": "raw.flightops__flights"},
    reference_inputs={"airports": "raw.flightops__airports"},
    version_column="updated_at",
    function=refine_flights,
    unchanged={
        "carrier_code": "carrier",
        "flight_number": "flight",
        "tail_number": "tailnum",
        "origin_code": "origin",
        "destination_code": "dest",
        "departure_delay_min": "dep_delay",
        "arrival_delay_min": "arr_delay",
        "air_time_min": "air_time",
        "distance_mi": "distance",
        "weather_hour_at": "time_hour",
        "updated_at": "updated_at",
    },
)
