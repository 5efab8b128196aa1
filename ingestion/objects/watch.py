"""A bucket that is looked at again and again: which intervals have objects that the lake has not read.

::

    listing -> by partition key -> unlike what was told last? -> unlike the live batch's receipt? -> Arrival

The position is the lake: an object is new, or changed, against the receipt of the interval's live batch (key, etag and
size, ``listing.py``). Nothing else is remembered but, in memory, what was told last. So a restart tells again what the
lake still lacks and nothing that it has, and an interval that could not be ingested is told again after an hour.

All of an interval's objects are one arrival. An interval whose objects keep changing is told ever more rarely, up to
once an hour; the lake is asked only for intervals whose listing changed. A vanished object is no arrival: what becomes
of its rows is decided when the interval is next read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from common.errors import IntervalError, SpecError
from common.hashing import digest
from ingestion.events.arrivals import Arrival, left_to_the_schedule
from ingestion.objects.listing import Comparison, by_partition_key
from ingestion.objects.stores import ObjectStore, StoredObject, open_store
from ingestion.spec import Objects, SourceSpec, TableSpec
from lake.lake import Lake

LONGEST_GAP_S = 3600.0
"""Longest time between two tellings of an interval whose objects keep changing, or that the lake still lacks."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Told:
    """What was last said of an interval: the digest of its objects, when, and how long to be silent after it."""

    digest: str
    at_s: float
    gap_s: float


class BucketWatch:
    """Looks at one table's objects. Not for use by two threads at once.

    Args:
        spec: the source.
        table: its table, one with ``objects`` and ``events``.
        lake: what is known already.
        monotonic: seconds of a clock that is never set back; injectable for tests.

    Raises:
        SettingsError: no such connection, or its URL is malformed.
        SpecError: the table has no objects.
    """

    def __init__(
        self, spec: SourceSpec, table: TableSpec, lake: Lake, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._spec = spec
        self._table = table
        self._lake = lake
        self._monotonic = monotonic
        self._told: dict[str, _Told] = {}
        self._layout = _layout(table)
        self._poll_interval_s = table.events.poll_interval_s if table.events else 60.0
        self._from: date | None = table.events.start if table.events else None
        self._store: ObjectStore = open_store(
            lake.settings.connection(spec.connection),
            source=spec.source,
            connection=spec.connection,
            allowed_hosts=lake.settings.allowed_hosts,
        )

    def look(self) -> list[Arrival]:
        """What has come since the last look, in the order of the days.

        Raises:
            SourceUnavailable, SourceRefused: the bucket cannot be listed.
            ObjectCorrupt: an object has a name that could lead elsewhere.
            StoreUnavailable, StateCorrupt: the lake cannot be read.
        """
        now_s = self._monotonic()
        found = by_partition_key(self._store.objects(self._layout.prefix), self._layout)
        digests = {key: _digest(objects) for key, objects in found.items() if self._is_watched(key)}
        self._told = {key: told for key, told in self._told.items() if key in digests}
        asked = [key for key, now in digests.items() if self._may_be_told(key, now, now_s)]
        if not asked:
            return []
        raw = self._spec.raw(self._table.name)
        live, arrivals = self._lake.live_attempts(raw), []
        for key in asked:
            receipt = self._lake.find_receipt(raw, key, live[key]) if key in live else None
            compared = Comparison.of(found[key], receipt)
            gap_s = self._gap_s(key, now_s)
            self._told[key] = _Told(digests[key], now_s, gap_s)
            if compared.is_first or compared.new or compared.changed:
                arrivals.append(Arrival(self._spec.source, self._table.name, key, digests[key]))
        return arrivals

    def close(self) -> None:
        """Give back the connections."""
        self._store.close()

    def _is_watched(self, key: str) -> bool:
        try:
            if left_to_the_schedule(self._spec, self._table, key, self._lake.clock()):
                return False
        except IntervalError:  # a day that is none, such as 2013-02-30: no interval will ever read it
            return False
        return self._from is None or date.fromisoformat(key) >= self._from

    def _may_be_told(self, key: str, now: str, now_s: float) -> bool:
        told = self._told.get(key)
        if told is None:
            return True
        gap_s = LONGEST_GAP_S if told.digest == now else told.gap_s
        return now_s - told.at_s >= gap_s

    def _gap_s(self, key: str, now_s: float) -> float:
        """How long to be silent of a key after it is told now: twice as long as before, unless it was quiet since."""
        told = self._told.get(key)
        if told is None or now_s - told.at_s >= 4 * told.gap_s:
            return self._poll_interval_s
        return min(2 * told.gap_s, LONGEST_GAP_S)


def _layout(table: TableSpec) -> Objects:
    if table.objects is None:
        raise SpecError("The table has no 'objects:' to watch.", table=table.name, remedy="add them to the spec")
    return table.objects


def _digest(objects: list[StoredObject]) -> str:
    return digest([[each.key, each.etag, each.size_bytes] for each in objects])
