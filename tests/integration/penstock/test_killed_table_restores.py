"""Fault 1 for the restore of one table: killed before and behind each of its commits, then run again."""

from __future__ import annotations

import signal
from pathlib import Path

from penstock.pipeline import Pipeline
from penstock.restore_table import restore_table
from tests.command_line import CommandLine
from tests.integration.lake.lakes import TABLE
from tests.integration.penstock.test_table_restore import FIRST, Past, local_world, seen

KILLS = (
    ("lake.quarantine.before_commit:1", False),
    ("lake.publish.after_commit:1", False),  # what waited in quarantine is there, under an attempt that nobody names
    ("lake.publish.before_commit:2", False),
    ("lake.publish.after_commit:2", True),
)
"""Points, and whether the table is restored already when the process dies there."""


def test_a_restore_of_a_table_killed_at_any_commit_changed_all_or_nothing_and_once_more_ends_as_if_undisturbed(
    tmp_path: Path,
) -> None:
    world = local_world(tmp_path)
    restore_table(world.pipeline(), world.place, world.backup_id, TABLE, at=world.at)
    for number, (point, is_restored) in enumerate(KILLS):
        world.bench.publish([(number, "newer"), (-5, "worse")], FIRST, rejected=[1])
        before = seen(world.bench)
        _kill(world, tmp_path, point)
        assert seen(world.bench) == (world.then if is_restored else before), point
        restore_table(Pipeline(world.bench.settings), world.place, world.backup_id, TABLE, at=world.at)
        assert seen(world.bench) == world.then, point


def _kill(world: Past, folder: Path, point: str) -> None:
    extra = {"PENSTOCK_BACKUP_URI": str(folder / "backups"), "PENSTOCK_FAULT_POINT": point}
    words = ("restore", world.backup_id, "--table", str(TABLE), "--at", world.at.isoformat(), "--yes")
    answer = CommandLine(world.bench.settings.home, {}, extra).run(*words)
    assert answer.code == -signal.SIGKILL, f"{point} was not reached: {answer.err}"
