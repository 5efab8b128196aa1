"""The gate of the warehouse: a good build passes it, a damaged one does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest

from common.settings import Settings
from common.verdict import Verdict
from penstock.suites import warehouse_suites
from quality.gate import Gate
from tests.integration.dbt.conftest import Build


@pytest.fixture(scope="module")
def gate() -> Gate:
    return Gate()


def _audit(gate: Gate, database: Path, tables: list[str]) -> dict[str, Verdict]:
    suites = warehouse_suites(Settings.load({}))
    assert sorted(tables) == sorted(suites)
    return gate.audit_database(suites, database)


def test_a_good_build_passes_and_what_is_unknown_is_shown(built: Build, gate: Gate) -> None:
    verdicts = _audit(gate, built.database, list(built.result.rows))
    assert {table: verdict.reasons for table, verdict in verdicts.items()} == dict.fromkeys(built.result.rows, ())
    assert all(verdict.passed for verdict in verdicts.values())
    shown = {result.rule: result.rows_unexpected for result in verdicts["fct_flights"].noticed}
    assert shown == {
        "destination_is_known": 1,
        "plane_is_known": 1,
        "tail_number_is_given": 1,
        "weather_was_observed": 1,
    }
    assert [result.rule for result in verdicts["dim_airports"].noticed] == ["airport_is_known"]


DAMAGE = {
    "INSERT INTO fct_flights SELECT * FROM fct_flights LIMIT 1": {
        ("fct_flights", "derived_flight_id_is_unique"),
        ("mart_daily_route_performance", "routes_add_up_to_the_flights"),
        ("mart_weather_delay", "factors_add_up_to_the_flights"),
    },
    "DELETE FROM dim_airports WHERE airport_code = 'LAX'": {
        ("fct_flights", "derived_destination_code_in_dim_airports")
    },
    "UPDATE fct_flights SET is_on_time = false": {("fct_flights", "flags_agree_with_delays")},
    "UPDATE mart_daily_route_performance SET flights_cancelled = 0": {
        ("mart_daily_route_performance", "counts_add_up")
    },
    "UPDATE fct_weather_hourly SET wind_speed_mph = 1048.36": {("fct_weather_hourly", "wind_speed_is_plausible")},
    "DELETE FROM dim_carriers": {
        ("dim_carriers", "table_has_rows"),
        ("fct_flights", "derived_carrier_code_in_dim_carriers"),
    },
    "ALTER TABLE dim_carriers ALTER carrier_name TYPE BLOB": {("dim_carriers", "derived_carrier_name_has_its_type")},
    "UPDATE mart_weather_delay SET weather_factor = 'humidity' WHERE weather_factor = 'temperature_f'": {
        ("mart_weather_delay", "derived_weather_factor_is_accepted"),
        ("mart_weather_delay", "factor_is_one_of_four"),
    },
}


@pytest.mark.parametrize("statement", DAMAGE)
def test_a_damaged_build_is_refused_by_the_rule_for_it(
    statement: str, built: Build, gate: Gate, tmp_path: Path
) -> None:
    database = tmp_path / "warehouse.duckdb"
    shutil.copyfile(built.database, database)
    with duckdb.connect(str(database)) as connection:
        connection.execute(statement)
    verdicts = _audit(gate, database, list(built.result.rows))
    refused_by = {
        (table, result.rule)
        for table, verdict in verdicts.items()
        for result in verdict.failed
        if result.severity == "critical"
    }
    assert refused_by == DAMAGE[statement]
    assert {table for table, verdict in verdicts.items() if not verdict.passed} == {table for table, _ in refused_by}
