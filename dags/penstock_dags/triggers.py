"""Airflow's triggers: what the triggerer runs so that a changed bucket or a message on a queue becomes an asset event.

::

    BucketTrigger   a look every poll_interval_s, in a thread -> new and changed objects -> one event for all of them
    QueueTrigger    messages of a NATS stream -> one event for those that came together -> acknowledged when stored

An event's payload is a list of arrivals (``ingestion/events/arrivals.py``); ``dags/ingest_on_events.py`` starts runs.

A bucket's position is the lake, a queue's position is the server's: nothing is remembered here that a killed triggerer
could lose. The queue uses Airflow's shared streams in their acknowledging form: Airflow says when the events made of a
message are in its database, and only then is the message acknowledged. Two triggerers reading one queue share it.

What cannot be reached is logged once and tried again with growing pauses; a trigger never ends by itself, for Airflow
would start it anew at once. Nothing heavy happens in the event loop: imports, listings and reading the lake are in
threads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent
from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

from common.errors import PenstockError

if TYPE_CHECKING:
    from common.settings import Settings
    from ingestion.events.arrivals import Arrival
    from ingestion.events.jetstream import Delivery, QueueConsumer
    from ingestion.objects.watch import BucketWatch
    from ingestion.spec import Queue

ARRIVALS_PER_EVENT = 500
"""Largest number of arrivals in one asset event: an event is a row of Airflow's database."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 300.0

log = logging.getLogger(__name__)


class BucketTrigger(BaseEventTrigger):
    """Looks at the objects of one table.

    Args:
        source: source name.
        table: table name in that source.
        poll_interval_s: time between two looks, in s.
        version: of the table's spec; another one makes another trigger.
    """

    def __init__(self, source: str, table: str, poll_interval_s: float, version: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.source = source
        self.table = table
        self.poll_interval_s = poll_interval_s
        self.version = version

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Where to find this class, and what to make it with."""
        names = ("source", "table", "poll_interval_s", "version")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """An event for each look that found something."""
        watch: BucketWatch | None = None
        patience = _Patience(f"the bucket of {self.source}.{self.table}")
        try:
            while True:
                try:
                    watch = watch or await self._open()
                    arrivals = await asyncio.to_thread(watch.look)
                except PenstockError as error:
                    await patience.wait(error)
                    continue
                patience.reset()
                for start in range(0, len(arrivals), ARRIVALS_PER_EVENT):
                    yield _event(arrivals[start : start + ARRIVALS_PER_EVENT])
                await asyncio.sleep(self.poll_interval_s)
        finally:
            if watch is not None:
                watch.close()

    async def _open(self) -> BucketWatch:
        def make(settings: Settings) -> BucketWatch:
            from ingestion.objects.watch import BucketWatch
            from ingestion.spec import load_sources
            from lake.lake import Lake

            spec = load_sources(settings.sources)[self.source]
            return BucketWatch(spec, spec.table(self.table), Lake(settings))

        settings = await _settings()
        names = await asyncio.to_thread(_connection_names, settings, {self.source})
        settings = await _settings(names)
        return await asyncio.to_thread(make, settings)


class QueueTrigger(BaseEventTrigger):
    """Reads one queue for all tables that name it.

    Args:
        queue: the spec's ``queue``.
        version: of the specs of the tables that name it; another one makes another trigger.
    """

    def __init__(self, queue: Mapping[str, str], version: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.queue = dict(queue)
        self.version = version

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Where to find this class, and what to make it with."""
        return f"{__name__}.{type(self).__name__}", {"queue": self.queue, "version": self.version}

    def shared_stream_key(self) -> Hashable:
        """A stream is shared by nobody but itself: it has a key so that Airflow acknowledges."""
        return ("penstock", *sorted(self.queue.items()), self.version)

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """What reads the queue and acknowledges."""
        return QueueProducer(kwargs["queue"])

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """An event for the arrivals of each delivery; a delivery without any needs none."""
        async for arrivals in shared_stream:
            for start in range(0, len(arrivals), ARRIVALS_PER_EVENT):
                yield _event(arrivals[start : start + ARRIVALS_PER_EVENT])

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Not used: Airflow reads the shared stream."""
        raise NotImplementedError("this trigger is read as a shared stream")
        yield  # type: ignore[unreachable]


class QueueProducer(SharedStreamProducer):
    """The side of a :class:`QueueTrigger` that faces the queue.

    Args:
        queue: the spec's ``queue``.
    """

    def __init__(self, queue: Mapping[str, str]) -> None:
        self._fields = dict(queue)
        self._consumer: QueueConsumer | None = None

    async def open_stream(self) -> AsyncIterator[tuple[list[Arrival], tuple[QueueConsumer, Delivery]]]:
        """The arrivals of each delivery, and what to acknowledge for them."""
        patience = _Patience(f"stream {self._fields.get('stream')}")
        while True:
            try:
                if self._consumer is None:
                    consumer = await _open_consumer(self._fields)
                    self._consumer = await consumer.__aenter__()
                delivery = await self._consumer.receive()
            except PenstockError as error:
                await self.aclose()
                await patience.wait(error)
                continue
            patience.reset()
            if delivery is not None:
                yield delivery.arrivals, (self._consumer, delivery)

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Acknowledge what is stored, give back what is not. What cannot be said, the server finds out by itself."""
        for item in batch:
            consumer, delivery = item.broker_payload
            if consumer is not self._consumer:
                continue  # of a connection that was lost: its messages come again, and are known by their tokens
            try:
                if item.outcome.is_clean:
                    await consumer.settle(delivery)
                else:
                    await consumer.give_back(delivery, delay_s=_FIRST_PAUSE_S)
            except PenstockError as error:
                log.warning("messages could not be acknowledged and will come again: %s", error)

    async def aclose(self) -> None:
        """Give back what is not acknowledged, and disconnect."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.__aexit__(None, None, None)


class _Patience:
    """Growing pauses after something failed, each failure told once."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.reset()

    def reset(self) -> None:
        """It works again."""
        self._pause_s, self._told = _FIRST_PAUSE_S, ""

    async def wait(self, error: PenstockError) -> None:
        """Log a failure, unless it is the one before, and pause."""
        if str(error) != self._told:
            self._told = str(error)
            log.warning("%s cannot be read, and is tried again until it can: %s", self._what, error)
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)


