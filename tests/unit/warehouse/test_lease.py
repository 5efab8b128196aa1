"""Laws of the lease: one builder per warehouse, whatever happens to it, and a number that only grows."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import CommitConflict, LeaseHeld, StateCorrupt
from common.settings import process_environment
from tests.unit.warehouse.small_warehouse import make_candidate
from warehouse.lease import _moment, lease, next_fence
from warehouse.releases import Releases

_HOLDER = """
import sys
from pathlib import Path
from warehouse.lease import lease
with lease(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
print("freed", flush=True)
"""

Holder = Callable[[Path], "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Callable[[str, Path], subprocess.Popen[str]]]:
    """Starts a process that runs a text for a warehouse; it is killed when the test ends, stopped or not."""
    root = Path(__file__).parents[3]
    with ExitStack() as started:

        def start(text: str, warehouse: Path) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", text, str(warehouse)],
                env=process_environment(PYTHONPATH=os.pathsep.join([str(root), *filter(None, sys.path)])),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            started.callback(process.wait)
            started.callback(process.kill)
            return process

        yield start


@pytest.fixture
def hold(start: Callable[[str, Path], subprocess.Popen[str]]) -> Holder:
    """Starts a process that holds a warehouse's lease until it is told to go, or killed."""

    def hold(warehouse: Path) -> subprocess.Popen[str]:
        process = start(_HOLDER, warehouse)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    return hold


@pytest.fixture(params=["warehouse", "a folder with spaces, 'quotes' and ümlauts"])
def warehouse(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A warehouse folder that is not there yet, its path plain or difficult."""
    return tmp_path / str(request.param)


def test_a_second_process_is_refused_and_told_what_to_do(warehouse: Path, hold: Holder) -> None:
    hold(warehouse)
    with pytest.raises(LeaseHeld, match=r"Another process.*Remedy: wait") as refused, lease(warehouse):
        pass
    assert refused.value.retryable
    assert str(warehouse) in str(refused.value)


def test_the_lease_is_free_again_when_its_holder_is_done(warehouse: Path, hold: Holder) -> None:
    holder = hold(warehouse)
    holder.communicate("go\n", timeout=60)
    with lease(warehouse):
        pass


def test_the_lease_is_free_again_when_its_holder_is_killed(warehouse: Path, hold: Holder) -> None:
    holder = hold(warehouse)
    holder.kill()
    holder.wait()
    with lease(warehouse):
        pass


def test_who_waits_gets_it_as_soon_as_the_holder_is_killed(warehouse: Path, hold: Holder) -> None:
    holder = hold(warehouse)
    waiter = subprocess.Popen(["/bin/sh", "-c", f"sleep 0.5; kill -9 {holder.pid}"])
    with lease(warehouse, wait_s=60.0):
        assert holder.poll() is not None or holder.wait(timeout=60) != 0
    waiter.wait()


def test_within_one_process_too_the_second_taker_is_refused(warehouse: Path) -> None:
    with lease(warehouse):
        with pytest.raises(LeaseHeld), lease(warehouse):
            pass
        with pytest.raises(LeaseHeld), lease(warehouse, wait_s=0.3):
            pass
    with lease(warehouse):
        pass


def test_the_lease_is_freed_when_its_block_raises(warehouse: Path) -> None:
    with pytest.raises(ZeroDivisionError), lease(warehouse):
        raise ZeroDivisionError
    with lease(warehouse):
        pass


def test_leases_of_two_warehouses_do_not_meet(tmp_path: Path) -> None:
    with lease(tmp_path / "one"), lease(tmp_path / "two"):
        pass


_ZOMBIE = """
import sys
from pathlib import Path
from common.errors import CommitConflict
from tests.unit.warehouse.small_warehouse import make_candidate
from warehouse.lease import lease
from warehouse.releases import Releases
with lease(Path(sys.argv[1]), lease_s=0.3) as held:
    releases = Releases(Path(sys.argv[1]), held)
    candidate = make_candidate(releases, 13)
    print(held.fence, candidate.folder, flush=True)
    sys.stdin.readline()
    try:
        releases.publish(candidate)
    except CommitConflict as error:
        print(f"refused: {error}", flush=True)
    else:
        print("published", flush=True)
"""


def test_a_builder_that_was_stopped_past_its_lease_cannot_publish_when_it_wakes(
    tmp_path: Path, start: Callable[[str, Path], subprocess.Popen[str]]
) -> None:
    warehouse = tmp_path / "w"
    zombie = start(_ZOMBIE, warehouse)
    assert zombie.stdin is not None
    assert zombie.stdout is not None
    fence, folder = zombie.stdout.readline().split(maxsplit=1)
    built = shutil.copytree(folder.strip(), tmp_path / "built")
    with _moment(warehouse, wait_s=None):  # not within its own moment: there it rightly keeps others out
        zombie.send_signal(signal.SIGSTOP)
        while psutil.Process(zombie.pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.01)
    with lease(warehouse, wait_s=60.0) as held:
        assert held.fence > int(fence)
        releases = Releases(warehouse, held)
        assert releases.publish(make_candidate(releases, 42)).current
    # Even if its candidate were still there, and the current release the one it was built on.
    shutil.copytree(built, folder.strip())
    (warehouse / "current").unlink()
    zombie.send_signal(signal.SIGCONT)
    zombie.stdin.write("go\n")
    zombie.stdin.flush()
    assert "refused: This process lost its lease" in zombie.stdout.readline()
    assert zombie.wait(timeout=60) == 0
    assert not (warehouse / "current").exists()
    assert [release.id for release in Releases(warehouse).all()] == ["r000002"]


def test_a_lease_is_renewed_as_long_as_its_holder_lives(warehouse: Path) -> None:
    with lease(warehouse, lease_s=3.0) as held:  # a busy machine may not let it renew for a second
        with pytest.raises(LeaseHeld), lease(warehouse, wait_s=4.0):
            pass
        with held.fenced():
            pass


def test_each_lease_has_a_greater_number_than_all_before_and_an_old_one_moves_nothing(warehouse: Path) -> None:
    with lease(warehouse) as first:
        pass
    with lease(warehouse) as second:
        assert second.fence > first.fence
        with pytest.raises(CommitConflict, match="lost its lease"), first.fenced():
            pass
        with second.fenced():
            pass


def test_a_damaged_lease_is_not_guessed(warehouse: Path) -> None:
    warehouse.mkdir()
    (warehouse / "lease.json").write_text("{}")
    with pytest.raises(StateCorrupt, match=r"is no lease.*Remedy"), lease(warehouse):
        pass


@settings(max_examples=30, deadline=None)
@given(taken=st.lists(st.sampled_from(["taken", "lost", "released"]), min_size=1, max_size=12))
def test_the_number_only_grows_whatever_happens_to_releases_and_counter(
    tmp_path_factory: pytest.TempPathFactory, taken: list[str]
) -> None:
    warehouse = tmp_path_factory.mktemp("fence")
    numbers = [next_fence(warehouse)]
    released = 0
    for event in taken:
        if event == "released":
            released = numbers[-1]
            (warehouse / "releases" / f"r{released:06d}").mkdir(parents=True, exist_ok=True)
        elif event == "lost" and released == numbers[-1]:
            (warehouse / "fence").unlink()
        numbers.append(next_fence(warehouse))
    assert numbers == sorted(set(numbers))


def test_a_counter_that_is_no_number_stops_the_build_and_is_not_guessed(warehouse: Path) -> None:
    next_fence(warehouse)
    (warehouse / "fence").write_text("twelve")
    with pytest.raises(StateCorrupt, match=r"does not hold a number.*Remedy"):
        next_fence(warehouse)
    assert (warehouse / "fence").read_text() == "twelve"
