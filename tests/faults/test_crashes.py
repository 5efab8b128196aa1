"""Fault 1 in small: that the campaign of ``make faults`` works, and that nothing escapes it.

Every point for every time, kills at any time, eight stages: ``make faults`` (``tests/campaign``). Here a handful of
trials of one stage shows that a process is really disturbed where it is said, and that a defect would be seen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from _pytest.reports import TestReport

from common.fault_points import POINTS
from penstock.embedded import EmbeddedServices
from tests.architecture.source_tree import ROOT
from tests.campaign import report
from tests.campaign.crash import Crashes, Seen
from tests.campaign.defects import DEFECTS
from tests.campaign.fault_01 import at_any_time
from tests.campaign.faults import FAULTS, Fault
from tests.campaign.job import parts_of
from tests.campaign.plugin import Recorder, proves, trials_file
from tests.campaign.reader import FileThere
from tests.campaign.stages import DAY, STAGES, WEATHER
from tests.campaign.state import Difference, World
from tests.campaign.trial import Trial
from tests.forked import start
from tests.integration.ingestion.test_killed_replays import TRIALS as replay_trials  # noqa: N811
from tests.integration.ingestion.test_killed_row_versions import TRIALS as versions_trials  # noqa: N811
from tests.integration.penstock.test_incidents import TRIALS as incidents_trials  # noqa: N811
from tests.integration.penstock.test_killed_backups import TRIALS as backup_trials  # noqa: N811
from tests.integration.penstock.test_killed_maintenance import TRIALS as maintenance_trials  # noqa: N811
from tests.integration.warehouse.test_doors import TRIALS as door_trials  # noqa: N811

COMMIT = next(stage for stage in STAGES if stage.name == "commit")


def test_every_point_there_is_has_a_trial() -> None:
    tables = (versions_trials, replay_trials, incidents_trials, door_trials, maintenance_trials, backup_trials)
    elsewhere = [trial for trials in tables for trial in trials]
    found = {point for stage in STAGES for point in stage.points} | {point for point, _ in elsewhere}
    assert found == set(POINTS)


@pytest.fixture(scope="module")
def crashes(services: EmbeddedServices, tmp_path_factory: pytest.TempPathFactory) -> Crashes:
    world = World.make(tmp_path_factory.mktemp("crashes"), services.connections, upto="ingested")
    return Crashes(world, COMMIT)


@pytest.mark.parametrize(
    ("armed", "action"),
    [
        ("lake.publish.before_commit:2", "kill"),
        ("lake.publish.after_commit:2", "kill"),
        ("lake.publish.after_commit:2:lost-reply", "lost-reply"),
        ("lake.quarantine.before_commit:1:disk-full", "disk-full"),
    ],
)
def test_a_step_that_is_disturbed_leaves_old_or_new_and_once_more_ends_as_if_undisturbed(
    crashes: Crashes, armed: str, action: str
) -> None:
    trial = crashes.trial(armed, action=action)
    assert trial is not None, "the point was not reached"
    assert trial.defects == {}
    assert trial.rows_expected == 215
    assert trial.extra["reads"]


def test_a_step_that_is_killed_at_any_time_does_too(crashes: Crashes) -> None:
    passed = crashes.passed()
    assert set(COMMIT.points) <= {each.point for each in passed}
    for trial in at_any_time(crashes, passed, range(1)):
        assert trial.defects == {}
        assert trial.kills in (1, 2), "its rerun may be done before its turn to be killed comes"


def test_a_step_that_is_killed_again_while_it_makes_good_does_too(crashes: Crashes) -> None:
    trial = crashes.trial("lake.quarantine.before_commit:1", then=["lake.publish.before_commit:1"], action="kill")
    assert trial is not None
    assert (trial.kills, trial.defects) == (2, {})


def test_a_point_that_is_not_reached_is_no_trial(crashes: Crashes) -> None:
    assert crashes.trial("lake.publish.after_commit:3", action="kill") is None


def test_a_process_that_ends_in_an_error_of_its_own_is_no_success(tmp_path: Path) -> None:
    process = start(["{"], environment={}, folder=tmp_path, function="json:loads")
    _, err = process.communicate(timeout=600)
    assert (process.returncode, "JSONDecodeError" in err) == (1, True)


def test_a_reader_stops_when_it_is_told_and_when_nobody_is_left_who_could_tell_it(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    assert FileThere(tmp_path / "stop", dead.pid).is_set()
    reading = FileThere(tmp_path / "stop", os.getpid())
    assert not reading.is_set()
    (tmp_path / "stop").touch()
    assert reading.is_set()


def test_rows_that_are_lost_doubled_or_changed_are_counted_by_key() -> None:
    wanted = {"t": Counter({("a", "1"): 1, ("b", "2"): 1, ("c", "3"): 1})}
    found = {"t": Counter({("a", "1"): 2, ("b", "9"): 1})}
    assert Difference.between(wanted, found) == Difference(expected=3, lost=1, duplicated=1, wrong=1)
    assert Difference.between(wanted, {}) == Difference(expected=3, lost=3, duplicated=0, wrong=0)


def test_looks_that_are_neither_old_nor_new_or_old_after_new_are_told(crashes: Crashes) -> None:
    old, new = (crashes.world.expected(COMMIT, state) for state in ("ingested flights", "ingested"))
    assert crashes.judged(Seen([old, old, new, new], [])) == (0, 0)
    assert crashes.judged(Seen([old, {**new, f"{WEATHER} {DAY}": "215:0"}], [])) == (1, 0)
    assert crashes.judged(Seen([{}], [])) == (1, 0)
    assert crashes.judged(Seen([new, old], [])) == (0, 1)


def test_a_trial_is_one_line_and_a_counter_above_zero_or_an_error_is_a_defect() -> None:
    trial = Trial("1", seed=7, stage="commit", rows_lost=0, recovery_s=0.5, extra={"reads": 3})
    assert "\n" not in trial.line()
    assert Trial.read(trial.line()) == trial
    assert trial.defects == {}
    assert replace(trial, rows_lost=2, error="late").defects == {"rows_lost": 2, "error": "late"}
    assert json.loads(trial.line())["partial_reads"] is None, "what was not counted is not zero"


# -- the page ----------------------------------------------------------------------------------------------------------


def test_every_fault_has_trials_and_every_test_that_a_fault_names_is_there() -> None:
    assert [fault.number for fault in FAULTS] == [*map(str, range(1, 26)), "R1", "R2", "R3"]
    for fault in FAULTS:
        assert fault.tests or parts_of(fault.number, quick=True), fault.number
        assert parts_of(fault.number, quick=True) or fault.sample, f"a quick campaign has nothing of {fault.number}"
        assert not fault.sample or proves(fault, fault.sample), fault.number
    for node in [node for fault in FAULTS for node in fault.tests] + [test for _, _, test in DEFECTS]:
        path, _, name = node.partition("::")
        assert (ROOT / path).exists(), node
        assert not name or f"def {name}(" in (ROOT / path).read_text(), node


def test_the_page_lists_every_fault_with_what_is_expected_and_what_was_found() -> None:
    page = (ROOT / "docs" / "faults.md").read_text()
    for fault in FAULTS:
        assert f"| {fault.number} | {fault.title} |" in page
        assert f"### {fault.number}. {fault.title}\n\n{fault.expected}\n" in page
    for stage in STAGES:
        assert f"| {stage.name} | kills |" in page
    for what, _, test in DEFECTS:
        assert what in page
        assert test in page


def test_the_page_tells_trials_bounds_recovery_and_defects(tmp_path: Path) -> None:
    trials = [Trial("24", recovery_s=0.1 * n, rows_lost=0, extra={"moves": 2, "swap_ms": n}) for n in range(1, 101)]
    (tmp_path / "24.own.jsonl").write_text("".join(f"{trial.line()}\n" for trial in trials))
    (tmp_path / "2.own.jsonl").write_text(Trial("2", rows_lost=1).line() + "\n")
    page = report.page(tmp_path)
    [row] = [line for line in page.splitlines() if line.startswith("| 24 |")]
    assert "| 100 | - | < 3 % | 0 | - | - | - | - | - | - | - | 5.05 / 9.60 |" in row
    assert "Figures: moves 200, swap_ms 100." in page
    [lost] = [line for line in page.splitlines() if line.startswith("| 2 |")]
    assert "| 1 | - | 1 failed | 1 |" in lost
    [missing] = [line for line in page.splitlines() if line.startswith("| 3 |")]
    assert "| not run |" in missing


def test_a_test_that_proves_a_fault_leaves_its_trials(tmp_path: Path) -> None:
    told = TestReport("tests/a.py::test_b[x]", ("tests/a.py", 1, "test_b"), {}, "passed", None, "call", duration=1.0)
    told.user_properties.append(("trial", {"action": "cut", "rows_lost": 0, "offsets": 9}))
    silent = TestReport("tests/c.py::test_d", ("tests/c.py", 1, "test_d"), {}, "failed", "E  boom", "call")
    faults = [Fault("7", "t", "e", ("tests/a.py::test_b",)), Fault("8", "t", "e", ("tests/c.py",))]
    recorder = Recorder(faults, tmp_path)
    for ended in (told, silent):
        recorder.pytest_runtest_logreport(ended)
    [seven] = [Trial.read(line) for line in trials_file(tmp_path, "7").read_text().splitlines()]
    assert (seven.fault, seven.action, seven.rows_lost, seven.extra["offsets"]) == ("7", "cut", 0, 9)
    [eight] = [Trial.read(line) for line in trials_file(tmp_path, "8").read_text().splitlines()]
    assert eight.defects == {"error": "tests/c.py::test_d: E  boom"}
