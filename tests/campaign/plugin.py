"""A pytest plugin: tests that prove a fault elsewhere leave their trials in the campaign's file.

A test tells what it counted by the fixture ``figures`` (``tests/conftest.py``), once for each trial it makes. A test
that tells nothing is one trial without figures: it asserts its law, and either holds it or fails.

Usage: ``pytest -p tests.campaign.plugin --fault 9 --trials-to FILE NODE...``
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaign.trial import Trial


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which fault the tests prove, and where their trials go."""
    parser.addoption("--fault", required=True)
    parser.addoption("--trials-to", required=True, type=Path)


def pytest_configure(config: pytest.Config) -> None:
    """Listen."""
    config.pluginmanager.register(_Recorder(config.getoption("--fault"), config.getoption("--trials-to")))


class _Recorder:
    def __init__(self, fault: str, path: Path) -> None:
        self._fault, self._path = fault, path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write the trials of a test that has ended."""
        if report.when != "call" and not report.failed:
            return
        told = [dict(value) for name, value in report.user_properties if name == "trial"]  # type: ignore[call-overload]
        error = f"{report.nodeid}: {report.longreprtext.splitlines()[-1]}"[:500] if report.failed else ""
        if error or not told:
            told = [{}] if not error else [*told, {"error": error}]
        with self._path.open("a") as file:
            for figures in told:
                own = {name: figures.pop(name) for name in Trial.__dataclass_fields__ if name in figures}
                law = {"law": report.nodeid, "seconds": round(report.duration / len(told), 3)}
                file.write(Trial(**{"fault": self._fault, **own}, extra={**figures, **law}).line() + "\n")
