"""Which tables are started by events, and ``penstock watch``: events ingested by this process, without a scheduler.

::

    specs -> watches (buckets)  ─┐
          -> queues, listeners  ─┴─> arrivals -> Pipeline.ingest -> receipts

The scheduler's triggers (``dags/penstock_dags/triggers.py``) are made from the same pieces and start Airflow's runs
instead. Both may run at once, and beside the schedule: the same work finds its receipt and changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from common.errors import DataRejected, PenstockError, TransientError, UsageError
from common.settings import Settings
from ingestion.events.arrivals import Arrival, grouped
from ingestion.events.messages import Listener
from ingestion.objects.watch import BucketWatch
from ingestion.spec import Queue, SourceSpec, TableSpec
from lake.batches import Receipt
from penstock.pipeline import Pipeline

_PAUSE_S = 5.0
"""Pause after something could not be reached, and the longest wait for a message."""

_LOG = logging.getLogger(__name__)

Told = Callable[[Receipt | PenstockError], None]
"""Called with what became of each arrival."""


@dataclass(frozen=True)
class Watched:
    """What is looked at.

    Attributes:
        buckets: tables whose bucket is watched.
        queues: queues, each with the tables that name it.
    """

    buckets: tuple[tuple[SourceSpec, TableSpec], ...]
    queues: tuple[tuple[Queue, tuple[Listener, ...]], ...]


def watched(specs: Iterable[SourceSpec], settings: Settings) -> Watched:
    """What the specs say is to be looked at.

    Raises:
        SettingsError: the connection of a source of objects that names a queue is not known.
    """
    tables = [(spec, table) for spec in specs for table in spec.tables if table.events is not None]
    queues: dict[Queue, list[Listener]] = {}
    for spec, table in tables:
        if table.events is not None and table.events.queue is not None:
            queues.setdefault(table.events.queue, []).append(Listener(spec, table, _bucket(spec, settings)))
    buckets = tuple((spec, table) for spec, table in tables if table.events is not None and table.events.watch)
    return Watched(buckets, tuple((queue, tuple(listeners)) for queue, listeners in queues.items()))


def listeners_of(queue: Queue, specs: Iterable[SourceSpec], settings: Settings) -> tuple[Listener, ...]:
    """The tables that name a queue."""
    return dict(watched(specs, settings).queues).get(queue, ())


def sources_of(queue: Queue, specs: Iterable[SourceSpec]) -> set[str]:
    """Names of the sources that have tables which name a queue."""
    return {spec.source for spec in specs for table in spec.tables if table.events and table.events.queue == queue}


def _bucket(spec: SourceSpec, settings: Settings) -> str | None:
    if spec.kind != "objects":
        return None
    parts = urlsplit(settings.connection(spec.connection).get_secret_value())
    return parts.hostname if parts.scheme == "s3" else None


class Watcher:
    """Looks at everything that is watched and ingests what came.

    Args:
        pipeline: the stages.
        sources: names of sources; all by default.
        told: what became of each arrival.

    Raises:
        UnknownName: no such source.
        UsageError: none of them is started by events.
    """

    def __init__(self, pipeline: Pipeline, sources: Sequence[str], told: Told) -> None:
        specs = [pipeline.source(name) for name in sources] or list(pipeline.sources().values())
        self._pipeline = pipeline
        self._told = told
        self.watched = watched(specs, pipeline.settings)
        self._failed: set[str] = set()
        if not self.watched.buckets and not self.watched.queues:
            raise UsageError(
                "No table of these sources is started by events.",
                source=", ".join(spec.source for spec in specs),
                remedy="add 'events: {watch: bucket}' or 'events: {queue: ...}' to a table in its spec",
            )

    def run(self, *, once: bool) -> None:
        """Look and ingest, until interrupted.

        Args:
            once: look at each bucket once, take what the queues have now, and end.

        Raises:
            TransientError, TerminalError: with ``once``; else what cannot be reached is logged and tried again.
        """
        try:
            asyncio.run(self._run(once=once))
        except BaseExceptionGroup as group:  # one of the tasks failed; the others were ended for it
            raise group.exceptions[0] from None

    async def _run(self, *, once: bool) -> None:
        async with asyncio.TaskGroup() as group:
            turn = asyncio.Lock()  # one thing at a time: engines and the catalog are this process's own
            for spec, table in self.watched.buckets:
                group.create_task(self._bucket(spec, table, turn, once=once))
            for queue, listeners in self.watched.queues:
                group.create_task(self._queue(queue, listeners, turn, once=once))

    async def _bucket(self, spec: SourceSpec, table: TableSpec, turn: asyncio.Lock, *, once: bool) -> None:
        watch = BucketWatch(spec, table, self._pipeline.lake)
        try:
            while True:
                try:
                    async with turn:
                        arrivals = await asyncio.to_thread(watch.look)
                    await self._ingest(arrivals, turn)
                except TransientError as error:
                    self._go_on(error, once=once)
                if once:
                    return
                await asyncio.sleep(table.events.poll_interval_s if table.events else _PAUSE_S)
        finally:
            watch.close()

    async def _queue(self, queue: Queue, listeners: Sequence[Listener], turn: asyncio.Lock, *, once: bool) -> None:
        from ingestion.events.jetstream import QueueConsumer

        settings = self._pipeline.settings
        while True:
            try:
                async with QueueConsumer(
                    queue,
                    settings.connection(queue.connection),
                    listeners,
                    clock=self._pipeline.clock,
                    allowed_hosts=settings.allowed_hosts,
                ) as consumer:
                    while True:
                        delivery = await consumer.receive(wait_s=1.0 if once else _PAUSE_S)
                        if delivery is not None:
                            await self._ingest(delivery.arrivals, turn)
                            await consumer.settle(delivery)
                        elif once:
                            return
            except TransientError as error:
                self._go_on(error, once=once)
                await asyncio.sleep(_PAUSE_S)

    async def _ingest(self, arrivals: Sequence[Arrival], turn: asyncio.Lock) -> None:
        for (source, key), group in grouped(arrivals).items():
            for table in sorted({arrival.table for arrival in group}):
                async with turn:
                    self._told(await asyncio.to_thread(self._ingest_one, source, table, key))

    def _ingest_one(self, source: str, table: str, key: str) -> Receipt | PenstockError:
        try:
            receipt = self._pipeline.ingest(source, table, key)
            self._pipeline.sync_history(source, table)
        except DataRejected as error:
            return error
        return receipt

    def _go_on(self, error: TransientError, *, once: bool) -> None:
        if once:
            raise error
        if str(error) not in self._failed:
            self._failed.add(str(error))
            _LOG.warning("tried again until it works; this is said once: %s", error)
