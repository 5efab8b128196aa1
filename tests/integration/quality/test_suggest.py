"""Laws of suggestions: they hold on every batch they come from, add nothing the suite has, and say what was seen."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from common.settings import Settings
from ingestion.spec import load_source
from lake.paths import TableId
from lake.schema import Column
from penstock.suites import effective_suite
from quality.derive import subject
from quality.gate import Gate
from quality.suggest import Table, suggest
from quality.suite import Suite
from tests.demo_data import SOURCES, raw_frame

SPECS = {name: load_source(SOURCES / f"{name}.yml") for name in ("flightops", "stations")}
EMPTY = Suite(suite="raw/shop__orders", expectations=())


def suggested(relation: str, suite: Suite = EMPTY, interval: str | None = None, key: tuple[str, ...] = ()) -> Any:
    with duckdb.connect(config={"memory_limit": "512MB", "threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return suggest(connection, Table(relation, interval, key), suite)


@pytest.mark.parametrize(
    ("source", "table"),
    [("flightops", "flights"), ("flightops", "planes"), ("flightops", "airports"), ("stations", "weather")],
)
def test_what_the_year_suggests_is_new_and_holds_on_each_of_its_days(
    gate: Gate, tmp_path: Path, source: str, table: str
) -> None:
    rows = raw_frame(source, table)
    whole = tmp_path / "whole.parquet"
    rows.write_parquet(whole)
    spec = SPECS[source].table(table)
    suite = effective_suite(Settings.load({}), SPECS, TableId("raw", f"{source}__{table}"))
    interval = "ds" if spec.partitioned else None
    rules = suggested(f"read_parquet('{whole}')", suite, interval, spec.primary_key)
    had = {subject(rule) for rule in suite.expectations}
    # The suite of the planes asks everything already.
    assert {rule.severity for rule in rules} == (set() if table == "planes" else {"warning"})
    assert [rule.id for rule in rules if subject(rule) in had] == []
    days = [date(2013, 1, 1), date(2013, 2, 9), date(2013, 9, 11), date(2013, 11, 28)]
    batches = [rows.filter(pl.col("ds") == day) for day in days] if interval else [rows]
    judged = Suite(suite=suite.name, expectations=(*rules, *suite.expectations[:1]))
    for number, batch in enumerate(batches):
        file = tmp_path / f"{number}.parquet"
        batch.write_parquet(file)
        verdict = gate.audit_files(judged, [str(file)], columns=spec.lake_columns())
        assert [(result.rule, result.observed, result.error) for result in verdict.failed] == []


def test_suggestions_say_ranges_sets_patterns_and_what_was_seen() -> None:
    relation = """(SELECT i AS id, 'A' || lpad((i % 997)::VARCHAR, 4, '0') AS code,
        ['new', 'paid', 'sent'][i % 3 + 1] AS state,
        (i % 90) / 4.0 AS price, CASE WHEN i % 4 <> 0 THEN i % 50 + 10 END AS seats, 'free ' || i AS note,
        uuid()::VARCHAR AS token, 7 AS constant, NULL::INTEGER AS nothing, DATE '2013-01-01' + (i // 500)::INT AS ds
        FROM range(2000) AS t(i))"""
    found = {rule.id: rule for rule in suggested(relation, interval="ds", key=("id",))}
    asked = {name: (rule.expect.removeprefix("expect_"), rule.kwargs, rule.mostly) for name, rule in found.items()}
    given = ("column_values_to_not_be_null", None)
    assert asked == {
        "batch_has_the_usual_rows": ("table_row_count_to_be_between", {"min_value": 250, "max_value": 1000}, None),
        **{
            f"{name}_is_given": (given[0], {"column": name}, given[1])
            for name in ("id", "code", "state", "price", "note", "token", "constant")
        },
        "code_looks_as_usual": ("column_values_to_match_regex", {"column": "code", "regex": "^[A-Z0-9]{5}$"}, None),
        "state_is_known": (
            "column_values_to_be_in_set",
            {"column": "state", "value_set": ["new", "paid", "sent"]},
            None,
        ),
        "price_is_in_range": (
            "column_values_to_be_between",
            {"column": "price", "min_value": 0, "max_value": 25},
            None,
        ),
        "seats_is_mostly_given": ("column_values_to_not_be_null", {"column": "seats"}, 0.67),
        "seats_is_in_range": (
            "column_values_to_be_between",
            {"column": "seats", "min_value": 5, "max_value": 64},
            None,
        ),
        "note_is_unique": ("column_values_to_be_unique", {"column": "note"}, None),
        "token_is_unique": ("column_values_to_be_unique", {"column": "token"}, None),
        "token_looks_as_usual": (
            "column_values_to_match_regex",
            {"column": "token", "regex": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"},
            None,
        ),
    }
    assert found["batch_has_the_usual_rows"].why == "Observed 500 to 500 rows in 4 intervals; half and double of that."
    assert found["seats_is_mostly_given"].why == "Null in 25.0% of 2,000 rows, 25.0% in the worst of 4 intervals."


def test_values_that_no_range_can_hold_and_hostile_names_suggest_nothing_wrong(gate: Gate, tmp_path: Path) -> None:
    file = tmp_path / "odd.parquet"
    duckdb.sql(
        f"""COPY (SELECT 'nan'::DOUBLE AS "not a number", i::DOUBLE / 3 AS "a""b", 'it''s: [x]' AS "c}}d",
        i::HUGEINT::DECIMAL(38, 0) AS big, x'00'::BLOB AS bytes FROM range(200) AS t(i)) TO '{file}' (FORMAT parquet)"""
    )
    rules = suggested(f"read_parquet('{file}')")
    assert "a_b_is_unique" in [rule.id for rule in rules]
    assert [rule.kwargs["value_set"] for rule in rules if rule.id == "c_d_is_known"] == [["it's: [x]"]]
    columns = [
        Column("not a number", "float64"),
        Column('a"b', "float64"),
        Column("c}d", "string"),
        Column("big", "decimal(38,0)"),
        Column("bytes", "binary"),
    ]
    judged = Suite(suite="raw/shop__odd", expectations=tuple(rules))
    verdict = gate.audit_files(judged, [str(file)], columns=columns)
    assert [(result.rule, result.error) for result in verdict.failed] == []


def test_a_table_without_rows_suggests_nothing() -> None:
    assert suggested("(SELECT 1 AS id, 'a' AS code WHERE false)") == []
