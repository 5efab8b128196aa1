"""Faults 19 and 20: other people's SQL reads what its role may see, nothing else, and takes no more than its share."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.security.sandbox_release import CANARY, HIDDEN_AMOUNT, make_release, views_of
from warehouse.releases import Release
from warehouse.serve.problems import Problem
from warehouse.serve.sandbox import Limits, Sandbox, Statement

HERE = Path(__file__).parent
REFUSED = {"sql_refused", "sql_error"}
ABSOLUTE_PATH = re.compile(r"(?<![\w.<])/(?:[\w.-]+/)+[\w.-]*")


def statements(name: str) -> list[str]:
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("--")]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return make_release(tmp_path_factory.mktemp("sandbox") / "warehouse")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    running = Sandbox(Limits(wall_s=2.0, cpu_s=5, memory_mb=256, max_rows=5_000, max_bytes=4 << 20), warm=3)
    yield running
    running.close()


class Trap:
    """A listener that counts who connects."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.connections = 0
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            connection.close()

    def close(self) -> None:
        """Listen no longer."""
        self._listener.close()


def outcome(sandbox: Sandbox, release: Release, sql: str) -> tuple[str, str]:
    """What became of a statement: a code or ``answered``, and every word that came back."""
    try:
        answer = sandbox.run(release.folder, Statement(sql, views_of(release)))
    except Problem as problem:
        return problem.code, str(problem)
    return "answered", answer.content.decode()


def test_no_statement_of_the_corpus_escapes(
    sandbox: Sandbox, release: Release, tmp_path: Path, figures: Callable[..., None]
) -> None:
    corpus = statements("escapes.sql")
    assert len(set(corpus)) == len(corpus) > 300
    canary_file = tmp_path / "canary.csv"
    canary_file.write_text(f"word\n{CANARY}\n")
    trap = Trap()
    before = written(tmp_path, release.folder.parent)
    places = {"file": str(canary_file), "database": str(release.database), "port": str(trap.port)}

    def attempt(sql: str) -> tuple[str, str, str]:
        filled = re.sub(r"\{(file|database|port)\}", lambda found: places[found[1]], sql)
        return sql, *outcome(sandbox, release, filled)

    with ThreadPoolExecutor(2) as threads:
        outcomes = list(threads.map(attempt, corpus))
    trap.close()
    told = {sql: text for sql, _, text in outcomes}
    leaks = [sql for sql, text in told.items() if CANARY in text or str(HIDDEN_AMOUNT) in text or "root:" in text]
    paths = {sql: ABSOLUTE_PATH.findall(text) for sql, text in told.items()}
    own = {sql: [path for path in found if path not in attempted(sql, places)] for sql, found in paths.items()}
    with_paths = {sql: found for sql, found in own.items() if found}
    # What asks for nothing that is not the caller's may be answered; everything else is refused before it runs.
    answered = [(sql, code) for sql, code, _ in outcomes if code not in REFUSED and not is_harmless(sql)]
    figures(
        statements=len(corpus),
        escapes=len({*leaks, *(sql for sql, _ in answered)}),
        absolute_paths=len(with_paths),
        connections=trap.connections,
    )
    assert leaks == []
    assert with_paths == {}
    assert answered == []
    assert trap.connections == 0
    assert written(tmp_path, release.folder.parent) == before


