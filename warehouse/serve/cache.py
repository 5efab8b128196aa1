"""Answers that were given before, by release, role and question. A release never changes, so none ever gets old.

In memory by default: the answers used last, up to a number of bytes. In Redis where one is configured, so that several
servers share them; a Redis that does not answer is as good as none.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Protocol

_LOG = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 1 << 20
"""Larger answers are not kept."""


@dataclass(frozen=True)
class Kept:
    """One answer.

    Attributes:
        headers: of the answer.
        body: of the answer.
        rows: how many it holds.
    """

    headers: list[tuple[bytes, bytes]]
    body: bytes
    rows: int


class Cache(Protocol):
    """Keeps answers."""

    async def get(self, key: str) -> Kept | None:
        """The answer kept under a key."""
        ...

    async def put(self, key: str, kept: Kept) -> None:
        """Keep an answer."""
        ...


class MemoryCache:
    """Answers in this process; those not used for longest are dropped first.

    Args:
        max_bytes: of all bodies.
    """

    def __init__(self, max_bytes: int = 64 << 20) -> None:
        self._max_bytes = max_bytes
        self._size = 0
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    async def get(self, key: str) -> Kept | None:
        """The answer kept under a key."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    async def put(self, key: str, kept: Kept) -> None:
        """Keep an answer."""
        before = self._kept.pop(key, None)
        self._size += len(kept.body) - (len(before.body) if before else 0)
        self._kept[key] = kept
        while self._size > self._max_bytes:
            _, dropped = self._kept.popitem(last=False)
            self._size -= len(dropped.body)


class RedisCache:
    """Answers in a Redis, which drops them after a day or when it needs the room.

    Args:
        url: ``redis://`` or ``rediss://``.
    """

    _KEEP_S = 86_400
    _TIMEOUT_S = 0.25

    def __init__(self, url: str) -> None:
        from redis.asyncio import Redis

        self._client: Any = Redis.from_url(url, socket_timeout=self._TIMEOUT_S, socket_connect_timeout=self._TIMEOUT_S)

    async def get(self, key: str) -> Kept | None:
        """The answer kept under a key; None also if Redis does not answer."""
        from redis.exceptions import RedisError

        try:
            found = await self._client.get(f"penstock:{key}")
        except (RedisError, OSError) as error:
            _LOG.warning("the cache in Redis does not answer: %s", type(error).__name__)
            return None
        if found is None:
            return None
        head, _, body = found.partition(b"\n")
        headers, rows = json.loads(head)
        return Kept([(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers], body, rows)

    async def put(self, key: str, kept: Kept) -> None:
        """Keep an answer, if Redis takes it."""
        from redis.exceptions import RedisError

        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in kept.headers]
        head = json.dumps([headers, kept.rows]).encode()
        try:
            await self._client.set(f"penstock:{key}", head + b"\n" + kept.body, ex=self._KEEP_S)
        except (RedisError, OSError) as error:
            _LOG.warning("the cache in Redis does not answer: %s", type(error).__name__)
