"""Work that another run may overtake is done again from its beginning, because what it read is no longer the newest."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from common.errors import Overtaken

_LOG = logging.getLogger(__name__)
_Made = TypeVar("_Made")

TRIES = 10
"""How often an interval is read again because another run has published it meanwhile."""


def until_first(work: Callable[[], _Made]) -> _Made:
    """Do work that another run may overtake, again from its beginning if one has.

    Raises:
        Overtaken: others were faster every time.
    """
    for tried in range(1, TRIES):
        try:
            return work()
        except Overtaken as error:
            _LOG.info("%s", error)
        time.sleep(0.05 * tried)
    return work()
