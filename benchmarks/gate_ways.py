"""One way to make the checks, in a process of its own: ``python -m benchmarks.gate_ways WAY FOLDER``.

Prints one JSON line. ``cpu_s`` is what the checks cost with all libraries loaded: a worker loads them once.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from benchmarks import gate_checks
from benchmarks.tpch import LAKE_COLUMNS
from common.verdict import Verdict
from lake.batches import EARLY_REJECTS_SCHEMA, Receipt
from lake.publish import rejected_relation
from lake.quarantine import quarantine_rows
from lake.sql import literal
from quality.expectations import QUERY_RULE, load_great_expectations
from quality.gate import Gate
from quality.suite import Rule, Suite

_AS_THE_LAKE = "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 61440)"
MEMORY_LIMIT_MB, THREADS = 768, 2
SMALL_BATCHES = 20


def suite() -> Suite:
    """The checks as one of our suites."""
    rules = [
        Rule(id=name, expect=expect, kwargs=kwargs, severity="critical", why="benchmark")
        for name, expect, kwargs in gate_checks.rules()
    ]
    return Suite(suite="raw/tpch__lineitem", expectations=tuple(rules))


def _engine() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"memory_limit": f"{MEMORY_LIMIT_MB}MB", "threads": THREADS})


def _warm(folder: Path) -> Gate:
    """A gate that has judged another batch before, as a worker's has."""
    gate = Gate(memory_limit_mb=MEMORY_LIMIT_MB, threads=THREADS)
    gate.audit_files(suite(), [str(folder / "small.parquet")], columns=LAKE_COLUMNS)
    return gate


def penstock(folder: Path) -> dict[str, Any]:
    """Our gate on the good rows."""
    gate = _warm(folder)
    began_s = time.process_time()
    verdict = gate.audit_files(suite(), [str(folder / "good.parquet")], columns=LAKE_COLUMNS)
    cpu_s = time.process_time() - began_s
    assert verdict.passed, verdict.reasons
    return {"cpu_s": cpu_s, "bad": 0, "checks": len(verdict.results)}


def penstock_bad(folder: Path) -> dict[str, Any]:
    """Our gate on rows of which one in a hundred is bad, and all of those written as quarantine keeps them."""
    gate, connection = _warm(folder), _engine()
    _quarantined(gate, connection, folder / "small-bad.parquet")
    began_s = time.process_time()
    verdict, found_s, written = _quarantined(gate, connection, folder / "bad.parquet")
    cpu_s = time.process_time() - began_s
    assert written == verdict.rows_rejected, (written, verdict.rows_rejected)
    return {"cpu_s": cpu_s, "found_s": found_s, "bad": written, "checks": len(verdict.results)}


def _quarantined(gate: Gate, connection: duckdb.DuckDBPyConnection, file: Path) -> tuple[Verdict, float, int]:
    """A file's verdict, the CPU seconds it took, and how many rejected rows were written."""
    began_s = time.process_time()
    verdict = gate.audit_files(suite(), [str(file)], columns=LAKE_COLUMNS)
    found_s = time.process_time() - began_s
    return verdict, found_s, _write(connection, verdict, str(file), file.with_name(f"quarantine-{file.name}"))


def _write(connection: duckdb.DuckDBPyConnection, verdict: Verdict, file: str, to: Path) -> int:
    receipt = Receipt("raw.tpch__lineitem", "whole", "ingest", "0" * 32, "batch", "run", 0, 0, 0, 0)
    query = quarantine_rows(
        connection,
        rejected_relation(verdict, LAKE_COLUMNS) or f"read_parquet({literal(file)}, file_row_number = true)",
        LAKE_COLUMNS,
        verdict=verdict,
        early_rejects=EARLY_REJECTS_SCHEMA.empty_table(),
        receipt=receipt,
        quarantined_at=datetime.now(UTC),
    )
    written = connection.execute(f"COPY ({query}) TO {literal(str(to))} {_AS_THE_LAKE}").fetchone()
    return int(written[0]) if written else 0


def penstock_small(folder: Path) -> dict[str, Any]:
    """Our gate on batches of a thousand rows; the seconds are of one."""
    gate = _warm(folder)
    began_s = time.process_time()
    for _ in range(SMALL_BATCHES):
        verdict = gate.audit_files(suite(), [str(folder / "small.parquet")], columns=LAKE_COLUMNS)
    cpu_s = (time.process_time() - began_s) / SMALL_BATCHES
    assert verdict.passed, verdict.reasons
    return {"cpu_s": cpu_s, "bad": 0, "checks": len(verdict.results)}


def floor(folder: Path) -> dict[str, Any]:
    """The hand-written query."""
    with _engine() as connection:
        began_s = time.process_time()
        row = connection.execute(gate_checks.floor_query(f"read_parquet('{folder / 'good.parquet'}')")).fetchone()
        cpu_s = time.process_time() - began_s
    assert row is not None
    assert sum(row[1:-3]) == 0
    assert row[-1] == 0
    return {"cpu_s": cpu_s, "bad": 0, "checks": len(row)}


def pandas(folder: Path) -> dict[str, Any]:
    """Great Expectations as its documentation shows it: a pandas data frame, a validation definition, BASIC results.

    Decimals are read as floats: as Python's decimals the run had not ended after ten minutes.
    """
    import great_expectations as gx  # noqa: TID251 - the other side of the comparison
    import pandas as pd
    from great_expectations.data_context.types.base import ProgressBarsConfig  # noqa: TID251

    began_s = time.process_time()
    frame = pd.read_parquet(folder / "good.parquet")
    decimals = [column.name for column in LAKE_COLUMNS if column.type.startswith("decimal")]
    frame = frame.astype(dict.fromkeys(decimals, "float64"))
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    asset = context.data_sources.add_pandas("pandas").add_dataframe_asset("lineitem")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch(batch_parameters={"dataframe": frame})
    known = load_great_expectations()
    checks = [
        known[expect](**kwargs)  # type: ignore[arg-type]
        for _, expect, kwargs in gate_checks.rules()
        if expect != QUERY_RULE  # has no form for data frames
    ]
    result = batch.validate(gx.ExpectationSuite(name="lineitem", expectations=checks), result_format="BASIC")
    assert result.success, [each.expectation_config for each in result.results if not each.success]
    return {"cpu_s": time.process_time() - began_s, "bad": 0, "checks": len(result.results)}


WAYS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "floor": floor,
    "penstock": penstock,
    "penstock-bad": penstock_bad,
    "penstock-small": penstock_small,
    "gx-pandas": pandas,
}


if __name__ == "__main__":
    print(json.dumps(WAYS[sys.argv[1]](Path(sys.argv[2]))))
