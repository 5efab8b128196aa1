"""Laws of files that are gone or damaged: who reads or publishes is told table, file and remedy; nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.table.snapshots import Snapshot

from common.errors import StateCorrupt, StoreUnavailable
from lake import catalog
from lake import commit as commits
from lake.catalog import manifests
from lake.lake import Lake
from lake.paths import engine_path
from lake.remembering import unavailable
from tests.integration.lake.lakes import TABLE, Bench

FILES: dict[str, Callable[[Bench], str]] = {
    "metadata": lambda bench: bench.lake.load(TABLE).metadata_location,
    "list of manifests": lambda bench: _snapshot(bench).manifest_list,
    "manifest": lambda bench: manifests(_snapshot(bench), bench.lake.load(TABLE).io)[0].manifest_path,
}


def _snapshot(bench: Bench) -> Snapshot:
    snapshot = bench.lake.load(TABLE).current_snapshot()
    assert snapshot is not None
    return snapshot


def _gone(path: Path) -> None:
    path.unlink()


def _torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("harm", [_gone, _torn])
@pytest.mark.parametrize("which", FILES)
def test_metadata_that_is_lost_or_torn_is_told_with_table_file_and_remedy(
    local: Bench, which: str, harm: Callable[[Path], None]
) -> None:
    local.publish([(1, "a")])
    path = Path(engine_path(FILES[which](local)))
    harm(path)
    forget()
    with pytest.raises(StateCorrupt) as told:
        Lake(local.settings).live(TABLE)
    assert str(TABLE) in str(told.value)
    assert "penstock doctor" in str(told.value)
    assert path.name in str(told.value) or which == "metadata"
    forget()
    with pytest.raises(StateCorrupt, match="penstock doctor"):
        Bench(local.settings).publish([(2, "b")])


def forget() -> None:
    """What this process has read of metadata so far."""
    catalog._LIVE.clear()
    catalog._listed.cache_clear()
    catalog._MANIFESTS = catalog.ReadManifests(10_000)


def test_a_snapshot_that_was_swept_while_it_was_read_is_told_as_worth_another_try(local: Bench) -> None:
    local.publish([(1, "a")])
    seen = local.lake.load(TABLE)
    for number in range(2 * commits.KEEP_SNAPSHOTS):
        local.publish([(number, "b")])
    snapshot = seen.current_snapshot()
    assert snapshot is not None
    Path(engine_path(snapshot.manifest_list)).unlink()
    forget()
    with pytest.raises(StoreUnavailable, match="try again"):
        catalog.live_files(seen)


def test_files_of_a_commit_that_cannot_be_read_back_are_kept_because_they_may_be_live(
    local: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.publish([(7, "old")])
    real = commits._commit

    def lands_and_is_lost(*arguments: Any) -> None:
        real(*arguments)
        forget()
        Path(engine_path(_snapshot(local).manifest_list)).unlink()
        raise unavailable(OSError("server closed the connection"))

    monkeypatch.setattr(commits, "_commit", lands_and_is_lost)
    before = set(local.data_files())
    with pytest.raises(StoreUnavailable, match="outcome is unknown"):
        local.publish([(1, "a")])
    assert len(set(local.data_files()) - before) == 1
