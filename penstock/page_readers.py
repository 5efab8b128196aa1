"""Which releases a page reads: those of the role that opened it.

A dashboard is an ordinary notebook that says ``penstock.connect()``. Served to somebody else, the same words must give
what that person may see. So :mod:`penstock.dashboards` leaves a mark in each page's request, and where a release is
opened, the mark of the page that is running is looked up here. A notebook that its owner runs has none and reads as
its owner.
"""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Callable
from typing import Any

from common.errors import UsageError
from warehouse.shelf import Shelf

MARK = "penstock"
"""Key of the mark in ``scope["meta"]``, which marimo hands to the notebook as ``mo.app_meta().request.meta``."""

_Doors = dict[str, Callable[[str], Shelf]]
_doors: _Doors = {}
_guard = threading.Lock()


def open_door(shelf_of_role: Callable[[str], Shelf]) -> str:
    """Give pages their releases by role; the door's name is part of their mark."""
    name = uuid.uuid4().hex
    with _guard:
        _doors[name] = shelf_of_role
    return name


def close_door(name: str) -> None:
    """Pages of this door can open releases no longer."""
    with _guard:
        _doors.pop(name, None)


def mark(door: str, role: str) -> dict[str, str]:
    """The mark of a page."""
    return {"door": door, "role": role}


def shelf_of_page() -> Shelf | None:
    """The releases of the page that runs in this thread; None where no page is served here.

    Raises:
        UsageError: the page's server has ended.
    """
    marimo: Any = sys.modules.get("marimo")
    if not _doors or marimo is None:
        return None
    request = marimo.app_meta().request
    found = request.meta.get(MARK) if request is not None else None
    if found is None:
        return None
    door = _doors.get(found["door"])
    if door is None:
        raise UsageError("The server of this page has ended.", remedy="open the page again")
    return door(found["role"])
