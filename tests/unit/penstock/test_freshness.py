"""Laws of freshness by interval, on every clock: only the days themselves make a table fresh, or leave a hole in it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.intervals import day_interval
from penstock.freshness import Promise, due_at, judge

HOUR = 3600
ZONES = st.sampled_from(["UTC", "America/New_York", "Pacific/Auckland", "Asia/Kolkata"])
DAYS = [(date(2026, 3, 20) + timedelta(days=number)).isoformat() for number in range(20)]  # over a change of clocks


@settings(max_examples=50)
@given(
    st.sets(st.sampled_from(DAYS)),
    ZONES,
    st.integers(1, 80),
    st.integers(0, 18 * 24),
    st.booleans(),
)
def test_late_are_exactly_the_due_days_behind_the_last_and_holes_those_between(
    published: set[str], time_zone: str, max_age_h: int, hours: int, starts: bool
) -> None:
    first = date.fromisoformat(DAYS[0]) if starts else None
    promise = Promise(time_zone, max_age_h * HOUR, first)
    now = datetime(2026, 3, 21, tzinfo=UTC) + timedelta(hours=hours)
    found = judge(published, promise, now)
    begin = DAYS[0] if starts else min(published, default="9999-12-31")
    due = [day for day in DAYS if day >= begin and due_at(day, promise) <= now]
    assert found.due == (due[-1] if due else "")
    last = max(published, default="")
    assert found.overdue == tuple(day for day in due if day > last)
    assert found.holes == tuple(
        day for day in DAYS if published and min(published) < day < last and day not in published
    )
    assert (found.since is None) == (not found.overdue)
    older = {day for day in DAYS if day < begin or day < last}
    if published:
        assert judge(published | older, promise, now).overdue == found.overdue, "old days make nothing fresh"


@settings(max_examples=50)
@given(ZONES, st.integers(1, 200))
def test_a_day_is_due_when_its_predecessor_has_grown_too_old_and_never_before_its_own_end(
    time_zone: str, max_age_h: int
) -> None:
    promise = Promise(time_zone, max_age_h * HOUR)
    before, day = (day_interval(key, time_zone) for key in DAYS[5:7])
    assert due_at(day.key, promise) == max(day.end, before.end + timedelta(hours=max_age_h))


@pytest.mark.parametrize("now", [datetime(2026, 4, 20, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)])
def test_behind_its_end_a_source_is_late_with_nothing_and_keeps_its_holes(now: datetime) -> None:
    promise = Promise("UTC", 36 * HOUR, date.fromisoformat(DAYS[0]), date.fromisoformat(DAYS[10]))
    found = judge({DAYS[0], DAYS[2]}, promise, now)
    assert (found.due, found.overdue, found.holes) == ("", (), (DAYS[1],))


def test_a_table_that_nobody_has_begun_with_is_late_only_where_a_start_is_declared() -> None:
    now = datetime(2026, 3, 25, tzinfo=UTC)
    assert judge(set(), Promise("UTC", 36 * HOUR), now).overdue == ()
    promise = Promise("UTC", 36 * HOUR, date.fromisoformat(DAYS[0]))
    assert judge(set(), promise, now).overdue == tuple(DAYS[:4])
