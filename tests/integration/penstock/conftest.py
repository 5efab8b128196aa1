"""Services that a test may break, and a state folder with one day published from them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from common.settings import Settings
from penstock import demo_data
from penstock.embedded import EmbeddedServices
from penstock.pipeline import Pipeline
from penstock.run import run
from tests.command_line import CommandLine

DONE, NEXT = "2013-02-12", "2013-02-13"
"""The day that is published (it holds the one absurd wind speed), and the day that the sources have as well."""


@pytest.fixture(scope="module")
def own_services(module_home: Path) -> Iterator[EmbeddedServices]:
    """Two days of demo data in services of the module's own: its tests may break them and must mend them."""
    with EmbeddedServices.start(module_home) as running:
        demo_data.seed(running, first_day=date.fromisoformat(DONE), last_day=date.fromisoformat(NEXT))
        yield running


@pytest.fixture(scope="module")
def published(own_services: EmbeddedServices, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """The command line over a state folder in which the first of the two days is published."""
    command = CommandLine(tmp_path_factory.mktemp("cli") / "state", own_services.connections)
    assert run(Pipeline(command.settings()), DONE, NEXT).release == "r000001"
    return command


@pytest.fixture
def with_spec(published: CommandLine, tmp_path: Path) -> Callable[[str, str, str], CommandLine]:
    """Makes a command line whose copy of a source's spec has one text replaced by another."""

    def make(source: str, old: str, new: str) -> CommandLine:
        folder = tmp_path / "sources"
        shutil.copytree(Settings.load({}).sources, folder)
        spec = folder / f"{source}.yml"
        text = spec.read_text()
        assert text.count(old) >= 1
        spec.write_text(text.replace(old, new, 1))
        return replace(published, extra={"PENSTOCK_SOURCES": str(folder)})

    return make
