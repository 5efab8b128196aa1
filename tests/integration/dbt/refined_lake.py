"""A small refined lake for the tests of the models: Parquet files with field ids, one per day, written by pyarrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from lake.paths import WHOLE
from lake.schema import Column
from transformations.dbt_runner import LakeTableFiles
from transformations.refine import REFINED

COLUMNS: Mapping[str, tuple[Column, ...]] = {name: table.columns for name, table in REFINED.items()}

Row = dict[str, Any]

_FLIGHT: Row = {
    "carrier_code": "UA",
    "flight_number": 1,
    "tail_number": "N1",
    "origin_code": "JFK",
    "destination_code": "LAX",
    "departure_delay_min": 0,
    "arrival_delay_min": 0,
    "air_time_min": 300,
    "distance_mi": 2475,
    "is_cancelled": False,
    "is_destination_known": True,
}
_READING: Row = {
    "station_code": "JFK",
    "temperature_f": 40.0,
    "dew_point_f": 30.0,
    "humidity_pct": 50.0,
    "wind_direction_deg": 180,
    "wind_speed_mph": 4.0,
    "wind_gust_mph": None,
    "precipitation_in": 0.0,
    "pressure_mbar": 1012.0,
    "visibility_mi": 10.0,
}
_SEEN_AT = datetime(2013, 2, 1, tzinfo=UTC)


def at(day: str, hour: int) -> datetime:
    """An hour of the day in New York's winter time, as UTC."""
    return datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(hours=hour + 5)


def flight(day: str, hour: int = 5, **values: Any) -> Row:
    """One refined flight; what is not given is a punctual UA 1 from JFK to LAX."""
    row = {**_FLIGHT, **values}
    if row["is_cancelled"]:
        row |= {"departure_delay_min": None, "arrival_delay_min": None, "air_time_min": None}
    scheduled = at(day, hour)
    late, late_arrival = row["departure_delay_min"], row["arrival_delay_min"]
    return {
        "ds": date.fromisoformat(day),
        "flight_id": f"{scheduled:%Y%m%dT%H}Z-{row['carrier_code']}-{row['flight_number']}",
        "scheduled_departure_at": scheduled,
        "departed_at": None if late is None else scheduled + timedelta(minutes=late),
        "scheduled_arrival_at": scheduled + timedelta(hours=6),
        "arrived_at": None if late_arrival is None else scheduled + timedelta(hours=6, minutes=late_arrival),
        "weather_hour_at": scheduled,
        "updated_at": _SEEN_AT,
        **row,
    }


def reading(day: str, hour: int = 5, **values: Any) -> Row:
    """One refined weather reading; what is not given is a calm clear hour at JFK."""
    return {
        "ds": date.fromisoformat(day),
        "observed_at": at(day, hour),
        "local_hour": hour,
        **_READING,
        **values,
    }


def plane(tail_number: str) -> Row:
    """One refined plane."""
    return {
        "tail_number": tail_number,
        "manufactured_year": 2004,
        "plane_type": "Fixed wing multi engine",
        "manufacturer": "EMBRAER",
        "model": "EMB-145XR",
        "engine_count": 2,
        "seat_count": 55,
        "cruising_speed_mph": None,
        "engine_type": "Turbo-fan",
        "updated_at": _SEEN_AT,
    }


def airline(code: str, name: str) -> Row:
    """One refined airline."""
    return {"carrier_code": code, "carrier_name": name, "updated_at": _SEEN_AT}


def airport(code: str, name: str) -> Row:
    """One refined airport."""
    return {
        "airport_code": code,
        "airport_name": name,
        "latitude_deg": 40.5,
        "longitude_deg": -73.5,
        "altitude_ft": 13,
        "utc_offset_h": -5,
        "dst_rule_code": "A",
        "time_zone": "America/New_York",
        "updated_at": _SEEN_AT,
    }


@dataclass
class RefinedLake:
    """Refined tables as files in a folder; a key that is written again gets a new file, as in the lake."""

    folder: Path
    files: dict[str, dict[str, list[str]]] = field(default_factory=lambda: {name: {} for name in COLUMNS})
    written: int = 0

    def put(self, table: str, rows: Sequence[Row], key: str = WHOLE, columns: Sequence[Column] | None = None) -> None:
        """Replace one partition; without rows it keeps no file."""
        self.written += 1
        self.files[table].pop(key, None)
        if rows:
            path = self.folder / f"{table}-{key}-{self.written:05d}.parquet"
            write(path, COLUMNS[table] if columns is None else columns, rows)
            self.files[table][key] = [str(path)]

    def tables(self) -> dict[str, LakeTableFiles]:
        """The tables as the runner takes them."""
        return {
            name: LakeTableFiles(columns, tuple(range(1, len(columns) + 1)), dict(self.files[name]))
            for name, columns in COLUMNS.items()
        }


def write(path: Path, columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """Write rows as Parquet, field ids by the columns' positions."""
    schema = pa.schema(
        [
            pa.field(column.name, column.arrow, column.nullable, metadata={"PARQUET:field_id": str(position)})
            for position, column in enumerate(columns, start=1)
        ]
    )
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path, compression="zstd")


def contents(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table of a database file, sorted."""
    with duckdb.connect(str(database), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        names = [str(name) for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        return {name: connection.execute(f'FROM "{name}" ORDER BY ALL').fetchall() for name in sorted(names)}


def rows_of(database: Path, table: str, *columns: str) -> list[Row]:
    """Rows of one table as dicts, sorted."""
    chosen = ", ".join(columns) or "*"
    with duckdb.connect(str(database), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute(f'SELECT {chosen} FROM "{table}" ORDER BY ALL')
        names = [column[0] for column in found.description or []]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
