"""Connections of the Flight door that must be broken off: callers that take nothing, and those left when it ends.

gRPC's Python side can neither give up a write nor end a server while a call is stuck in one (measured: ``shutdown`` and
even the end of the process wait for as long as the caller sleeps). The socket below can be shut, which ends its calls
in order: their streams are closed and written down.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable

import psutil

STALLED_S = 300.0
"""How long a caller may take nothing of an answer, in s; then its connection is broken off."""

_LOOK_S = 0.25


def break_off(port: int, peer: str | None = None) -> int:
    """Shut connections to a port of this process.

    Args:
        port: the port that is listened on.
        peer: gRPC's name of the other end (``ipv4:10.1.2.3:50123``); all of them if None.

    Returns:
        How many.
    """
    count = 0
    for each in psutil.Process().net_connections("tcp"):
        if each.laddr.port != port or not each.raddr or each.fd < 0:
            continue
        address = each.raddr.ip.removeprefix("::ffff:")  # of IPv4 on a socket for both
        if peer is not None and not (peer.endswith(f":{each.raddr.port}") and address in peer):
            continue
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(each.fd)) as same:
            if same.getsockname()[1] == port:  # the number may have been given to another one meanwhile
                same.shutdown(socket.SHUT_RDWR)
                count += 1
    return count


class Moving:
    """Watches answers that are under way; safe to use from many threads.

    Args:
        port: what answers go out by; asked for when one is stuck.

    Side effects: a thread watches until :meth:`close`.
    """

    def __init__(self, port: Callable[[], int]) -> None:
        self._port = port
        self._moved: dict[str, tuple[float, str]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="flight-watch", daemon=True)
        self._thread.start()

    def moves(self, call: str, peer: str) -> None:
        """The answer to a call has just moved on."""
        self._moved[call] = (time.monotonic(), peer)

    def ends(self, call: str) -> None:
        """It has ended."""
        self._moved.pop(call, None)

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_S):
            before = time.monotonic() - STALLED_S
            for moved_at, peer in list(self._moved.values()):
                if moved_at < before:
                    break_off(self._port(), peer)

    def close(self) -> None:
        """Watch no longer."""
        self._ended.set()
        self._thread.join()
