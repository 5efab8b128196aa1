"""Extracts that are killed: in processes of their own, forked from one that has loaded everything already."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common import fault_points
from ingestion.reader import SourceReader
from ingestion.spec import SourceSpec, load_source
from tests.integration.ingestion.conftest import DatabaseSource

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.integration.ingestion.crashes", "lake.sqlite_catalog", "pyarrow.dataset"])


def _stage(point: str, spec: SourceSpec, home: Path, url: str, settings: dict[str, Any]) -> None:
    from pydantic import SecretStr

    from common.intervals import day_interval
    from common.settings import Settings
    from ingestion.databases.reader import mysql_reader, postgres_reader
    from ingestion.objects.reader import ObjectReader
    from lake.lake import Lake

    fault_points.arm(point)
    lake = Lake(Settings.load({}, home=home, **settings), clock=lambda: datetime(2026, 1, 2, tzinfo=UTC))
    readers: dict[str, Callable[[SourceSpec, SecretStr, Lake], SourceReader]] = {
        "postgresql": postgres_reader,
        "mysql": mysql_reader,
        "objects": ObjectReader,
    }
    with readers[spec.kind](spec, SecretStr(url), lake) as reader:
        reader.stage(spec.tables[0], day_interval("2013-01-01", spec.time_zone), code="code")


def killed_while_staging(spec: SourceSpec, home: Path, url: str, point: str, **settings: Any) -> None:
    """Stage a spec's first table in another process, which is killed at a fault point."""
    process = _FORKS.Process(target=_stage, args=(point, spec, home, url, settings))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL, f"{point} was not reached"


def stage_killed_at(database: DatabaseSource, point: str, **settings: Any) -> None:
    """Stage the table of the last spec in another process, which is killed at a fault point."""
    spec = load_source(database.folder / "shop.yml")
    killed_while_staging(spec, database.lake.settings.home, database.url, point, **settings)
