"""Laws of a backfill's arithmetic: every wanted day runs once, no other day runs, and limits hold."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UsageError
from penstock.backfill_plan import (
    WANTED,
    Span,
    Wish,
    allowance,
    chunks,
    day_after,
    next_span,
    remaining,
    spans,
)

DAYS = [(date(2013, 2, 20) + timedelta(days=offset)).isoformat() for offset in range(25)]
NOW = datetime(2013, 3, 1, 12, tzinfo=UTC)
wanted_days = st.dictionaries(
    st.sampled_from(DAYS), st.sets(st.sampled_from(["flights", "weather"]), min_size=1), max_size=25
)
wholes = st.lists(st.sampled_from(["planes", "airlines"]), unique=True)


def days_of(found: list[Span]) -> list[str]:
    return [key for span in found for key in span.keys]


def worked(found: list[Span], newest_first: bool) -> list[str]:
    """Days in the order in which they are worked on."""
    return [key for span in found for key in (span.keys[::-1] if newest_first else span.keys)]


def test_each_mode_wants_what_the_one_before_it_wants_and_more() -> None:
    assert WANTED["only-missing"] < WANTED["stale"] < WANTED["all"]
    assert "outside" not in WANTED["all"]


@given(days=wanted_days, whole=wholes, newest_first=st.booleans())
def test_every_wanted_day_is_in_one_span_with_its_tables_and_no_other_day_is(
    days: dict[str, set[str]], whole: list[str], newest_first: bool
) -> None:
    found = spans(days, whole=whole, otherwise=DAYS[-1], newest_first=newest_first)
    in_spans = days_of(found)
    assert len(in_spans) == len(set(in_spans))
    assert set(in_spans) == set(days) or (not days and in_spans == ([DAYS[-1]] if whole else []))
    for span in found:
        for key in span.keys:
            assert set(span.tables) - set(whole) == days.get(key, set())


@given(days=wanted_days, whole=wholes, newest_first=st.booleans())
def test_whole_tables_run_once_and_before_everything_else(
    days: dict[str, set[str]], whole: list[str], newest_first: bool
) -> None:
    found = spans(days, whole=whole, otherwise=DAYS[-1], newest_first=newest_first)
    with_whole = [number for number, span in enumerate(found) if set(whole) & set(span.tables)]
    assert with_whole == ([0] if whole else [])
    assert not whole or len(found[0].keys) == 1


@given(days=wanted_days, newest_first=st.booleans())
def test_spans_are_in_the_order_of_work_and_as_long_as_they_can_be(
    days: dict[str, set[str]], newest_first: bool
) -> None:
    found = spans(days, newest_first=newest_first)
    firsts = [span.first for span in found]
    assert firsts == sorted(firsts, reverse=newest_first)
    in_time = sorted(found, key=lambda span: span.first)
    for one, other in pairwise(in_time):
        assert day_after(one.last) != other.first or one.tables != other.tables


@given(days=wanted_days, whole=wholes, newest_first=st.booleans(), tried=st.sets(st.sampled_from(DAYS)))
def test_what_is_left_and_what_was_tried_are_the_plan(
    days: dict[str, set[str]], whole: list[str], newest_first: bool, tried: set[str]
) -> None:
    planned = spans(days, whole=whole, otherwise=DAYS[-1], newest_first=newest_first)
    left = remaining(planned, tried, newest_first=newest_first)
    assert worked(left, newest_first) == [key for key in worked(planned, newest_first) if key not in tried]
    tables = {key: span.tables for span in planned for key in span.keys}
    assert all(tables[key] == span.tables for span in left for key in span.keys)
    assert remaining(planned, set(days_of(planned))) == []


@given(days=wanted_days.filter(bool), newest_first=st.booleans(), limit=st.integers(1, 6))
def test_working_through_a_plan_by_a_limit_tries_every_day_once_in_order(
    days: dict[str, set[str]], newest_first: bool, limit: int
) -> None:
    planned, tried = spans(days, newest_first=newest_first), list[str]()
    while left := remaining(planned, tried, newest_first=newest_first):
        span = next_span(left, allowed=limit, newest_first=newest_first)
        assert span is not None
        assert len(span.keys) <= limit
        tried += span.keys[::-1] if newest_first else span.keys
    assert tried == sorted(days, reverse=newest_first)


@given(ages_min=st.lists(st.integers(0, 180), max_size=30), limit=st.integers(1, 20))
def test_no_hour_starts_more_than_its_limit(ages_min: list[int], limit: int) -> None:
    started = [NOW - timedelta(minutes=age) for age in ages_min]
    allowed = allowance(limit, started, NOW)
    assert allowed is not None
    within = sum(age < 60 for age in ages_min)
    assert allowed == max(0, limit - within)
    assert allowance(None, started, NOW) is None


def test_nothing_starts_while_nothing_is_allowed() -> None:
    assert next_span([Span(DAYS[0], DAYS[3], ("flights",))], allowed=0, newest_first=False) is None
    assert next_span([], allowed=None, newest_first=False) is None


@given(size=st.integers(1, 7))
def test_chunks_are_the_keys_in_order(size: int) -> None:
    found = chunks(DAYS, size)
    assert [key for chunk in found for key in chunk] == DAYS
    assert all(len(chunk) <= size for chunk in found)


@given(
    wish=st.builds(
        Wish,
        targets=st.lists(st.sampled_from(["flights", "stations"]), min_size=1).map(tuple),
        start=st.just(DAYS[0]),
        end=st.just(DAYS[9]),
        mode=st.sampled_from(list(WANTED)),
        newest_first=st.booleans(),
        parallel=st.integers(1, 9),
        max_per_hour=st.none() | st.integers(1, 99),
        stop_on_failure=st.booleans(),
    )
)
def test_a_wish_survives_its_way_through_a_form(wish: Wish) -> None:
    assert Wish.from_dict({**wish.to_dict(), "dry_run": False}) == wish


@pytest.mark.parametrize(
    "given_",
    [
        {},
        {"targets": [], "start": DAYS[0], "end": DAYS[1]},
        {"targets": ["flights"], "start": DAYS[0]},
        {"targets": ["flights"], "start": DAYS[1], "end": DAYS[0]},
        {"targets": ["flights"], "start": DAYS[0], "end": DAYS[1], "mode": "missing"},
        {"targets": ["flights"], "start": DAYS[0], "end": DAYS[1], "parallel": 0},
        {"targets": ["flights"], "start": DAYS[0], "end": DAYS[1], "max_per_hour": 0},
    ],
)
def test_a_form_that_says_nothing_sound_is_refused(given_: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Wish.from_dict(given_)
