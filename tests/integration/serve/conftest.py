"""One service for all tests that only ask, and empty folders for those that publish or revoke."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.serve.served import Served, publish, serve


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service over one release that nobody changes."""
    folder = tmp_path_factory.mktemp("served")
    publish(folder / "warehouse", 1)
    running = serve(folder)
    yield running
    running.service.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts services over one release in the test's own folder."""
    with ExitStack() as stack:

        def starting(**changed: Any) -> Served:
            if not (tmp_path / "warehouse").exists():
                publish(tmp_path / "warehouse", 1)
            running = serve(tmp_path, **changed)
            stack.callback(running.service.close)
            return running

        yield starting
