"""The time limit of an audit: a thread that interrupts DuckDB, and the words for what it was doing.

DuckDB forgets an interrupt that comes between two statements, so the interrupt is repeated until the audit ends.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

_AGAIN_S = 0.05


class OutOfTime(Exception):
    """An audit took longer than it may."""


class Deadline:
    """One audit's time limit.

    Args:
        limit_s: how long it may take; None for any time.

    Attributes:
        doing: what is judged now, in words; kept up to date by the audit.
    """

    def __init__(self, limit_s: float | None) -> None:
        self.limit_s = limit_s
        self.doing = "reading the batch"
        self._passed = threading.Event()
        self._ended = threading.Event()

    @contextmanager
    def watching(self, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Interrupt what the connection does within this block once the limit is over.

        Raises:
            OutOfTime: the block took longer, whatever error it ended with.
        """
        if self.limit_s is None:
            yield
            return
        thread = threading.Thread(target=self._watch, args=(connection,), name="penstock-gate-deadline", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            self.check()

    def check(self) -> None:
        """Raise :class:`OutOfTime` if the limit is over: called where an error of DuckDB is about to be explained."""
        if self._passed.is_set():
            raise OutOfTime

    def _watch(self, connection: duckdb.DuckDBPyConnection) -> None:
        if self._ended.wait(self.limit_s):
            return
        self._passed.set()
        while not self._ended.wait(_AGAIN_S):
            connection.interrupt()
