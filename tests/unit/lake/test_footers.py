"""Laws of a data file's description: what the library itself would say of the same file, and no bound that lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.conversions import from_bytes
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.types import StringType

from common.errors import StateCorrupt
from lake.footers import statistics
from lake.parquet_footer import Footer, read_footer
from lake.schema import Column, iceberg_schema

ROWS = """
    SELECT i % 2 = 0 AS bool, i::INTEGER AS int32, -i::BIGINT AS int64, 1.5::FLOAT AS float32, 2.5::DOUBLE AS float64,
        (i * -1.25)::DECIMAL(9,2) AS small, (i * 1e10)::DECIMAL(18,3) AS middle, (-i * 1e15)::DECIMAL(38,10) AS large,
        repeat(chr(97 + (i % 26)::INT), i::INT % 40) AS string, encode(repeat('ab', i::INT % 20)) AS binary,
        DATE '1960-01-01' + i::INT AS date, TIME '00:00:01' AS time, TIMESTAMP '1969-12-31' AS timestamp,
        TIMESTAMPTZ '2013-01-01 00:00:00Z' AS timestamptz, NULL::INTEGER AS nothing,
        CASE WHEN i > 2048 THEN i END::BIGINT AS late
    FROM range({rows}) AS r(i)
"""
TYPES = {"small": "decimal(9,2)", "middle": "decimal(18,3)", "large": "decimal(38,10)", "nothing": "int32"}


def footer_of(path: Path) -> Footer:
    with path.open("rb") as stream:
        return read_footer(stream, path.stat().st_size)


@pytest.mark.parametrize("rows", [0, 1, 5000])
def test_a_file_is_described_as_the_library_describes_it_but_for_bounds_of_floats(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "x.parquet"
    duckdb.connect(config={"threads": 1}).execute(
        f"SET TimeZone = 'UTC'; COPY ({ROWS.format(rows=rows)}) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 2048)"
    )
    footer = pq.read_metadata(path)
    names = footer.schema.to_arrow_schema().names
    schema = iceberg_schema([Column(n, TYPES.get(n, "int64" if n == "late" else n)) for n in names])
    expected = data_file_statistics_from_parquet_metadata(
        parquet_metadata=footer,
        stats_columns=compute_statistics_plan(schema, {}),
        parquet_column_mapping=parquet_path_to_id_mapping(schema),
    ).to_serialized_dict()
    floats = {schema.find_field(name).field_id for name in ("float32", "float64")}
    for bound in ("lower_bounds", "upper_bounds"):
        expected[bound] = {key: value for key, value in expected[bound].items() if key not in floats}
    found = statistics(footer_of(path), schema)
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize("value", ["z" * 15 + "\U0010ffff" * 2, "\U0010ffff" * 20])
def test_the_upper_bound_of_a_long_text_is_not_below_it(tmp_path: Path, value: str) -> None:
    path = tmp_path / "x.parquet"
    connection = duckdb.connect()
    connection.execute("CREATE TABLE t (v VARCHAR)")
    connection.execute("INSERT INTO t VALUES (?)", [value])
    connection.execute(f"COPY t TO '{path}' (FORMAT parquet)")
    bounds = statistics(footer_of(path), iceberg_schema([Column("v", "string")]))
    upper = bounds["upper_bounds"].get(1)
    assert upper is None or from_bytes(StringType(), upper) >= value
    assert from_bytes(StringType(), bounds["lower_bounds"][1]) <= value


def test_a_footer_longer_than_what_is_read_at_once_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    names = [f"column_{number}_{'x' * 40}" for number in range(60)]
    frame = pa.table({name: pa.array(range(500), pa.int64()) for name in names})
    pq.write_table(frame, path, row_group_size=20, compression="zstd")
    found = footer_of(path)
    expected = pq.read_metadata(path)
    assert expected.serialized_size > 64 << 10
    assert (found.rows, len(found.groups)) == (500, expected.num_row_groups)
    for number, group in enumerate(found.groups):
        for position, chunk in enumerate(group):
            told: Any = expected.row_group(number).column(position)
            assert (chunk.path, chunk.values, chunk.nulls) == (told.path_in_schema, told.num_values, 0)
            assert (chunk.least, chunk.most) == (told.statistics.min, told.statistics.max)
            assert chunk.compressed_bytes == told.total_compressed_size


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all", b"\xff\xff\xff\x7fPAR1"])
def test_what_is_no_parquet_file_or_is_cut_off_is_told_as_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    with pytest.raises(StateCorrupt, match="no Parquet file"):
        footer_of(path)
