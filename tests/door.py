"""The command line within the test's own process: what it costs is the work, not the start of Python.

``tests/command_line.py`` starts the real process; use it where signals, standard streams or start-up matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from common.errors import PenstockError
from penstock.cli import app
from tests.command_line import Answer, CommandLine


@dataclass(frozen=True)
class Door:
    """``penstock`` over folders of the test's own.

    Attributes:
        folder: holds state, sources and suites.
        connections: URL by connection name.
    """

    folder: Path
    connections: Mapping[str, str]

    @property
    def spec(self) -> Path:
        """The spec of the source ``shop``."""
        return self.folder / "sources" / "shop.yml"

    def run(self, *arguments: str, stdin: str | None = None) -> Answer:
        """Run one command to its end; an error is told as :func:`penstock.cli.main` tells it."""
        environment = {f"PENSTOCK_CONNECTIONS__{name.upper()}": url for name, url in self.connections.items()}
        environment |= {
            "PENSTOCK_HOME": str(self.folder / "state"),
            "PENSTOCK_SOURCES": str(self.folder / "sources"),
            "PENSTOCK_SUITES": str(self.folder / "suites"),
        }
        return _invoke(arguments, environment, self.folder, stdin)


class SameProcess(CommandLine):
    """A :class:`CommandLine` whose commands run in the test's own process: Great Expectations is loaded once."""

    def run(self, *arguments: str, timeout_s: float = 180.0) -> Answer:  # noqa: ARG002 - nothing to wait for
        """Run one command to its end."""
        environment = {f"PENSTOCK_CONNECTIONS__{name.upper()}": url for name, url in self.connections.items()}
        return _invoke(arguments, {**environment, "PENSTOCK_HOME": str(self.home), **self.extra}, self.home.parent)


def _invoke(arguments: Sequence[str], environment: Mapping[str, str], folder: Path, stdin: str | None = None) -> Answer:
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        result = CliRunner().invoke(app, arguments, input=stdin, env=environment)
    if isinstance(result.exception, PenstockError):
        told = f"penstock: {type(result.exception).__name__}: {result.exception}\n"
        return Answer(result.exception.exit_code, result.stdout, result.stderr + told)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Answer(result.exit_code, result.stdout, result.stderr)
