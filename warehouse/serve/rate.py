"""How often somebody may come: a count per minute and name, in this process.

Counted here and not by a library: those that were tried start a thread or a task for what has expired, on the path of
every request.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable


class Rate:
    """At most so many in each minute of the clock, by name; safe to use from many threads.

    Args:
        per_min: how many.
        clock: seconds.
    """

    def __init__(self, per_min: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_min = per_min
        self._clock = clock
        self._guard = threading.Lock()
        self._minute = -1
        self._counts: Counter[str] = Counter()

    def is_full(self, name: str) -> bool:
        """Whether that name has had all of this minute."""
        with self._guard:
            self._turn()
            return self._counts[name] >= self._per_min

    def hit(self, name: str) -> bool:
        """Count one; False if it was one too many."""
        with self._guard:
            self._turn()
            self._counts[name] += 1
            return self._counts[name] <= self._per_min

    def _turn(self) -> None:
        minute = int(self._clock() // 60)
        if minute != self._minute:
            self._minute = minute
            self._counts.clear()
