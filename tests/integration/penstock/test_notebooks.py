"""Laws of notebooks: each runs from top to bottom on a published release and shows its numbers."""

import subprocess
import sys
from pathlib import Path

import pytest

from common.settings import Settings, process_environment
from penstock.embedded import EmbeddedServices
from penstock.pipeline import Pipeline
from penstock.run import run

NOTEBOOKS = sorted((Path(__file__).parents[3] / "notebooks").glob("*.py"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_a_release(notebook: Path, services: EmbeddedServices, tmp_path: Path) -> None:
    home = tmp_path / "state"
    run(Pipeline(Settings.load({}, home=home, connections=services.connections)), "2013-06-01", "2013-06-02")
    answer = subprocess.run(
        [sys.executable, str(notebook)],
        env=process_environment(PENSTOCK_HOME=str(home)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert "2013-06-01" in answer.stdout
