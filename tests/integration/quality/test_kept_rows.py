"""Laws of the rejected rows that the gate keeps: they are the staged rows to the last bit, or they are not kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lake.schema import Column
from quality.gate import Gate
from quality.suite import Suite

MakeSuite = Callable[..., Suite]

COLUMNS = [Column("amount", "float64"), Column("price", "decimal(38,10)"), Column("note", "string")]
COLUMNS += [Column("moment", "timestamptz"), Column("raw", "binary")]
ROWS = (
    "(-0.0::DOUBLE, 1234567890123456789012345678.0123456789::DECIMAL(38,10), 'a', "
    "TIMESTAMPTZ '0001-01-01', '\\x00'::BLOB),"
    "('nan'::DOUBLE, -1::DECIMAL(38,10), NULL, TIMESTAMPTZ '9999-12-31 23:59:59.999999+00', NULL),"
    "(0.0::DOUBLE, NULL, repeat('é', 100000), NULL, '\\xFF\\xFE'::BLOB),"
    "(1.5::DOUBLE, 2::DECIMAL(38,10), 'fine', TIMESTAMPTZ '2026-01-01', ''::BLOB)"
)
BETWEEN = "expect_column_values_to_be_between"
GIVEN = {column.name: ("expect_column_values_to_not_be_null", {"column": column.name}) for column in COLUMNS}


@pytest.fixture
def staged(tmp_path: Path) -> str:
    file = tmp_path / "staged.parquet"
    names = ", ".join(column.name for column in COLUMNS)
    duckdb.sql(f"COPY (FROM (VALUES {ROWS}) AS t({names})) TO '{file}' (FORMAT parquet, DICTIONARY_SIZE_LIMIT 0)")
    return str(file)


def rows(relation: str) -> list[tuple[Any, ...]]:
    """Every value as its bytes or as the text DuckDB prints, so that -0.0 and NaN are told apart."""
    typed = [f"encode({c.name})" if c.type == "string" else c.name for c in COLUMNS]
    texts = ", ".join(f"hex({c})" if "encode" in c or c == "raw" else f"{c}::VARCHAR" for c in typed)
    return duckdb.sql(f"SELECT file_row_number, {texts} FROM {relation} ORDER BY ALL").fetchall()


def test_the_kept_rows_are_exactly_the_rejected_ones_as_they_were_staged(
    gate: Gate, make_suite: MakeSuite, staged: str
) -> None:
    suite = make_suite(one=(BETWEEN, {"column": "amount", "min_value": 1}), **GIVEN)
    verdict = gate.audit_files(suite, [staged], columns=COLUMNS)
    numbers = verdict.rejects.column("row_number").to_pylist()
    assert numbers == [0, 1, 2]
    assert verdict.rejected_rows
    wanted = rows(f"(SELECT * FROM read_parquet('{staged}', file_row_number = true) WHERE file_row_number < 3)")
    assert rows(f"read_parquet('{verdict.rejected_rows}')") == wanted


def test_rows_that_only_repeat_a_key_are_looked_up_again(gate: Gate, make_suite: MakeSuite, staged: str) -> None:
    suite = make_suite(unique=("expect_column_values_to_be_unique", {"column": "amount"}), **GIVEN)
    twice = staged.replace("staged", "twice")
    duckdb.sql(
        f"COPY (SELECT * FROM '{staged}' WHERE note = 'fine' UNION ALL SELECT * FROM '{staged}' "
        f"WHERE note = 'fine') TO '{twice}' (FORMAT parquet)"
    )
    verdict = gate.audit_files(suite, [twice], columns=COLUMNS)
    assert verdict.rows_rejected == 2
    assert verdict.rejected_rows == ""


def test_where_rules_read_few_of_the_columns_rows_are_not_kept(gate: Gate, make_suite: MakeSuite, staged: str) -> None:
    verdict = gate.audit_files(make_suite(note=GIVEN["note"]), [staged], columns=COLUMNS)
    assert verdict.rows_rejected == 1
    assert verdict.rejected_rows == ""


def test_kept_rows_are_gone_with_the_next_audit_and_with_the_gate(
    make_suite: MakeSuite, staged: str, tmp_path: Path
) -> None:
    spill = tmp_path / "spill"
    gate = Gate(spill_directory=spill)
    suite = make_suite(one=(BETWEEN, {"column": "amount", "min_value": 1}), **GIVEN)
    first = gate.audit_files(suite, [staged], columns=COLUMNS).rejected_rows
    second = gate.audit_files(suite, [staged], columns=COLUMNS).rejected_rows
    assert first != second
    assert list(spill.glob("rejected-*")) == [Path(second)]
    gate.close()
    assert list(spill.glob("rejected-*")) == []
