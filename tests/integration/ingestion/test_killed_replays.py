"""Fault 1 for replays: killed at every commit, twice at once, beside a run that ingests the same interval."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from lake.quarantine import Chosen
from lake.rework import records
from penstock.repair_rows import read_file
from penstock.replay import replay
from penstock.replay_interval import declare
from tests.command_line import CommandLine
from tests.integration.ingestion.conftest import DatabaseSource
from tests.integration.ingestion.test_replay import DAY, Till, new_till

TRIALS = [
    ("lake.rework.before_receipt", 1),
    # Commits: the rows that stay in quarantine, then the data.
    ("lake.publish.before_commit", 1),
    ("lake.publish.after_commit", 1),
    ("lake.rework.before_commit", 1),
    ("lake.publish.after_commit", 2),
]
OLD = [(DAY, 1, 10), (DAY, 2, 20), (DAY, 3, 30)]
NEW = [*OLD, (DAY, 4, 40)]


@pytest.fixture
def till(database: DatabaseSource) -> Till:
    """One day published, and its bad rows exported to ``bad.jsonl``, one of them repaired."""
    made = new_till(database)
    path = made.shop.folder / "bad.jsonl"
    lines = [
        json.dumps({"row_id": row_id, "row": {"amount": 40 if key == 4 else -50}}) for key, row_id in made.ids().items()
    ]
    path.write_text("\n".join(lines))
    return made


def command(till: Till, **extra: str) -> CommandLine:
    folder = till.shop.folder
    own = {"PENSTOCK_SOURCES": str(folder / "sources"), "PENSTOCK_SUITES": str(folder / "suites")}
    return CommandLine(till.shop.home, {"shop": till.shop.url}, {**own, **extra})


def arguments(till: Till) -> list[str]:
    file = str(Path(till.shop.folder) / "bad.jsonl")
    return ["quarantine", "replay", "raw.shop__t", "--file", file, "--by", "ada"]


def again(till: Till) -> None:
    """The same replay, undisturbed."""
    pipeline = till.shop.pipeline()
    declare(pipeline, till.shop.raw)
    repaired = read_file(till.shop.folder / "bad.jsonl", pipeline.lake.columns(till.shop.raw)[0])
    replay(pipeline, till.shop.raw, Chosen(), repaired=repaired, by="ada")


def assert_new(till: Till) -> None:
    assert till.rows() == NEW
    receipt = till.receipt()
    assert (receipt.rows_in, receipt.published, receipt.waiting, receipt.replayed) == (5, 4, 1, 1)
    (record,) = records(till.shop.pipeline().lake, till.shop.raw, receipt)
    assert [row.action for row in record.rows] == ["replay"]
    till.assert_balanced()


def test_a_replay_killed_at_any_commit_loses_and_doubles_no_row_and_its_rerun_ends_as_if_undisturbed(
    till: Till,
) -> None:
    home, saved = till.shop.home, till.shop.folder / "saved"
    shutil.copytree(home, saved)
    for point, occurrence in TRIALS:
        shutil.rmtree(home)
        shutil.copytree(saved, home)
        answer = command(till, PENSTOCK_FAULT_POINT=f"{point}:{occurrence}").run(*arguments(till))
        assert answer.code == -signal.SIGKILL, f"{point} was reached fewer than {occurrence} times: {answer.err}"
        assert till.rows() in (OLD, NEW), point
        assert len(till.waiting()) + len(till.rows()) == 5, point
        till.assert_balanced()
        again(till)
        assert_new(till)


def test_two_replays_and_a_run_of_the_same_interval_at_once_publish_the_row_once(till: Till) -> None:
    ingest = ["ingest", "shop", "--day", DAY]
    started = [command(till).start(*words) for words in (arguments(till), ingest, arguments(till))]
    answers = [(process.communicate(timeout=180)[1], process.returncode) for process in started]
    assert {code for _, code in answers} <= {0, 1}, answers
    assert_new(till)
