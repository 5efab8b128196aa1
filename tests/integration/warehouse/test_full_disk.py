"""Laws of a disk that is full while a release is made or published: nothing is left of it, and nothing has moved."""

from __future__ import annotations

import errno
from pathlib import Path

import duckdb
import pytest

from tests.doubles.disk import file_limit
from warehouse import moves
from warehouse.releases import Candidate, Releases


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    """A warehouse with one release."""
    made = Releases(tmp_path / "warehouse")
    made.publish(sealed(made))
    return made


def sealed(releases: Releases) -> Candidate:
    """A candidate that could be published."""
    candidate = releases.new_candidate(from_scratch=True)
    with duckdb.connect(str(candidate.database)) as connection:
        connection.execute("CREATE TABLE answer AS SELECT 42 AS number")
    releases.seal(candidate, {"tables": []})
    return candidate


def test_half_a_copy_of_the_last_release_does_not_keep_the_disk_full(releases: Releases) -> None:
    with file_limit(100_000), pytest.raises(OSError, match="too large") as full:
        releases.new_candidate(from_scratch=False)
    assert full.value.errno == errno.EFBIG
    assert list((releases.warehouse / "candidates").iterdir()) == []
    assert releases.new_candidate(from_scratch=False).database.stat().st_size > 100_000


def test_a_candidate_whose_publish_finds_no_room_stays_one_and_is_published_when_there_is(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = sealed(releases)

    def full(_warehouse: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(moves, "remember", full)
        with pytest.raises(OSError, match="No space left"):
            releases.publish(candidate)
    assert releases.current_id() == "r000001"
    assert releases.publish(releases.candidate()).id == candidate.id
    assert [move.release for move in releases.moves()] == ["r000001", candidate.id]


def test_a_move_that_is_written_in_part_is_taken_back_and_told(releases: Releases) -> None:
    releases.publish(sealed(releases))
    path = releases.warehouse / moves.FILE
    before = path.read_bytes()
    (releases.warehouse / "current").unlink()
    (releases.warehouse / "current").symlink_to(Path("releases") / "r000001")
    with file_limit(len(before) + 10), pytest.raises(OSError, match="No space left"):
        moves.remember(releases.warehouse)
    assert path.read_bytes() == before
    moves.remember(releases.warehouse)
    assert [move.release for move in moves.recorded(releases.warehouse)] == ["r000001", "r000001"]
