"""A request to stop that does not get lost.

Ctrl-C and SIGTERM raise ``KeyboardInterrupt`` wherever the process happens to be. Inside an engine that becomes an
error of the engine's own, and whoever goes on after such errors - a gate asks its questions one by one when all at once
failed - goes on. So the request is noted as well, and asked for where a step ends and nothing has been published yet.
"""

from __future__ import annotations

_noted: list[int] = []


def note(signal_number: int) -> None:
    """A signal asked this process to stop."""
    _noted.append(signal_number)


def is_noted() -> bool:
    """Whether this process was asked to stop."""
    return bool(_noted)


def raise_if_noted() -> None:
    """Stop here if this process was asked to.

    Raises:
        KeyboardInterrupt: it was.
    """
    if _noted:
        raise KeyboardInterrupt
