"""CPU of the quality gate: many small batches of one suite, and one large batch. Synthetic data, no services.

Run: ``python benchmarks/gate_small_batches.py [--batches 50] [--rows 900] [--large-rows 2000000]``. CPU seconds are the
figures to compare; wall times depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from pathlib import Path

import duckdb

from lake.schema import Column
from quality.gate import Gate
from quality.suite import Rule, Suite

COLUMNS = [
    Column("ds", "date", nullable=False),
    Column("dep_time", "int32"),
    Column("dep_delay", "int32"),
    Column("arr_delay", "int32"),
    Column("carrier", "string", nullable=False),
    Column("flight", "int32", nullable=False),
    Column("tailnum", "string"),
    Column("origin", "string", nullable=False),
    Column("distance", "int32", nullable=False),
    Column("time_hour", "timestamptz", nullable=False),
]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=50)
    parser.add_argument("--rows", type=int, default=900)
    parser.add_argument("--large-rows", type=int, default=2_000_000)
    arguments = parser.parse_args()
    suite = example_suite()
    with tempfile.TemporaryDirectory() as folder:
        files = [write_batch(Path(folder), number, arguments.rows) for number in range(arguments.batches)]
        large = write_batch(Path(folder), arguments.batches, arguments.large_rows)
        gate = Gate()
        started = cpu_s()
        gate.audit_files(suite, files[:1], columns=COLUMNS)
        print(
            f"first audit (imports Great Expectations, plans): {cpu_s() - started:.2f} CPU-s, {peak_mb():.0f} MB peak"
        )
        started = cpu_s()
        for file in files[1:]:
            verdict = gate.audit_files(suite, [file], columns=COLUMNS)
        each = (cpu_s() - started) / (len(files) - 1)
        rules = len(suite.expectations)
        print(
            f"later audits of {arguments.rows} rows, {rules} rules: {each * 1000:.1f} CPU-ms per batch, "
            f"{each / rules * 1000:.2f} CPU-ms per rule; last one rejected {verdict.rows_rejected} rows"
        )
        before = peak_mb()
        started = cpu_s()
        verdict = gate.audit_files(suite, [large], columns=COLUMNS)
        print(
            f"one audit of {arguments.large_rows} rows: {cpu_s() - started:.2f} CPU-s, {verdict.seconds:.2f} s, "
            f"{verdict.rows_rejected} rejected, peak {peak_mb():.0f} MB (before {before:.0f} MB)"
        )


def example_suite() -> Suite:
    """25 rules of the kinds that real suites have."""
    value = "expect_column_values_to_"
    rules = [
        *[
            rule(f"{name}_is_given", f"{value}not_be_null", {"column": name})
            for name in ("ds", "carrier", "flight", "origin", "distance", "time_hour")
        ],
        rule("tailnum_is_given", f"{value}not_be_null", {"column": "tailnum"}, "warning", 0.9),
        rule("dep_time_is_clock", f"{value}be_between", {"column": "dep_time", "min_value": 1, "max_value": 2359}),
        rule("dep_delay_bounds", f"{value}be_between", {"column": "dep_delay", "min_value": -120, "max_value": 2000}),
        rule("arr_delay_bounds", f"{value}be_between", {"column": "arr_delay", "min_value": -120, "max_value": 2000}),
        rule("flight_bounds", f"{value}be_between", {"column": "flight", "min_value": 1, "max_value": 9999}),
        rule("distance_bounds", f"{value}be_between", {"column": "distance", "min_value": 10, "max_value": 6000}),
        rule("origin_known", f"{value}be_in_set", {"column": "origin", "value_set": ["JFK", "LGA", "EWR"]}),
        rule("carrier_code", f"{value}match_regex", {"column": "carrier", "regex": "^[0-9A-Z]{2}$"}),
        rule("tailnum_code", f"{value}match_regex", {"column": "tailnum", "regex": "^N[0-9A-Z]+$"}, "warning"),
        rule("carrier_length", "expect_column_value_lengths_to_equal", {"column": "carrier", "value": 2}),
        rule("key", "expect_compound_columns_to_be_unique", {"column_list": ["time_hour", "carrier", "flight"]}),
        rule(
            "delays_agree",
            "expect_column_pair_values_a_to_be_greater_than_b",
            {"column_A": "arr_delay", "column_B": "dep_delay"},
            "info",
            0.1,
        ),
        rule("rows", "expect_table_row_count_to_be_between", {"min_value": 1, "max_value": 10_000_000}),
        rule("columns", "expect_table_columns_to_match_ordered_list", {"column_list": [c.name for c in COLUMNS]}),
        rule(
            "mean_delay",
            "expect_column_mean_to_be_between",
            {"column": "dep_delay", "min_value": -50, "max_value": 200},
        ),
        rule("max_distance", "expect_column_max_to_be_between", {"column": "distance", "max_value": 6000}, "warning"),
        rule("min_distance", "expect_column_min_to_be_between", {"column": "distance", "min_value": 10}, "warning"),
        rule("sum_distance", "expect_column_sum_to_be_between", {"column": "distance", "min_value": 1}, "info"),
        rule(
            "no_time_travel",
            "unexpected_rows_expectation",
            {"unexpected_rows_query": "select row_number from {batch} where arr_delay < dep_delay - 200"},
        ),
    ]
    return Suite(suite="raw/bench__flights", expectations=tuple(rules))


def rule(
    name: str, expect: str, kwargs: dict[str, object], severity: str = "critical", mostly: float | None = None
) -> Rule:
    """One rule of the example suite."""
    return Rule.model_validate(
        {"id": name, "expect": expect, "kwargs": kwargs, "severity": severity, "mostly": mostly, "why": "benchmark"}
    )


def write_batch(folder: Path, number: int, rows: int) -> str:
    """One staged file; about 1 row in 300 has a wrong distance."""
    path = folder / f"{number}.parquet"
    duckdb.connect().execute(
        f"""COPY (SELECT DATE '2013-01-01' + {number} AS ds,
              CASE WHEN i % 40 <> 0 THEN (i % 2359 + 1)::INT END AS dep_time,
              CASE WHEN i % 40 <> 0 THEN (i % 300 - 20)::INT END AS dep_delay,
              CASE WHEN i % 37 <> 0 THEN (i % 310 - 30)::INT END AS arr_delay,
              ['UA', 'AA', 'DL', 'B6'][i % 4 + 1] AS carrier, (i % 9000 + 1)::INT AS flight,
              CASE WHEN i % 90 <> 0 THEN 'N' || (i % 4000) END AS tailnum, ['JFK', 'LGA', 'EWR'][i % 3 + 1] AS origin,
              CASE WHEN i % 300 = 7 THEN -1 ELSE 100 + i % 2500 END::INT AS distance,
              TIMESTAMPTZ '2013-01-01 05:00:00+00' + to_seconds(i) AS time_hour FROM range({rows}) AS t(i))
            TO '{path}' (FORMAT parquet, COMPRESSION zstd)"""
    )
    return str(path)


def cpu_s() -> float:
    """CPU seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_mb() -> float:
    """Peak resident memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
