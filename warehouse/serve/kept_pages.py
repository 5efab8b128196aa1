"""Pages of the catalog, kept for a moment: each is put together from facts on every dataset of a role.

By release, role and what was asked for; a page is checked against its document once, when it is made. Nothing of a
release's own gets old by it, owners, freshness and lineage by :data:`KEPT_S`.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

KEPT_S = 5.0
"""How long a page is given again, in s."""

_MOST = 1000

Key = tuple[str, ...]


class KeptPages:
    """Pages of one process.

    Args:
        clock: monotonic time in s.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[Key, tuple[float, bytes]] = {}

    async def get(self, key: Key, document: type[BaseModel], make: Callable[[], Awaitable[Any]]) -> Response:
        """The page of a key.

        Args:
            key: release, role, and what is asked for.
            document: what the page is.
            make: makes its content.
        """
        found = self._kept.get(key)
        if found is None or self._clock() - found[0] >= KEPT_S:
            began = self._clock()
            body = document.model_validate(await make()).model_dump_json().encode()
            if len(self._kept) >= _MOST:
                self._kept.clear()
            found = self._kept[key] = began, body
        return Response(found[1], media_type="application/json")
