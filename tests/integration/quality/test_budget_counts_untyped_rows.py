"""Rows that could not even be staged count against the budget: a few good rows do not carry a broken file."""

from pathlib import Path

import duckdb

from lake.schema import Column
from quality.gate import Gate
from quality.suite import load_suite

SUITE = """\
suite: raw/shop__orders
budget: {max_rejected_share: 0.5}
expectations:
  - id: id_is_given
    expect: expect_column_values_to_not_be_null
    kwargs: {column: id}
    severity: critical
    why: It names the row.
"""


def test_rows_rejected_before_staging_count_against_the_budget(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "shop__orders.yml").write_text(SUITE)
    suite, staged = load_suite(folder / "shop__orders.yml"), tmp_path / "staged.parquet"
    duckdb.sql(f"copy (select 1::bigint as id) to '{staged}' (format parquet)")
    gate, columns = Gate(), [Column("id", "int64")]
    assert gate.audit_files(suite, [str(staged)], columns=columns, rejected_before=1).passed
    verdict = gate.audit_files(suite, [str(staged)], columns=columns, rejected_before=9)
    assert not verdict.passed
    assert "9 of 10 rows rejected" in verdict.reasons[0]
