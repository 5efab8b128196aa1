"""The portal's way to data: the HTTP API of the same process, asked as whoever has signed in.

::

    page ─▶ /v1/... in process, with the session's principal ─▶ gate: rate, scope, release, cache, log ─▶ JSON

There is no second way: whatever the policy hides from a role in the API, no page can show.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from penstock.portal.sessions import Session
from warehouse.serve.gate import Message, Receive, Send
from warehouse.serve.problems import STATUS, Problem

Query = Sequence[tuple[str, str]]


class Door:
    """Asks the API.

    Args:
        app: the API behind its gate.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def get(self, session: Session, path: str, query: Query = ()) -> Any:
        """The document of an answer; its numbers are exact.

        Raises:
            Problem: what the API answered instead.
        """
        parts: list[bytes] = []
        status = 0

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            else:
                parts.append(message.get("body", b""))

        await self.forward(session, path, query, receive, send)
        document = json.loads(b"".join(parts), parse_float=Decimal)
        if status >= 400:
            code = str(document.get("code", "internal"))
            raise Problem(
                code if code in STATUS else "internal",
                str(document.get("detail", "Something went wrong here.")),
                remedy=str(document.get("remedy", "try again")),
            )
        return document

    async def forward(self, session: Session, path: str, query: Query, receive: Receive, send: Send) -> None:
        """Let the API answer by itself, such as by a stream.

        Args:
            session: who asks.
            path: of the API.
            query: parameters.
            receive: of the browser's request.
            send: of it.
        """
        scope: Message = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": urlencode(query).encode(),
            "headers": [(b"host", b"penstock"), (b"accept", b"*/*")],
            "client": None,
            "server": None,
            "state": {"principal": session.principal, "door": "portal"},
        }
        await self._app(scope, receive, send)
