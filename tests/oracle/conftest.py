"""A world of a test's own over the session's services."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.embedded import EmbeddedServices
from tests.oracle.interleavings import Bench
from tests.oracle.world import World, opened_world


@pytest.fixture
def world(services: EmbeddedServices, tmp_path: Path) -> Iterator[World]:
    """An empty source table and nothing else."""
    with opened_world(services, tmp_path) as made:
        yield made


@pytest.fixture
def bench(world: World) -> Bench:
    """A world that can be put back to where it began."""
    return Bench(world)
