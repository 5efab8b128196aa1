"""Fixtures for every test that needs real services. They are real: PostgreSQL and S3, on ports of their own."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from common.settings import process_environment
from penstock import demo_data, embedded, embedded_postgres
from penstock.embedded import EmbeddedServices
from tests.mariadb_server import MariadbServer, require, running_mariadb, server_program

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("penstock", deadline=None)
hypothesis.settings.load_profile("penstock")


_MAIN = sys.modules["__main__"]


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """A marimo page run in this process makes itself ``__main__``, from which no process can be spawned."""
    sys.modules["__main__"] = _MAIN
    yield
    sys.modules["__main__"] = _MAIN


@pytest.fixture(scope="session", autouse=True)
def other_postgres() -> Iterator[None]:
    """``POSTGRES_OF_TESTS`` names the folder of another PostgreSQL's programs: tests run on that one."""
    folder = process_environment().get("POSTGRES_OF_TESTS")
    with pytest.MonkeyPatch.context() as patch:
        if folder:
            patch.setattr(embedded_postgres, "server_programs", lambda _account: Path(folder))
        yield


@pytest.fixture(scope="session")
def services(other_postgres: None) -> Iterator[EmbeddedServices]:  # noqa: ARG001 - before any server is started
    """The whole demo data in services of this session's own. Read only: a test that changes rows starts its own."""
    with _home() as home, EmbeddedServices.start(home) as running:
        demo_data.seed(running)
        yield running


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariadbServer]:
    """A real MariaDB of this session's own, or MySQL (``MYSQL_OF_TESTS``). Only continuous integration must have it."""
    require(server_program(), in_ci=bool(process_environment().get("CI")))
    with running_mariadb() as server:
        yield server


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Tells the fault campaign what one trial counted: ``figures(action="truncate", rows_expected=3, rows_lost=0)``.

    Names are those of :class:`tests.campaign.trial.Trial`, and the fault's own. Outside of a campaign nobody listens.
    """
    return lambda **counted: request.node.user_properties.append(("trial", counted))


@pytest.fixture
def new_home() -> Iterator[Callable[[], Path]]:
    """Makes empty state folders; when the test ends, services started in them are stopped and all is removed."""
    with contextlib.ExitStack() as made:
        yield lambda: made.enter_context(_home())


@pytest.fixture(scope="module")
def module_home() -> Iterator[Path]:
    """One state folder for the tests of a module, its path far longer than a Unix socket's may be.

    Its services are stopped and removed at the end.
    """
    with _home(Path("a-long-folder-name-in-a-deep-tree") / ("x" * 120)) as home:
        yield home


@contextlib.contextmanager
def _home(below: Path = Path()) -> Iterator[Path]:
    # Not pytest's own temporary folder: that is closed to other accounts, and as root PostgreSQL runs under one.
    folder = Path(tempfile.mkdtemp(prefix="penstock-test-"))
    folder.chmod(0o711)
    try:
        yield folder / below
    finally:
        embedded.remove(folder / below)
        shutil.rmtree(folder, ignore_errors=True)
