"""One gate for all tests (Great Expectations is imported once), and short ways to write suites and stage rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lake.schema import Column
from quality.gate import Gate
from quality.suite import Suite

Stage = Callable[..., str]
MakeSuite = Callable[..., Suite]

COLUMNS = [Column("key", "int64"), Column("amount", "int32"), Column("code", "string"), Column("at", "timestamptz")]


@pytest.fixture(scope="session")
def gate() -> Iterator[Gate]:
    gate = Gate(threads=1, memory_limit_mb=512)
    yield gate
    gate.close()


@pytest.fixture
def columns() -> list[Column]:
    return COLUMNS


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """``stage((1, 5, 'a'), ...)`` -> path of a staged file with those (key, amount, code) rows."""
    written: list[Path] = []

    def write(*rows: tuple[Any, ...]) -> str:
        path = tmp_path / f"staged-{len(written)}.parquet"
        written.append(path)
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute('CREATE TABLE rows (key BIGINT, amount INTEGER, code VARCHAR, "at" TIMESTAMPTZ)')
            for position, row in enumerate(rows):
                moment = row[3] if len(row) > 3 else f"2013-01-01 {position % 24:02}:00:00+00"
                connection.execute("INSERT INTO rows VALUES ($1, $2, $3, $4)", [*row[:3], moment])
            connection.execute(f"COPY rows TO '{path}' (FORMAT parquet)")
        return str(path)

    return write


@pytest.fixture
def make_suite() -> MakeSuite:
    """``make_suite(rule_id=("expect_...", {kwargs}, {other fields}), ...)`` -> a suite; critical by default."""

    def make(*, name: str = "raw/shop__orders", budget: Any = None, references: Any = (), **rules: Any) -> Suite:
        return Suite.model_validate(
            {
                "suite": name,
                "budget": budget,
                "references": references,
                "expectations": [
                    {
                        "id": rule,
                        "expect": given[0],
                        "kwargs": given[1],
                        "severity": "critical",
                        "why": f"{rule} in a test",
                        **(given[2] if len(given) > 2 else {}),
                    }
                    for rule, given in rules.items()
                ],
            }
        )

    return make
