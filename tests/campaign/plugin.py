"""A pytest plugin: tests that prove a fault elsewhere leave their trials in the campaign's files.

A test tells what it counted by the fixture ``figures`` (``tests/conftest.py``), once for each trial it makes. A test
that tells nothing is one trial without figures: it asserts its law, and either holds it or fails.

Usage: ``pytest -p tests.campaign.plugin --faults 9,23 --trials-to FOLDER NODE...``
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.campaign.faults import FAULTS, Fault
from tests.campaign.trial import Trial


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which faults the tests prove, and where their trials go."""
    parser.addoption("--faults", required=True)
    parser.addoption("--trials-to", required=True, type=Path)
    parser.addoption("--limit-s", default=0, type=int, help="begin no test after so many seconds; 0: no limit")


def pytest_configure(config: pytest.Config) -> None:
    """Listen."""
    numbers = config.getoption("--faults").split(",")
    faults = [fault for fault in FAULTS if fault.number in numbers]
    config.pluginmanager.register(Recorder(faults, config.getoption("--trials-to")))
    config.pluginmanager.register(Limit(faults, config.getoption("--limit-s")))


def trials_file(folder: Path, number: str) -> Path:
    """Where the trials go that a fault's tests make."""
    return folder / f"{number}.tests.jsonl"


class Limit:
    """Has the cheapest test of each fault come first, and leaves out those that come when the time is over."""

    def __init__(self, faults: list[Fault], limit_s: int) -> None:
        self._faults, self._limit_s, self._began = faults, limit_s, time.monotonic()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sort them."""
        items.sort(key=lambda item: not any(is_of(fault.sample, item.nodeid) for fault in self._faults))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        """Leave out a test whose turn comes too late."""
        if self._limit_s and time.monotonic() - self._began > self._limit_s:
            pytest.skip(f"{self._limit_s} s are over")


class Recorder:
    """Writes the trials of each test that has ended, for every fault that it proves."""

    def __init__(self, faults: list[Fault], folder: Path) -> None:
        self._faults, self._folder = faults, folder

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write them."""
        if report.skipped or (report.when != "call" and not report.failed):
            return
        told: list[dict[str, Any]] = [dict(value) for name, value in report.user_properties if name == "trial"]  # type: ignore[call-overload]
        if report.failed:
            told.append({"error": f"{report.nodeid}: {report.longreprtext.splitlines()[-1]}"[:500]})
        told = told or [{}]
        about = {"law": report.nodeid, "seconds": round(report.duration / len(told), 3)}
        for fault in (fault for fault in self._faults if proves(fault, report.nodeid)):
            with trials_file(self._folder, fault.number).open("a") as file:
                for counted in told:
                    own = {name: value for name, value in counted.items() if name in Trial.__dataclass_fields__}
                    extra: dict[str, Any] = {name: value for name, value in counted.items() if name not in own}
                    file.write(Trial(**{"fault": fault.number, **own}, extra=extra | about).line() + "\n")


def proves(fault: Fault, node: str) -> bool:
    """Whether a test, by its node id, is one of those that a fault names."""
    return any(is_of(each, node) for each in fault.tests)


def is_of(named: str, node: str) -> bool:
    """Whether a test is the one that is named, or one of the file or folder."""
    return bool(named) and (node == named or node.startswith((f"{named}::", f"{named}[", f"{named}/")))
