"""The models, built from small files and read back row by row."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

from lake.schema import Column
from tests.integration.dbt.conftest import MONDAY, TUESDAY, Build
from tests.integration.dbt.refined_lake import COLUMNS, RefinedLake, contents, reading, rows_of
from transformations.dbt_runner import LakeTableFiles, unit_test_dbt
from transformations.dbt_session import PROJECT


def test_every_flight_of_the_lake_is_a_row_of_the_fact_with_what_became_of_it(built: Build) -> None:
    fates = rows_of(
        built.database, "fct_flights", "flight_id", "is_cancelled", "is_completed", "is_departed_late", "is_on_time"
    )
    assert [tuple(row.values()) for row in fates] == [
        ("20130107T10Z-UA-1", False, True, False, True),
        ("20130107T10Z-UA-2", False, True, True, False),
        ("20130107T11Z-UA-3", False, False, True, None),
        ("20130107T11Z-UA-4", True, False, None, None),
        ("20130108T10Z-ZZ-1", False, True, False, True),
    ]
    assert rows_of(built.database, "fct_flights")[1] == {
        "flight_id": "20130107T10Z-UA-2",
        "carrier_code": "UA",
        "flight_number": 2,
        "tail_number": "N2",
        "origin_code": "JFK",
        "destination_code": "LAX",
        "scheduled_on": date(2013, 1, 7),
        "scheduled_departure_at": datetime(2013, 1, 7, 10, tzinfo=UTC),
        "departed_at": datetime(2013, 1, 7, 10, 16, tzinfo=UTC),
        "scheduled_arrival_at": datetime(2013, 1, 7, 16, tzinfo=UTC),
        "arrived_at": datetime(2013, 1, 7, 16, 16, tzinfo=UTC),
        "weather_hour_at": datetime(2013, 1, 7, 10, tzinfo=UTC),
        "departure_delay_min": 16,
        "arrival_delay_min": 16,
        "air_time_min": 300,
        "distance_mi": 2475,
        "is_cancelled": False,
        "is_completed": True,
        "is_departed_late": True,
        "is_on_time": False,
    }


def test_dimensions_hold_what_the_source_lists_and_what_only_flights_name(built: Build) -> None:
    assert rows_of(built.database, "dim_airports", "airport_code", "airport_name", "is_known", "time_zone") == [
        {
            "airport_code": "JFK",
            "airport_name": "John F Kennedy Intl",
            "is_known": True,
            "time_zone": "America/New_York",
        },
        {"airport_code": "LAX", "airport_name": "Los Angeles Intl", "is_known": True, "time_zone": "America/New_York"},
        {"airport_code": "SJU", "airport_name": "Unknown airport SJU", "is_known": False, "time_zone": None},
    ]
    assert rows_of(built.database, "dim_carriers") == [
        {"carrier_code": "UA", "carrier_name": "United Air Lines Inc.", "is_known": True},
        {"carrier_code": "ZZ", "carrier_name": "Unknown carrier ZZ", "is_known": False},
    ]
    assert rows_of(built.database, "dim_planes", "tail_number", "is_known", "seat_count") == [
        {"tail_number": "N1", "is_known": True, "seat_count": 55},
        {"tail_number": "N2", "is_known": False, "seat_count": None},
    ]


def test_a_route_and_day_counts_each_fate_and_averages_only_what_was_measured(built: Build) -> None:
    monday, tuesday = rows_of(built.database, "mart_daily_route_performance")
    assert monday == {
        "route_day_id": "20130107-JFK-LAX",
        "scheduled_on": date(2013, 1, 7),
        "origin_code": "JFK",
        "destination_code": "LAX",
        "flights": 4,
        "flights_cancelled": 1,
        "flights_departed": 3,
        "flights_completed": 2,
        "flights_departed_late": 2,
        "flights_on_time": 1,
        "avg_departure_delay_min": Decimal("34.00"),
        "p90_departure_delay_min": 90,
        "avg_arrival_delay_min": Decimal("15.50"),
        "p90_arrival_delay_min": 16,
        "cancelled_pct": Decimal("25.00"),
        "on_time_pct": Decimal("50.00"),
    }
    assert (tuesday["route_day_id"], tuesday["flights"], tuesday["on_time_pct"]) == ("20130108-JFK-SJU", 1, 100)


def test_flights_are_paired_with_the_weather_of_their_hour_or_counted_as_not_measured(built: Build) -> None:
    columns = ("weather_factor", "band_rank", "weather_band", "flights", "flights_cancelled", "avg_departure_delay_min")
    found = [tuple(row.values()) for row in rows_of(built.database, "mart_weather_delay", *columns)]
    assert found == [
        ("precipitation_in", 0, "not measured", 1, 0, Decimal("0.00")),
        ("precipitation_in", 1, "dry", 4, 1, Decimal("34.00")),
        ("temperature_f", 0, "not measured", 3, 1, Decimal("45.00")),
        ("temperature_f", 2, "cold", 2, 0, Decimal("6.00")),
        ("visibility_mi", 0, "not measured", 1, 0, Decimal("0.00")),
        ("visibility_mi", 1, "clear", 4, 1, Decimal("34.00")),
        ("wind_speed_mph", 0, "not measured", 1, 0, Decimal("0.00")),
        ("wind_speed_mph", 1, "calm", 2, 0, Decimal("6.00")),
        ("wind_speed_mph", 4, "gale", 2, 1, Decimal("90.00")),
    ]


def test_the_result_tells_every_model_and_test_and_the_rows_of_each_table(built: Build) -> None:
    result = built.result
    assert result.mode == "whole"
    assert result.rows == {name: len(rows) for name, rows in contents(built.database).items()}
    kinds = {node.kind for node in result.nodes}
    assert kinds == {"model", "test"}
    assert {node.status for node in result.nodes} == {"success", "pass"}
    assert json.loads(json.dumps(result.to_dict()))["nodes"][0]["kind"] == "model"
    assert result.manifest_path.is_file()


def test_the_database_file_stands_alone(built: Build, tmp_path: Path) -> None:
    """Renamed, without its lake, in a process that knows nothing of dbt: everything in it can still be read."""
    moved = tmp_path / "elsewhere.duckdb"
    moved.write_bytes(built.database.read_bytes())
    assert not list(built.database.parent.glob("*.wal"))
    script = (
        "import duckdb, sys\n"
        "c = duckdb.connect(sys.argv[1], read_only=True)\n"
        "c.execute('SET enable_external_access = false')\n"
        "names = c.execute(\"SELECT schema_name || '.' || table_name FROM duckdb_tables() UNION ALL \"\n"
        "  \"SELECT schema_name || '.' || view_name FROM duckdb_views() WHERE NOT internal\").fetchall()\n"
        "print({name: len(c.execute(f'FROM {name}').fetchall()) for (name,) in names})\n"
        "print(c.execute('SELECT count(*) FROM duckdb_columns() WHERE NOT internal AND comment IS NULL').fetchone())\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(moved)], capture_output=True, text=True, check=True)
    counts, undocumented = done.stdout.splitlines()
    assert counts.count("main.") == len(built.result.rows) == 7
    assert undocumented == "(0,)"


def test_the_documentation_is_one_page_without_network_or_paths_of_this_machine(built: Build) -> None:
    assert built.result.docs_path is not None
    page = built.result.docs_path.read_text()
    loads = re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"']?(?:https?:)?//[^>]*>", page)
    assert loads == []
    assert '"send_anonymous_usage_stats": false' in page
    assert "mart_weather_delay" in page
    assert "Grain: one row per departure airport, weather factor and band." in page
    assert str(built.target) not in page
    assert str(PROJECT) not in page
    assert str(built.lake.folder) not in page


def test_the_unit_tests_of_the_models_pass(tmp_path: Path) -> None:
    lake = RefinedLake(tmp_path)
    results = unit_test_dbt(tmp_path / "target", lake.tables())
    assert len(results) >= 7
    assert {(result.kind, result.status) for result in results} == {("unit_test", "pass")}


def test_an_empty_lake_makes_empty_tables_of_the_right_shape(built: Build, build: Callable[..., Build]) -> None:
    folder = built.target.parent / "empty"
    folder.mkdir()
    empty = build(RefinedLake(folder))
    assert empty.result.rows == dict.fromkeys(built.result.rows, 0)
    assert contents(empty.database).keys() == contents(built.database).keys()


def test_files_are_read_by_field_id_whatever_they_call_a_column_and_without_the_ones_they_lack(
    lake: RefinedLake, build: Callable[..., Build]
) -> None:
    """An old file has fewer columns than the table has now, and one that was renamed since."""
    old = [Column("old_name", "string") if c.name == "station_code" else c for c in COLUMNS["weather"]][:-1]
    row = reading(TUESDAY, 5)
    del row["visibility_mi"]
    row["old_name"] = row.pop("station_code")
    lake.put("weather", [row], TUESDAY, columns=old)
    done = build(lake)
    tuesday = rows_of(done.database, "fct_weather_hourly")[-1]
    assert (tuesday["observed_on"], tuesday["station_code"]) == (date(2013, 1, 8), "JFK")
    assert (tuesday["temperature_f"], tuesday["visibility_mi"]) == (40.0, None)


def test_the_relation_of_chosen_keys_reads_their_files_only() -> None:
    table = LakeTableFiles(COLUMNS["weather"], tuple(range(1, 14)), {MONDAY: ["/m.parquet"], TUESDAY: ["/t.parquet"]})
    assert "/m.parquet" in table.relation()
    assert "/m.parquet" not in table.relation([TUESDAY])
    assert "read_parquet" not in table.relation(["2013-01-09"])
