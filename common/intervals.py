"""Intervals: half-open ``[start, end)`` in UTC, named by a partition key.

A key such as ``2013-01-01`` names a calendar day **in the time zone of its source**: the flights of New York's
2013-01-01 are the interval ``[2013-01-01T05:00Z, 2013-01-02T05:00Z)``. The instants are always UTC; only the name is
local, so a day on which clocks change is 23 or 25 hours long and no row falls between two days or into both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from common.errors import IntervalError, SettingsError


@dataclass(frozen=True, order=True)
class Interval:
    """One half-open span of time.

    Attributes:
        key: partition key, the local calendar day ``YYYY-MM-DD``.
        start: first instant inside, UTC.
        end: first instant after, UTC.
    """

    key: str
    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.utcoffset() != timedelta(0) or self.end.utcoffset() != timedelta(0):
            raise IntervalError("An interval's instants must be in UTC.", interval=self.key)
        if self.start >= self.end:
            raise IntervalError("An interval must end after it starts.", interval=self.key)

    @property
    def day(self) -> date:
        """The calendar day the key names."""
        return date.fromisoformat(self.key)

    def __str__(self) -> str:
        """``2013-01-01 [2013-01-01T05:00:00Z, 2013-01-02T05:00:00Z)``"""
        return f"{self.key} [{self.start:%Y-%m-%dT%H:%M:%SZ}, {self.end:%Y-%m-%dT%H:%M:%SZ})"


def parse_day(text: str) -> date:
    """Read ``YYYY-MM-DD``.

    Raises:
        IntervalError: not a calendar day in that form.
    """
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or day.isoformat() != text:
        raise IntervalError(f"{text!r} is not a calendar day.", remedy="write it as YYYY-MM-DD, e.g. 2013-01-31")
    return day


def zone(name: str) -> ZoneInfo:
    """The time zone of that IANA name.

    Raises:
        SettingsError: no such zone.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise SettingsError(
            f"Unknown time zone {name!r}.", remedy="use an IANA name such as America/New_York or UTC"
        ) from None


def day_interval(key: str, time_zone: str = "UTC") -> Interval:
    """The interval that a calendar day's key names in ``time_zone``."""
    day, tz = parse_day(key), zone(time_zone)
    start = datetime.combine(day, time(), tz).astimezone(UTC)
    end = datetime.combine(day + timedelta(days=1), time(), tz).astimezone(UTC)
    return Interval(key, start, end)


def local_bounds(interval: Interval, time_zone: str) -> tuple[str, str]:
    """First wall time inside an interval and first one after it, on its own zone's clock, as text without a zone."""
    tz = zone(time_zone)
    start, end = (instant.astimezone(tz).replace(tzinfo=None) for instant in (interval.start, interval.end))
    return start.isoformat(sep=" "), end.isoformat(sep=" ")


def day_keys(start: str, end: str) -> list[str]:
    """Keys of the days in ``[start, end)``.

    Raises:
        IntervalError: malformed days, or ``end`` not after ``start``.
    """
    first, last = parse_day(start), parse_day(end)
    if last <= first:
        raise IntervalError(
            f"--from {start} --to {end} holds no day.", remedy="the end is exclusive: give the day after the last one"
        )
    return [day.isoformat() for day in _days(first, last)]


def _days(first: date, last: date) -> Iterator[date]:
    for offset in range((last - first).days):
        yield first + timedelta(days=offset)