def written(*folders: Path) -> dict[Path, int]:
    """When each file below some folders was written."""
    return {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*")}


def attempted(sql: str, places: dict[str, str]) -> str:
    """The statement as it was sent: a refusal may repeat the caller's own words."""
    return re.sub(r"\{(file|database|port)\}", lambda found: places[found[1]], sql)


def is_harmless(sql: str) -> bool:
    """Statements of the section on errors: they run, over the rows that are the caller's, and find nothing."""
    return "cast(c" in sql or "code::integer" in sql


def test_what_people_really_write_is_answered(sandbox: Sandbox, release: Release) -> None:
    with ThreadPoolExecutor(2) as threads:
        outcomes = threads.map(lambda sql: (sql, *outcome(sandbox, release, sql)), statements("permitted.sql"))
    assert [each for each in outcomes if each[1] != "answered"] == []


def test_a_statement_sees_the_rows_and_columns_of_its_role_only(sandbox: Sandbox, release: Release) -> None:
    assert outcome(sandbox, release, "select * from visible order by amount")[1] == (
        '{"rows":[{"code":"open","amount":1},{"code":"open","amount":3}]}'
    )


def test_a_worker_has_every_wall_that_this_machine_can_give(sandbox: Sandbox, release: Release) -> None:
    layers = sandbox.warm_up(release.folder)
    assert {"limits", "system calls"} <= set(layers)
    if os.geteuid() == 0:
        assert {"no network", "no files", "as nobody"} <= set(layers)


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("select repeat('x', 2000000000)", "sql_too_much_memory"),
        ("select list(range(100000000)) from range(1000)", "sql_too_much_memory"),
        ("select count(*) from range(1000000) a, range(1000000) b where a.range + b.range = 7", "sql_too_slow"),
        ("with recursive r as (select 1 n union all select n + 1 from r) select max(n) from r", "sql_too_slow"),
        ("select * from range(10000000)", "sql_too_large"),
        ("select repeat('x', 1000) from range(5000)", "sql_too_large"),
        ("select " + "(" * 5000 + "1" + ")" * 5000, None),
        ("select " + "1 + " * 10000 + "1", None),
        ("select " + "x" * 100_000, "sql_refused"),
        ("select 1 where '\0' = ''", "sql_refused"),
        ("select '\ud800'", None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_statement_that_takes_too_much_is_ended_and_told_why(
    sandbox: Sandbox, release: Release, figures: Callable[..., None], sql: str, code: str | None
) -> None:
    began = time.monotonic()
    with largest_rss() as rss:
        found, text = outcome(sandbox, release, sql)
    figures(
        action=found,
        ended_after_s=round(time.monotonic() - began, 3),
        limit_s=sandbox.limits.wall_s,
        worker_peak_rss_mb=max(rss, default=0) >> 20,
        memory_limit_mb=sandbox.limits.memory_mb,
    )
    assert found == code or code is None, text
    assert outcome(sandbox, release, "select 1 as one")[1] == '{"rows":[{"one":1}]}'


@contextmanager
def largest_rss() -> Iterator[list[int]]:
    """Resident memory of workers, in bytes, five times a second: a look goes through all processes there are."""
    seen: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    seen.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def test_neighbours_of_a_hog_are_answered_while_it_runs(release: Release, figures: Callable[..., None]) -> None:
    sandbox = Sandbox(Limits(wall_s=2.0, cpu_s=2, memory_mb=256, running=2), warm=2)
    try:
        sandbox.warm_up(release.folder)
        with ThreadPoolExecutor(1) as thread:
            alone_ms = [asked_ms(sandbox, release) for _ in range(20)]
            hog = thread.submit(outcome, sandbox, release, "select sum(hash(range)) from range(1000000000000)")
            beside_ms = []
            while not hog.done():
                beside_ms.append(asked_ms(sandbox, release))
            assert hog.result()[0] == "sql_too_slow"
        assert len(beside_ms) > 1
        figures(
            action="neighbours of a hog",
            neighbour_p95_ms=round(sorted(beside_ms)[int(0.95 * (len(beside_ms) - 1))], 1),
            alone_p95_ms=round(sorted(alone_ms)[18], 1),
        )
    finally:
        sandbox.close()


def asked_ms(sandbox: Sandbox, release: Release) -> float:
    """How long a small question takes, which is answered, in ms."""
    began = time.perf_counter()
    assert outcome(sandbox, release, "select sum(amount) as s from visible")[1] == '{"rows":[{"s":4}]}'
    return (time.perf_counter() - began) * 1000


def test_a_release_that_is_gone_ends_no_statement_on_another_one(release: Release, tmp_path: Path) -> None:
    sandbox = Sandbox(Limits(wall_s=2.0, cpu_s=60, memory_mb=256, running=2), warm=1)
    try:
        sandbox.warm_up(release.folder)
        with ThreadPoolExecutor(1) as thread:
            hog = thread.submit(outcome, sandbox, release, "select sum(hash(range)) from range(1000000000000)")
            while not hog.done():
                with pytest.raises(Problem, match="could be started"):
                    sandbox.warm_up(tmp_path / "gone")
            assert hog.result()[0] == "sql_too_slow"
    finally:
        sandbox.close()


def test_more_than_may_wait_are_sent_away_and_told_to_come_again(release: Release) -> None:
    sandbox = Sandbox(Limits(wall_s=1.0, cpu_s=2, running=1, waiting=1, wait_s=5.0), warm=1)
    try:
        with ThreadPoolExecutor(4) as threads:
            hog = "select sum(hash(range)) from range(1000000000000)"
            codes = sorted(found for found, _ in threads.map(lambda _: outcome(sandbox, release, hog), range(4)))
        assert codes == ["busy", "busy", "sql_too_slow", "sql_too_slow"]
    finally:
        sandbox.close()


def test_no_process_is_left_when_the_sandbox_is_closed_or_its_server_died(release: Release) -> None:
    before = set(psutil.Process().children(recursive=True))
    sandbox = Sandbox(Limits(), warm=3)
    sandbox.warm_up(release.folder)
    started = set(psutil.Process().children(recursive=True)) - before
    assert len(started) >= 4
    sandbox.close()
    deadline = time.monotonic() + 60
    while any(process.is_running() and process.status() != "zombie" for process in started):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_template_that_was_killed_is_started_again(release: Release) -> None:
    sandbox = Sandbox(Limits(), warm=1)
    try:
        sandbox.warm_up(release.folder)
        assert sandbox._template is not None
        sandbox._template.kill()
        sandbox._template.wait()
        for _ in range(3):
            assert outcome(sandbox, release, "select 1 as one")[1] == '{"rows":[{"one":1}]}'
    finally:
        sandbox.close()
