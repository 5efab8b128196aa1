"""Laws of intervals: days tile time without gap or overlap, whatever the zone's clocks do."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import IntervalError, SettingsError
from common.intervals import Interval, day_interval, day_keys

ZONES = st.sampled_from(["UTC", "America/New_York", "Asia/Kathmandu", "Pacific/Apia", "Australia/Lord_Howe"])
DAYS = st.dates(date(2012, 1, 1), date(2030, 12, 31))


@given(DAYS, ZONES)
def test_days_that_follow_each_other_share_exactly_one_instant(day: date, zone: str) -> None:
    following = day_interval((day + timedelta(days=1)).isoformat(), zone)
    assert day_interval(day.isoformat(), zone).end == following.start


def test_a_new_york_day_starts_at_five_utc_in_winter_and_at_four_in_summer() -> None:
    assert day_interval("2013-01-01", "America/New_York").start == datetime(2013, 1, 1, 5, tzinfo=UTC)
    assert day_interval("2013-07-01", "America/New_York").start == datetime(2013, 7, 1, 4, tzinfo=UTC)


@pytest.mark.parametrize(("day", "hours"), [("2013-03-10", 23), ("2013-11-03", 25), ("2013-06-01", 24)])
def test_a_day_on_which_clocks_change_is_shorter_or_longer(day: str, hours: int) -> None:
    interval = day_interval(day, "America/New_York")
    assert interval.end - interval.start == timedelta(hours=hours)


@given(DAYS, st.integers(1, 400))
def test_a_range_of_days_has_its_first_and_not_its_end(first: date, length: int) -> None:
    end = first + timedelta(days=length)
    keys = day_keys(first.isoformat(), end.isoformat())
    assert len(keys) == length
    assert keys[0] == first.isoformat()
    assert end.isoformat() not in keys
    assert keys == sorted(set(keys))


@pytest.mark.parametrize("text", ["2013-1-1", "20130101", "yesterday", "2013-02-30", "", "2013-01-01T00:00"])
def test_what_is_no_calendar_day_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(IntervalError, match="YYYY-MM-DD"):
        day_interval(text)


@pytest.mark.parametrize(("start", "end"), [("2013-01-02", "2013-01-02"), ("2013-01-02", "2013-01-01")])
def test_a_range_without_a_day_is_refused(start: str, end: str) -> None:
    with pytest.raises(IntervalError, match="end is exclusive"):
        day_keys(start, end)


def test_an_interval_in_another_zone_than_utc_is_refused() -> None:
    start = datetime(2013, 1, 1, tzinfo=ZoneInfo("Asia/Kathmandu"))
    with pytest.raises(IntervalError, match="UTC"):
        Interval("2013-01-01", start, start + timedelta(days=1))


def test_an_unknown_zone_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="Mars/Olympus"):
        day_interval("2013-01-01", "Mars/Olympus")
