"""Laws of ``ops.queries``: each line of the logs stands in it once, and what was asked is only for who may see it."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from common.settings import Settings
from lake.lake import Lake
from lake.ops import QUERIES, declare_ops, ops_relation
from penstock import query_history
from penstock.build import copy_history
from penstock.pipeline import Pipeline
from penstock.records import record
from warehouse.serve.query_log import Entry, QueryLog, now

FORKSERVER = multiprocessing.get_context("forkserver")


def entry(number: int, question: str = "", at: str = "") -> Entry:
    who = ("ada", "analyst", "t1", "http", "GET", "/v1/datasets/routes/rows")
    return Entry(at or now(), f"id{number}", *who, question, "r000001", 200, "", "query", 7, 100, 1.5)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A lake without any table."""
    return Settings.load({}, home=tmp_path / "state")


@pytest.fixture
def log(settings: Settings) -> QueryLog:
    """The log of a server that runs."""
    return QueryLog(settings.home / "serve" / "queries")


def ids(settings: Settings) -> list[str]:
    return [row[0] for row in rows(settings, "request_id")]


def rows(settings: Settings, columns: str) -> list[tuple[Any, ...]]:
    lake = Lake(settings)
    declare_ops(lake)
    with lake.connect() as connection:
        query = f"SELECT {columns} FROM {ops_relation(lake, QUERIES)} ORDER BY request_id"
        return connection.execute(query).fetchall()


def written(settings: Settings) -> Path:
    [path] = (settings.home / "serve" / "queries").iterdir()
    return path


def test_a_line_comes_once_and_those_after_it_come_later(settings: Settings, log: QueryLog) -> None:
    log.write(entry(1, "select 'ü'"))
    log.write(entry(2))
    assert record(Pipeline(settings)).queries == 2
    assert record(Pipeline(settings)).queries == 0
    log.write(entry(3))
    assert record(Pipeline(settings)).queries == 1
    other = QueryLog(settings.home / "serve" / "queries")
    other.write(entry(4, at="2025-12-31T23:59:59+00:00"))
    other.write(entry(5))
    assert record(Pipeline(settings)).queries == 2
    assert ids(settings) == ["id1", "id2", "id3", "id4", "id5"]
    assert rows(settings, "question, subject, release_id, rows, month")[0][:4] == ("select 'ü'", "ada", "r000001", 7)
    assert {row[0] for row in rows(settings, "month")} >= {"2025-12"}


def test_chunks_of_any_size_give_every_line_once(
    settings: Settings, log: QueryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_history, "CHUNK_BYTES", 700)
    for number in range(10, 18):
        log.write(entry(number, "x" * 100 * (number % 3)))
    log.write(entry(18, "y" * 3000))
    assert record(Pipeline(settings)).queries == 9
    assert ids(settings) == [f"id{number}" for number in range(10, 19)]


def test_a_line_that_is_being_written_waits_and_one_that_was_cut_is_left_out(settings: Settings, log: QueryLog) -> None:
    log.write(entry(1))
    path = written(settings)
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(whole.replace(b"id1", b"id2")[:50])
    assert record(Pipeline(settings)).queries == 1
    with path.open("ab") as file:
        file.write(whole.replace(b"id1", b"id2")[50:])
        file.write(whole.replace(b"id1", b"id3")[:40] + b"\n")
    log.write(entry(4))
    assert record(Pipeline(settings)).queries == 2
    assert ids(settings) == ["id1", "id2", "id4"]


def test_a_sync_that_is_broken_off_before_its_commit_leaves_the_lines_to_the_next(
    settings: Settings, log: QueryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write(entry(1))

    def broken(name: str) -> None:
        if name == "lake.ops.before_commit":
            raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr("lake.ops.reach", broken)
        with pytest.raises(RuntimeError):
            record(Pipeline(settings))
    assert ids(settings) == []
    assert record(Pipeline(settings)).queries == 1
    assert ids(settings) == ["id1"]


def sync(home: Path, barrier: Any) -> None:
    pipeline = Pipeline(Settings.load({}, home=home / "state"))
    declare_ops(pipeline.lake)
    barrier.wait(60)
    query_history.sync_queries(pipeline)


def test_syncs_at_once_bring_each_line_once(settings: Settings, log: QueryLog, tmp_path: Path) -> None:
    for number in range(100, 150):
        log.write(entry(number))
    declare_ops(Lake(settings))
    barrier = FORKSERVER.Barrier(3)
    running = [FORKSERVER.Process(target=sync, args=(tmp_path, barrier)) for _ in range(3)]
    for process in running:
        process.start()
    for process in running:
        process.join(120)
    assert [process.exitcode for process in running] == [0, 0, 0]
    assert ids(settings) == [f"id{number}" for number in range(100, 150)]


def test_a_release_says_who_asked_lately_and_not_what(settings: Settings, log: QueryLog, tmp_path: Path) -> None:
    log.write(entry(1, "select secret"))
    log.write(entry(2, "select older", at="2020-01-01T00:00:00+00:00"))
    database = tmp_path / "warehouse.duckdb"
    copy_history(Pipeline(settings), database)
    with duckdb.connect(str(database), read_only=True) as connection:
        found = connection.execute("FROM ops.queries").fetchall()
        columns = [each[0] for each in connection.description or ()]
    assert [dict(zip(columns, row, strict=True))["request_id"] for row in found] == ["id1"]
    assert not {"question", "token_id", "log", "log_end", "month"} & set(columns)
    assert b"select secret" not in database.read_bytes()
