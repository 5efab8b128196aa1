"""The command line answers at once: what is heavy is loaded by the command that needs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from common.settings import process_environment
from tests.architecture.source_tree import ROOT

HELP_CPU_S = 0.5
HEAVY = {
    *("airflow", "boto3", "botocore", "dbt", "duckdb", "great_expectations", "marimo", "numpy", "pandas", "polars"),
    *("pyarrow", "pydantic", "pyiceberg", "sqlalchemy"),
}


def _cpu_s(arguments: list[str]) -> float:
    """User and system time of one child process, in seconds: what the process itself used, not what it waited."""
    environment = {k: v for k, v in process_environment().items() if k != "PYTHONDONTWRITEBYTECODE"}
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, *arguments],
        {**environment, "PYTHONPATH": str(ROOT)},
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0o600)],
    )
    _, status, used = os.wait4(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return used.ru_utime + used.ru_stime


def test_help_costs_less_than_half_a_second_of_cpu() -> None:
    assert min(_cpu_s(["-m", "penstock", "--help"]) for _ in range(3)) < HELP_CPU_S


def test_neither_the_package_nor_the_command_line_loads_anything_heavy() -> None:
    code = "import json, sys, penstock, penstock.cli; json.dump(sorted(sys.modules), sys.stdout)"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True).stdout
    loaded = {module.split(".")[0] for module in json.loads(out)}
    assert "typer" in loaded
    assert loaded & HEAVY == set()


def test_nothing_that_a_database_extract_needs_loads_arrow_numpy_or_sqlalchemy() -> None:
    code = (
        "import json, sys, penstock.run, penstock.pipeline, lake.sqlite_catalog, ingestion.databases.reader; "
        "json.dump(sorted(sys.modules), sys.stdout)"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True).stdout
    loaded = {module.split(".")[0] for module in json.loads(out)}
    assert {"duckdb", "pyiceberg"} <= loaded
    assert loaded & {"numpy", "pandas", "polars", "pyarrow", "requests", "sqlalchemy"} == set()
