"""Laws of a refined table's lineage: read off the plan, whatever kinds of nodes it has."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest

from lake.schema import Column
from tests.demo_data import raw_frame
from transformations.column_lineage import ColumnLineage
from transformations.refine import REFINED
from transformations.refine.lineage import lineage_of
from transformations.refine.model import RefinedTable

SALES, SHOPS = "raw.shop__sales", "raw.shop__shops"
Plan = Callable[[pl.LazyFrame, pl.LazyFrame], pl.LazyFrame]


@pytest.fixture(scope="module")
def lineage(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ColumnLineage]:
    """The lineage of a function of sales and shops, read from files as a lake's tables are."""
    folder = tmp_path_factory.mktemp("lineage")
    rows = {"sales": {"id": 1, "shop": "a", "price": 2.0, "amount": 3, "day": "x"}}
    rows |= {"shops": {"shop": "a", "zone": "UTC", "day": "y"}}
    for name, row in rows.items():
        pl.DataFrame([row]).write_parquet(folder / f"{name}.parquet")

    def find(function: Plan, *columns: str) -> ColumnLineage:
        table = RefinedTable(
            "sales",
            tuple(Column(name, "string") for name in columns),
            partitioned=False,
            primary_key=(columns[0],),
            inputs={"sales": SALES},
            reference_inputs={"shops": SHOPS},
            function=lambda **frames: function(*frames.values()),
        )
        return lineage_of(table, {name: pl.scan_parquet(folder / f"{name}.parquet") for name in rows})

    return find


def names(found: ColumnLineage, column: str) -> set[str]:
    """Columns that a column is made of; those of shops carry their table's name."""
    return {name if table == SALES else f"shops.{name}" for table, name in found.columns[column]}


@pytest.mark.parametrize(
    ("function", "made_of", "deciding"),
    [
        (lambda s, _: s.select(total=pl.col("price") * pl.col("amount")), {"price", "amount"}, set()),
        (lambda s, _: s.with_columns(total=pl.lit(1)).filter(pl.col("id") > 0), set(), {"id"}),
        (
            lambda s, _: s.select(total=pl.when(pl.col("shop") == "a").then("price").otherwise(0)),
            {"shop", "price"},
            set(),
        ),
        (lambda s, _: s.filter(pl.col("amount") > 1).select(total="price"), {"price"}, {"amount"}),
        (lambda s, _: s.group_by("shop").agg(total=pl.col("price").sum()).select("total"), {"price"}, {"shop"}),
        (lambda s, _: s.select(total=pl.col("price").sum().over("shop")), {"price", "shop"}, set()),
        (lambda s, _: s.sort("day").select(total=pl.col("price").shift(1)), {"price"}, {"day"}),
        (lambda s, _: s.rename({"price": "total"}).select("total"), {"price"}, set()),
        (lambda s, t: s.join(t, on="shop").select(total="day_right"), {"shops.day"}, {"shop", "shops.shop"}),
        (lambda s, t: s.join(t, on="shop", how="left").select(total="zone"), {"shops.zone"}, {"shop", "shops.shop"}),
        (lambda s, t: pl.concat([s.select(total="shop"), t.select(total="zone")]), {"shop", "shops.zone"}, set()),
        (
            lambda s, _: s.with_columns(half=pl.col("price") / 2).select(total=pl.col("half") + pl.col("half") ** 2),
            {"price"},
            set(),
        ),
        (
            lambda s, t: s.join(
                t.select("shop", zone=pl.col("zone").str.to_lowercase()).collect().lazy(), on="shop"
            ).select(total="zone"),
            {"shops.zone"},
            {"shop", "shops.shop"},
        ),
        (
            lambda s, _: s.select("id", total=pl.col("price").map_elements(lambda value: value, pl.Float64)),
            {"id", "price"},  # a function of Python is not looked into
            set(),
        ),
    ],
)
def test_a_column_is_made_of_the_columns_in_its_expression_wherever_that_stands(
    lineage: Callable[..., ColumnLineage], function: Plan, made_of: set[str], deciding: set[str]
) -> None:
    found = lineage(function, "total")
    assert names(found, "total") == made_of
    assert {name if table == SALES else f"shops.{name}" for table, name in found.deciding} == deciding


def test_a_step_that_polars_does_not_show_makes_every_column_depend_on_everything_below_it(
    lineage: Callable[..., ColumnLineage],
) -> None:
    found = lineage(lambda s, _: s.select("id", "price").map_batches(lambda frame: frame), "id")
    assert names(found, "id") == {"id", "price"}


def test_the_zone_of_the_destination_goes_into_arrivals_and_not_into_delays() -> None:
    flights = REFINED["flights"]
    frames = {"flights": raw_frame("flightops", "flights").head(100), "airports": raw_frame("flightops", "airports")}
    found = lineage_of(flights, {name: frame.lazy() for name, frame in frames.items()})
    assert ("raw.flightops__airports", "tzone") in found.columns["arrived_at"]
    assert ("raw.flightops__flights", "arr_time") in found.columns["arrived_at"]
    assert found.columns["arrival_delay_min"] == {("raw.flightops__flights", "arr_delay")}
    assert found.deciding == {
        ("raw.flightops__airports", "faa"),
        ("raw.flightops__flights", "origin"),
        ("raw.flightops__flights", "dest"),
    }


@pytest.mark.parametrize("name", [name for name in REFINED if name != "flights"])
def test_every_column_of_a_refined_table_comes_from_somewhere(name: str) -> None:
    table = REFINED[name]
    inputs = {**table.inputs, **table.reference_inputs}
    frames = {
        argument: raw_frame(*raw.removeprefix("raw.").split("__", 1)).head(50).lazy()
        for argument, raw in inputs.items()
    }
    found = lineage_of(table, frames)
    assert [column for column, sources in found.columns.items() if not sources] == []
    assert found.tables == set(inputs.values())
