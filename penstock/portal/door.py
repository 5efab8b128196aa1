"""The portal's way to data: the HTTP API of the same process, asked as whoever has signed in.

::

    page ─▶ /v1/... in process, with the session's principal ─▶ gate: rate, scope, release, cache, log ─▶ JSON

There is no second way: whatever the policy hides from a role in the API, no page can show.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode

from penstock.portal.sessions import Session
from warehouse.serve.gate import Message, Receive, Send
from warehouse.serve.problems import STATUS, Problem

Query = Sequence[tuple[str, str]]


_NOT_HERE = {"operations_unavailable", "not_found", "busy", "internal", "too_slow"}


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
        return await self._ask(session, "GET", path, query)

    async def post(self, session: Session, path: str) -> Any:
        """Have something done; the document of the answer.

        Raises:
            Problem: what the API answered instead.

        Side effects: the route's.
        """
        return await self._ask(session, "POST", path, ())

    async def maybe(self, session: Session, path: str, query: Query = ()) -> Any:
        """The same as :meth:`get` for what a page can do without; None if it is not to be had here or now."""
        try:
            return await self.get(session, path, query)
        except Problem as problem:
            if problem.code not in _NOT_HERE:
                raise
            return None

    async def forward(
        self, session: Session, path: str, query: Query, outer: Message, receive: Receive, send: Send
    ) -> None:
        """Let the API answer a browser by itself, such as by a stream.

        Args:
            session: who asks.
            path: of the API.
            query: parameters.
            outer: scope of the browser's request.
            receive: of it; tells when the browser is gone.
            send: of it.

        Raises:
            Problem: what the API answered instead.
        """
        refusal: list[bytes] = []
        refused = False

        async def sending(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start":
                refused = int(message["status"]) >= 400
            if not refused:
                await send(message)
            elif message["type"] == "http.response.body":
                refusal.append(message.get("body", b""))

        await self._app(_scope(session, "GET", path, query, outer), receive, sending)
        if refused:
            raise _problem(json.loads(b"".join(refusal)))

    async def _ask(self, session: Session, method: str, path: str, query: Query) -> Any:
        parts: list[bytes] = []
        status = 0

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            else:
                parts.append(message.get("body", b""))

        await self._app(_scope(session, method, path, query), _no_body(), send)
        document = json.loads(b"".join(parts), parse_float=Decimal)
        if status >= 400:
            raise _problem(document)
        return document


def _no_body() -> Receive:
    """A request without a body, from somebody who waits for the answer."""
    told: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if not told:
            await asyncio.Event().wait()
        return told.pop()

    return receive


def _problem(document: dict[str, Any]) -> Problem:
    code = str(document.get("code", "internal"))
    return Problem(code if code in STATUS else "internal", str(document["detail"]), remedy=str(document["remedy"]))


def _scope(session: Session, method: str, path: str, query: Query, outer: Message | None = None) -> Message:
    state = {"principal": session.principal, "door": "portal"}
    if outer is not None and "abort" in outer.get("state", {}):
        state["abort"] = outer["state"]["abort"]  # ends the browser's connection when an answer cannot be finished
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": quote(path).encode(),
        "root_path": "",
        "query_string": urlencode(query).encode(),
        "headers": [(b"host", b"penstock"), (b"accept", b"*/*")],
        "client": None,
        "server": None,
        "state": state,
    }
