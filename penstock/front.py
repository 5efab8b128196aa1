"""The web front: one ASGI application that holds every door for the web, behind one login.

::

    request ─┬─ /v1, /graphql, /health ─▶ the API: bearer tokens, its own gate
             └─ origin ─▶ session ─▶ scope["user"] ─┬─ /            the portal
                                                    ├─ /dashboards  the dashboards, websockets too
                                                    └─ /docs, /quality  pages of the state folder; scope operate

Plain ASGI, because a framework's middleware for HTTP leaves websockets open. The API takes no cookie, so no other site
can make a browser ask it anything; what takes the cookie refuses every POST and websocket that another site began.
A websocket ends when its session does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from common.settings import Settings
from penstock.portal.login import COOKIE
from penstock.portal.sessions import Session, Sessions
from warehouse.serve.gate import ASGIApp, Message, Receive, Send
from warehouse.serve.server import Service

CHECK_S = 5.0
"""How often an open websocket's session is looked at, in s."""

_API = ("/v1", "/graphql", "/health")
_OPEN = ("/login", "/static")
_SAFE = {"GET", "HEAD", "OPTIONS"}
_SHARED = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]
_PAGES = (
    b"default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_FILES = (
    b"default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:; "
    b"font-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_DOCS = _FILES.replace(b"img-src data:", b"img-src 'self' data:")
"""dbt's page first asks for pictures whose names are templates, and an answer is quieter than a refusal."""
_DASHBOARDS = (
    b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; connect-src 'self' data: blob:; "
    b"form-action 'self'; base-uri 'self'; frame-ancestors 'self'"
)


def front(service: Service, settings: Settings, *, dashboards: ASGIApp | None = None) -> Front:
    """Every door for the web in one application.

    Args:
        service: the API and what it stands on.
        settings: where the pages of the state folder are.
        dashboards: the application under ``/dashboards``; it finds who asks in ``scope["user"]``: ``subject``,
            ``role`` and ``scopes``.

    Side effects: the key of sessions is made in the state folder, if there is none.
    """
    from penstock.portal.app import make_portal

    sessions = Sessions(service.options, service.policy, service.issuer)
    portal = make_portal(service, settings, sessions, has_dashboards=dashboards is not None)
    return Front(service.app, portal, sessions, dashboards=dashboards)


class Front:
    """See the module's text.

    Args:
        api: answers for itself.
        portal: pages and the login.
        sessions: who has signed in.
        dashboards: if there are any.
    """

    def __init__(self, api: ASGIApp, portal: ASGIApp, sessions: Sessions, *, dashboards: ASGIApp | None = None) -> None:
        self._api = api
        self._portal = portal
        self._sessions = sessions
        self._dashboards = dashboards

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request or websocket."""
        if scope["type"] == "lifespan" or _is_under(scope["path"], _API):
            await self._api(scope, receive, send)
            return
        session = self._session(scope)
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send, session)
            return
        answer = _with_headers(send, _area(scope["path"]))
        if scope["method"] not in _SAFE and not _is_own(scope):
            await _refuse(answer, 403, "The request began on another site. Open the page here and try again.")
        elif session is None and not _is_under(scope["path"], _OPEN):
            await _to_login(scope, answer)
        else:
            await self._below(scope, receive, answer, session)

    async def _below(self, scope: Message, receive: Receive, send: Send, session: Session | None) -> None:
        scope = {**scope, "headers": _without_cookie(scope["headers"])}
        if session is not None:
            scope |= {"user": session.user, "state": {**scope.get("state", {}), "session": session}}
        if self._dashboards is not None and session is not None and _is_dashboard(scope["path"]):
            await self._dashboards(scope, receive, send)
        else:
            await self._portal(scope, receive, send)

    async def _websocket(self, scope: Message, receive: Receive, send: Send, session: Session | None) -> None:
        if session is None or self._dashboards is None or not _is_dashboard(scope["path"]) or not _is_own(scope):
            await send({"type": "websocket.close", "code": 1008})
            return
        receive, send = _while_good(receive, send, lambda: self._sessions.is_good(session))
        await self._below(scope, receive, send, session)

    def _session(self, scope: Message) -> Session | None:
        cookie = _cookies(scope).get(COOKIE)
        return self._sessions.read(cookie) if cookie else None


def _is_under(path: str, roots: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in roots)


def _is_dashboard(path: str) -> bool:
    """Whether it is one, or a file of one; the list of them is the portal's."""
    return path.startswith("/dashboards/") and path != "/dashboards/"


def _area(path: str) -> bytes:
    if _is_dashboard(path):
        return _DASHBOARDS
    if _is_under(path, ("/docs",)):
        return _DOCS
    return _FILES if _is_under(path, ("/quality",)) else _PAGES


def _header(scope: Message, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _is_own(scope: Message) -> bool:
    """Whether a page of this origin made the browser send it; a browser says where from with every POST."""
    origin = _header(scope, b"origin")
    return bool(origin) and urlsplit(origin).netloc == _header(scope, b"host")


def _cookies(scope: Message) -> dict[str, str]:
    found = SimpleCookie()
    try:
        found.load("; ".join(value.decode("latin-1") for key, value in scope["headers"] if key == b"cookie"))
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in found.items()}


def _without_cookie(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers for the applications below: a session's cookie is not theirs to know."""
    kept = []
    for name, value in headers:
        parts = [part for part in value.split(b";") if part.strip().partition(b"=")[0] != COOKIE.encode()]
        if name != b"cookie" or parts:
            kept.append((name, b";".join(parts) if name == b"cookie" else value))
    return kept


def _with_headers(send: Send, policy: bytes) -> Send:
    own = [*_SHARED, (b"content-security-policy", policy)]
    if b"frame-ancestors 'none'" in policy:
        own.append((b"x-frame-options", b"DENY"))

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers") or ())
            if not any(name.lower() == b"cache-control" for name, _ in headers):
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers + own}
        await send(message)

    return sending


async def _refuse(send: Send, status: int, text: str) -> None:
    body = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _to_login(scope: Message, send: Send) -> None:
    if scope["method"] not in {"GET", "HEAD"}:
        await _refuse(send, 401, "Your session is over. Sign in again.")
        return
    asked = scope["path"] + (f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else "")
    where = "/login" + (f"?next={quote(asked, safe='/')}" if asked != "/" else "")
    headers = [(b"location", where.encode("latin-1", "replace")), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _while_good(receive: Receive, send: Send, is_good: Callable[[], bool]) -> tuple[Receive, Send]:
    """Both ways of a websocket as long as its session counts; then it is closed, and nothing is sent any more."""
    pending: asyncio.Future[Message] | None = None
    closed = False

    async def receiving() -> Message:
        nonlocal pending, closed
        while is_good():
            pending = pending or asyncio.ensure_future(receive())
            done, _ = await asyncio.wait({pending}, timeout=CHECK_S)
            if done:
                message, pending = pending.result(), None
                return message
        if pending is not None:
            pending.cancel()
        if not closed:
            closed = True
            await send({"type": "websocket.close", "code": 1008})
        return {"type": "websocket.disconnect", "code": 1008}

    async def sending(message: Message) -> None:
        if not closed:
            await send(message)

    return receiving, sending
