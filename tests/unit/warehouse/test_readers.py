"""Laws of readers: one release from beginning to end, the one that was asked for, and never a wrong answer."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock
from benchmarks.prove_readers import prove
from common.errors import UnknownName, UsageError
from common.settings import Settings
from tests.unit.warehouse.small_warehouse import answer, make_candidate, make_release
from warehouse import moves
from warehouse.reader import Reader
from warehouse.releases import Releases
from warehouse.shelf import Move


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    """Three releases that answer 1, 2 and 3."""
    made = Releases(tmp_path / "warehouse")
    for number in (1, 2, 3):
        make_release(made, number)
    return made


def now(reader: Reader) -> int:
    """What a reader answers."""
    row = reader.sql("SELECT number FROM answer").fetchone()
    assert row is not None
    return int(row[0])


def test_the_door_gives_tables_in_every_form_from_explicit_settings_or_the_environment(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = Settings.load({}, warehouse=releases.warehouse)
    monkeypatch.setenv("PENSTOCK_WAREHOUSE", str(releases.warehouse))
    for settings_ in (given, None):
        table = penstock.table("answer", settings=settings_)
        assert table.release.id == "r000003"
        assert table.columns == {"number": "INTEGER"}
        assert table.pl().equals(pl.DataFrame({"number": [3]}, schema={"number": pl.Int32}))
        assert table.arrow() == pa.table({"number": pa.array([3], pa.int32())})
        assert table.df()["number"].tolist() == [3]
        assert table.relation().filter("number > 3").fetchall() == []
        assert [each.id for each in penstock.releases(settings=settings_)] == ["r000001", "r000002", "r000003"]
        assert penstock.table("main.answer", release="r000001", settings=settings_).pl()["number"].to_list() == [1]
        with penstock.connect("current", settings=settings_) as connection:
            assert connection.sql("FROM answer").fetchall() == [(3,)]
    with pytest.raises(UnknownName, match=r"r000003 has no table 'answers'.*use one of answer"):
        penstock.table("answers")


def test_a_reader_stays_on_its_release_until_it_is_refreshed_and_says_which_it_reads(releases: Releases) -> None:
    with Reader(releases) as reader:
        assert (now(reader), reader.release.id, reader.refresh()) == (3, "r000003", False)
        table, unfetched = reader.table("answer"), reader.sql("SELECT number FROM answer")
        make_release(releases, 4)
        assert (now(reader), reader.release.id) == (3, "r000003")
        assert reader.refresh()
        assert (now(reader), reader.release.id) == (4, "r000004")
        assert reader.release.published_at == releases.get("r000004").published_at
        # What was taken before keeps the release it was taken from.
        assert (table.release.id, table.pl()["number"].to_list(), unfetched.fetchall()) == ("r000003", [3], [(3,)])
        releases.rollback("r000001")
        assert (reader.refresh(), now(reader), reader.release.id) == (True, 1, "r000001")
    with pytest.raises(UsageError, match="This reader is closed"):
        reader.sql("SELECT 1")


def test_a_reader_of_one_certain_release_does_not_move(releases: Releases) -> None:
    reader = Reader(releases, "r000002")
    with pytest.raises(UsageError, match="asked for 'r000002' and stays there"):
        reader.refresh()
    assert now(reader) == 2


def test_a_release_that_retention_removes_below_a_reader_goes_on_answering(releases: Releases) -> None:
    connection = duckdb.connect(":memory:")  # another database of the process does not matter
    reader, table = Reader(releases, "r000001"), Reader(releases, "r000001").table("answer")
    assert releases.retain(1) == ["r000001", "r000002"]
    assert not reader.release.folder.exists()
    assert (now(reader), table.pl()["number"].to_list()) == (1, [1])
    connection.close()


def test_a_release_that_was_removed_is_named_as_such_beside_those_there_are(releases: Releases) -> None:
    releases.retain(1)
    for wanted in ("r000001", "r000002"):
        with pytest.raises(UnknownName, match=rf"'{wanted}' is no longer kept \(there are: r000003\).*KEEP_RELEASES"):
            releases.connect(wanted)
    with pytest.raises(UnknownName, match=r"There is no release 'r000009' \(there are: r000003\)"):
        releases.connect("r000009")


def test_words_that_name_no_release_are_refused_with_the_forms_there_are(releases: Releases) -> None:
    for words in ("newest please", "as of", "as of yesterday", "as of 2026-13-01", ""):
        with pytest.raises((UsageError, UnknownName), match=r"(?i)remedy"):
            releases.connect(words)


def test_a_reader_can_neither_write_nor_look_elsewhere_nor_be_configured_and_leaves_nothing_behind(
    releases: Releases, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    before = {path: (path.lstat().st_mtime_ns, path.lstat().st_mode) for path in releases.warehouse.rglob("*")}
    with releases.connect() as connection:
        for statement in (
            "INSERT INTO answer VALUES (1)",
            "CREATE TABLE more (a INTEGER)",
            "DROP TABLE answer",
            f"FROM read_csv('{secret}')",
            f"ATTACH '{tmp_path / 'new.duckdb'}' AS other",
            f"COPY answer TO '{tmp_path / 'out.csv'}'",
            "INSTALL httpfs",
            "SET enable_external_access = true",
            "SET threads = 1",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(statement)
        assert connection.sql("FROM answer").fetchall() == [(3,)]
    after = {path: (path.lstat().st_mtime_ns, path.lstat().st_mode) for path in releases.warehouse.rglob("*")}
    assert after == before
    assert not stat.S_IMODE(releases.get("r000003").database.stat().st_mode) & 0o222


# -- as of ---------------------------------------------------------------------------------------------------------


def test_as_of_a_time_is_what_the_pointer_named_then_also_across_rollbacks(releases: Releases) -> None:
    releases.rollback("r000001")
    make_release(releases, 4)
    history = releases.moves()
    assert [move.release for move in history] == ["r000001", "r000002", "r000003", "r000001", "r000004"]
    for move, following in zip(history, [*history[1:], None], strict=True):
        assert answer(releases, f"as of {move.at.isoformat()}") == int(move.release[1:])
        if following is not None:
            middle = move.at + (following.at - move.at) / 2
            assert answer(releases, f"as of {middle.isoformat()}") == int(move.release[1:])
    naive = history[1].at.replace(tzinfo=None).isoformat(sep=" ")
    assert answer(releases, f"As  of {naive}") == 2
    with pytest.raises(UnknownName, match=r"Nothing had been published by 2000-01-01.*there are: r000001"):
        releases.connect("as of 2000-01-01")
    releases.retain(1)
    with pytest.raises(UnknownName, match=r"'r000002' is no longer kept \(there are: r000004\)"):
        releases.connect(f"as of {history[1].at.isoformat()}")


def test_a_warehouse_from_before_moves_were_written_down_answers_by_its_first_publishings(releases: Releases) -> None:
    (releases.warehouse / moves.FILE).unlink()
    first, second, _ = (datetime.fromisoformat(release.published_at) for release in releases.all())
    assert answer(releases, f"as of {first.isoformat()}") == 1
    assert answer(releases, f"as of {second.isoformat()}") == 2


def test_a_move_is_written_down_once_though_its_publisher_died_before_the_next_and_a_torn_line_is_none(
    releases: Releases,
) -> None:
    moves.remember(releases.warehouse)
    moves.remember(releases.warehouse)  # as one who died behind the first has left it
    path = releases.warehouse / moves.FILE
    path.write_text(path.read_text() + '{"at": "2026-')
    make_release(releases, 4)
    releases.rollback()
    assert [move.release for move in releases.moves()] == [f"r00000{n}" for n in (1, 2, 3, 4, 3)]
    assert [json.loads(line)["release"] for line in path.read_text().splitlines() if line.endswith("}")]


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 9)), min_size=1, max_size=8))
def test_moves_come_back_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, steps: list[Any]) -> None:
    warehouse = tmp_path_factory.mktemp("moves")
    expected: list[Move] = []
    for at, number in sorted(set(steps)):
        pointer = warehouse / "current"
        pointer.unlink(missing_ok=True)
        pointer.symlink_to(Path("releases") / f"r{number:06d}")
        os.utime(pointer, (at, at), follow_symlinks=False)
        moves.remember(warehouse)
        expected.append(Move(datetime.fromtimestamp(at, tz=UTC), f"r{number:06d}"))
    assert moves.recorded(warehouse) == expected


def test_readers_that_connect_while_releases_come_and_go_get_whole_releases_and_no_error(releases: Releases) -> None:
    reader = Reader(releases)
    for number in range(4, 14):
        candidate = make_candidate(releases, number)
        releases.publish(candidate)
        releases.retain(1)
        assert reader.refresh()
        assert (now(reader), answer(releases)) == (number, number)


def test_readers_in_processes_of_their_own_never_fail_nor_see_a_mixture_nor_an_older_release(tmp_path: Path) -> None:
    """``make prove-readers`` is the same with a thousand moves."""
    proof = prove(tmp_path / "warehouse", moves=30, readers=2)
    assert (proof.failed, proof.mixed, proof.stale) == ([], [], [])
    assert proof.distinct > 5, proof
