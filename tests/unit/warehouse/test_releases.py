"""Laws of releases: readers see whole versions only, one pointer move makes the next one, the same move goes back."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from common.errors import CommitConflict, StateCorrupt, UnknownName
from common.settings import process_environment
from tests.unit.warehouse.small_warehouse import answer, leftovers, make_candidate, make_release
from warehouse.lease import next_fence
from warehouse.releases import Releases


@pytest.fixture(params=["warehouse", "a folder with spaces, 'quotes' and ümlauts"])
def releases(request: pytest.FixtureRequest, tmp_path: Path) -> Releases:
    """An empty warehouse, its path plain or difficult."""
    return Releases(tmp_path / str(request.param))


# -- candidates ----------------------------------------------------------------------------------------------------


def test_before_the_first_publish_there_is_nothing_to_read_and_the_error_says_how_to_start(releases: Releases) -> None:
    make_candidate(releases, 1)
    assert (releases.current(), releases.all()) == (None, [])
    with pytest.raises(UnknownName, match=r"Nothing has been published yet.*Remedy"):
        releases.connect()


def test_a_candidate_is_invisible_until_it_is_published(releases: Releases) -> None:
    make_release(releases, 1)
    candidate = make_candidate(releases, 2)
    assert answer(releases) == 1
    assert [release.id for release in releases.all()] == ["r000001"]
    with pytest.raises(UnknownName, match="there are: r000001"):
        releases.get(candidate.id)
    assert releases.publish(candidate).current
    assert answer(releases) == 2


def test_a_candidate_that_is_not_sealed_cannot_be_published_by_name_or_as_the_newest(releases: Releases) -> None:
    unsealed = make_candidate(releases, 1, seal=False)
    for name in (None, unsealed.id):
        with pytest.raises(UnknownName, match="no finished candidate"):
            releases.candidate(name)


def test_the_manifest_is_the_last_thing_a_sealed_candidate_gets(releases: Releases) -> None:
    candidate = make_candidate(releases, 1)
    manifest = candidate.folder / "manifest.json"
    assert json.loads(manifest.read_text()) == {"release": "r000001", "parent": None, "number": 1}
    assert candidate.manifest["release"] == candidate.id
    assert manifest.stat().st_mtime_ns >= candidate.database.stat().st_mtime_ns
    assert {path.name for path in candidate.folder.iterdir()} == {"warehouse.duckdb", "manifest.json"}


def test_rows_that_are_still_in_the_write_ahead_log_are_in_the_sealed_file(releases: Releases) -> None:
    candidate = make_candidate(releases, 1, seal=False)
    log = candidate.database.with_suffix(".duckdb.wal")
    with duckdb.connect(str(candidate.database)) as connection:
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        connection.execute("UPDATE answer SET number = 2")
    assert log.exists()
    releases.seal(candidate, {})
    assert not log.exists()
    releases.publish(candidate)
    assert answer(releases) == 2


def test_a_write_ahead_log_that_cannot_be_taken_in_is_refused_because_the_file_alone_would_lose_rows(
    releases: Releases,
) -> None:
    candidate = make_candidate(releases, 1, seal=False)
    candidate.database.with_suffix(".duckdb.wal").mkdir()
    with pytest.raises(StateCorrupt, match=r"duckdb\.wal.*Remedy"):
        releases.seal(candidate, {})
    assert not (candidate.folder / "manifest.json").exists()
    with pytest.raises(UnknownName):
        releases.candidate()


def test_a_candidate_that_is_no_database_is_refused_with_a_remedy(releases: Releases) -> None:
    candidate = releases.new_candidate(from_scratch=True)
    candidate.database.write_bytes(b"not a database at all" * 1000)
    with pytest.raises(StateCorrupt, match=r"cannot be checkpointed.*Remedy"):
        releases.seal(candidate, {})
    with pytest.raises(UnknownName):
        releases.candidate()


def test_a_next_candidate_starts_as_a_copy_that_can_be_written(releases: Releases) -> None:
    first = make_release(releases, 1)
    candidate = releases.new_candidate(from_scratch=False)
    with duckdb.connect(str(candidate.database)) as connection:
        assert connection.execute("SELECT number FROM answer").fetchone() == (1,)
        connection.execute("UPDATE answer SET number = 2")
    releases.seal(candidate, {})
    releases.publish(candidate)
    assert candidate.parent == first.id
    assert (answer(releases), answer(releases, first.id)) == (2, 1)


def test_discarding_a_candidate_leaves_nothing_of_it(releases: Releases) -> None:
    make_release(releases, 1)
    releases.discard(make_candidate(releases, 2))
    assert leftovers(releases.warehouse) == set()
    assert answer(releases) == 1


# -- publishing ----------------------------------------------------------------------------------------------------


def test_a_stale_candidate_is_refused_when_its_parent_is_no_longer_current(releases: Releases) -> None:
    make_release(releases, 1)
    stale = make_candidate(releases, 2)
    aside = stale.folder.rename(releases.warehouse / "aside")
    make_release(releases, 3)
    aside.rename(stale.folder)
    with pytest.raises(CommitConflict, match=r"built on release r000001.*r000003 is current.*penstock build"):
        releases.publish(stale)
    assert answer(releases) == 3


def test_a_candidate_older_than_a_published_release_is_refused_even_if_its_parent_is_current_again(
    releases: Releases,
) -> None:
    first = make_release(releases, 1)
    stale = make_candidate(releases, 2)
    aside = stale.folder.rename(releases.warehouse / "aside")
    make_release(releases, 3)
    releases.rollback(first.id)
    aside.rename(stale.folder)
    with pytest.raises(CommitConflict, match="older than release r000003"):
        releases.publish(stale)
    assert answer(releases) == 1
    assert [release.id for release in releases.all()] == ["r000001", "r000003"]


def test_the_same_candidate_cannot_be_published_twice(releases: Releases) -> None:
    candidate = make_candidate(releases, 1)
    releases.publish(candidate)
    with pytest.raises(CommitConflict):
        releases.publish(candidate)
    assert answer(releases) == 1


def test_a_published_file_is_read_only_and_has_no_write_ahead_log(releases: Releases) -> None:
    release = make_release(releases, 1)
    assert stat.S_IMODE(release.database.stat().st_mode) == 0o444
    assert not release.database.with_suffix(".duckdb.wal").exists()
    with releases.connect() as connection:
        for statement in ("INSERT INTO answer VALUES (2)", "CREATE TABLE other (a INT)", "DROP TABLE answer"):
            with pytest.raises(duckdb.Error):
                connection.execute(statement)


def test_the_pointer_is_relative_so_that_the_folder_can_be_moved(releases: Releases) -> None:
    make_release(releases, 1)
    moved = releases.warehouse.rename(releases.warehouse.with_name("moved elsewhere"))
    assert answer(Releases(moved)) == 1


def test_a_reader_keeps_its_release_through_publish_rollback_and_retirement(releases: Releases) -> None:
    first = make_release(releases, 1)
    with releases.connect() as reader:
        make_release(releases, 2)
        make_release(releases, 3)
        releases.rollback("r000002")
        assert releases.retain(1) == ["r000001"]
        assert not first.folder.exists()
        assert reader.execute("SELECT number FROM answer").fetchone() == (1,)
    assert answer(releases) == 2


# -- crashes -------------------------------------------------------------------------------------------------------


def test_a_crash_between_rename_and_pointer_move_shows_nothing_and_the_next_candidate_tidies_up(
    releases: Releases,
) -> None:
    make_release(releases, 1)
    lost = make_candidate(releases, 2)
    lost.folder.rename(releases.warehouse / "releases" / lost.id)  # what publish does before the pointer moves
    (releases.warehouse / ".current.0123").symlink_to(f"releases/{lost.id}")
    assert [release.id for release in releases.all()] == ["r000001"]
    assert answer(releases) == 1
    with pytest.raises(UnknownName):
        releases.get(lost.id)
    with pytest.raises(UnknownName):
        releases.rollback(lost.id)
    assert leftovers(releases.warehouse) == {f"releases/{lost.id}", ".current.0123"}
    assert make_release(releases, 3).id == "r000003", "a number is never used again"
    assert leftovers(releases.warehouse) == set()
    assert [release.id for release in releases.all()] == ["r000001", "r000003"]


def test_a_crash_right_after_the_pointer_move_loses_no_release_when_the_next_one_is_published(
    releases: Releases,
) -> None:
    make_release(releases, 1)
    second = make_release(releases, 2)
    (second.folder / "published").unlink()  # the publisher died before it left the marker
    assert [(release.id, release.current) for release in releases.all()] == [("r000001", False), ("r000002", True)]
    make_release(releases, 3)
    make_candidate(releases, 4)
    assert [release.id for release in releases.all()] == ["r000001", "r000002", "r000003"]
    assert answer(releases, "r000002") == 2


def test_a_crash_in_the_middle_of_a_removal_leaves_nothing_that_is_listed_and_nothing_after_the_next_candidate(
    releases: Releases,
) -> None:
    first = make_release(releases, 1)
    make_release(releases, 2)
    first.folder.rename(first.folder.with_name(f".{first.id}.0123"))
    assert [release.id for release in releases.all()] == ["r000002"]
    make_candidate(releases, 3)
    assert leftovers(releases.warehouse) == {"candidates/r000003"}


def test_candidates_left_by_a_crash_are_removed_by_the_next_one(releases: Releases) -> None:
    for number in (1, 2):
        make_candidate(releases, number, seal=number == 2)
    make_candidate(releases, 3)
    assert leftovers(releases.warehouse) == {"candidates/r000003"}


def test_a_damaged_manifest_of_an_old_release_does_not_keep_readers_from_the_current_one(releases: Releases) -> None:
    first = make_release(releases, 1)
    make_release(releases, 2)
    (first.folder / "manifest.json").write_text("{")
    assert answer(releases) == 2
    with pytest.raises(StateCorrupt, match=r"manifest\.json is missing or damaged"):
        releases.all()


@pytest.mark.parametrize("damage", ["file gone", "file cut short", "folder gone"])
def test_a_current_release_that_is_damaged_is_an_error_with_a_remedy_and_not_an_empty_warehouse(
    releases: Releases, damage: str
) -> None:
    release = make_release(releases, 1)
    release.database.chmod(0o644)
    if damage == "file gone":
        release.database.unlink()
    elif damage == "file cut short":
        release.database.write_bytes(release.database.read_bytes()[:5000])
    else:
        shutil.rmtree(release.folder)
    with pytest.raises(StateCorrupt, match=r"r000001.*Remedy: roll back"):
        releases.connect()


# -- rollback and retention ----------------------------------------------------------------------------------------


def test_rollback_is_the_same_pointer_move_back_and_forth(releases: Releases) -> None:
    for number in (1, 2, 3):
        make_release(releases, number)
    assert releases.rollback().id == "r000002"
    assert releases.rollback().id == "r000001"
    assert answer(releases) == 1
    with pytest.raises(UnknownName, match="no earlier release"):
        releases.rollback()
    assert releases.rollback("r000003").current
    assert answer(releases) == 3
    assert [release.id for release in releases.all()] == ["r000001", "r000002", "r000003"]


def test_rollback_without_any_release_or_to_an_unknown_one_changes_nothing(releases: Releases) -> None:
    with pytest.raises(UnknownName, match="no earlier release"):
        releases.rollback()
    make_release(releases, 1)
    for name in ("r000009", "../../etc", "current", ""):
        with pytest.raises(UnknownName):
            releases.rollback(name or None)
    assert answer(releases) == 1


def test_what_is_built_after_a_rollback_stands_on_the_release_rolled_back_to(releases: Releases) -> None:
    for number in (1, 2):
        make_release(releases, number)
    releases.rollback()
    candidate = make_candidate(releases, 3)
    assert (candidate.id, candidate.parent) == ("r000003", "r000001")
    assert releases.publish(candidate).current


@pytest.mark.parametrize("keep", [1, 2, 3, 10])
def test_retention_removes_the_oldest_and_never_the_current_release(releases: Releases, keep: int) -> None:
    for number in range(1, 6):
        make_release(releases, number)
    releases.rollback("r000002")
    releases.retain(keep)
    left = [release.id for release in releases.all()]
    assert "r000002" in left
    assert len(left) <= max(keep, 1) + 1
    assert answer(releases) == 2
    assert leftovers(releases.warehouse) == set()
    assert set(left) - {"r000002"} == set([f"r{n:06d}" for n in range(1, 6)][-keep:]) - {"r000002"}


def test_release_numbers_go_on_when_the_counter_is_lost(releases: Releases) -> None:
    make_release(releases, 1)
    make_release(releases, 2)
    (releases.warehouse / "fence").unlink()
    assert next_fence(releases.warehouse) == 3


def test_ids_order_by_number_also_beyond_six_digits(releases: Releases) -> None:
    make_release(releases, 1)
    (releases.warehouse / "fence").write_text("999998\n")
    make_release(releases, 2)
    make_release(releases, 3)
    assert [release.id for release in releases.all()] == ["r000001", "r999999", "r1000000"]
    assert releases.rollback().id == "r999999"


# -- readers at the same time --------------------------------------------------------------------------------------

_READER = """
import sys
from pathlib import Path
from tests.unit.warehouse.small_warehouse import answer
from warehouse.releases import Releases
releases, seen = Releases(Path(sys.argv[1])), []
print("ready", flush=True)
while not (releases.warehouse / "stop").exists():
    seen.append(answer(releases))
    releases.all()
print(*seen)
"""


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that connects, asks and lists, over and over."""
    root = Path(__file__).parents[3]
    make_release(Releases(tmp_path / "w"), 0)
    process = subprocess.Popen(
        [sys.executable, "-c", _READER, str(tmp_path / "w")],
        env=process_environment(PYTHONPATH=os.pathsep.join([str(root), *filter(None, sys.path)])),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()


def test_a_reader_never_fails_while_releases_come_and_are_retired_at_once(
    reader: subprocess.Popen[str], tmp_path: Path
) -> None:
    releases = Releases(tmp_path / "w")
    for number in range(1, 41):
        make_release(releases, number)
        releases.retain(1)
    (releases.warehouse / "stop").touch()
    output, errors = reader.communicate(timeout=60)
    assert (reader.returncode, errors) == (0, "")
    seen = [int(text) for text in output.split()]
    assert seen == sorted(seen), "a reader never goes back in time"
    assert set(seen) <= set(range(41))
    assert len(set(seen)) > 3
