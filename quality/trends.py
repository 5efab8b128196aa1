"""Whether a figure is unusual against a table's own past: how many rows came, and how late the newest ones are.

A rule in a suite says what is wrong whatever happened before. This says what is odd: judged by the median and the
median absolute deviation of the past, which one wild day cannot move, and by the same weekday once there are enough of
them. It only judges numbers that it is given; who reads them and what follows is decided elsewhere.

``spread = max(1.4826 x MAD, 0.5 % of the median, square root of the median)``

1.4826 makes the first a standard deviation where the past is normal. The other two are floors, for a past that hardly
varied: rounding, and the chance in any count (of 72 readings a day, 70 is no news). Without the last one the year of
demo flights has 59 warnings and its weather 16; with it 13 and none, ten of them the days around holidays.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise

WEEKS = 8
"""How many of the same weekday are looked back on."""

MIN_WEEKS = 5
"""Below so many of the same weekday, all days count."""

DAYS, MIN_DAYS = 28, 14
"""How many days are looked back on then, and how many there must be to judge at all."""

MIN_INTERVALS = 10
"""Intervals from which a table's rhythm can be told."""

_QUARTILE = statistics.NormalDist().inv_cdf(0.75)
"""The median absolute deviation of a normal distribution, in its standard deviations (0.6745)."""

_ROUNDING = 0.005
_LATE_FLOOR = 0.1
"""Of the time from one interval to the next: what a scheduler may be off without being late."""


@dataclass(frozen=True)
class Judgement:
    """What the past says of a figure.

    Attributes:
        deviations: how many spreads it lies from the median, below it negative; None: there is not enough past.
        low, high: smallest and largest figure of the past that was looked at.
        median: their median.
        sentence: the judgement in words, with the figures.
    """

    deviations: float | None
    sentence: str
    median: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def exceeds(self, limit: float | None) -> bool:
        """Whether it is further off than ``limit`` spreads; None limits nothing."""
        return limit is not None and self.deviations is not None and abs(self.deviations) > limit


def judge_rows(past: Sequence[tuple[date, int]], day: date, rows: int) -> Judgement:
    """Whether so many rows are unusual for a table on that day.

    Args:
        past: rows by day, in any order; days from ``day`` on are left out.
        day: the day.
        rows: rows that came.
    """
    before = sorted(each for each in past if each[0] < day)
    same = [count for each, count in before if each.weekday() == day.weekday()][-WEEKS:]
    name = f"{day:%A}"
    if len(same) >= MIN_WEEKS:
        season, counts = f"the last {len(same)} {name}s", same
    else:
        season, counts = f"the last {min(len(before), DAYS)} days", [count for _, count in before][-DAYS:]
        if len(counts) < MIN_DAYS:
            return Judgement(None, f"not enough history: {len(counts)} days before it, {MIN_DAYS} are needed")
    median, spread = _spread([float(count) for count in counts])
    spread = max(spread, _ROUNDING * median, math.sqrt(median))
    deviations = (rows - median) / spread if spread else math.copysign(math.inf, rows) if rows else 0.0
    share = f"{abs(rows - median) / median:.0%} {'below' if rows < median else 'above'}" if median else "none expected"
    low, high = min(counts), max(counts)
    sentence = f"{rows:,} rows on a {name}; {season} had {low:,} to {high:,}, median {median:,.0f}: {share}"
    return Judgement(deviations, sentence, median, low, high)


def judge_age(past: Sequence[tuple[datetime, datetime]], now: datetime) -> Judgement:
    """Whether a table's newest interval is older than its own rhythm lets expect.

    Just before an interval comes, the one before it is as old as intervals usually are when they come, and one step
    more. Old intervals that are brought in now are late in the same way, so a backfill is no alarm.

    Args:
        past: end of each interval, and when it was first published; in any order.
        now: the time now.
    """
    ordered = sorted(past)[-DAYS:]
    if len(ordered) < MIN_INTERVALS:
        return Judgement(None, f"not enough history: {len(ordered)} intervals, {MIN_INTERVALS} are needed")
    ends = [end for end, _ in ordered]
    lags_s = [(published - end).total_seconds() for end, published in ordered]
    step_s, _ = _spread([(after - before).total_seconds() for before, after in pairwise(ends)])
    lag_s, spread_s = _spread(lags_s)
    age_s = (now - ends[-1]).total_seconds()
    spread_s = max(spread_s, _LATE_FLOOR * step_s)
    over_s = age_s - lag_s - step_s
    sentence = (
        f"the newest interval ended {duration(age_s)} ago; the last {len(ordered)} were published {duration(lag_s)} "
        f"after their end (median), one every {duration(step_s)}"
        + (f": {duration(over_s)} overdue" if over_s > 0 else "")
    )
    return Judgement(max(over_s, 0.0) / spread_s if spread_s else 0.0, sentence, lag_s, min(lags_s), max(lags_s))


def _spread(values: Sequence[float]) -> tuple[float, float]:
    """Median, and median absolute deviation scaled to a standard deviation.

    By the standard library: SciPy has the second as well, and takes a CPU second to import in every process.
    """
    median = statistics.median(values)
    return median, statistics.median(abs(value - median) for value in values) / _QUARTILE


def duration(seconds: float) -> str:
    """A time span in words, in its two largest units."""
    span = timedelta(seconds=round(abs(seconds)))
    hours, rest = divmod(span.seconds, 3600)
    parts = [(span.days, "days" if span.days != 1 else "day"), (hours, "h"), (rest // 60, "min"), (rest % 60, "s")]
    first = next((position for position, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count) or "0 s"
