"""A small TCP proxy before a real server: it drops, resets, stalls or slices its answers, or speaks TLS for it.

A connection's bytes from the server are counted, and at ``after_bytes`` - or, given a seed, somewhere before - it
does what it was told. While it stalls, everything stays connected, as behind a load balancer whose other side is gone.
"""

from __future__ import annotations

import random
import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal["drop", "reset", "stall", "slice", "none"]

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
"""How a PostgreSQL client asks for TLS before it says anything else."""


class Proxy:
    """Stands before the server of a URL.

    Args:
        url: the server's URL.
        fault: what happens to a connection.
        after_bytes: after how many bytes from the server, on each connection.
        certificate: PEM file of certificate and key; the proxy then answers in TLS.
        seed: each connection breaks after a number of bytes drawn from it, below ``after_bytes``.
        times: how many connections break; those that come later are passed on.

    Attributes:
        broken: how many connections broke.
        connections: how many there were.
    """

    def __init__(
        self,
        url: str,
        fault: Fault = "none",
        after_bytes: int = 0,
        certificate: Path | None = None,
        *,
        seed: int | None = None,
        times: int = 1_000_000,
    ) -> None:
        parts = urlsplit(url)
        self._server = (str(parts.hostname), int(parts.port or 5432))
        self._fault, self._after_bytes, self._times = fault, after_bytes, times
        self._drawn = None if seed is None else random.Random(seed)
        self.broken = self.connections = 0
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
        if self._tls is not None and certificate is not None:
            self._tls.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.url = url.replace(f":{self._server[1]}/", f":{self.port}/")
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._over = threading.Event()
        self.in_tls = 0
        self._threads[0].start()

    def close(self) -> None:
        """End every connection and every thread."""
        self._over.set()
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(client)
            self.connections += 1
            after = self._after_bytes if self._drawn is None else self._drawn.randrange(self._after_bytes)
            self._start(self._serve, client, after)

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _serve(self, client: socket.socket, after_bytes: int) -> None:
        server = socket.create_connection(self._server)
        self._open.append(server)
        with suppress(OSError):
            if self._tls is not None:
                asked = client.recv(8, socket.MSG_PEEK)
                if asked == _SSL_REQUEST:
                    client.recv(8)
                    client.sendall(b"S")
                    client = self._tls.wrap_socket(client, server_side=True)
                    self._open.append(client)
                    self.in_tls += 1
            self._pass_on(client, server, after_bytes)
        for each in (client, server):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _pass_on(self, client: socket.socket, server: socket.socket, after_bytes: int) -> None:
        """Both ways in one thread: TLS may not be read in one and written in another."""
        passed = 0
        while True:
            hidden = isinstance(client, ssl.SSLSocket) and client.pending()
            ready = [client] if hidden else select.select([client, server], [], [])[0]
            for source in ready:
                data = source.recv(1 << 16)
                if not data:
                    return
                if source is client:
                    server.sendall(data)
                    continue
                if self._fault == "slice":
                    for start in range(0, len(data), 997):
                        client.sendall(data[start : start + 997])
                    continue
                breaks = self._fault != "none" and self.broken < self._times
                room = after_bytes - passed if breaks else len(data)
                client.sendall(data[: max(room, 0)])
                passed += len(data)
                if room < len(data):
                    self.broken += 1
                    self._break(client)
                    return

    def _break(self, client: socket.socket) -> None:
        if self._fault == "stall":
            self._over.wait()
        if self._fault == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()


@contextmanager
def tcp_proxy(
    url: str,
    fault: Fault = "none",
    after_bytes: int = 0,
    certificate: Path | None = None,
    *,
    seed: int | None = None,
    times: int = 1_000_000,
) -> Iterator[Proxy]:
    """A proxy that is gone when the block is left (:class:`Proxy`)."""
    made = Proxy(url, fault, after_bytes, certificate, seed=seed, times=times)
    try:
        yield made
    finally:
        made.close()
