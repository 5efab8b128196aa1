"""Every refined table: what it promises, proved on empty input, and the choice of the latest version."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import polars as pl
import pytest

from common.errors import SpecError
from lake.schema import Column
from tests.unit.refine.rows import empty, utc
from transformations.refine import REFINED, RefinedTable, latest_per_key, polars_schema
from transformations.refine.weather import refine_weather


def test_registry_names_are_the_tables_own() -> None:
    assert list(REFINED) == ["flights", "weather", "planes", "airlines", "airports"]
    assert all(table.name == name for name, table in REFINED.items())


@pytest.mark.parametrize("table", REFINED.values(), ids=lambda table: table.name)
def test_empty_input_gives_empty_output_with_exactly_the_promised_schema(table: RefinedTable) -> None:
    inputs = {name: empty(raw) for name, raw in {**table.inputs, **table.reference_inputs}.items()}
    frame = latest_per_key(table.function(**inputs), table.primary_key, table.version_column)
    result = frame.collect(engine="streaming")
    assert result.height == 0
    assert list(result.schema.items()) == list(polars_schema(table.columns).items())


@pytest.mark.parametrize("table", REFINED.values(), ids=lambda table: table.name)
def test_every_column_is_described_and_keys_are_not_nullable(table: RefinedTable) -> None:
    assert [column.name for column in table.columns if not column.description.endswith(".")] == []
    assert [column.name for column in table.columns if column.name in table.primary_key and column.nullable] == []


def test_table_whose_key_is_no_column_is_refused() -> None:
    with pytest.raises(SpecError, match=r"refined\.t.*Remedy"):
        RefinedTable(
            name="t",
            columns=(Column("a", "int32"),),
            partitioned=False,
            primary_key=("b",),
            inputs={},
            function=pl.LazyFrame,
        )


def test_partitioned_table_without_its_partition_column_is_refused() -> None:
    with pytest.raises(SpecError, match="partition column"):
        RefinedTable(
            name="t",
            columns=(Column("a", "int32"),),
            partitioned=True,
            primary_key=("a",),
            inputs={},
            function=pl.LazyFrame,
        )


def versions(*rows: tuple[str | None, datetime | None, int | None]) -> pl.LazyFrame:
    return pl.LazyFrame(
        rows, schema={"key": pl.String, "at": pl.Datetime("us", "UTC"), "value": pl.Int32}, orient="row"
    )


def test_latest_version_of_each_key_is_kept_in_key_order() -> None:
    frame = versions(("b", utc(1, 1, 0), 1), ("a", utc(1, 2, 0), 2), ("a", utc(1, 3, 0), 3), ("a", utc(1, 1, 0), 4))
    assert latest_per_key(frame, ["key"], "at").collect().rows() == [("a", utc(1, 3, 0), 3), ("b", utc(1, 1, 0), 1)]


def test_equal_versions_are_decided_by_the_row_itself_not_by_input_order() -> None:
    frame = versions(("a", utc(1, 1, 0), 1), ("a", utc(1, 1, 0), None), ("a", utc(1, 1, 0), 2))
    kept = [latest_per_key(order, ["key"], "at").collect().rows() for order in (frame, frame.reverse())]
    assert kept == [[("a", utc(1, 1, 0), 2)]] * 2


def test_version_that_is_null_is_the_oldest() -> None:
    frame = versions(("a", None, 9), ("a", utc(1, 1, 0), 1))
    assert latest_per_key(frame, ["key"], "at").collect().rows() == [("a", utc(1, 1, 0), 1)]


def test_rows_without_a_key_are_all_kept_for_the_gate_to_judge() -> None:
    frame = versions((None, utc(1, 1, 0), 1), (None, utc(1, 1, 0), 1), ("a", utc(1, 1, 0), 1))
    assert latest_per_key(frame, ["key"], "at").collect().height == 3


def test_without_versions_only_exact_copies_are_dropped() -> None:
    frame = versions(("a", None, None), ("a", None, None), ("a", None, 1), (None, None, None), (None, None, None))
    kept = latest_per_key(frame, ["key"], None).collect()
    assert sorted(kept.rows(), key=str) == [("a", None, 1), ("a", None, None), (None, None, None)]


def test_weather_that_is_not_finite_passes_unchanged_for_the_gate_to_reject() -> None:
    base = empty("raw.stations__weather").collect()
    row = pl.DataFrame(
        {"origin": ["JFK"], "time_hour": [datetime(2013, 1, 1, 6, tzinfo=UTC)], "hour": [1]}
        | {"temp": [math.nan], "pressure": [math.inf], "wind_speed": [None]},
        schema_overrides={"wind_speed": pl.Float64, "hour": pl.Int32},
    )
    frame = pl.concat([base, row.with_columns(pl.col("time_hour").cast(base.schema["time_hour"]))], how="diagonal")
    (out,) = refine_weather(frame.lazy()).collect().to_dicts()
    assert math.isnan(out["temperature_f"])
    assert math.isinf(out["pressure_mbar"])
    assert out["wind_speed_mph"] is None
    assert (out["station_code"], out["local_hour"]) == ("JFK", 1)
