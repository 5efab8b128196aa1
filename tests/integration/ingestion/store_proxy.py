"""An HTTP proxy with dials in front of the real S3: what a network and a busy store do, on purpose."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass
class Dials:
    """What the proxy does to answers. ``match`` says to which requests: a part of their path or query.

    Attributes:
        match: part of the request line of the requests that are disturbed.
        times: how many of them.
        cut_at: bytes of the body after which the connection is closed.
        shorten: bytes by which body and its declared length are cut, as a store would that lost them.
        flip: position of a byte of which one bit is changed.
        status: answer with this status instead.
        code: error code of that answer.
        headers: headers of that answer.
        stall_s: how long to wait in the middle of the body, in s.
        rewrite: change of the body.
        seen: request lines.
        disturbed: how many requests were disturbed.
    """

    match: str = ""
    times: int = 1_000_000
    cut_at: int | None = None
    shorten: int = 0
    flip: int | None = None
    status: int | None = None
    code: str = "SlowDown"
    headers: dict[str, str] = field(default_factory=dict)
    stall_s: float = 0
    rewrite: Callable[[bytes], bytes] | None = None
    seen: list[str] = field(default_factory=list)
    disturbed: int = 0


@contextmanager
def proxy(upstream: str) -> Iterator[tuple[str, Dials]]:  # noqa: C901 - one handler, closed over its dials
    """A proxy in front of ``upstream``; yields its endpoint, and its dials."""
    dials = Dials()
    host = urlsplit(upstream).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def _pass_on(self) -> None:
            dials.seen.append(f"{self.command} {self.path}")
            connection = http.client.HTTPConnection(host, timeout=30)
            length = int(self.headers.get("Content-Length") or 0)
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():  # the Host header too: it is signed
                connection.putheader(name, value)
            connection.endheaders(self.rfile.read(length) if length else None)
            answer = connection.getresponse()
            body = answer.read()
            headers = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
            status = answer.status
            length = int(answer.getheader("Content-Length") or len(body))
            connection.close()
            if dials.match in self.path and dials.disturbed < dials.times and self.command != "HEAD":
                dials.disturbed += 1
                self._disturb(status, headers, body)
            else:
                self._answer(status, headers, body, length)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815

        def _disturb(self, status: int, headers: dict[str, str], body: bytes) -> None:
            if dials.status is not None:
                status, headers = dials.status, {**dials.headers}
                body = f"<Error><Code>{dials.code}</Code><Message>No</Message></Error>".encode()
            if dials.rewrite is not None:
                body = dials.rewrite(body)
            if dials.flip is not None:
                body = body[: dials.flip] + bytes([body[dials.flip] ^ 0x10]) + body[dials.flip + 1 :]
            if dials.shorten:
                body = body[: -dials.shorten]
            self._answer(status, headers, body, len(body), cut_at=dials.cut_at, stall_s=dials.stall_s)

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
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command == "HEAD":
                return
            middle = len(body) // 2 if cut_at is None else cut_at
            try:
                self.wfile.write(body[:middle])
                self.wfile.flush()
                if cut_at is not None:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                time.sleep(stall_s)
                self.wfile.write(body[middle:])
            except OSError:
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", dials
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def socket_trap() -> Iterator[tuple[int, list[tuple[str, int]]]]:
    """A port that nobody may connect to, and the list of those who did."""
    caught: list[tuple[str, int]] = []
    trap = socket.create_server(("127.0.0.1", 0))
    trap.settimeout(0.05)
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            try:
                connection, peer = trap.accept()
            except TimeoutError:
                continue
            caught.append(peer)
            connection.close()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield trap.getsockname()[1], caught
    finally:
        done.set()
        thread.join()
        trap.close()
