"""A reader in a loop, in a process of its own, beside whatever is done to lake and warehouse.

It looks at the same things over and over and keeps what it saw, each look with the moment before it began and after it
ended. Whether an answer was legal is for those to say who know what was published when.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class Stop(Protocol):
    """Says when to stop; what :mod:`multiprocessing` and :mod:`threading` call an event."""

    def is_set(self) -> bool:
        """Whether it is time."""
        ...


@dataclass(frozen=True)
class FileThere:
    """A stop that is set when a file is there, or when who would put it there has died.

    Attributes:
        path: the file.
        starter: pid of the process that started the reader.
    """

    path: Path
    starter: int

    def is_set(self) -> bool:
        """Whether it is."""
        if self.path.exists():
            return True
        try:
            os.kill(self.starter, 0)
        except ProcessLookupError:
            return True
        return False


@dataclass
class Looks(Generic[T]):
    """What a reader saw.

    Attributes:
        seen: (moment before, what it saw, moment after), in order.
        failed: errors of looks that failed.
    """

    seen: list[tuple[int, T, int]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def look_until(
    stop: Stop, look: Callable[[], T], *, moment: Callable[[], int] = lambda: 0, pause_s: float = 0.0
) -> Looks[T]:
    """Look until it is time to stop, and once at least.

    Args:
        stop: when to stop.
        look: one look; what it raises is a failed read.
        moment: the number of what was published so far.
        pause_s: between two looks, for those beside it, in s.
    """
    looks: Looks[T] = Looks()
    while True:
        before = moment()
        try:
            looks.seen.append((before, look(), moment()))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failed read
            looks.failed.append(f"{type(error).__name__}: {error}")
        if stop.is_set():
            return looks
        time.sleep(pause_s)
