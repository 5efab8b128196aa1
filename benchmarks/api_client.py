"""HTTP load from one process: raw sockets and asyncio, since a client library would be what is measured.

Each client keeps one connection and sends its next request when the answer to the last one is whole.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Load:
    """What a load was answered.

    Attributes:
        duration_s: of the whole load.
        latencies_ms: of each request.
        statuses: how many answers of each status; 0 is a connection that broke.
        problems: what a check found wrong.
    """

    duration_s: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def per_s(self) -> float:
        """Answers in a second."""
        return len(self.latencies_ms) / self.duration_s

    def percentile_ms(self, share: float) -> float:
        """The latency that so many of the requests do not exceed."""
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


Check = Callable[[dict[str, str], bytes], str | None]


async def load(
    port: int,
    make_request: Callable[[int], bytes],
    *,
    clients: int,
    duration_s: float,
    check: Check | None = None,
) -> Load:
    """Send requests for a while.

    Args:
        port: of the server on loopback.
        make_request: the bytes of the n-th request.
        clients: connections at once.
        duration_s: for how long.
        check: given headers and body, what is wrong with an answer.
    """
    found = Load()
    began = time.perf_counter()
    numbers = iter(range(1 << 60))

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() - began < duration_s:
            sent = time.perf_counter()
            writer.write(make_request(next(numbers)))
            status, headers, body = await _answer(reader)
            found.latencies_ms.append(1000 * (time.perf_counter() - sent))
            found.statuses[status] += 1
            problem = check(headers, body) if check is not None else None
            if problem:
                found.problems.append(problem)
        writer.close()

    async def bearing() -> None:
        try:
            await client()
        except (OSError, asyncio.IncompleteReadError):
            found.statuses[0] += 1

    await asyncio.gather(*(bearing() for _ in range(clients)))
    found.duration_s = time.perf_counter() - began
    return found


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    length = int(headers.get("content-length", "0"))
    return int(head[0].split()[1]), headers, await reader.readexactly(length) if length else b""


def get(path: str, token: str, **headers: str) -> bytes:
    """The bytes of a GET."""
    given = {"Host": "x", "Authorization": f"Bearer {token}", **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
    return f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode()
