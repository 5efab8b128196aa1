"""A durable consumer of a NATS JetStream stream: messages in, arrivals out, nothing acknowledged before it is settled.

::

    receive -> judged (messages.py) -> Delivery -> the caller starts the work -> settle: acknowledged
                      └─ refused: kept under dead_letter with the reason, then terminated

The server remembers what is not acknowledged, so a consumer that dies between the two loses nothing: the messages come
again, at once if it could say so, else after ``ACK_WAIT_S``. What comes again has the same token, so whoever starts
the work knows it. A refused message is terminated only when the stream of ``dead_letter`` has it; a message's id there
is made from its place in the stream, so that one refused twice is kept once.

Silence is no answer. A server that stalls is waited for as long as ``ANSWER_TIMEOUT_S``, and that nothing waits in a
stream is believed only when the server says so.

The client does not reconnect by itself: a lost connection is an error, and whoever opens the consumer again has the
host judged again (``ingestion/hosts.py``). Login and token go to the client as arguments, never in an address that an
error could show.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import nats
import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig
from pydantic import SecretStr

from common.errors import SettingsError, SourceRefused, SourceUnavailable
from common.hashing import digest
from common.settings import decode_url_part
from ingestion.events.arrivals import Arrival
from ingestion.events.messages import MAX_MESSAGE_BYTES, Listener, Reading, read_message
from ingestion.hosts import check_host
from ingestion.spec import Queue

ACK_WAIT_S = 300.0
"""How long the server waits for a message to be settled before it sends it again."""

BATCH = 100
"""Messages that are taken at once, and become one delivery."""

ANSWER_TIMEOUT_S = 30.0
"""How long an answer of the server is waited for: one on a busy machine or behind a full disk stalls for many seconds,
and nothing is gained by giving up sooner, for all that can be done then is to ask it again."""

_GOODBYE_S = 10.0
_LATE_S = 0.1
_NOT_KEPT_DELAY_S = 30.0

_LOG = logging.getLogger(__name__)


@dataclass
class Delivery:
    """Messages that were received together and are not acknowledged yet.

    Attributes:
        arrivals: what they say came, each once.
        messages: to be settled, or given back.
    """

    arrivals: list[Arrival] = field(default_factory=list)
    messages: list[Msg] = field(default_factory=list)


class QueueConsumer:
    """One consumer; a context manager that connects, and on leaving gives back what is not settled.

    Args:
        queue: what is read.
        url: the connection's: ``nats://user:password@host:port``, ``nats://token@host``, ``tls://...``.
        listeners: the tables that name the queue.
        clock: the time now, UTC.
        allowed_hosts: setting of that name.
        ack_wait_s: see :data:`ACK_WAIT_S`; used when the durable consumer is created.
    """

    def __init__(
        self,
        queue: Queue,
        url: SecretStr,
        listeners: Sequence[Listener],
        *,
        clock: Callable[[], datetime],
        allowed_hosts: Sequence[str] = (),
        ack_wait_s: float = ACK_WAIT_S,
    ) -> None:
        self._queue = queue
        self._url = url
        self._listeners = listeners
        self._clock = clock
        self._allowed_hosts = allowed_hosts
        self._ack_wait_s = ack_wait_s
        self._client: Any = None
        self._subscription: Any = None
        self._unsettled: list[Msg] = []

    async def __aenter__(self) -> Self:
        """Connect and find, or create, the durable consumer.

        Raises:
            SettingsError: the URL is malformed, or there is no such stream, or none that keeps ``dead_letter``, or the
                durable consumer reads something else.
            SourceUnavailable: no answer.
            SourceRefused: the login is refused, or the host may not be connected to.
        """
        try:
            with self._translated():
                await self._connect()
                await self._subscribe()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is None:
            return
        client, self._client = self._client, None
        with suppress(nats.errors.Error, OSError, TimeoutError):  # if it cannot be said, the server finds out by itself
            if self._subscription is not None:  # or what is given back would come to a request that is still open here
                await self._subscription.unsubscribe()
            for message in self._unsettled:
                await message.nak()
            await client.flush(timeout=_GOODBYE_S)
        with suppress(nats.errors.Error, OSError):
            await client.close()

    async def receive(self, *, wait_s: float = 5.0) -> Delivery | None:
        """The next messages, refused ones already dealt with; None if none came in time, and the server says so.

        Args:
            wait_s: longest wait for a first message of a server that answers, in s.

        Raises:
            SourceUnavailable: the connection is lost, or the server does not answer.
        """
        with self._translated():
            messages = await self._fetch(wait_s)
            if not messages:
                # What the server has sent before this answer is here when the answer is.
                waiting = (await self._subscription.consumer_info()).num_pending
                messages = await self._fetch(ANSWER_TIMEOUT_S if waiting else _LATE_S)
            if not messages:
                return None
            self._unsettled += messages
            delivery = Delivery()
            for message in messages:
                await self._judge(message, delivery)
            delivery.arrivals = sorted(set(delivery.arrivals))
        return delivery if delivery.messages else None

    async def settle(self, delivery: Delivery) -> None:
        """Acknowledge a delivery: the work of its arrivals is started, and known to whoever has to do it.

        Raises:
            SourceUnavailable: the connection is lost; the messages will come again.
        """
        with self._translated():
            for message in delivery.messages:
                await message.ack()
                self._unsettled.remove(message)
            await self._client.flush(timeout=ANSWER_TIMEOUT_S)

    async def give_back(self, delivery: Delivery, *, delay_s: float) -> None:
        """Have the server send a delivery again, after a pause in s.

        Raises:
            SourceUnavailable: the connection is lost; the messages will come again.
        """
        with self._translated():
            for message in delivery.messages:
                await message.nak(delay=delay_s)
                self._unsettled.remove(message)
            await self._client.flush(timeout=ANSWER_TIMEOUT_S)

    async def _fetch(self, wait_s: float) -> list[Msg]:
        """Messages that came in time, in s; none is also what a server that stalls looks like."""
        try:
            found: list[Msg] = await self._subscription.fetch(BATCH, timeout=wait_s)
        except TimeoutError:  # the client's own, or asyncio's where the time was over between two of its questions
            if self._client.is_closed:
                raise SourceUnavailable(*self._lost) from None
            return []
        return found

    async def _judge(self, message: Msg, delivery: Delivery) -> None:
        place = message.metadata
        token = digest(self._queue.stream, place.sequence.stream, place.timestamp)
        reading = read_message(message.data, self._listeners, token=token, now=self._clock())
        for left in reading.left:
            _LOG.info("%s: left to the schedule: %s", self._queue.stream, left)
        if reading.refused and not await self._keep(message, reading, token):
            await message.nak(delay=_NOT_KEPT_DELAY_S)
            self._unsettled.remove(message)
        elif reading.refused and not reading.arrivals:
            await self._client.publish(message.reply, b"+TERM " + reading.reason.encode("ascii", "replace"))
            self._unsettled.remove(message)
        else:
            delivery.arrivals += reading.arrivals
            delivery.messages.append(message)

    async def _keep(self, message: Msg, reading: Reading, token: str) -> bool:
        """Keep a refused message under ``dead_letter``; whether its stream has it now."""
        _LOG.warning("%s: a message is refused and kept under %s: %s", *self._names, reading.reason)
        headers = {
            "Nats-Msg-Id": f"penstock-{token}",
            "Penstock-Reason": reading.reason,
            "Penstock-Subject": message.subject,
            "Penstock-Sequence": str(message.metadata.sequence.stream),
            "Penstock-Size": str(len(message.data)),
        }
        try:
            body = message.data[:MAX_MESSAGE_BYTES]
            await self._client.jetstream(timeout=ANSWER_TIMEOUT_S).publish(
                self._queue.dead_letter, body, headers=headers
            )
        except nats.errors.Error as error:
            _LOG.warning("%s: it could not be kept under %s: %s", *self._names, type(error).__name__)
            return False
        return True

    async def _connect(self) -> None:
        try:
            parts = urlsplit(self._url.get_secret_value())
            host, port = parts.hostname or "", parts.port or 4222
        except ValueError:
            parts, host, port = urlsplit(""), "", 0
        if parts.scheme not in {"nats", "tls"} or not host:
            raise SettingsError(
                f"Connection {self._queue.connection!r} is no valid URL of a NATS server.",
                remedy="write it as nats://user:password@host:port, or tls://...",
            )
        named = self._queue.connection
        addresses = await asyncio.to_thread(check_host, host, allowed=self._allowed_hosts, connection=named)
        login: dict[str, Any] = {}
        if parts.password is not None:
            login = {"user": decode_url_part(parts.username), "password": decode_url_part(parts.password)}
        elif parts.username:
            login = {"token": decode_url_part(parts.username)}
        if parts.scheme == "tls":
            login["tls_hostname"] = host
        servers = [
            f"{parts.scheme}://[{each}]:{port}" if ":" in each else f"{parts.scheme}://{each}:{port}"
            for each in addresses
        ]
        self._client = await nats.connect(
            servers,
            **login,
            name="penstock",
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0.1,
            connect_timeout=int(ANSWER_TIMEOUT_S),
            error_cb=_ignore,  # what fails is raised where it is asked for
        )

    async def _subscribe(self) -> None:
        queue, stream_api = self._queue, self._client.jetstream(timeout=ANSWER_TIMEOUT_S)
        try:
            await stream_api.stream_info(queue.stream)
        except nats.js.errors.NotFoundError:
            raise SettingsError(
                f"Connection {queue.connection!r} has no stream {queue.stream!r}.",
                remedy="create the stream, or correct 'events: {queue: ...}' in the spec",
            ) from None
        try:
            await stream_api.find_stream_name_by_subject(queue.dead_letter)
        except nats.js.errors.NotFoundError:
            raise SettingsError(
                f"No stream of connection {queue.connection!r} keeps the subject {queue.dead_letter!r}.",
                remedy="create a stream with that subject: it is where refused messages are kept",
            ) from None
        self._subscription = await stream_api.pull_subscribe(
            queue.subject,
            durable=queue.durable,
            stream=queue.stream,
            config=ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=self._ack_wait_s),
        )
        filtered = (await self._subscription.consumer_info()).config.filter_subject
        if filtered != queue.subject:
            raise SettingsError(
                f"The consumer {queue.durable!r} of {queue.stream!r} reads {filtered!r}, not {queue.subject!r}.",
                remedy="choose another 'durable', or delete that consumer",
            )

    @property
    def _names(self) -> tuple[str, str]:
        return self._queue.stream, self._queue.dead_letter

    @property
    def _lost(self) -> tuple[str]:
        return (f"The connection to stream {self._queue.stream!r} is lost.",)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        named = f"connection {self._queue.connection!r}"
        try:
            yield
        except (nats.errors.AuthorizationError, nats.errors.InvalidUserCredentialsError):
            raise SourceRefused(f"The NATS server refuses the login of {named}.", remedy=f"correct {named}") from None
        except (nats.errors.Error, OSError, TimeoutError) as error:
            # A refused login may also end the connection before its reason is read; the server's words may hold an URL.
            raise SourceUnavailable(
                f"The NATS server of {named} does not answer ({type(error).__name__}).",
                remedy=f"check that {named} is right and the server is up, with JetStream",
            ) from None


async def _ignore(_error: Exception) -> None:
    return None
