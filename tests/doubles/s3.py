"""An HTTP proxy with dials before the real S3: what a network and a busy store do, on purpose.

::

    client ──▶ proxy ──▶ SeaweedFS          every request is passed on as it came, its signature too
                 │
                 └─ disturbances, in order: the first that applies to a request decides what happens to it

A disturbance says to which requests it applies (part of the request line, operation, how many are let through first,
how many are hit, by which chance) and what is done: on the way to the store (refused, torn, a bit changed), or on the
way back (lost, late, cut, shortened, changed, another status). Chance is drawn from a seed and the request's number, so
one seed gives one sequence. What was asked is kept with operation, key, status and moment: retries and requests per
second are counted from it.
"""

from __future__ import annotations

import http.client
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

Operation = Literal[
    "get",
    "head",
    "put",
    "delete",
    "list",
    "delete_many",
    "begin_upload",
    "put_part",
    "complete",
    "abort",
    "list_uploads",
]

_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass
class Disturbance:
    """What is done to some requests. All positions and lengths are in bytes of a body.

    Attributes:
        match: part of the path or query of the requests that are meant.
        operations: which they are; all but HEAD by default.
        skip: how many of them are let through first.
        times: how many of the others are disturbed.
        probability: by which chance each.
        seed: of that chance.
        refuse: the store never hears of it; together with ``status``, or the connection is closed.
        tear_at: of what is sent the store gets so much, and then the connection is closed on both sides.
        shorten_sent: what is sent is cut by so much, as if it had been all.
        flip_sent: position in what is sent of a byte of which one bit is changed.
        lose_reply: the store does it, and the connection is closed without an answer.
        hold_s: how long the answer is late.
        status: answer with this status, whatever the store did.
        code: error code of that answer.
        headers: headers of that answer.
        cut_at: position in the answer at which the connection is closed.
        shorten: bytes by which the answer and its declared length are cut, as a store would that lost them.
        flip: position in the answer of a byte of which one bit is changed.
        stall_s: how long to wait in the middle of the answer.
        rewrite: change of the answer.
        met: how many requests were meant so far.
        disturbed: how many were disturbed.
    """

    match: str = ""
    operations: tuple[Operation, ...] = ()
    skip: int = 0
    times: int = 1_000_000
    probability: float = 1.0
    seed: int = 0
    refuse: bool = False
    tear_at: int | None = None
    shorten_sent: int = 0
    flip_sent: int | None = None
    lose_reply: bool = False
    hold_s: float = 0
    status: int | None = None
    code: str = "SlowDown"
    headers: dict[str, str] = field(default_factory=dict)
    cut_at: int | None = None
    shorten: int = 0
    flip: int | None = None
    stall_s: float = 0
    rewrite: Callable[[bytes], bytes] | None = None
    met: int = 0
    disturbed: int = 0

    def applies(self, operation: Operation, path: str) -> bool:
        """Whether this request is disturbed. Side effects: it is counted."""
        meant = operation in self.operations if self.operations else operation != "head"
        if not meant or self.match not in path:
            return False
        self.met += 1
        if self.met <= self.skip or self.disturbed >= self.times:
            return False
        if self.probability < 1 and random.Random(f"{self.seed}:{self.met}").random() >= self.probability:
            return False
        self.disturbed += 1
        return True


@dataclass
class Request:
    """A request as it was asked and answered.

    Attributes:
        at_s: when it came, on the monotonic clock.
        operation: what was asked.
        key: of which object; the prefix, of a listing.
        status: of the answer; 0 if there was none, or not yet.
        disturbed: whether a disturbance applied.
    """

    at_s: float
    operation: Operation
    key: str
    status: int
    disturbed: bool


