"""Freshness by interval: whether the newest interval that is due is there, and which older ones are not.

``freshness: {max_age_s: ...}`` of a spec says how old the end of the newest published interval may be. So a day is
*due* once its predecessor's end has grown that old, and not before its own end. Judged is that one day. The age of
whatever came last would say less: a backfill of an old year is new work and old news, and the arrival of today says
nothing of the day that was left out last week. Both are answered by days, and by nothing else:

* the table is **late** while its newest due day is not published, nor any later one;
* a day without rows between the first and the last published one is a **hole**, however fresh the table is.

An empty interval is published. Days outside a source's coverage, and those behind the end it declares, are never due.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from common.intervals import day_interval, day_keys, zone


@dataclass(frozen=True)
class Promise:
    """What is promised of a table.

    Attributes:
        time_zone: zone in which its days are counted.
        max_age_s: how old the end of its newest published interval may be, in s.
        first: first day there should be; None if nothing says so: then the first that was ever published.
        end: day behind the last one there will be; None for a table that goes on.
    """

    time_zone: str
    max_age_s: int
    first: date | None = None
    end: date | None = None


@dataclass(frozen=True)
class Freshness:
    """A table's days against its promise.

    Attributes:
        due: newest day that is due; empty where none is.
        overdue: days that are due, newer than anything published, and not there: the table is late.
        holes: days between the first and the last published one that are not there.
        since: when the first of ``overdue`` became due; None if none is.
    """

    due: str
    overdue: tuple[str, ...] = ()
    holes: tuple[str, ...] = ()
    since: datetime | None = None


def due_at(key: str, promise: Promise) -> datetime:
    """When a day must be there, UTC."""
    interval = day_interval(key, promise.time_zone)
    return max(interval.end, interval.start + timedelta(seconds=promise.max_age_s))


def judge(published: Set[str], promise: Promise, now: datetime) -> Freshness:
    """Hold a table's published days against its promise.

    Args:
        published: keys of its published days, empty ones too.
        promise: what is promised.
        now: the time now.
    """
    if not published and promise.first is None:
        return Freshness("")  # nobody has begun with it, and nothing says that somebody should have
    first = promise.first or date.fromisoformat(min(published))
    last = max(published, default="")
    holes = tuple(day for day in day_keys(min(published), last) if day not in published) if len(published) > 1 else ()
    newest = (now - timedelta(seconds=promise.max_age_s)).astimezone(zone(promise.time_zone)).date()
    while due_at(newest.isoformat(), promise) > now:
        newest -= timedelta(days=1)
    over = promise.end is not None and newest >= promise.end
    if over or newest < first:
        return Freshness("", holes=holes)
    due = newest.isoformat()
    if last >= due:
        return Freshness(due, holes=holes)
    begin = date.fromisoformat(last) + timedelta(days=1) if last else first
    overdue = tuple(day_keys(max(begin, first).isoformat(), (newest + timedelta(days=1)).isoformat()))
    return Freshness(due, overdue, holes, due_at(overdue[0], promise).astimezone(UTC))
