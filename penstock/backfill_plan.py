"""The arithmetic of a backfill: which days are wanted, in which stretches they run, what is left, what may start now.

::

    states of intervals, a mode ──> wanted days of each table ──> spans: neighbouring days that want the same tables
    spans, days already tried   ──> spans that are left       ──> the part of the next one that a limit lets start

Pure: no lake, no scheduler, no clock. One span becomes one backfill of Airflow, which knows a first and a last day and
nothing of days between them that are good; so a span never holds a day that is not wanted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date, datetime, timedelta
from typing import Any, Literal

from common.errors import UsageError
from common.intervals import day_keys
from penstock.interval_state import HOLES, State

Mode = Literal["only-missing", "stale", "all"]

WANTED: Mapping[str, frozenset[State]] = {
    "only-missing": HOLES,
    "stale": HOLES | {"stale"},
    "all": HOLES | {"stale", "published", "empty"},
}
"""Mode -> states of intervals that it runs; each mode wants what the one before it wants, and more."""

_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Wish:
    """What somebody asked for; equal wishes are the same backfill.

    Attributes:
        targets: sources, tables of any stage, or models.
        start: first day.
        end: the day after the last one.
        mode: which intervals are run; see :data:`WANTED`.
        newest_first: run the latest days first.
        parallel: how many intervals of one source run at once.
        max_per_hour: how many intervals of one source may start within an hour; None for any number.
        stop_on_failure: start nothing more, and publish no release, once an interval failed.
    """

    targets: tuple[str, ...]
    start: str
    end: str
    mode: Mode = "only-missing"
    newest_first: bool = False
    parallel: int = 2
    max_per_hour: int | None = None
    stop_on_failure: bool = False

    @property
    def days(self) -> list[str]:
        """Its days."""
        return day_keys(self.start, self.end)

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form: what a run of the DAG ``backfill`` carries as its parameters."""
        return {**asdict(self), "targets": list(self.targets)}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Wish:
        """A wish from a form, a REST call or a run: keys it does not know are left out.

        Raises:
            UsageError: no target, days that are none, or a mode or a number that cannot be.
        """
        known = {each.name: given[each.name] for each in fields(cls) if given.get(each.name) not in (None, "", [])}
        targets = known.get("targets", ())
        targets = targets.replace(",", " ").split() if isinstance(targets, str) else targets
        if not targets or not {"start", "end"} <= known.keys():
            raise UsageError("A backfill needs targets, start and end.", remedy="name a source, a table or a model")
        wish = cls(**{**known, "targets": tuple(str(target) for target in targets)})
        day_keys(wish.start, wish.end)
        if wish.mode not in WANTED or wish.parallel < 1 or (wish.max_per_hour is not None and wish.max_per_hour < 1):
            raise UsageError(
                f"mode {wish.mode!r}, parallel {wish.parallel}, max_per_hour {wish.max_per_hour}: one cannot be.",
                remedy=f"use one of {', '.join(WANTED)}, and numbers from 1",
            )
        return wish


@dataclass(frozen=True)
class Span:
    """Neighbouring days of one source that want the same tables.

    Attributes:
        first, last: its days, both included.
        tables: names of the source's tables to ingest for each of them.
    """

    first: str
    last: str
    tables: tuple[str, ...]

    @property
    def keys(self) -> list[str]:
        """Its days."""
        return day_keys(self.first, day_after(self.last))

    def part(self, most: int, *, newest_first: bool) -> Span:
        """The ``most`` days of it that come first in the order of work."""
        keys = self.keys[-most:] if newest_first else self.keys[:most]
        return replace(self, first=keys[0], last=keys[-1])

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {"first": self.first, "last": self.last, "tables": list(self.tables)}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Span:
        """The span of that JSON."""
        return cls(given["first"], given["last"], tuple(given["tables"]))


def spans(
    days: Mapping[str, Collection[str]], *, whole: Sequence[str] = (), otherwise: str = "", newest_first: bool = False
) -> list[Span]:
    """Stretches in which to run the wanted days of one source.

    Args:
        days: day -> its wanted tables, at least one each.
        whole: wanted tables without days. They go with the first day of the work and before all others, because rules
            of the others look rows up in them.
        otherwise: the day that ``whole`` runs for if no day is wanted.
        newest_first: begin at the end.

    Returns:
        Spans in the order of work. Every wanted day is in exactly one, and no other day in any.
    """
    found: list[Span] = []
    ordered = sorted(days)
    if whole:
        begin = (ordered[-1] if newest_first else ordered[0]) if ordered else otherwise
        found.append(Span(begin, begin, (*whole, *sorted(days.get(begin, ())))))
        ordered = [day for day in ordered if day != begin]
    stretches: list[Span] = []
    for day in ordered:
        tables = tuple(sorted(days[day]))
        if stretches and stretches[-1].tables == tables and day_after(stretches[-1].last) == day:
            stretches[-1] = replace(stretches[-1], last=day)
        else:
            stretches.append(Span(day, day, tables))
    return found + (stretches[::-1] if newest_first else stretches)


def remaining(planned: Iterable[Span], tried: Collection[str], *, newest_first: bool = False) -> list[Span]:
    """What is left of planned spans when some days have been tried, in the same order of work.

    Args:
        planned: spans, as :func:`spans` gives them.
        tried: days that a run of this backfill was made for, however it ended.
        newest_first: the order in which they were planned.
    """
    left: list[Span] = []
    for span in planned:
        days = {key: span.tables for key in span.keys if key not in tried}
        left += [replace(part, tables=span.tables) for part in spans(days, newest_first=newest_first)]
    return left


def allowance(max_per_hour: int | None, started: Iterable[datetime], now: datetime) -> int | None:
    """How many more intervals may start now; None for any number.

    Args:
        max_per_hour: the limit.
        started: when intervals of this backfill started.
        now: the time now.
    """
    if max_per_hour is None:
        return None
    return max(0, max_per_hour - sum(now - _HOUR < at <= now for at in started))


def next_span(left: Sequence[Span], *, allowed: int | None, newest_first: bool) -> Span | None:
    """The span to start now: the first one left, cut to what is allowed; None if there is none or none is allowed."""
    if not left or allowed == 0:
        return None
    return left[0] if allowed is None else left[0].part(allowed, newest_first=newest_first)


def chunks(keys: Sequence[str], size: int) -> list[list[str]]:
    """Keys in lists of at most ``size``, in their order."""
    return [list(keys[begin : begin + size]) for begin in range(0, len(keys), size)]


def day_after(day: str) -> str:
    """The next calendar day."""
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()
