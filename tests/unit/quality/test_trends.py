"""Laws of judging a figure by a table's own past."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import SpecError
from quality.suite import Anomaly, Suite
from quality.trends import MIN_DAYS, MIN_INTERVALS, duration, judge_age, judge_rows

TUESDAY = date(2013, 6, 4)
NOW = datetime(2013, 6, 4, 9, tzinfo=UTC)


def weekly(counts: list[int], other: int = 100) -> list[tuple[date, int]]:
    """So many rows on the Tuesdays before, the last one nearest, and ``other`` on the days between."""
    days = [(TUESDAY - timedelta(days=n), other) for n in range(1, 7 * len(counts) + 1) if n % 7]
    return days + [(TUESDAY - timedelta(weeks=n), count) for n, count in enumerate(reversed(counts), start=1)]


def test_the_reason_names_the_weekday_the_range_the_median_and_the_share() -> None:
    judged = judge_rows(weekly([880, 960, 912, 900, 950, 890, 924, 912]), TUESDAY, 612)
    assert judged.sentence == ("612 rows on a Tuesday; the last 8 Tuesdays had 880 to 960, median 912: 33% below")
    assert judged.exceeds(5.0)
    assert not judged.exceeds(None)


def test_a_weekday_is_compared_with_its_own_kind() -> None:
    quiet = weekly([50] * 8, other=1000)
    assert not judge_rows(quiet, TUESDAY, 52).exceeds(5.0)
    assert judge_rows(quiet, TUESDAY, 1000).exceeds(5.0)


def test_too_short_a_past_is_said_and_is_no_alarm() -> None:
    past = [(TUESDAY - timedelta(days=n), 100) for n in range(1, MIN_DAYS)]
    judged = judge_rows(past, TUESDAY, 0)
    assert judged.sentence == f"not enough history: {MIN_DAYS - 1} days before it, {MIN_DAYS} are needed"
    assert not judged.exceeds(0.0)


def test_days_behind_the_judged_one_are_not_its_past() -> None:
    after = [(TUESDAY + timedelta(days=n), 100) for n in range(40)]
    assert judge_rows(after, TUESDAY, 5).deviations is None


@settings(max_examples=30)
@given(st.lists(st.integers(50, 150), min_size=8, max_size=8), st.integers(0, 400))
def test_neither_the_order_of_the_past_nor_one_wild_day_decides(counts: list[int], rows: int) -> None:
    past = weekly(counts)
    assert judge_rows(past[::-1], TUESDAY, rows) == judge_rows(past, TUESDAY, rows)
    wild = judge_rows(weekly([10**9, *counts[1:]]), TUESDAY, rows)
    assert 50 <= wild.median <= 150


@settings(max_examples=30)
@given(st.lists(st.integers(0, 1000), min_size=8, max_size=8), st.integers(0, 1000), st.integers(0, 1000))
def test_the_farther_from_the_median_the_more_deviations(counts: list[int], one: int, other: int) -> None:
    first, second = (judge_rows(weekly(counts), TUESDAY, rows) for rows in (one, other))
    assert first.deviations is not None
    assert second.deviations is not None
    if abs(one - first.median) > abs(other - second.median):
        assert abs(first.deviations) >= abs(second.deviations)


@settings(max_examples=30)
@given(st.integers(1, 10_000))
def test_what_always_was_is_never_unusual_and_nothing_at_all_always_is_where_rows_were_many(rows: int) -> None:
    past = weekly([rows] * 8, other=rows)
    assert judge_rows(past, TUESDAY, rows).deviations == 0
    assert judge_rows(past, TUESDAY, 0).exceeds(5.0) == (rows > 25)


# -- age ---------------------------------------------------------------------------------------------------------------


def arrivals(lag: timedelta, count: int = 30) -> list[tuple[datetime, datetime]]:
    """One interval a day, the newest one of the day before, each published ``lag`` after its end."""
    ends = [datetime(2013, 6, 4, tzinfo=UTC) - timedelta(days=n) for n in range(count)]
    return [(end, end + lag) for end in ends]


def test_a_table_that_comes_daily_is_late_when_half_a_day_overdue() -> None:
    past = arrivals(timedelta(hours=3))
    assert judge_age(past, NOW).deviations == 0
    assert not judge_age(past, NOW + timedelta(hours=29)).exceeds(5.0)
    late = judge_age(past, NOW + timedelta(days=2))
    assert late.exceeds(5.0)
    assert late.sentence == (
        "the newest interval ended 2 days 9 h ago; the last 28 were published 3 h after their end (median), "
        "one every 1 day: 1 day 6 h overdue"
    )


def test_a_backfill_of_old_days_is_no_alarm() -> None:
    done = [(datetime(2013, 1, 1, tzinfo=UTC) + timedelta(days=n), NOW + timedelta(days=900)) for n in range(31)]
    assert judge_age(done, NOW + timedelta(days=901)).deviations == 0


def test_too_few_intervals_have_no_rhythm() -> None:
    assert judge_age(arrivals(timedelta(), MIN_INTERVALS - 1), NOW + timedelta(days=99)).deviations is None


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (59.6, "1 min"), (3661, "1 h 1 min"), (90_000, "1 day 1 h"), (172_800, "2 days")]
)
def test_durations_are_told_in_two_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


# -- the key of a suite ------------------------------------------------------------------------------------------------


def test_a_raw_suite_warns_by_default_and_a_refined_one_only_where_asked() -> None:
    rule = {"id": "a", "expect": "expect_column_to_exist", "kwargs": {"column": "a"}, "severity": "info", "why": "."}
    raw, refined = (
        Suite.model_validate({"suite": f"{stage}/t", "expectations": [rule]}) for stage in ("raw", "refined")
    )
    assert raw.anomaly_limits == Anomaly(warn=5.0, refuse="none")
    assert refined.anomaly_limits is None


def test_a_suite_that_refuses_before_it_warns_is_refused() -> None:
    with pytest.raises(ValueError, match="warns before it refuses"):
        Anomaly(warn=5.0, refuse=3.0)
    with pytest.raises(ValueError, match="warns before it refuses"):
        Anomaly(warn="none", refuse=3.0)


def test_a_candidate_has_no_batches_to_be_unusual(tmp_path: object) -> None:
    from pathlib import Path

    from quality.suite import load_suite

    path = Path(str(tmp_path)) / "t.yml"
    path.write_text(
        "suite: warehouse/t\nanomaly: {warn: 4.0}\nexpectations:\n"
        "  - {id: a, expect: expect_column_to_exist, kwargs: {column: a}, severity: info, why: x}\n"
    )
    with pytest.raises(SpecError, match=r"t\.yml:2: a candidate is judged as a whole"):
        load_suite(path)
