"""A pipeline over the session's real services and a state folder of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.settings import Settings
from penstock.embedded import EmbeddedServices
from penstock.pipeline import Pipeline


@pytest.fixture
def make_settings(services: EmbeddedServices, tmp_path: Path) -> Callable[..., Settings]:
    """Settings with a fresh state folder and the session's connections; keywords override."""

    def make(**overrides: Any) -> Settings:
        return Settings.load({}, **{"home": tmp_path / "state", "connections": services.connections, **overrides})

    return make


@pytest.fixture
def pipeline(make_settings: Callable[..., Settings]) -> Pipeline:
    """A pipeline with an empty lake and no release."""
    return Pipeline(make_settings())
