"""What a server derives from the whole lake is kept for a while, and made by one thread at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

_Value = TypeVar("_Value")


class Kept:
    """Values by name, each as old as its time allows.

    Args:
        for_s: how long a value is kept, in s.
        clock: monotonic time in s.

    Attributes:
        guard: held while a value is made; whoever uses the same pipeline holds it too.
    """

    def __init__(self, for_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._for_s = for_s
        self._clock = clock
        self._values: dict[str, tuple[float, Any]] = {}
        self.guard = threading.RLock()

    def get(self, name: str, make: Callable[[], _Value]) -> _Value:
        """The value of that name; made anew if there is none, or an old one."""
        with self.guard:
            made_at, value = self._values.get(name, (float("-inf"), None))
            if self._clock() - made_at >= self._for_s:
                value = make()
                self._values[name] = (self._clock(), value)
            found: _Value = value
            return found
