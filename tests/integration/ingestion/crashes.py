"""Extracts that are killed: in processes of their own, forked from one that has loaded everything already."""

from __future__ import annotations

import multiprocessing
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common import fault_points
from tests.integration.ingestion.conftest import DatabaseSource

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.integration.ingestion.crashes", "pyiceberg.catalog.sql", "pyarrow.dataset"])


def _stage(point: str, folder: Path, home: Path, url: str, settings: dict[str, Any]) -> None:
    from pydantic import SecretStr

    from common.intervals import day_interval
    from common.settings import Settings
    from ingestion.databases.reader import postgres_reader
    from ingestion.spec import load_source
    from lake.lake import Lake

    fault_points._ARMED = point
    spec = load_source(folder / "shop.yml")
    lake = Lake(Settings.load({}, home=home, **settings), clock=lambda: datetime(2026, 1, 2, tzinfo=UTC))
    with postgres_reader(spec, SecretStr(url), lake) as reader:
        reader.stage(spec.tables[0], day_interval("2013-01-01", spec.time_zone), code="code")


def stage_killed_at(database: DatabaseSource, point: str, **settings: Any) -> None:
    """Stage the table of the last spec in another process, which is killed at a fault point."""
    process = _FORKS.Process(
        target=_stage, args=(point, database.folder, database.lake.settings.home, database.url, settings)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL, f"{point} was not reached"
