"""Built in pieces or at once: the same tables."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from common.errors import UsageError
from tests.integration.dbt.conftest import MONDAY, TUESDAY, Build
from tests.integration.dbt.refined_lake import RefinedLake, airport, contents, flight, plane, reading, rows_of

DAYS = [f"2013-01-{day:02d}" for day in range(7, 12)]
STEPS = 2


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_any_sequence_of_incremental_builds_equals_one_whole_build(
    seed: int, lake: RefinedLake, build: Callable[..., Build]
) -> None:
    chance = random.Random(seed)
    done = build(lake)
    for _ in range(STEPS):
        changed = _change(lake, chance)
        assert build(lake, done.database, changed_keys=changed).result.mode == "incremental"
    whole = build(lake)
    assert whole.result.mode == "whole"
    assert contents(done.database) == contents(whole.database)


def _change(lake: RefinedLake, chance: random.Random) -> dict[str, list[str] | None]:
    """Replace, add or empty some days, perhaps a dimension; say which."""
    changed: dict[str, list[str] | None] = {}
    for table, one in (("flights", _some_flight), ("weather", _some_reading)):
        days = chance.sample(DAYS, chance.randint(0, 3))
        for day in days:
            lake.put(table, [one(day, number, chance) for number in range(chance.choice([0, 1, 4]))], day)
        if days:
            changed[table] = days
    if chance.random() < 0.5:
        lake.put("airports", [airport(code, code) for code in chance.sample(["JFK", "LAX", "SJU", "BQN"], 2)])
        changed["airports"] = None
    return changed


def _some_flight(day: str, number: int, chance: random.Random) -> dict[str, object]:
    late = chance.choice([-5, 0, 15, 16, 240])
    return flight(
        day,
        chance.randint(5, 8),
        flight_number=number,
        destination_code=chance.choice(["LAX", "SJU", "BQN"]),
        tail_number=chance.choice(["N1", "N2", None]),
        departure_delay_min=late,
        arrival_delay_min=chance.choice([None, late - 10]),
        is_cancelled=chance.random() < 0.2,
    )


def _some_reading(day: str, number: int, chance: random.Random) -> dict[str, object]:
    return reading(day, 5 + number, wind_speed_mph=chance.choice([None, 0.0, 14.99, 15.0, 0.1 + 0.2]))


def test_a_day_that_became_empty_vanishes_from_every_table(lake: RefinedLake, build: Callable[..., Build]) -> None:
    done = build(lake)
    assert "SJU" in {row["airport_code"] for row in rows_of(done.database, "dim_airports")}
    lake.put("flights", [], TUESDAY)
    lake.put("weather", [], MONDAY)
    build(lake, done.database, changed_keys={"flights": [TUESDAY], "weather": [MONDAY]})
    for table in ("fct_flights", "mart_daily_route_performance"):
        assert {str(row["scheduled_on"]) for row in rows_of(done.database, table)} == {MONDAY}
    assert rows_of(done.database, "fct_weather_hourly") == []
    assert {row["weather_band"] for row in rows_of(done.database, "mart_weather_delay")} == {"not measured"}
    assert "SJU" not in {row["airport_code"] for row in rows_of(done.database, "dim_airports")}


def test_a_changed_dimension_changes_the_dimension_and_no_fact(lake: RefinedLake, build: Callable[..., Build]) -> None:
    done = build(lake)
    before = contents(done.database)
    lake.put("planes", [plane("N1"), plane("N2")])
    build(lake, done.database, changed_keys={"planes": None})
    after = contents(done.database)
    assert {name for name in before if before[name] != after[name]} == {"dim_planes"}
    assert {row["tail_number"]: row["is_known"] for row in rows_of(done.database, "dim_planes")} == {
        "N1": True,
        "N2": True,
    }


def test_an_incremental_build_reads_only_files_of_changed_days(lake: RefinedLake, build: Callable[..., Build]) -> None:
    """The other days' files could as well be gone."""
    done = build(lake)
    before = contents(done.database)
    for files in (lake.files["flights"], lake.files["weather"]):
        for path in files.pop(MONDAY):
            (lake.folder / path).unlink()
    lake.put("flights", [flight(TUESDAY, 9)], TUESDAY)
    build(lake, done.database, changed_keys={"flights": [TUESDAY]})
    after = contents(done.database)
    assert after["fct_flights"][:4] == before["fct_flights"][:4]
    assert after["fct_flights"][4][0] == "20130108T14Z-UA-1"


def test_what_cannot_be_done_incrementally_is_done_whole(lake: RefinedLake, build: Callable[..., Build]) -> None:
    done = build(lake)
    expected = contents(done.database)
    whole_table_changed = build(lake, done.database, changed_keys={"flights": None})
    assert whole_table_changed.result.mode == "whole"
    asked_for = build(lake, done.database, changed_keys={}, full_refresh=True)
    assert asked_for.result.mode == "whole"
    with duckdb.connect(str(done.database)) as connection:
        connection.execute("DROP TABLE fct_flights; CREATE TABLE fct_of_a_model_that_was_removed AS SELECT 1 AS one")
    other_tables = build(lake, done.database, changed_keys={})
    assert other_tables.result.mode == "whole"
    assert contents(done.database) == expected


def test_variables_of_the_host_do_not_change_the_tables(
    lake: RefinedLake, build: Callable[..., Build], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = build(lake)
    expected = contents(done.database)
    for name, value in {
        "DBT_FULL_REFRESH": "1",
        "DBT_EMPTY": "1",
        "DBT_RESOURCE_TYPES": "seed",
        "DBT_TARGET": "other",
        "DBT_PROFILES_DIR": str(lake.folder),
        "DBT_STORE_FAILURES": "1",
    }.items():
        monkeypatch.setenv(name, value)
    assert build(lake, done.database, changed_keys={"flights": [TUESDAY]}).result.mode == "incremental"
    assert contents(done.database) == expected


def test_a_changed_key_that_is_not_a_day_is_refused_before_anything_is_written(
    lake: RefinedLake, build: Callable[..., Build], tmp_path: Path
) -> None:
    database = tmp_path / "warehouse.duckdb"
    with pytest.raises(UsageError, match=r"'2013-01' is not a day.*refined\.flights.*Remedy"):
        build(lake, database, changed_keys={"flights": ["2013-01"]})
    assert not database.exists()
