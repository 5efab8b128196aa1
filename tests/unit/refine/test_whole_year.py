"""All of 2013: the truths that are known of the demo data still hold after refining it."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from tests.demo_data import raw_frame
from tests.unit.refine.rows import utc
from transformations.refine import REFINED, latest_per_key


@pytest.fixture(scope="module")
def year() -> pl.DataFrame:
    table = REFINED["flights"]
    frame = table.function(
        flights=raw_frame("flightops", "flights").lazy(), airports=raw_frame("flightops", "airports").lazy()
    )
    refined = latest_per_key(frame, table.primary_key, table.version_column).collect(engine="streaming")
    return refined.with_columns(
        scheduled_block_min=_minutes("scheduled_departure_at", "scheduled_arrival_at"),
        block_min=_minutes("departed_at", "arrived_at"),
    )


def _minutes(start: str, end: str) -> pl.Expr:
    return (pl.col(end) - pl.col(start)).dt.total_minutes()


def test_no_flight_is_lost_or_doubled(year: pl.DataFrame) -> None:
    assert year.height == 336_776
    assert year["flight_id"].n_unique() == 336_776
    assert year["ds"].n_unique() == 365


def test_flights_without_a_departure_are_the_cancelled_ones(year: pl.DataFrame) -> None:
    assert year["is_cancelled"].sum() == 8_255
    assert year["departed_at"].null_count() == 8_255
    assert year["scheduled_departure_at"].null_count() == 0


def test_unknown_destinations_and_no_others_lack_a_scheduled_arrival(year: pl.DataFrame) -> None:
    unknown = year.filter(~pl.col("is_destination_known"))
    assert unknown.height == year["scheduled_arrival_at"].null_count() == 7_602
    assert sorted(unknown["destination_code"].unique()) == ["BQN", "PSE", "SJU", "STT"]
    assert unknown["arrived_at"].null_count() == 7_602


def test_every_inferred_instant_is_proved_by_the_delay(year: pl.DataFrame) -> None:
    """Delays are told apart from the clocks, so a wrong day would be off by 1,440 minutes."""
    departures = year.filter(~pl.col("is_cancelled"))
    assert departures.select(
        (_minutes("scheduled_departure_at", "departed_at") == pl.col("departure_delay_min")).all()
    ).item()
    arrivals = year.filter(pl.col("arrived_at").is_not_null() & pl.col("arrival_delay_min").is_not_null())
    assert arrivals.height == 319_808
    assert arrivals.select((_minutes("scheduled_arrival_at", "arrived_at") == pl.col("arrival_delay_min")).all()).item()


def test_every_flight_takes_a_plausible_time(year: pl.DataFrame) -> None:
    scheduled = year["scheduled_block_min"].drop_nulls()
    assert (scheduled.min(), scheduled.max()) == (50, 700)
    recorded = year.filter(pl.col("arrival_delay_min").is_not_null())["block_min"].drop_nulls()
    assert (recorded.min(), recorded.max()) == (33, 738)
    diverted = year.filter(pl.col("arrival_delay_min").is_null())["block_min"].drop_nulls().sort()
    assert (diverted.len(), diverted[0], diverted[-2], diverted[-1]) == (694, 169, 906, 1_225)


def test_time_in_the_air_is_part_of_the_block_and_leaves_time_to_taxi(year: pl.DataFrame) -> None:
    ground = year.select((pl.col("block_min") - pl.col("air_time_min")).drop_nulls().alias("ground"))["ground"]
    assert (ground.min(), ground.median(), ground.max()) == (5, 28, 235)


def test_only_the_spring_nights_arrival_is_lost_and_it_is_null(year: pl.DataFrame) -> None:
    lost = year.filter(
        pl.col("is_destination_known") & pl.col("arrival_delay_min").is_not_null() & pl.col("arrived_at").is_null()
    )
    assert lost["flight_id"].to_list() == ["20130310T02Z-B6-35"]


def test_scheduled_departure_falls_into_the_hour_that_the_source_itself_gives(year: pl.DataFrame) -> None:
    assert year.select((pl.col("scheduled_departure_at").dt.truncate("1h") == pl.col("weather_hour_at")).all()).item()


def test_the_one_arrival_in_the_repeated_autumn_hour_is_daylight_time(year: pl.DataFrame) -> None:
    late = year.filter(flight_id="20131102T20Z-VX-413").to_dicts()[0]
    assert late["arrived_at"] == utc(11, 3, 8, 14)


def test_weather_keeps_every_row_and_its_key_is_unique() -> None:
    table = REFINED["weather"]
    frame = table.function(weather=raw_frame("stations", "weather").lazy())
    weather = latest_per_key(frame, table.primary_key, table.version_column).collect(engine="streaming")
    assert weather.height == weather.n_unique(["station_code", "observed_at"]) == 26_115
    assert weather.n_unique(["station_code", "ds", "local_hour"]) == 26_112
    assert (weather["ds"].min(), weather["ds"].max()) == (date(2013, 1, 1), date(2013, 12, 30))


@pytest.mark.parametrize(("name", "rows"), [("planes", 3_322), ("airlines", 16), ("airports", 1_458)])
def test_reference_tables_keep_every_row(name: str, rows: int) -> None:
    table = REFINED[name]
    frame = table.function(**{name: raw_frame("flightops", name).lazy()})
    assert latest_per_key(frame, table.primary_key, table.version_column).collect().height == rows
