"""An arrival: something came for one interval of one table. What both buckets and queues tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from common.hashing import digest
from common.intervals import day_interval
from ingestion.spec import SourceSpec, TableSpec


@dataclass(frozen=True, order=True)
class Arrival:
    """Something came for an interval.

    Attributes:
        source: source name.
        table: table name in that source.
        key: partition key of the interval.
        token: names what came: the same thing told twice has the same token.
    """

    source: str
    table: str
    key: str
    token: str

    def to_dict(self) -> dict[str, str]:
        """JSON-compatible form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Arrival:
        """Read :meth:`to_dict`."""
        return cls(**{name: str(fields[name]) for name in ("source", "table", "key", "token")})


def grouped(arrivals: Iterable[Arrival]) -> dict[tuple[str, str], list[Arrival]]:
    """Arrivals by source and partition key, each once: what one run ingests."""
    groups: dict[tuple[str, str], list[Arrival]] = {}
    for arrival in sorted(set(arrivals)):
        groups.setdefault((arrival.source, arrival.key), []).append(arrival)
    return groups


def run_name(arrivals: Iterable[Arrival]) -> str:
    """A name for the run of one group, the same for the same arrivals in any order."""
    found = sorted(set(arrivals))
    return f"event__{found[0].source}__{found[0].key}__{digest([arrival.to_dict() for arrival in found])}"


def left_to_the_schedule(spec: SourceSpec, table: TableSpec, key: str, now: datetime) -> str | None:
    """Why an interval is not for events to start; None if it is.

    Args:
        spec: the source.
        table: its table.
        key: partition key.
        now: the time now, UTC.

    Raises:
        IntervalError: the key is no calendar day.
    """
    interval = day_interval(key, spec.time_zone)
    if table.coverage is not None and not table.coverage.holds(interval.day):
        return "it is outside the table's coverage"
    return "it is not over yet" if interval.end > now else None