class S3Proxy:
    """Stands before one S3.

    Args:
        upstream: its endpoint.

    Attributes:
        endpoint: the proxy's own.
        disturbances: see the module; may be changed at any time.
        requests: what was asked so far.
    """

    def __init__(self, upstream: str) -> None:
        self.disturbances: list[Disturbance] = []
        self.requests: list[Request] = []
        self._host = urlsplit(upstream).netloc
        self._lock = threading.Lock()
        self._over = threading.Event()
        between = self

        class Handler(_Handler):
            proxy = between

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        """Answer nobody any more."""
        self._over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def disturb(self, **dials: Any) -> Disturbance:
        """Add a disturbance."""
        made = Disturbance(**dials)
        self.disturbances.append(made)
        return made

    def counted(self, since: int = 0) -> Counter[str]:
        """How many requests of each operation there were, from the n-th request on."""
        return Counter(request.operation for request in self.requests[since:])

    def per_second(self, since: int = 0) -> list[int]:
        """How many requests came in each second, from the n-th request on."""
        found = self.requests[since:]
        if not found:
            return []
        counts = Counter(int(request.at_s - found[0].at_s) for request in found)
        return [counts[second] for second in range(max(counts) + 1)]

    def which(self, operation: Operation, path: str) -> Disturbance | None:
        """The disturbance of a request. Side effects: it is counted."""
        with self._lock:
            return next((each for each in list(self.disturbances) if each.applies(operation, path)), None)

    def wait(self, seconds: float) -> None:
        """Wait, until the proxy closes at the longest."""
        self._over.wait(seconds)

    def store(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> _Answer:
        """Ask the store."""
        connection = http.client.HTTPConnection(self._host, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:  # the Host header too: it is signed
                connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            content = answer.read()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
            return _Answer(answer.status, kept, content, int(answer.getheader("Content-Length") or len(content)))
        finally:
            connection.close()

    def tear(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> None:
        """Give the store the beginning of a request, and hang up."""
        host, _, port = self._host.partition(":")
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
        with suppress(OSError), socket.create_connection((host, int(port or 80)), timeout=60) as connection:
            connection.sendall("\r\n".join(lines).encode("latin-1") + body)


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    length: int


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: S3Proxy
    _request: Request

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _pass_on(self) -> None:
        at_s = time.monotonic()
        body = self._body()
        operation, key = operation_of(self.command, self.path)
        disturbance = self.proxy.which(operation, unquote(self.path))
        self._request = Request(at_s, operation, key, 0, disturbance is not None)
        self.proxy.requests.append(self._request)
        try:
            if disturbance is None:
                self._undisturbed(body)
            else:
                self._disturbed(disturbance, body)
        except OSError:
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815

    def _body(self) -> bytes:
        """What was sent, as it came: chunks with their frames if it came in chunks."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        sent = b""
        while True:
            line = self.rfile.readline()
            size = int(line.split(b";")[0], 16)
            sent += line + self.rfile.read(size + 2)
            if size == 0:
                return sent

    def _sent(self, body: bytes) -> list[tuple[str, str]]:
        """The request's headers, its length that of ``body``."""
        return [(n, str(len(body)) if n.lower() == "content-length" else v) for n, v in self.headers.items()]

    def _undisturbed(self, body: bytes) -> None:
        answer = self.proxy.store(self.command, self.path, self._sent(body), body)
        self._answer(answer.status, answer.headers, answer.body, answer.length)

    def _disturbed(self, how: Disturbance, body: bytes) -> None:
        if how.tear_at is not None:
            self.proxy.tear(self.command, self.path, self._sent(body), body[: how.tear_at])
            self._hang_up()
            return
        if how.flip_sent is not None:
            body = _flipped(body, how.flip_sent)
        if how.shorten_sent:
            body = body[: -how.shorten_sent]
        if how.refuse:
            answer = _Answer(how.status or 0, {}, b"", 0)
        else:
            answer = self.proxy.store(self.command, self.path, self._sent(body), body)
        self.proxy.wait(how.hold_s)
        if how.lose_reply or (how.refuse and how.status is None):
            self._hang_up()
            return
        status, headers, content = answer.status, answer.headers, answer.body
        if how.status is not None:
            status, headers = how.status, {**how.headers}
            content = f"<Error><Code>{how.code}</Code><Message>No</Message></Error>".encode()
        if how.rewrite is not None:
            content = how.rewrite(content)
        if how.flip is not None:
            content = _flipped(content, how.flip)
        if how.shorten:
            content = content[: -how.shorten]
        length = answer.length if self.command == "HEAD" and how.status is None else len(content)
        self._answer(status, headers, content, length, cut_at=how.cut_at, stall_s=how.stall_s)

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _answer(
        self,
        status: int,
        headers: dict[str, str],
        body: bytes,
        length: int,
        *,
        cut_at: int | None = None,
        stall_s: float = 0,
    ) -> None:
        self._request.status = status
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command == "HEAD":
            return
        middle = len(body) // 2 if cut_at is None else cut_at
        self.wfile.write(body[:middle])
        self.wfile.flush()
        if cut_at is not None:
            self._hang_up()
            return
        self.proxy.wait(stall_s)
        self.wfile.write(body[middle:])


def _flipped(body: bytes, at: int) -> bytes:
    """One bit changed; positions beyond the end begin again at the start."""
    at = at % len(body) if body else 0
    return body[:at] + bytes(byte ^ 0x10 for byte in body[at : at + 1]) + body[at + 1 :]


def operation_of(method: str, path: str) -> tuple[Operation, str]:
    """What a request asks for, and of which object: the key, or of a listing the prefix."""
    parts = urlsplit(path)
    query = parse_qs(parts.query, keep_blank_values=True)
    key = unquote(parts.path).lstrip("/").partition("/")[2]
    operations: dict[str, Operation] = {
        "PUT": "put_part" if "partNumber" in query else "put",
        "POST": "delete_many" if "delete" in query else "begin_upload" if "uploads" in query else "complete",
        "DELETE": "abort" if "uploadId" in query else "delete",
        "HEAD": "head",
        "GET": "list_uploads" if "uploads" in query else "get" if key else "list",
    }
    return operations[method], key or query.get("prefix", [""])[0]


@contextmanager
def s3_proxy(upstream: str) -> Iterator[S3Proxy]:
    """A proxy that is gone when the block is left."""
    made = S3Proxy(upstream)
    try:
        yield made
    finally:
        made.close()
