"""Raw rows in one line: what a test changes is what it is about."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from ingestion.spec import load_source
from tests.demo_data import SOURCES
from transformations.refine import REFINED, polars_schema

NEW_YORK = "America/New_York"
_FLIGHT: dict[str, Any] = {
    "ds": date(2013, 6, 1),
    "year": 2013,
    "month": 6,
    "day": 1,
    "dep_time": 1200,
    "sched_dep_time": 1200,
    "dep_delay": 0,
    "arr_time": 1300,
    "sched_arr_time": 1300,
    "arr_delay": 0,
    "carrier": "AA",
    "flight": 1,
    "tailnum": "N1",
    "origin": "JFK",
    "dest": "BOS",
    "air_time": 40,
    "distance": 187,
    "updated_at": datetime(2013, 6, 2, tzinfo=UTC),
}
_ZONES = {
    "JFK": NEW_YORK,
    "BOS": NEW_YORK,
    "PBI": NEW_YORK,
    "LAX": "America/Los_Angeles",
    "HNL": "Pacific/Honolulu",
    "PHX": "America/Phoenix",
    "EEN": None,
    "XXX": "America/Nowhere",
}


def raw_schema(table: str) -> pl.Schema:
    """Polars schema of a raw lake table named ``raw.<source>__<table>``."""
    source, name = table.removeprefix("raw.").split("__")
    return polars_schema(load_source(SOURCES / f"{source}.yml").table(name).lake_columns())


def empty(table: str) -> pl.LazyFrame:
    """A raw lake table without rows."""
    return pl.LazyFrame(schema=raw_schema(table))


def flights(*changes: dict[str, Any]) -> pl.LazyFrame:
    """One raw flight per argument: a JFK to BOS noon flight of 1 June with these changes."""
    rows = []
    for change in changes:
        row = _FLIGHT | change
        clock = row["sched_dep_time"]
        row.setdefault("hour", clock // 100)
        row.setdefault("minute", clock % 100)
        row.setdefault("time_hour", datetime(2013, 6, 1, 16, tzinfo=UTC))
        rows.append(row)
    return pl.LazyFrame(rows, schema=raw_schema("raw.flightops__flights"))


def airports(zones: dict[str, str | None] | None = None) -> pl.LazyFrame:
    """Raw airports with these zones."""
    rows = [
        {"faa": code, "name": code, "lat": 0.0, "lon": 0.0, "alt": 0, "tz": 0, "dst": "A", "tzone": zone}
        for code, zone in (_ZONES if zones is None else zones).items()
    ]
    return pl.LazyFrame(rows, schema_overrides=raw_schema("raw.flightops__airports")).with_columns(
        updated_at=pl.lit(datetime(2013, 1, 1, tzinfo=UTC)).cast(pl.Datetime("us", "UTC"))
    )


def refined(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    """The refined form of :func:`flights`."""
    frame = REFINED["flights"].function(flights=flights(*changes), airports=airports())
    return frame.collect(engine="streaming").to_dicts()


def utc(month: int, day: int, hour: int, minute: int = 0) -> datetime:
    """An instant of 2013."""
    return datetime(2013, month, day, hour, minute, tzinfo=UTC)
