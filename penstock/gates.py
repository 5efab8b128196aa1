"""The gate as the settings have it."""

from __future__ import annotations

import duckdb

from common.settings import Settings
from lake.engine import prepare_statements
from quality.gate import Gate


def make_gate(settings: Settings) -> Gate:
    """A gate that can read the lake; cheap until its first audit."""

    def prepare(connection: duckdb.DuckDBPyConnection) -> None:
        for statement in prepare_statements(settings):
            connection.execute(statement)

    return Gate(
        memory_limit_mb=settings.memory_limit_mb,
        threads=settings.threads,
        spill_directory=settings.home / "tmp",
        prepare_connection=prepare,
    )
