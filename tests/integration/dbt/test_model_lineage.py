"""Laws of the models' lineage: every column of the warehouse is followed down through views to tables."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest

from common.errors import BuildFailed
from tests.integration.dbt.conftest import Build
from transformations.column_lineage import ColumnLineage
from transformations.dbt_lineage import model_lineage
from transformations.refine import REFINED

REFINED_COLUMNS = {name: [column.name for column in table.columns] for name, table in REFINED.items()}


@pytest.fixture(scope="module")
def lineage(built: Build) -> dict[str, ColumnLineage]:
    return model_lineage(built.result.manifest_path, REFINED_COLUMNS)


def test_it_tells_of_exactly_the_tables_and_columns_that_the_warehouse_has(
    built: Build, lineage: dict[str, ColumnLineage]
) -> None:
    with duckdb.connect(str(built.database), read_only=True) as connection:
        rows = connection.execute(
            "SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = current_database() ORDER BY ALL"
        ).fetchall()
    assert sorted((table, column) for table, of in lineage.items() for column in of.columns) == rows


def test_a_column_is_made_of_columns_that_exist(lineage: dict[str, ColumnLineage]) -> None:
    known = {f"refined.{name}": set(columns) for name, columns in REFINED_COLUMNS.items()}
    known |= {table: set(of.columns) for table, of in lineage.items()}
    for of in lineage.values():
        for table, column in of.deciding.union(*of.columns.values()):
            assert column in known[table]


@pytest.mark.parametrize(
    ("table", "column", "made_of"),
    [
        ("fct_flights", "scheduled_on", {("refined.flights", "ds")}),
        ("fct_flights", "is_on_time", {("refined.flights", "arrival_delay_min"), ("refined.flights", "is_cancelled")}),
        ("dim_airports", "latitude_deg", {("refined.airports", "latitude_deg")}),
        (
            "dim_carriers",
            "carrier_name",
            {("refined.airlines", "carrier_name"), ("fct_flights", "carrier_code")},  # a name for unknown ones
        ),
        ("mart_daily_route_performance", "p90_arrival_delay_min", {("fct_flights", "arrival_delay_min")}),
        ("mart_daily_route_performance", "flights", set()),  # a count of rows
    ],
)
def test_views_unions_joins_and_aggregates_are_looked_through(
    lineage: dict[str, ColumnLineage], table: str, column: str, made_of: set[tuple[str, str]]
) -> None:
    assert lineage[table].columns[column] == made_of


def test_what_only_decides_which_rows_there_are_is_told_apart(lineage: dict[str, ColumnLineage]) -> None:
    assert lineage["mart_daily_route_performance"].deciding == {
        ("fct_flights", name) for name in ("scheduled_on", "origin_code", "destination_code")
    }
    readings = {name for table, name in lineage["mart_weather_delay"].deciding if table == "fct_weather_hourly"}
    # Named only by an UNPIVOT, and by what it joins.
    assert readings == {
        "station_code",
        "observed_at",
        "wind_speed_mph",
        "precipitation_in",
        "visibility_mi",
        "temperature_f",
    }


def test_sql_that_cannot_be_read_is_refused_by_the_models_name(built: Build, tmp_path: Path) -> None:
    manifest = json.loads(built.result.manifest_path.read_bytes())
    manifest["nodes"]["model.penstock.fct_flights"]["compiled_code"] = "select from where ("
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest))
    with pytest.raises(BuildFailed, match="lineage of model fct_flights"):
        model_lineage(path, REFINED_COLUMNS)
