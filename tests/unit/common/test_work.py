"""Laws of the account of work: charges are exclusive, add up to what was used, and are shared out as was said."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import usage, work
from common.errors import GateRefused
from common.usage import Usage
from common.work import What, Work

Tree = list[Any]
"""Steps and what lies inside each."""

TREES: st.SearchStrategy[Tree] = st.recursive(st.just([]), lambda inner: st.lists(inner, max_size=3), max_leaves=12)


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Every look costs one second of CPU and ten bytes; the list says how many looks there were."""
    looks = [0]

    def look() -> Usage:
        looks[0] += 1
        return Usage(float(looks[0]), float(looks[0]), 10 * looks[0], 0, looks[0])

    monkeypatch.setattr(usage, "look", look)
    monkeypatch.setattr(work, "MOMENT_S", -1.0)
    yield looks
    monkeypatch.undo()
    work.begin("")


def _walk(of: Work, tree: Tree) -> None:
    for number, inner in enumerate(tree):
        with of.step(f"step{number}", stage="ingest"):
            _walk(of, inner)


@given(trees=st.lists(TREES.filter(bool), min_size=1, max_size=3))
def test_charges_add_up_to_what_was_used_however_work_is_nested(trees: list[Tree]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        looks = [0]

        def look() -> Usage:
            looks[0] += 1
            return Usage(float(looks[0]), float(looks[0]), 10 * looks[0], 0, looks[0])

        patched.setattr(usage, "look", look)
        work.begin("test")
        began = looks[0]
        of = Work("run")
        for number, tree in enumerate(trees):
            with of.batch("ingest", f"raw.t{number}", "2013-01-01"):
                _walk(of, tree)
        rows = of.take()
        assert sum(row["cpu_s"] for row in rows) == looks[0] - began
        assert sum(row["read_bytes"] for row in rows) == 10 * (looks[0] - began)
        assert {row["table_name"] for row in rows} == {"", *(f"raw.t{n}" for n in range(len(trees)))}
        assert of.take() == []
    work.begin("")


@pytest.mark.usefixtures("ticking")
def test_a_shared_step_is_borne_in_equal_shares_and_a_rest_stays_where_it_was() -> None:
    work.begin("test")
    of = Work("run")
    with of.shared("publish", "ingest", [("raw.a", "1"), ("raw.b", "2")]):
        pass
    with of.step("models", stage="warehouse") as models:
        models.shares = [(What("warehouse", "models", "warehouse.x"), 0.25)]
    rows = {(row["step"], row["table_name"]): row["cpu_s"] for row in of.take()}
    assert rows["publish", "raw.a"] == rows["publish", "raw.b"] == 0.5
    assert (rows["models", "warehouse.x"], rows["models", ""]) == (0.25, 0.75)


@pytest.mark.usefixtures("ticking")
def test_work_that_fails_is_charged_as_well() -> None:
    work.begin("test")
    of = Work("run")
    with pytest.raises(GateRefused), of.batch("ingest", "raw.a", "1"), of.step("gate"):
        raise GateRefused("no")
    assert {(row["step"], row["times"]) for row in of.take()} == {("gate", 1), ("rest", 1), ("other", 1)}


def test_a_command_that_did_no_work_keeps_nothing() -> None:
    work.begin("test")
    kept: list[list[dict[str, Any]]] = []
    of = Work("run", keep=lambda: kept.append(of.take()))
    work.end()
    assert kept == [[]]


def test_keeping_that_fails_is_told_and_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def full() -> None:
        raise OSError("no space left")

    work.begin("test")
    of = Work("run", keep=full)
    work.end()
    assert of.run_id == "run"
    assert "no space left" in caplog.text


def test_a_forked_process_counts_from_its_own_beginning() -> None:
    sum(n * n for n in range(2_000_000))  # the parent has used something
    work.begin("test")
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        of = Work("child")
        with of.step("extract", stage="ingest"):
            pass
        used = sum(row["cpu_s"] for row in of.take())
        os.write(write, b"%f" % used)
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    assert 0 <= float(os.read(read, 64)) < 0.5
    os.close(read)


@pytest.mark.skipif(not usage.COUNTS_BYTES, reason="this system does not count bytes")
def test_bytes_are_those_of_the_process(tmp_path: Any) -> None:
    before = usage.look()
    (tmp_path / "file").write_bytes(b"x" * 1_000_000)
    (tmp_path / "file").read_bytes()
    moved = usage.look().since(before)
    assert 1_000_000 <= moved.read_bytes < 1_100_000
    assert 1_000_000 <= moved.written_bytes < 1_100_000
