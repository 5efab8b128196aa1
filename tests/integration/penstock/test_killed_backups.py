"""Fault 1 for recovery: a backup, a prune and a restore killed at every point, then run again."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import StateCorrupt, UsageError
from lake.lake import Lake
from lake.unfinished import note_restore
from penstock.backup_keep import listed, verify
from penstock.restore import restore
from tests.command_line import CommandLine
from tests.integration.penstock.backups import World

TRIALS = [
    ("backup.take.after_copy", 3),
    ("backup.take.before_publish", 1),
    ("backup.prune.before_objects", 1),
    ("restore.after_file", 5),
    ("restore.before_catalog", 1),
    ("restore.before_pointer", 1),
]


def killed(command: CommandLine, point: str, *words: str) -> None:
    """Run a command that dies at a point."""
    occurrence = dict(TRIALS)[point]
    answer = replace(command, extra={**command.extra, "PENSTOCK_FAULT_POINT": f"{point}:{occurrence}"}).run(*words)
    assert answer.code == -signal.SIGKILL, f"{point} was reached fewer than {occurrence} times: {answer.err}"


def test_backup_prune_and_restore_killed_at_any_point_leave_what_was_and_go_on_where_they_were(tmp_path: Path) -> None:
    world = World(tmp_path, str(tmp_path / "backups"))
    bench = world.make()
    command = CommandLine(tmp_path / "state", {}, {"PENSTOCK_BACKUP_URI": world.backup_uri})
    ids = [world.back_up().index.id]
    for number, point in enumerate(("backup.take.after_copy", "backup.take.before_publish")):
        bench.publish([(number, "new")], "2013-01-07")
        before = len(world.objects())
        killed(command, point, "backup")
        copied = len(world.objects()) - before
        assert copied >= 3
        assert [each.id for each in listed(world.place)] == ids, f"{point}: half a backup is none"
        assert verify(world.place, "all").damaged == {}, point
        ids.append(world.back_up().index.id)
        checksums = [name.rsplit("/", 1)[-1].split("-")[0] for name in world.objects()]
        assert len(checksums) == len(set(checksums)), f"{point}: what the killed one had copied is not copied again"
        assert world.place.stored("running") == [], f"{point}: nobody waits for the dead"
    killed(command, "backup.prune.before_objects", "backup", "prune", "--keep", "1")
    assert [each.id for each in listed(world.place)] == ids[-1:]
    assert verify(world.place, "all").damaged == {}
    assert command.run("backup", "prune").code == 3, "for an hour it may live"
    (mark,) = (tmp_path / "backups" / "running").iterdir()
    os.utime(mark, (time.time() - 7200, time.time() - 7200))
    assert command.run("backup", "prune").code == 0
    assert verify(world.place).damaged == {}
    before_all = world.seen()
    for point in ("restore.after_file", "restore.before_catalog", "restore.before_pointer"):
        target = world.settings(point)
        killed(command, point, "restore", "--into", str(target.home), "--yes")
        with pytest.raises(StateCorrupt, match=f"A restore of backup {ids[-1]} into .* has not finished"):
            _ = Lake(target).catalog
        assert not (target.warehouse / "current").exists()
        done = restore(target, world.place, ids[-1])
        assert (done.aside, world.seen(point)) == (None, before_all), point


def test_a_release_that_is_there_in_part_stops_neither_a_restore_that_goes_on_nor_one_that_may_overwrite(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, str(tmp_path / "backups"))
    world.make()
    before, backup = world.seen(), world.back_up().index.id
    target = world.settings("killed")
    note_restore(target.home, {"backup": backup, "at": None, "aside": None, "phase": "write"})
    part = target.warehouse / "releases" / "r000001"
    part.mkdir(parents=True)
    (part / "published").write_text("2013-01-01T00:00:00+00:00\n")
    restore(target, world.place, backup)
    assert world.seen("killed") == before
    damaged = world.settings()
    (damaged.warehouse / "releases" / "r000001" / "manifest.json").unlink()
    with pytest.raises(UsageError, match="has releases"):
        restore(damaged, world.place, backup)
    restore(damaged, world.place, backup, overwrite=True)
    assert world.seen() == before
