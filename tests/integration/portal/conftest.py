"""One front for all tests that only look, and empty folders for those that change something."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.portal.web import Web, web_of


@pytest.fixture(scope="session")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """A front over one release that nobody changes."""
    found = web_of(tmp_path_factory.mktemp("web"))
    yield found
    found.service.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Web]]:
    """Starts fronts over one release in the test's own folder."""
    with ExitStack() as stack:

        def starting(**changed: Any) -> Web:
            found = web_of(tmp_path, **changed)
            stack.callback(found.service.close)
            return found

        yield starting
