"""The bundled suites against the data they were written for: what they find in 2013, and that each rule can fail.

A rule that cannot fail looks like a rule that holds. So every critical rule on single rows has a planted row here that
it must reject, and a new one without such a row fails the last law.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pytest

from common.settings import Settings
from common.verdict import Verdict
from ingestion.spec import load_source
from lake.paths import TableId
from lake.schema import Column
from penstock.suites import effective_suite
from quality.derive import is_derived
from quality.gate import Gate
from quality.suite import Suite, view_name
from tests.demo_data import SOURCES, raw_frame
from transformations.refine import REFINED, latest_per_key, polars_schema

SPECS = {name: load_source(SOURCES / f"{name}.yml") for name in ("flightops", "stations")}
RAW = {f"{source}__{table.name}": (source, table.name) for source, spec in SPECS.items() for table in spec.tables}
TABLES = [("raw", name) for name in RAW] + [("refined", name) for name in REFINED]
SUITES = {
    f"{stage}/{table}": effective_suite(Settings.load({}), SPECS, TableId(stage, table)) for stage, table in TABLES
}
SOUND_DAY = {"raw/flightops__flights": 1, "refined/flights": 1, "raw/stations__weather": 2, "refined/weather": 2}
"""A January day, per partitioned table, in which no row is rejected."""

Audit = Callable[[str, str, pl.DataFrame], Verdict]


@pytest.fixture(scope="module")
def gate() -> Gate:
    return Gate(threads=1)


@pytest.fixture
def audit(gate: Gate, tmp_path: Path) -> Audit:
    def run(stage: str, table: str, rows: pl.DataFrame) -> Verdict:
        suite = SUITES[f"{stage}/{table}"]
        # A fresh name each time, as staging has it: DuckDB may serve an overwritten path from its cache.
        path = tmp_path / f"{uuid4()}.parquet"
        rows.write_parquet(path)
        return gate.audit_files(
            suite, [str(path)], columns=columns_of(stage, table), references=references(suite, tmp_path)
        )

    return run


def references(suite: Suite, folder: Path) -> dict[str, list[str]]:
    files = {}
    for table in suite.references:
        path = folder / f"{view_name(table)}.parquet"
        raw_frame(*RAW[table.removeprefix("raw.")]).write_parquet(path)
        files[table] = [str(path)]
    return files


def columns_of(stage: str, table: str) -> tuple[Column, ...]:
    if stage == "refined":
        return REFINED[table].columns
    source, name = RAW[table]
    return SPECS[source].table(name).lake_columns()


def rows_of(stage: str, table: str) -> pl.DataFrame:
    """The whole year of a table; refined ones are made of every raw row, bad ones too."""
    if stage == "raw":
        return raw_frame(*RAW[table])
    refined = REFINED[table]
    inputs = {**refined.inputs, **refined.reference_inputs}
    frames = {name: raw_frame(*RAW[raw.removeprefix("raw.")]).lazy() for name, raw in inputs.items()}
    return latest_per_key(refined.function(**frames), refined.primary_key, refined.version_column).collect()


def sound_rows(stage: str, table: str) -> pl.DataFrame:
    rows = rows_of(stage, table)
    day = SOUND_DAY.get(f"{stage}/{table}")
    return rows.filter(pl.col("ds") == date(2013, 1, day)) if day else rows


NOTICED: dict[str, dict[str, int]] = {
    "raw/flightops__flights": {
        "dep_time_is_before_2400": 29,
        "arr_time_is_before_2400": 150,
        "ground_speed_is_plausible": 10,
        "most_flights_depart": 8_255,
        "tail_number_is_in_planes": 50_094,
        "destination_is_in_airports": 7_602,
    },
    "raw/stations__weather": {
        "local_hour_is_unique": 6,
        "wind_speed_is_plausible": 1,
        "pressure_is_mostly_given": 2_729,
        "temperature_is_mostly_given": 1,
    },
    "raw/flightops__planes": {"year_is_mostly_given": 70},
    "raw/flightops__airlines": {},
    "raw/flightops__airports": {"longitude_is_american": 4, "utc_offset_is_american": 2, "time_zone_is_given": 3},
    "refined/flights": {
        "diverted_block_is_plausible": 1,
        "time_on_the_ground_is_plausible": 5,
        "destination_is_known": 7_602,
        "arrival_with_a_delay_has_an_instant": 1,
    },
    "refined/weather": {"local_hour_is_unique": 6, "wind_speed_is_plausible": 1},
    "refined/planes": {"airliners_are_the_rule": 34},
    "refined/airlines": {},
    "refined/airports": {"location_fits_its_utc_offset": 2, "location_is_american": 4, "time_zone_is_given": 3},
}
"""Rows that break each row-level rule over all of 2013; rules that are not here hold for every row."""


@pytest.mark.parametrize(("stage", "table"), TABLES)
def test_the_years_defects_are_found_counted_and_nothing_else_is(stage: str, table: str, audit: Audit) -> None:
    verdict = audit(stage, table, rows_of(stage, table))
    found = {result.rule: result.rows_unexpected for result in verdict.results if result.rows_unexpected}
    assert found == NOTICED[f"{stage}/{table}"]
    assert [result.rule for result in verdict.results if result.error] == []
    # The year as one batch is no full day, and that is the only thing wrong with the batch as a whole.
    failed = {result.rule for result in verdict.results if not result.row_level and not result.passed}
    assert failed <= {"batch_is_a_full_day"}
    assert verdict.passed


def test_the_only_row_of_the_year_that_is_rejected_is_the_wind_of_1048_miles_per_hour(audit: Audit) -> None:
    rejected = {}
    for stage, table in TABLES:
        if stage == "raw":
            rows = rows_of(stage, table)
            rejects = audit(stage, table, rows).rejects.to_pylist()
            rejected[table] = [(rows.row(reject["row_number"], named=True), reject["rules"]) for reject in rejects]
    ((row, rules),) = rejected.pop("stations__weather")
    assert (row["origin"], row["ds"], row["hour"]) == ("EWR", date(2013, 2, 12), 3)
    assert row["wind_speed"] == pytest.approx(1048.36058)
    assert rules == ["wind_speed_is_plausible"]
    assert set(map(len, rejected.values())) == {0}


@pytest.mark.parametrize("day", [date(2013, 2, 9), date(2013, 3, 10), date(2013, 11, 3), date(2013, 12, 31)])
def test_blizzards_and_the_nights_in_which_clocks_change_lose_no_flight(day: date, audit: Audit) -> None:
    for stage, table in (("raw", "flightops__flights"), ("refined", "flights")):
        verdict = audit(stage, table, rows_of(stage, table).filter(pl.col("ds") == day))
        assert verdict.passed
        assert verdict.rows_rejected == 0


@pytest.mark.parametrize(("stage", "table"), TABLES)
def test_batch_without_rows_is_refused(stage: str, table: str, audit: Audit) -> None:
    assert not audit(stage, table, rows_of(stage, table).clear()).passed


DOUBLED = "a second row like the first"
PLANTED: Mapping[str, Mapping[str, Iterable[dict[str, Any] | str]]] = {
    "raw/flightops__flights": {
        "rows_are_of_the_partition_day": [{"ds": date(2013, 1, 2)}, {"ds": None}],
        "clocks_are_clock_times": [
            *({name: 1275} for name in ("dep_time", "sched_dep_time", "arr_time", "sched_arr_time")),
            *({"arr_time": clock} for clock in (-1, 2401, 2_147_483_647)),
            {"sched_arr_time": None},
        ],
        "calendar_agrees_with_time_hour": [{"day": 2}, {"hour": 6}, {"month": None}, {"day": 31, "month": 2}],
        "scheduled_clock_is_hour_and_minute": [{"minute": 16}, {"minute": 2_147_483_647}],
        "cancelled_flight_has_no_times": [{"dep_time": None}],
        "dep_delay_is_plausible": [{"dep_delay": 2_881}, {"dep_delay": -121}, {"dep_delay": 2_147_483_647}],
        "arr_delay_is_plausible": [{"arr_delay": 2_881}, {"arr_delay": -181}],
        "air_time_is_plausible": [{"air_time": 0}, {"air_time": 1_201}],
        "distance_is_plausible": [{"distance": 0}, {"distance": 2_147_483_647}],
    },
    "raw/stations__weather": {
        "rows_are_of_the_partition_day": [{"ds": date(2013, 1, 3)}],
        "time_hour_is_a_full_hour": [{"time_hour": datetime(2013, 1, 2, 5, 0, 1, tzinfo=UTC)}],
        "calendar_agrees_with_time_hour": [{"hour": 1}],
        "numbers_are_finite": [
            {name: value}
            for name in ("temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib")
            for value in (float("nan"), float("inf"), float("-inf"))
        ],
        "temperature_is_plausible": [{"temp": 131.0}, {"temp": -41.0}],
        "dew_point_is_plausible": [{"dewp": 101.0}],
        "humidity_is_a_percentage": [{"humid": 100.5}, {"humid": -0.5}],
        "wind_direction_is_on_the_compass": [{"wind_dir": 361}],
        "wind_speed_is_plausible": [{"wind_speed": 1048.36}, {"wind_speed": -1.0}],
        "wind_gust_is_plausible": [{"wind_gust": 999.0}],
        "precipitation_is_plausible": [{"precip": -0.01}],
        "pressure_is_plausible": [{"pressure": 10.13}],
        "visibility_is_plausible": [{"visib": 10.5}],
    },
    "raw/flightops__planes": {
        "year_is_plausible": [{"year": 0}],
        "engines_are_plausible": [{"engines": 0}],
        "seats_are_plausible": [{"seats": 0}],
        "speed_is_plausible": [{"speed": 0}],
    },
    "raw/flightops__airlines": {
        "carrier_is_an_iata_code": [{"carrier": "9e"}, {"carrier": "9EX"}, {"carrier": ""}],
        "name_is_not_blank": [{"name": "  "}, {"name": ""}],
    },
    "raw/flightops__airports": {
        "faa_is_a_code": [{"faa": "jfk"}, {"faa": "KJFK"}],
        "coordinates_are_on_earth": [{"lat": 91.0}, {"lon": float("nan")}, {"lon": None}, {"lat": float("inf")}],
        "altitude_is_plausible": [{"alt": 99_999}],
        "utc_offset_is_plausible": [{"tz": 15}],
        "time_zone_exists": [{"tzone": "America/Nowhere"}],
    },
    "refined/flights": {
        "flight_id_names_the_flight": [{"flight_id": "20130101T10Z-XX-1"}],
        "rows_are_of_the_partition_day": [{"ds": date(2013, 1, 2)}],
        "scheduled_departure_is_in_its_hour": [
            {"weather_hour_at": datetime(2013, 1, 1, 11, tzinfo=UTC)},
            {"weather_hour_at": None},
        ],
        "cancelled_or_departed": [{"is_cancelled": True}, {"departed_at": None}],
        "departure_delay_is_departure_less_schedule": [
            {"departure_delay_min": 1_442},
            {"departure_delay_min": 2**31 - 1},
        ],
        "cancelled_flight_has_no_measures": [{"is_cancelled": True, "departed_at": None}],
        "scheduled_block_is_plausible": [{"scheduled_arrival_at": datetime(2013, 1, 2, 14, tzinfo=UTC)}],
        "arrival_delay_is_arrival_less_schedule": [{"arrival_delay_min": -1_407}],
        "block_is_plausible": [{"arrived_at": datetime(2013, 1, 2, 14, 23, tzinfo=UTC)}],
        "arrival_is_after_departure": [{"arrived_at": datetime(2013, 1, 1, 10, 42, tzinfo=UTC)}],
        "air_time_fits_the_block": [{"air_time_min": 500}],
        "unknown_destination_has_no_arrival": [{"is_destination_known": False}],
        "air_time_is_plausible": [{"air_time_min": 0}],
        "distance_is_plausible": [{"distance_mi": 0}],
    },
    "refined/weather": {
        "observed_at_is_a_full_hour": [{"observed_at": datetime(2013, 1, 2, 5, 0, 1, tzinfo=UTC)}],
        "rows_are_of_the_partition_day": [{"ds": date(2013, 1, 3)}],
        "local_hour_is_the_stations": [{"local_hour": 1}, {"local_hour": None}],
        "numbers_are_finite": [
            {column.name: value}
            for column in REFINED["weather"].columns
            if column.type == "float64"
            for value in (float("nan"), float("inf"), float("-inf"))
        ],
        "temperature_is_plausible": [{"temperature_f": 131.0}],
        "dew_point_is_plausible": [{"dew_point_f": -61.0}],
        "humidity_is_a_percentage": [{"humidity_pct": 100.5}],
        "wind_direction_is_on_the_compass": [{"wind_direction_deg": -1}],
        "wind_speed_is_plausible": [{"wind_speed_mph": 1048.36}],
        "wind_gust_is_plausible": [{"wind_gust_mph": 999.0}],
        "precipitation_is_plausible": [{"precipitation_in": 13.0}],
        "pressure_is_plausible": [{"pressure_mbar": 10.13}],
        "visibility_is_plausible": [{"visibility_mi": 10.5}],
    },
    "refined/planes": {
        "manufactured_year_is_plausible": [{"manufactured_year": 0}],
        "engine_count_is_plausible": [{"engine_count": 0}],
        "seat_count_is_plausible": [{"seat_count": 0}],
    },
    "refined/airlines": {},
    "refined/airports": {
        "coordinates_are_on_earth": [{"latitude_deg": float("nan")}, {"longitude_deg": 181.0}],
    },
}
"""Suite -> rule of its file -> changes of the first row, each of which the rule must reject."""


def planted_rows(stage: str, table: str) -> dict[str, list[dict[str, Any] | str]]:
    """Rule -> changes: those written here, and for derived rules what their kind needs."""
    derived: dict[str, list[dict[str, Any] | str]] = {}
    for rule in SUITES[f"{stage}/{table}"].expectations:
        if is_derived(rule):
            column = rule.kwargs.get("column", "")
            changes: dict[str, list[dict[str, Any] | str]] = {
                "expect_column_values_to_not_be_null": [{column: None}],
                "expect_column_values_to_be_unique": [DOUBLED],
                "expect_compound_columns_to_be_unique": [DOUBLED],
                "expect_column_values_to_be_in_set": [{column: "BOS"}, {column: "jfk"}],
            }
            derived[rule.id] = changes[rule.expect]
    return {**derived, **{rule: list(changes) for rule, changes in PLANTED[f"{stage}/{table}"].items()}}


def planted(rows: pl.DataFrame, change: dict[str, Any] | str) -> pl.DataFrame:
    first = rows.head(1)
    if isinstance(change, str):
        return pl.concat([first, rows])
    schema = {name: rows.schema[name] for name in change}
    return pl.concat([first.with_columns(pl.DataFrame([change], schema=schema)), rows.tail(-1)])


@pytest.mark.parametrize(("stage", "table"), TABLES)
def test_each_critical_rule_rejects_its_planted_row_and_no_sound_row(stage: str, table: str, audit: Audit) -> None:
    sound = sound_rows(stage, table)
    for rule, changes in planted_rows(stage, table).items():
        for change in changes:
            verdict = audit(stage, table, planted(sound, change))
            broken = {reject["row_number"]: reject["rules"] for reject in verdict.rejects.to_pylist()}
            assert rule in broken.get(0, []), f"{rule} does not reject {change}"
            assert set(broken) == ({0, 1} if change == DOUBLED else {0}), f"{change} rejects {broken}"
            assert [result.rule for result in verdict.results if result.error] == []


@pytest.mark.parametrize(("stage", "table"), TABLES)
def test_every_critical_rule_on_rows_has_a_planted_row(stage: str, table: str, audit: Audit) -> None:
    results = audit(stage, table, sound_rows(stage, table)).results
    critical = {result.rule for result in results if result.severity == "critical" and result.row_level}
    assert critical == set(planted_rows(stage, table))


def test_rules_that_only_warn_reject_nothing(audit: Audit) -> None:
    rows = sound_rows("raw", "flightops__flights")
    verdict = audit("raw", "flightops__flights", planted(rows, {"dest": "???", "carrier": "??", "dep_delay": 3}))
    warned = Counter({result.rule: result.rows_unexpected or 0 for result in verdict.results})
    assert verdict.passed
    assert verdict.rows_rejected == 0
    assert warned["carrier_is_in_airlines"] == 1
    assert warned["departure_clock_is_schedule_plus_delay"] == 1


def test_too_many_unknown_tail_numbers_are_a_warning_about_the_planes_table(audit: Audit) -> None:
    rows = sound_rows("raw", "flightops__flights").with_columns(tailnum=pl.lit("N404"))
    results = {result.rule: result for result in audit("raw", "flightops__flights", rows).results}
    assert results["share_of_unknown_tail_numbers_is_normal"].rows_unexpected == rows.height
    assert not results["share_of_unknown_tail_numbers_is_normal"].passed


@pytest.mark.parametrize(("stage", "table"), TABLES)
def test_staged_columns_are_those_the_suite_is_written_for(stage: str, table: str) -> None:
    assert rows_of(stage, table).schema == polars_schema(columns_of(stage, table))
