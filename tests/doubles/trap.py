"""A port that nobody may connect to: where a forged address would lead, counted at the socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


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
