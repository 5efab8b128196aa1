"""The same laws on two lakes: a local folder, and a prefix of a real S3 bucket."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from common.settings import Settings
from tests.integration.lake.lakes import Bench, new_lake


@pytest.fixture(params=["local", "s3"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    """An empty lake on local disk, then one on S3."""
    home = tmp_path / "a state folder"
    if request.param == "local":
        return Bench(Settings.load({}, home=home))
    services = request.getfixturevalue("services")
    return Bench(new_lake(home, services.connections["stations"], f"lake-{uuid.uuid4().hex[:12]}"))


@pytest.fixture
def local(tmp_path: Path) -> Bench:
    """An empty lake on local disk."""
    return Bench(Settings.load({}, home=tmp_path / "state"))
