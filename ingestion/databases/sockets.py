"""The client's own bound on a query: a source that says nothing more is broken off by closing its connection.

A server that ends statements in time does not help when the network between is dead: the client then waits in the
driver's ``poll`` for bytes that never come, where neither DuckDB's interrupt nor a signal reaches it. Keepalives and
TCP's own timeout do not fire either while something on the way (a proxy, a load balancer) still answers for the other
side. Shutting the socket down makes the driver see an end, and say so.

The driver does not tell its sockets, so they are those that this process has more of after connecting than before
(``/proc/self/fd``), and that lead to the server's port. Linux only, as Penstock is.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_CONNECTING = threading.Lock()
"""One connection of this process is made at a time, so that a new socket belongs to it."""

_IDLE_S = 3600.0
"""How long the watching thread rests while there is nothing to watch."""

_Descriptor = tuple[int, int]
"""File descriptor and inode: a number that has been given to another file is not ours any more."""


class Sockets:
    """The sockets of one connection.

    Args:
        port: the server's port.

    Attributes:
        timed_out: whether a block has taken longer than it may.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._known: set[_Descriptor] = set()
        self.timed_out = False
        self._guard = threading.Condition()
        self._ends_s: list[float] = []
        self._looks_s = 0.0
        self._watcher: threading.Thread | None = None
        self._closed = False

    @contextmanager
    def connecting(self, limit_s: float | None = None) -> Iterator[None]:
        """Whatever is connected to the server in here belongs to this connection.

        Args:
            limit_s: longest time the block may take, in s, where the driver has no bound of its own.
        """
        with _CONNECTING:
            before = set(_open_sockets())
            late = threading.Timer(limit_s, self._give_up, (before,)) if limit_s is not None else None
            if late is not None:
                late.daemon = True
                late.start()
            try:
                yield
            finally:
                if late is not None:
                    late.cancel()
                self._know(before)

    def _know(self, before: set[_Descriptor]) -> None:
        self._known = self._known | {each for each in set(_open_sockets()) - before if _leads_to(each, self._port)}

    def _give_up(self, before: set[_Descriptor]) -> None:
        self.timed_out = True
        self._know(before)
        self.sever()

    @contextmanager
    def bounded(self, limit_s: float) -> Iterator[None]:
        """Sever the connection unless the block is left in time.

        Args:
            limit_s: longest time the block may take, in s.
        """
        ends_s = time.monotonic() + limit_s
        with self._guard:
            self._ends_s.append(ends_s)
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="penstock-watch", daemon=True)
                self._watcher.start()
            elif ends_s < self._looks_s:
                self._guard.notify()
        try:
            yield
        finally:
            with self._guard:
                self._ends_s.remove(ends_s)

    def close(self) -> None:
        """Nothing is watched any more."""
        with self._guard:
            self._closed = True
            self._guard.notify()

    def _watch(self) -> None:
        """One thread for all blocks: one for each would cost a small query as much as the query itself."""
        with self._guard:
            while not self._closed:
                now_s = time.monotonic()
                if any(ends_s <= now_s for ends_s in self._ends_s):
                    self.timed_out = True
                    self.sever()
                    break
                # A block that ends later than the next look is seen then; an earlier one wakes us.
                self._looks_s = min(self._ends_s, default=now_s + _IDLE_S)
                self._guard.wait(self._looks_s - now_s)
            self._watcher = None

    def sever(self) -> None:
        """End the connection at once: whoever waits for it gets an error. Harmless where it has ended."""
        for each in tuple(self._known):
            with suppress(OSError), _duplicate(each) as ours:
                ours.shutdown(socket.SHUT_RDWR)


def _open_sockets() -> Iterator[_Descriptor]:
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found = os.fstat(int(entry.name))
            if stat.S_ISSOCK(found.st_mode):
                yield int(entry.name), found.st_ino


def _leads_to(descriptor: _Descriptor, port: int) -> bool:
    with suppress(OSError), _duplicate(descriptor) as ours:
        return ours.family in {socket.AF_INET, socket.AF_INET6} and bool(ours.getpeername()[1] == port)
    return False


@contextmanager
def _duplicate(descriptor: _Descriptor) -> Iterator[socket.socket]:
    """A socket of our own on the same connection; closing it leaves the driver's open.

    Raises:
        OSError: the descriptor is closed, or another file by now.
    """
    ours = socket.socket(fileno=os.dup(descriptor[0]))
    try:
        if os.fstat(ours.fileno()).st_ino != descriptor[1]:
            raise OSError
        yield ours
    finally:
        ours.close()
