"""Builds shared by the tests of the models. dbt's parse result is shared by all of them: it takes a CPU second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.integration.dbt.refined_lake import RefinedLake, airline, airport, flight, plane, reading
from transformations.dbt_runner import DbtResult, run_dbt

MONDAY, TUESDAY = "2013-01-07", "2013-01-08"


@dataclass
class Build:
    """A database file that was built from a lake."""

    lake: RefinedLake
    database: Path
    target: Path
    result: DbtResult


@pytest.fixture(scope="session")
def parse_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dbt") / "parse_cache"


@pytest.fixture
def lake(tmp_path: Path) -> RefinedLake:
    """Two days, two known airports and one that only flights name."""
    return two_days(tmp_path / "lake")


@pytest.fixture
def build(tmp_path: Path, parse_cache: Path) -> Callable[..., Build]:
    """Builds a lake into a file; without documentation, which takes half the time, unless asked for."""
    numbers = count()

    def run(lake: RefinedLake, database: Path | None = None, **options: Any) -> Build:
        target = tmp_path / f"target-{next(numbers)}"
        path = database or tmp_path / target.name / "warehouse.duckdb"
        path.parent.mkdir(exist_ok=True)
        options = {"docs": False, "parse_cache": parse_cache, "threads": 1, "memory_limit_mb": 256, **options}
        return Build(lake, path, target, run_dbt(path, target, lake.tables(), **options))

    return run


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, parse_cache: Path) -> Build:
    """The two days built whole, with documentation. Read only."""
    folder = tmp_path_factory.mktemp("built")
    lake = two_days(folder / "lake")
    database, target = folder / "warehouse.duckdb", folder / "target"
    return Build(lake, database, target, run_dbt(database, target, lake.tables(), parse_cache=parse_cache, threads=1))


def two_days(folder: Path) -> RefinedLake:
    """Monday: four flights of every fate, calm then windy. Tuesday: one flight, no weather."""
    folder.mkdir()
    lake = RefinedLake(folder)
    lake.put("airports", [airport("JFK", "John F Kennedy Intl"), airport("LAX", "Los Angeles Intl")])
    lake.put("airlines", [airline("UA", "United Air Lines Inc.")])
    lake.put("planes", [plane("N1")])
    lake.put(
        "flights",
        [
            flight(MONDAY, 5, flight_number=1, departure_delay_min=-4, arrival_delay_min=15),
            flight(MONDAY, 5, flight_number=2, departure_delay_min=16, arrival_delay_min=16, tail_number="N2"),
            flight(MONDAY, 6, flight_number=3, departure_delay_min=90, arrival_delay_min=None),
            flight(MONDAY, 6, flight_number=4, is_cancelled=True, tail_number=None),
        ],
        MONDAY,
    )
    lake.put("flights", [flight(TUESDAY, 5, carrier_code="ZZ", destination_code="SJU")], TUESDAY)
    lake.put("weather", [reading(MONDAY, 5), reading(MONDAY, 6, wind_speed_mph=30.0, temperature_f=None)], MONDAY)
    return lake
