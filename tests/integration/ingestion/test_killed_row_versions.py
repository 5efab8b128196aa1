"""Fault 1 and 23 for rows that move, vanish and change: killed at every commit of such a run, and run twice at once.

A run brings in a third day. One row moves there from the first, one has vanished from the second, one is new; then the
history takes all of it in. Whenever it is killed, each key stands once and every account balances; the same run without
a fault ends as an undisturbed one does.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
from typing import Any

import pytest

from lake.paths import TableId
from penstock.pipeline import Pipeline
from tests.command_line import CommandLine
from tests.integration.ingestion.conftest import DatabaseSource
from tests.integration.ingestion.row_versions import D1, D2, D3, D4, RECONCILE, Versions
from tests.integration.ingestion.shops import database_shop

TRIALS = [
    # Commits of the run: the day, the marks, the history.
    ("lake.merge.before_commit", 1),
    ("lake.publish.after_commit", 1),
    ("lake.deletes.before_commit", 1),
    ("lake.publish.after_commit", 2),
    ("lake.history.before_commit", 1),
]
COMMAND = ("run", "--source", "shop", "--from", D3, "--to", D4, "--no-build")
OLD = [(D1, 1, "a", False), (D1, 2, "b", False), (D2, 3, "c", False)]
MERGED = [(D1, 2, "b", False), (D2, 3, "c", False), (D3, 1, "a, changed", False), (D3, 4, "d", False)]
NEW = [(D1, 2, "b", False), (D2, 3, "c", True), (D3, 1, "a, changed", False), (D3, 4, "d", False)]
HISTORY = [(1, "a", True, False), (1, "a, changed", False, False), (2, "b", False, False), (3, "c", True, True)]
HISTORY += [(4, "d", False, False)]
"""Key, note, whether the version has ended and whether that was by deletion."""


@pytest.fixture
def versions(database: DatabaseSource) -> Versions:
    """Two days published, and a source that has gone on since."""
    made = Versions(database, database_shop(database))
    made.declare("    version_column: at\n    history: true\n" + RECONCILE, on_update="moves")
    made.make((1, 1, "a"), (2, 1, "b"), (3, 2, "c"))
    made.run()
    made.put(1, 3, "a, changed")
    made.put(4, 3, "d")
    made.database.run("DELETE FROM {s}.t WHERE id = 3")
    return made


def command(versions: Versions, **extra: str) -> CommandLine:
    """The command line over the shop."""
    folder = versions.shop.folder
    own = {"PENSTOCK_SOURCES": str(folder / "sources"), "PENSTOCK_SUITES": str(folder / "suites")}
    return CommandLine(versions.shop.home, {"shop": versions.shop.url}, {**own, **extra})


def orphan_bytes(pipeline: Pipeline) -> int:
    """Bytes of data files that are live in no table."""
    tables = (TableId("raw", "shop__t"), TableId("raw", "shop__t__history"))
    live = {file.location.removeprefix("file://") for table in tables for file in pipeline.lake.live(table)}
    files = [
        path for table in tables for path in (pipeline.settings.home / "lake" / "raw" / table.name).rglob("*.parq*")
    ]
    return sum(path.stat().st_size for path in files if str(path) not in live)


def assert_new(versions: Versions) -> None:
    """The end state of an undisturbed run."""
    assert versions.rows() == NEW
    found: list[tuple[Any, ...]] = [(id_, note, to is not None, gone) for id_, note, _, to, gone in versions.history()]
    assert found == HISTORY
    versions.assert_balanced()


def test_a_run_killed_at_any_commit_loses_and_doubles_no_row_and_its_rerun_ends_as_if_undisturbed(
    versions: Versions,
) -> None:
    home, saved = versions.shop.home, versions.shop.folder / "saved"
    shutil.copytree(home, saved)
    for point, occurrence in TRIALS:
        shutil.rmtree(home)
        shutil.copytree(saved, home)
        answer = command(versions, PENSTOCK_FAULT_POINT=f"{point}:{occurrence}").run(*COMMAND)
        assert answer.code == -signal.SIGKILL, f"{point} was reached fewer than {occurrence} times: {answer.err}"
        assert versions.rows() in (OLD, MERGED, NEW), point
        versions.assert_balanced()
        left = orphan_bytes(versions.shop.pipeline())
        versions.run(D3, D4)
        assert_new(versions)
        trial = {"stage": "merge", "point": f"{point}:{occurrence}", "rows_lost": 0, "rows_duplicated": 0}
        sys.stdout.write(json.dumps({**trial, "orphan_bytes": left}) + "\n")


def test_two_runs_of_the_same_day_at_once_leave_what_one_leaves(versions: Versions) -> None:
    both = [command(versions).start(*COMMAND) for _ in range(2)]
    answers = [(process.communicate(timeout=180)[1], process.returncode) for process in both]
    assert [code for _, code in answers] == [0, 0], answers
    assert_new(versions)
