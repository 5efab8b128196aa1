"""Laws of the metrics: each equals the SQL that a person would write on the mart, whoever asks and however grouped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.integration.dbt.conftest import Build
from warehouse.metrics_layer import compile_metrics, everything, metrics, question
from warehouse.releases import Release

ROUTES, FLIGHTS, WEATHER = "mart_daily_route_performance", "fct_flights", "fct_weather_hourly"

BY_HAND = {
    "flights": (ROUTES, "sum(flights)"),
    "flights_cancelled": (ROUTES, "sum(flights_cancelled)"),
    "flights_departed": (ROUTES, "sum(flights_departed)"),
    "flights_completed": (ROUTES, "sum(flights_completed)"),
    "flights_departed_late": (ROUTES, "sum(flights_departed_late)"),
    "flights_on_time": (ROUTES, "sum(flights_on_time)"),
    "cancelled_share": (ROUTES, "sum(flights_cancelled) / nullif(sum(flights), 0)"),
    "late_departure_share": (ROUTES, "sum(flights_departed_late) / nullif(sum(flights_departed), 0)"),
    "on_time_share": (ROUTES, "sum(flights_on_time) / nullif(sum(flights_completed), 0)"),
    "flights_not_completed": (ROUTES, "sum(flights_departed) - sum(flights_completed)"),
    "late_arrival_share": (ROUTES, "1 - sum(flights_on_time) / nullif(sum(flights_completed), 0)"),
    "departure_delay_min": (FLIGHTS, "sum(departure_delay_min)"),
    "departures_measured": (FLIGHTS, "count(departure_delay_min)"),
    "arrival_delay_min": (FLIGHTS, "sum(arrival_delay_min)"),
    "arrivals_measured": (FLIGHTS, "count(arrival_delay_min)"),
    "avg_departure_delay_min": (FLIGHTS, "sum(departure_delay_min) / nullif(count(departure_delay_min), 0)"),
    "avg_arrival_delay_min": (FLIGHTS, "sum(arrival_delay_min) / nullif(count(arrival_delay_min), 0)"),
    "delay_made_up_min": (
        FLIGHTS,
        "sum(departure_delay_min) / nullif(count(departure_delay_min), 0)"
        " - sum(arrival_delay_min) / nullif(count(arrival_delay_min), 0)",
    ),
    "p90_departure_delay_min": (FLIGHTS, "quantile_disc(departure_delay_min, 0.9)"),
    "p90_arrival_delay_min": (FLIGHTS, "quantile_disc(arrival_delay_min, 0.9)"),
    "late_departure_avg_delay_min": (
        FLIGHTS,
        "sum(departure_delay_min) filter (is_departed_late)"
        " / nullif(count(departure_delay_min) filter (is_departed_late), 0)",
    ),
    "aircraft": (FLIGHTS, "count(distinct tail_number)"),
    "distance_mi": (FLIGHTS, "sum(distance_mi)"),
    "precipitation_in": (WEATHER, "sum(precipitation_in::decimal(18, 4))"),
    "avg_temperature_f": (WEATHER, "avg(temperature_f::decimal(18, 4))"),
    "avg_wind_speed_mph": (WEATHER, "avg(wind_speed_mph::decimal(18, 4))"),
    "avg_visibility_mi": (WEATHER, "avg(visibility_mi::decimal(18, 4))"),
}


def release_of(built: Build) -> Release:
    """A release with the file and the definitions of a build."""
    compiled = compile_metrics(built.result.semantics, built.database)
    return Release("r000001", Path(built.database).parent, {"metrics": compiled}, True, "")


@pytest.fixture(scope="module")
def release(built: Build) -> Release:
    return release_of(built)


def ask(release: Release, *names: str, **how: Any) -> list[tuple[Any, ...]]:
    """The answer to a question for metrics."""
    with duckdb.connect(str(release.database), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        asked = question(release, everything(release, connection), names, **how)
        answer = connection.execute(asked.ordered(None), asked.parameters)
        assert [(column[0], str(column[1])) for column in answer.description or ()] == list(asked.columns)
        return answer.fetchall()


def by_hand(release: Release, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(release.database), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_every_metric_of_the_project_is_written_by_hand_here(release: Release) -> None:
    assert {metric.name for metric in metrics(release)} == BY_HAND.keys()


@pytest.mark.parametrize("name", BY_HAND)
def test_a_metric_equals_the_sql_on_its_table_whole_by_group_by_month_and_filtered(name: str, release: Release) -> None:
    table, sql = BY_HAND[name]
    day, place = ("observed_on", "station_code") if table == WEATHER else ("scheduled_on", "origin_code")
    assert ask(release, name) == by_hand(release, f"select {sql} from {table}")
    assert ask(release, name, by=[place], grain="month") == by_hand(
        release, f"select {place}, date_trunc('month', {day})::date, {sql} from {table} group by 1, 2 order by 1, 2"
    )
    assert ask(release, name, by=[day], filters=[f"{place}:eq:JFK", f"{day}:le:2013-01-07"]) == by_hand(
        release,
        f"select {day}, {sql} from {table} where {place} = 'JFK' and {day} <= '2013-01-07' group by 1 order by 1",
    )
