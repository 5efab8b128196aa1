"""What an armed fault point does, and when."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from datetime import timedelta

import pytest

from common import clock, fault_points
from common.errors import SettingsError, StateCorrupt, StoreUnavailable
from common.fault_points import POINTS, arm, parse, reach

POINT = "lake.publish.before_commit"


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


def acted(times: int, point: str = POINT) -> list[int]:
    """At which of so many times that a point is reached it raises."""
    found = []
    for time in range(1, times + 1):
        try:
            reach(point)
        except StoreUnavailable:
            found.append(time)
    return found


def test_nothing_happens_unless_a_point_is_armed() -> None:
    for point in POINTS:
        reach(point)
    assert fault_points._armed == []


@pytest.mark.parametrize(
    ("when", "times"), [("", [1]), (":1", [1]), (":3", [3]), (":2+", [2, 3, 4, 5])], ids=["first", "1", "3", "2+"]
)
def test_a_rule_acts_at_its_time_and_no_other(when: str, times: list[int]) -> None:
    arm(f"{POINT}{when}:retryable")
    reach("lake.publish.after_commit")
    assert acted(5) == times


def test_a_probability_acts_at_the_same_times_again_for_the_same_seed() -> None:
    seen = []
    for seed in (1, 1, 2):
        arm(f"lake.*:p=0.5/{seed}:retryable")
        seen.append(acted(200))
    assert seen[0] == seen[1] != seen[2]
    assert 60 < len(seen[0]) < 140
    assert acted(50, "warehouse.publish.before_swap") == []


def test_several_rules_act_each_for_itself() -> None:
    arm(f"{POINT}:1:retryable, lake.merge.before_commit:2:terminal")
    assert acted(2) == [1]
    reach("lake.merge.before_commit")
    with pytest.raises(StateCorrupt):
        reach("lake.merge.before_commit")


def test_actions_are_told_apart_by_what_they_raise() -> None:
    arm(f"{POINT}:1:lost-reply,{POINT}:2:disk-full")
    with pytest.raises(ConnectionResetError):
        reach(POINT)
    with pytest.raises(OSError, match="no space left") as full:
        reach(POINT)
    assert full.value.errno == errno.ENOSPC


def test_a_clock_step_moves_this_process_s_time_and_no_duration() -> None:
    before = clock.utc_now()
    arm(f"{POINT}:1:clock=-3600")
    try:
        reach(POINT)
        assert before - timedelta(seconds=3600) <= clock.utc_now() < before - timedelta(seconds=600)
        assert clock.unix_s() < before.timestamp() - 600
    finally:
        clock.step(3600)


@pytest.mark.parametrize(
    "text", ["lake.publish", "lake.nowhere.*", f"{POINT}:soon", f"{POINT}:delay=long", f"{POINT}:p=often/1", ":1"]
)
def test_a_rule_that_would_prove_nothing_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="PENSTOCK_FAULT_POINT"):
        parse(text)
