"""Flights, row by row: each test is one way in which a clock and a date become an instant."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import polars as pl
import pytest

from tests.unit.refine.rows import airports, flights, refined, utc
from transformations.refine import REFINED, latest_per_key, polars_schema


def one(**changes: Any) -> dict[str, Any]:
    (row,) = refined(changes)
    return row


def test_local_clocks_become_utc_by_each_airports_own_zone() -> None:
    row = one(dest="LAX", arr_time=1500, sched_arr_time=1455, arr_delay=5)
    assert row["scheduled_departure_at"] == utc(6, 1, 16)
    assert row["scheduled_arrival_at"] == utc(6, 1, 21, 55)
    assert row["arrived_at"] == utc(6, 1, 22)


def test_departure_at_2400_is_the_midnight_that_ends_the_day() -> None:
    row = one(sched_dep_time=2359, dep_time=2400, dep_delay=1, time_hour=utc(6, 2, 3))
    assert row["scheduled_departure_at"] == utc(6, 2, 3, 59)
    assert row["departed_at"] == utc(6, 2, 4)


def test_arrival_at_2400_is_the_midnight_that_ends_the_day() -> None:
    row = one(
        sched_dep_time=2245, dep_time=2245, time_hour=utc(6, 2, 2), sched_arr_time=2356, arr_time=2400, arr_delay=4
    )
    assert row["scheduled_arrival_at"] == utc(6, 2, 3, 56)
    assert row["arrived_at"] == utc(6, 2, 4)


def test_late_departure_past_midnight_is_on_the_next_day() -> None:
    row = one(sched_dep_time=2155, dep_time=115, dep_delay=200, time_hour=utc(6, 2, 1))
    assert row["departed_at"] == utc(6, 2, 5, 15)
    assert row["ds"] == date(2013, 6, 1)


def test_early_departure_before_midnight_is_on_the_day_before() -> None:
    row = one(sched_dep_time=5, dep_time=2357, dep_delay=-8, time_hour=utc(6, 1, 4))
    assert row["scheduled_departure_at"] == utc(6, 1, 4, 5)
    assert row["departed_at"] == utc(6, 1, 3, 57)


def test_delay_of_almost_a_day_lands_on_the_right_day() -> None:
    row = one(sched_dep_time=900, dep_time=641, dep_delay=1301, time_hour=utc(6, 1, 13))
    assert row["departed_at"] == utc(6, 2, 10, 41)


def test_delay_of_more_than_a_day_lands_on_the_right_day() -> None:
    assert one(dep_time=1201, dep_delay=1441)["departed_at"] == utc(6, 2, 16, 1)


def test_departure_without_a_delay_is_the_one_nearest_to_schedule() -> None:
    row = one(sched_dep_time=2350, dep_time=20, dep_delay=None, time_hour=utc(6, 2, 3))
    assert row["departed_at"] == utc(6, 2, 4, 20)
    assert row["departure_delay_min"] is None


def test_ten_hours_to_honolulu_land_on_the_same_local_day() -> None:
    row = one(dest="HNL", sched_dep_time=900, dep_time=857, dep_delay=-3, time_hour=utc(6, 1, 13),
              sched_arr_time=1430, arr_time=1426, arr_delay=-4, air_time=616)  # fmt: skip
    assert row["scheduled_arrival_at"] == utc(6, 2, 0, 30)
    assert row["arrived_at"] == utc(6, 2, 0, 26)


def test_flight_that_lands_earlier_on_the_clock_than_it_left_does_not_take_a_day() -> None:
    """Westward in less time than the zones are apart: the local clock goes backwards."""
    row = one(dest="PHX", sched_dep_time=2359, dep_time=2359, time_hour=utc(6, 2, 3), sched_arr_time=130, arr_time=130)
    assert row["scheduled_arrival_at"] - row["scheduled_departure_at"] == row["arrived_at"] - row["departed_at"]
    assert row["scheduled_arrival_at"] == utc(6, 2, 8, 30)


def test_arrival_before_schedule_across_midnight_is_on_the_day_before() -> None:
    row = one(sched_dep_time=2250, dep_time=2244, dep_delay=-6, time_hour=utc(6, 2, 2),
              sched_arr_time=3, arr_time=2341, arr_delay=-22)  # fmt: skip
    assert row["scheduled_arrival_at"] == utc(6, 2, 4, 3)
    assert row["arrived_at"] == utc(6, 2, 3, 41)


def test_arrival_sooner_than_any_flight_is_read_as_the_next_days_and_left_to_the_gate() -> None:
    row = one(sched_arr_time=1219, arr_time=1219)
    assert row["scheduled_arrival_at"] == utc(6, 2, 16, 19), "over a day: the refined suite rejects it"
    assert one(sched_arr_time=1220, arr_time=1220)["scheduled_arrival_at"] == utc(6, 1, 16, 20)


def test_diverted_flight_arrives_at_the_first_reading_after_its_departure() -> None:
    row = one(arr_time=1148, arr_delay=None, air_time=None, dep_time=1623, dep_delay=263)
    assert row["departed_at"] == utc(6, 1, 20, 23)
    assert row["arrived_at"] == utc(6, 2, 15, 48)
    assert row["arrival_delay_min"] is None


@pytest.mark.parametrize("dest", ["BQN", "EEN", "XXX"])
def test_destination_without_a_usable_zone_has_no_arrival_instants(dest: str) -> None:
    row = one(dest=dest)
    assert row["scheduled_arrival_at"] is None
    assert row["arrived_at"] is None
    assert row["arrival_delay_min"] == 0
    assert row["departed_at"] == utc(6, 1, 16)
    assert row["is_destination_known"] is (dest != "BQN"), "only an airport that is missing is unknown"


def test_origin_without_a_zone_has_no_departure_instants() -> None:
    row = one(origin="BQN")
    assert row["scheduled_departure_at"] is None
    assert row["departed_at"] is None
    assert row["is_cancelled"] is False


def test_cancelled_flight_keeps_its_schedule_and_has_no_times() -> None:
    row = one(dep_time=None, dep_delay=None, arr_time=None, arr_delay=None, air_time=None, tailnum=None)
    assert row["is_cancelled"] is True
    assert row["scheduled_departure_at"] == utc(6, 1, 16)
    assert row["scheduled_arrival_at"] == utc(6, 1, 17)
    assert [row[name] for name in ("departed_at", "arrived_at", "departure_delay_min", "tail_number")] == [None] * 4


def test_spring_night_clock_that_nobody_saw_is_null_and_never_shifted() -> None:
    """A real row: B6 35 was booked at 02:03 of a night that went from 01:59 to 03:00."""
    row = one(dest="PBI", ds=date(2013, 3, 9), month=3, day=9, sched_dep_time=2145, dep_time=2306, dep_delay=81,
              time_hour=utc(3, 10, 2), sched_arr_time=34, arr_time=203, arr_delay=89)  # fmt: skip
    assert row["departed_at"] == utc(3, 10, 4, 6)
    assert row["scheduled_arrival_at"] == utc(3, 10, 5, 34)
    assert row["arrived_at"] is None
    assert row["arrival_delay_min"] == 89


def test_spring_night_departure_in_the_skipped_hour_is_null_but_not_cancelled() -> None:
    row = one(month=3, day=10, sched_dep_time=230, dep_time=230, time_hour=utc(3, 10, 7))
    assert row["scheduled_departure_at"] is None
    assert row["departed_at"] is None
    assert row["is_cancelled"] is False


def test_spring_night_is_an_hour_short() -> None:
    row = one(month=3, day=10, sched_dep_time=155, dep_time=305, dep_delay=10, time_hour=utc(3, 10, 6),
              sched_arr_time=400, arr_time=400)  # fmt: skip
    assert row["departed_at"] == utc(3, 10, 7, 5)
    assert row["scheduled_arrival_at"] == utc(3, 10, 8)


@pytest.mark.parametrize(("hour", "departed"), [(5, utc(11, 3, 5, 30)), (6, utc(11, 3, 6, 30))])
def test_autumn_night_schedule_is_the_reading_that_its_own_utc_hour_names(hour: int, departed: datetime) -> None:
    row = one(month=11, day=3, sched_dep_time=130, dep_time=130, time_hour=utc(11, 3, hour))
    assert row["scheduled_departure_at"] == departed
    assert row["departed_at"] == departed


def test_autumn_night_delay_tells_the_two_readings_of_a_clock_apart() -> None:
    late = one(month=11, day=3, sched_dep_time=130, dep_time=130, dep_delay=60, time_hour=utc(11, 3, 5))
    assert late["departed_at"] == utc(11, 3, 6, 30)


def test_autumn_night_arrival_may_show_an_earlier_clock_than_the_departure() -> None:
    row = one(
        month=11, day=3, sched_dep_time=145, dep_time=145, time_hour=utc(11, 3, 5), sched_arr_time=130, arr_time=130
    )
    assert row["scheduled_arrival_at"] == utc(11, 3, 6, 30)
    assert row["arrived_at"] == utc(11, 3, 6, 30)


@pytest.mark.parametrize("clock", [-5, 1275, 2401, 2_147_483_647])
def test_clock_that_is_no_time_becomes_no_instant(clock: int) -> None:
    row = one(dep_time=clock, sched_arr_time=clock)
    assert row["departed_at"] is None
    assert row["scheduled_arrival_at"] is None
    assert row["is_cancelled"] is False


@pytest.mark.parametrize("day", [{"month": 2, "day": 30}, {"month": 13}, {"day": 0}, {"year": 0}, {"year": 2_000_000}])
def test_date_that_no_calendar_has_becomes_no_instant(day: dict[str, int]) -> None:
    assert one(**day)["scheduled_departure_at"] is None


def test_flight_id_names_hour_carrier_and_number() -> None:
    assert one(carrier="UA", flight=1545)["flight_id"] == "20130601T16Z-UA-1545"


def test_airport_that_is_listed_twice_does_not_double_flights() -> None:
    newer = airports({"BOS": "America/Chicago"}).with_columns(pl.col("updated_at").dt.offset_by("1d"))
    frame = REFINED["flights"].function(flights=flights({}), airports=pl.concat([airports(), newer]))
    rows = frame.collect().to_dicts()
    assert [row["scheduled_arrival_at"] for row in rows] == [utc(6, 1, 18)], "the newer zone counts"


def test_rows_without_any_airport_still_come_out() -> None:
    frame = REFINED["flights"].function(flights=flights({}), airports=airports().clear())
    (row,) = frame.collect().to_dicts()
    assert row["is_destination_known"] is False
    assert row["scheduled_departure_at"] is None


def test_streaming_to_a_file_gives_the_same_rows_whatever_the_input_order(tmp_path: Any) -> None:
    table = REFINED["flights"]
    rows = flights(*({"flight": number % 40, "updated_at": utc(6, 1 + number % 3, 0)} for number in range(200)))
    results = []
    for position, frame in enumerate((rows, rows.reverse())):
        path = tmp_path / f"{position}.parquet"
        done = latest_per_key(
            table.function(flights=frame, airports=airports()), table.primary_key, table.version_column
        )
        done.sink_parquet(path, engine="streaming")
        results.append(pl.read_parquet(path))
    assert results[0].equals(results[1])
    assert results[0].schema == polars_schema(table.columns)
    assert results[0]["flight_number"].to_list() == results[0].sort("flight_id")["flight_number"].to_list()
    assert results[0].height == 40
