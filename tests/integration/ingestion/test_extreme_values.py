"""Law of extreme values (fault 10): from the database to every reader of the lake nothing is silently changed."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.expressions import EqualTo, GreaterThan, LessThan

from lake.paths import engine_path
from lake.quarantine import quarantined
from tests.integration.ingestion.conftest import DatabaseSource
from tests.integration.ingestion.shops import database_shop

FLOATS = (
    "NaN",
    "Infinity",
    "-Infinity",
    "-0",
    "0",
    "5e-324",
    "1.7976931348623157e308",
    "-2.2250738585072014e-308",
    "1e308",
)
KEPT = {  # column: values that are kept, values that are set apart
    "f": (FLOATS, ()),
    "g": (("NaN", "Infinity", "-Infinity", "-0", "1e-45", "3.4028235e38", "0", "1"), ()),
    "i": (("9223372036854775807", "-9223372036854775808"), ("9223372036854775808", "-9223372036854775809", "1e19")),
    "n": (("9999999999.99", "-9999999999.99", "0.00"), ("10000000000", "0.001", "NaN", "Infinity")),
    "d": (("0001-01-01", "9999-12-31", "4714-11-24 BC", "5874897-12-31"), ("infinity", "-infinity")),
    "t": (
        ("9999-12-31 23:59:59.999999+00", "4714-11-24 00:00:00+00 BC", "294247-01-10 04:00:54.775806+00"),
        ("294247-01-10 04:00:54.775807+00", "infinity", "-infinity"),
    ),
}


def test_extreme_values_are_published_bit_by_bit_or_quarantined_and_all_readers_agree(
    database: DatabaseSource, figures: Callable[..., None]
) -> None:
    shop = database_shop(database)
    database.run(
        "CREATE TABLE {s}.t (id int PRIMARY KEY, f float8, g float4, i numeric, n numeric, d date, t timestamptz)"
    )
    number, apart = 0, set()
    for column, (kept, unfit) in KEPT.items():
        for value in (*kept, *unfit):
            database.run(f"INSERT INTO {{s}}.t (id, {column}) VALUES ({number}, '{value}')")
            if value in unfit:
                apart.add(number)
            number += 1
    text = database.table(
        "id: int32, f: float64, g: float32, i: decimal(19,0), n: decimal(12,2), d: date, t: timestamptz"
    ).replace('"decimal(19,0)"', "int64, policy: cast, why: A counter in a numeric")
    shop.declare("source: shop\nkind: postgresql\nconnection: shop\nowner: me@example.org\ntables:\n" + text)
    receipt = shop.ingest()
    assert (receipt.rows_in, receipt.published, receipt.quarantined) == (number, number - len(apart), len(apart))
    pipeline = shop.pipeline()
    waiting = quarantined(pipeline.lake, shop.raw).to_pylist()
    assert {row["position"] for row in waiting} == {f'key {{"id":{n}}}' for n in apart}
    assert {row["rules"] for row in waiting} == {"exact_value"}

    truth = [
        tuple(map(bits, row))
        for row in database.admin.execute(
            "SELECT id, f, g::float8, i, n, d - DATE '1970-01-01', (extract(epoch FROM t) * 1000000)::numeric(30,0) "
            f"FROM {database.schema}.t WHERE NOT id = ANY(%s) ORDER BY id",
            [sorted(apart)],
        )
    ]
    pipeline.declare_raw()
    [path] = [engine_path(path) for path in pipeline.lake.paths(shop.raw)]
    table = pipeline.lake.catalog.load_table((shop.raw.namespace, shop.raw.name))
    with pipeline.lake.connect() as connection:
        by_lake = by_duckdb(connection, pipeline.lake.relation(shop.raw))
    answers = {
        "the lake": by_lake,
        "DuckDB": by_duckdb(duckdb.connect(), f"read_parquet('{path}')"),
        "Arrow": by_arrow(pq.read_table(path)),
        "Polars": by_arrow(pl.read_parquet(path).to_arrow()),
        "Iceberg": by_arrow(table.scan().to_arrow()),
        "Polars on Iceberg": by_arrow(pl.scan_iceberg(table).collect().to_arrow()),
    }
    figures(
        rows_expected=number,
        rows_lost=number - len(by_lake) - len(waiting),
        wrong_values=sum(row not in truth for row in by_lake),
        readers=len(answers),
        readers_that_disagree=sum(answer != truth for answer in answers.values()),
    )
    for reader, answer in answers.items():
        assert answer == truth, reader
    questions: list[tuple[str, Any, str, Any, pl.Expr, int]] = [  # a bound that is NaN or cut off would hide the file
        ("f = 1e308", EqualTo, "f", 1e308, pl.col("f") == 1e308, 1),
        ("f < -1e308", LessThan, "f", -1e308, pl.col("f") < -1e308, 1),
        ("d < '1000-01-01'", LessThan, "d", date(1000, 1, 1), pl.col("d") < date(1000, 1, 1), 2),
        ("n > 0", GreaterThan, "n", Decimal("0.00"), pl.col("n") > 0, 1),
    ]
    for condition, kind, column, value, frame, found in questions:
        assert table.scan(row_filter=iceberg_filter(kind, column, value)).to_arrow().num_rows == found
        assert pl.scan_iceberg(table).filter(frame).collect().height == found
        with pipeline.lake.connect() as connection:
            query = f"SELECT count(*) FROM {pipeline.lake.relation(shop.raw)} WHERE {condition}"
            assert connection.execute(query).fetchone() == (found,)


def iceberg_filter(kind: Any, column: str, value: Any) -> Any:
    """A filter of pyiceberg, whose classes hide their signature."""
    return kind(column, value)


def bits(value: Any) -> Any:
    """A value in a form in which only the same bits are equal."""
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else struct.pack("<d", value)
    return int(value) if isinstance(value, Decimal) and value == value.to_integral_value() else value


def by_duckdb(connection: duckdb.DuckDBPyConnection, relation: str) -> list[tuple[Any, ...]]:
    """The rows as DuckDB reads them; days and instants as numbers."""
    query = "SELECT id, f, g, i, n, date_diff('day', DATE '1970-01-01', d), epoch_us(t)"
    return [tuple(map(bits, row)) for row in connection.execute(f"{query} FROM {relation} ORDER BY id").fetchall()]


def by_arrow(table: Any) -> list[tuple[Any, ...]]:
    """The rows of an Arrow table; days and instants as numbers."""
    columns = [
        table.column(name).cast({"d": pa.int32(), "t": pa.int64()}[name]) if name in {"d", "t"} else table.column(name)
        for name in ("id", "f", "g", "i", "n", "d", "t")
    ]
    return sorted(
        (tuple(map(bits, row)) for row in zip(*(column.to_pylist() for column in columns), strict=True)),
        key=lambda row: row[0],
    )