async def _open_consumer(fields: Mapping[str, str]) -> QueueConsumer:
    def make(settings: Settings, queue: Queue) -> QueueConsumer:
        from common.clock import utc_now
        from ingestion.events.jetstream import QueueConsumer
        from ingestion.spec import load_sources
        from penstock.watch import listeners_of

        listeners = listeners_of(queue, load_sources(settings.sources).values(), settings)
        url = settings.connection(queue.connection)
        return QueueConsumer(queue, url, listeners, clock=utc_now, allowed_hosts=settings.allowed_hosts)

    def read(settings: Settings) -> tuple[Queue, set[str]]:
        from ingestion.spec import Queue, load_sources
        from penstock.watch import sources_of

        queue = Queue(**fields)
        sources = sources_of(queue, load_sources(settings.sources).values())
        return queue, {queue.connection} | _connection_names(settings, sources)

    queue, names = await asyncio.to_thread(read, await _settings())
    return await asyncio.to_thread(make, await _settings(names), queue)


def _connection_names(settings: Settings, sources: set[str]) -> set[str]:
    from ingestion.spec import load_sources

    specs = load_sources(settings.sources)
    return {specs[source].connection for source in sources if source in specs}


async def _settings(connections: set[str] | None = None) -> Settings:
    """The settings of this process and, of these connections and the lake's, those that Airflow knows."""
    from common.settings import Settings
    from dags.penstock_dags.connections import airflow_connections_in_trigger

    settings = Settings.load()
    if connections is None:
        return settings
    if "://" in settings.lake_uri:
        connections = connections | {settings.lake_connection}
    found = await airflow_connections_in_trigger(connections)
    return Settings.load(connections=found) if found else settings


def _event(arrivals: Sequence[Arrival]) -> TriggerEvent:
    return TriggerEvent([arrival.to_dict() for arrival in arrivals])  # type: ignore[no-untyped-call]
