"""Answers Prometheus with the page of ``metrics.py``, at ``/metrics``, for as long as it runs.

A page is made when it is asked for and holds for some seconds. Making it again waits at least twenty times as long as
it took: however large the lake and however many ask, one processor's twentieth is the most that it costs. Who asks
meanwhile gets the page there is. A lake that cannot be read is answered with 503, and the reason in words.
"""

from __future__ import annotations

import gc
import http.server
import threading
import time
from collections.abc import Callable
from http import HTTPStatus

from common import logs
from common.errors import PenstockError, UsageError
from common.settings import Settings
from penstock.metrics import page
from penstock.show import say

PATIENCE = 20
"""How many times as long as it took to make a page it holds at least."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Cached:
    """The page, made again when it is older than it may be.

    Args:
        settings: which lake and releases.
        every_s: seconds for which it holds.
        clock_s: a clock that only differences are read from; injectable for tests.
    """

    def __init__(self, settings: Settings, every_s: float, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock_s = clock_s
        self._every_s = every_s
        self._making = threading.Lock()
        self._status, self._text, self._until_s = HTTPStatus.OK, "", 0.0

    def get(self) -> tuple[HTTPStatus, str]:
        """Status and text of the page."""
        waits = not self._text  # the first page; later ones are made by one, while the others get the old one
        if self._clock_s() >= self._until_s and self._making.acquire(blocking=waits):
            try:
                if self._clock_s() >= self._until_s:
                    self._make()
            finally:
                self._making.release()
        return self._status, self._text

    def _make(self) -> None:
        started = self._clock_s()
        try:
            self._status, self._text = HTTPStatus.OK, page(self._settings)
        except PenstockError as error:
            self._status, self._text = HTTPStatus.SERVICE_UNAVAILABLE, f"{type(error).__name__}: {error}\n"
        gc.collect()  # a pipeline holds engines, and what refers to it in a circle; a server makes one for each page
        now = self._clock_s()
        self._until_s = now + max(self._every_s, PATIENCE * (now - started))


def make_server(settings: Settings, host: str, port: int, *, every_s: float) -> http.server.ThreadingHTTPServer:
    """A server that is bound and does not serve yet.

    Args:
        settings: which lake and releases.
        host: address to listen on.
        port: 0 takes a free one.
        every_s: seconds for which a page holds.

    Raises:
        UsageError: the address cannot be listened on.
    """
    cached = Cached(settings, every_s)

    class _Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            status, text = cached.get()
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Scrapes are no news."""

    try:
        return http.server.ThreadingHTTPServer((host, port), _Handler)
    except OSError as error:
        raise UsageError(
            f"Cannot listen on {host}:{port}: {error}.", remedy="choose another --port or --host"
        ) from None


def serve(settings: Settings, host: str, port: int, *, every_s: float) -> None:
    """Serve until interrupted; the address is printed first.

    Raises:
        UsageError: the address cannot be listened on.
    """
    with make_server(settings, host, port, every_s=every_s) as server:
        say(f"http://{server.server_address[0]!s}:{server.server_address[1]}/metrics")
        logs.say("penstock: figures for Prometheus are served until interrupted")
        server.serve_forever()
