"""A message on a queue -> arrivals, or the reason why it is refused.

Two forms are read. The event notification of S3, which S3, MinIO, SeaweedFS and others send::

    {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "..."}, "object": {"key": "a%3D1/..."}}}]}

and a short one for everything else::

    {"source": "flightops", "table": "flights", "interval": "2013-01-31"}
    {"source": "stations", "table": "weather", "key": "weather/origin=EWR/date=2013-01-31.csv.gz"}

A message is input from outside. It can say no more than that something came for an interval of a table that names this
queue in its spec: which bucket, which keys and which tables are decided by specs and connections, never by it. What is
read then is listed from the source as ever.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote_plus

from common.errors import IntervalError
from ingestion.events.arrivals import Arrival, left_to_the_schedule
from ingestion.spec import SourceSpec, TableSpec
from lake.paths import is_plain_key

MAX_MESSAGE_BYTES = 1 << 18
"""Longest message that is read: what S3's own queues carry at most."""

MAX_RECORDS = 1000
_MAX_REASONS = 5


@dataclass(frozen=True)
class Listener:
    """A table that names the queue.

    Attributes:
        spec: its source.
        table: the table.
        bucket: bucket of the source's connection; None where it is not a bucket.
    """

    spec: SourceSpec
    table: TableSpec
    bucket: str | None = None


@dataclass
class Reading:
    """What a message says.

    Attributes:
        arrivals: what came, each once.
        refused: reasons, of the message or of single records in it.
        left: intervals that are the schedule's, with the reason.
    """

    arrivals: list[Arrival] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def reason(self) -> str:
        """The first reasons, as one line."""
        more = len(self.refused) - _MAX_REASONS
        return "; ".join(self.refused[:_MAX_REASONS]) + (f"; and {more} more" if more > 0 else "")


def read_message(body: bytes, listeners: Sequence[Listener], *, token: str, now: datetime) -> Reading:
    """Judge one message. Never raises for anything that a message may hold.

    Args:
        body: its bytes.
        listeners: the tables that name the queue.
        token: names the message within its stream.
        now: the time now, UTC.
    """
    reading = Reading()
    if len(body) > MAX_MESSAGE_BYTES:
        reading.refused.append(f"the message has {len(body)} bytes, more than {MAX_MESSAGE_BYTES}")
        return reading
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        reading.refused.append("the message is not JSON")
        return reading
    if not isinstance(content, dict):
        reading.refused.append("the message is no JSON object")
        return reading
    if content.get("Event") == "s3:TestEvent":  # S3 sends it once, when notifications are configured
        return reading
    records = content.get("Records")
    if isinstance(records, list):
        found = _from_records(records, listeners, reading)
    else:
        found = _from_short(content, listeners, reading)
    for listener, key in found:
        _take(listener, key, token, now, reading)
    reading.arrivals = sorted(set(reading.arrivals))
    return reading


def _from_records(
    records: Sequence[Any], listeners: Sequence[Listener], reading: Reading
) -> Iterable[tuple[Listener, str]]:
    if len(records) > MAX_RECORDS:
        reading.refused.append(f"the message has {len(records)} records, more than {MAX_RECORDS}")
        return
    for record in records:
        try:
            event = record["eventName"].removeprefix("s3:")
            bucket, encoded = record["s3"]["bucket"]["name"], record["s3"]["object"]["key"]
            # Bytes that are no UTF-8 must not become others that are.
            key = unquote_plus(encoded, errors="strict")
        except (KeyError, TypeError, AttributeError, ValueError):
            reading.refused.append("a record is no event notification of S3")
            continue
        if not event.startswith("ObjectCreated:"):
            continue
        found = _of_object(key, [each for each in listeners if each.bucket is not None and each.bucket == bucket])
        if not found:
            reading.refused.append(f"no table that names this queue has objects like {_shown(key)} in {_shown(bucket)}")
        yield from found


def _from_short(
    content: dict[str, Any], listeners: Sequence[Listener], reading: Reading
) -> Iterable[tuple[Listener, str]]:
    names = [content.get("source"), content.get("table")]
    told = {name: content[name] for name in ("interval", "key") if name in content}
    if set(content) - {"source", "table", "interval", "key"} or len(told) != 1:
        reading.refused.append("the message must hold 'Records', or 'source', 'table' and one of 'interval' and 'key'")
        return
    if not all(isinstance(each, str) for each in [*names, *told.values()]):
        reading.refused.append("source, table, interval and key must be text")
        return
    named = [each for each in listeners if [each.spec.source, each.table.name] == names]
    if not named:
        reading.refused.append(f"no table {_shown('.'.join(map(str, names)))} names this queue in its spec")
        return
    if "interval" in told:
        yield named[0], told["interval"]
        return
    found = _of_object(told["key"], named)
    if not found:
        reading.refused.append(f"{'.'.join(map(str, names))} has no objects like {_shown(told['key'])}")
    yield from found


def _of_object(key: str, listeners: Iterable[Listener]) -> list[tuple[Listener, str]]:
    if not is_plain_key(key):
        return []
    matched = [
        (each, each.table.objects.key_pattern().fullmatch(key)) for each in listeners if each.table.objects is not None
    ]
    return [(listener, match["key"]) for listener, match in matched if match]


def _take(listener: Listener, key: str, token: str, now: datetime, reading: Reading) -> None:
    name = f"{listener.spec.source}.{listener.table.name}"
    try:
        left = left_to_the_schedule(listener.spec, listener.table, key, now)
    except IntervalError:
        reading.refused.append(f"{_shown(key)} is no calendar day")
        return
    if left:
        reading.left.append(f"{name} {key}: {left}")
        return
    reading.arrivals.append(Arrival(listener.spec.source, listener.table.name, key, token))


def _shown(text: Any) -> str:
    """Text from outside, short and without anything that a log or a header could take for more than text."""
    return ascii(str(text)[:120])
