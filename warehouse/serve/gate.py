"""What every request passes, whatever it asks: size, token, rate, scope, release; then cache; then the log.

::

    request ─▶ sizes ─▶ token ─▶ rate ─▶ scope ─▶ release ─▶ 304 or cache? ─▶ route ─▶ answer ─▶ log

Plain ASGI around the framework, so that nothing gets past it (a framework's own middleware does not see websockets)
and an answer from the cache costs no routing. A request holds one release from here to its last byte.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, unquote

from starlette.requests import Request

from common.hashing import digest
from warehouse.serve.admission import Admission, needed_scope, require
from warehouse.serve.cache import MAX_ANSWER_BYTES, Cache, Kept
from warehouse.serve.opened import Follower, OpenRelease
from warehouse.serve.problems import Problem
from warehouse.serve.query_log import Entry, QueryLog, now
from warehouse.serve.tokens import Principal

_LOG = logging.getLogger(__name__)

MAX_URI_BYTES = 16_384
MAX_BODY_BYTES = 256 << 10
BODY_S = 10.0
"""How long a body may take to arrive, in s."""

SEND_S = 30.0
"""How long a client may take nothing of an answer, in s; then it is broken off."""

_GRAPHQL, _METRICS = "/graphql", "/v1/metrics"
_OPEN = {"/health", "/v1/openapi.json"}

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Message, Receive, Send], Awaitable[None]]


class Asked:
    """One request on its way: what is known of it so far, for the route and the log."""

    def __init__(self, scope: Message, request_id: str) -> None:
        self.started = time.perf_counter()
        self.at = now()
        self.id = request_id
        self.method = str(scope["method"])
        self.path = str(scope["path"])
        self.query = bytes(scope["query_string"])
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.principal: Principal | None = scope.get("state", {}).get("principal")
        own = {"/v1/sql": "sql", _GRAPHQL: "graphql"}.get(self.path, "http")
        self.door = str(scope.get("state", {}).get("door") or own)
        self.opened: OpenRelease | None = None
        self.question = unquote(self.query.decode("latin-1"))[:4000]
        self.cacheable = False
        self.source = "query"
        self.rows: int | None = None
        self.code = ""
        self.status = 0
        self.size_bytes = 0

    @property
    def who(self) -> Principal:
        """Who asks; known behind the gate."""
        if self.principal is None:
            raise Problem("token_missing", "The request has no token.", remedy="send Authorization: Bearer <token>")
        return self.principal

    @property
    def is_tagged(self) -> bool:
        """Whether answers to such a request may carry an ETag."""
        path = self.path
        of_dataset = path.startswith("/v1/datasets/") and path.endswith(("/rows", "/aggregate"))
        return of_dataset or path == _GRAPHQL or path.startswith(_METRICS)

    @property
    def may_operate(self) -> bool:
        """Whether the caller may do, not only look."""
        return "operate" in self.who.scopes

    @property
    def release(self) -> OpenRelease:
        """The release that answers; known behind the gate."""
        if self.opened is None:
            raise Problem("nothing_published", "Nothing has been published yet.", remedy="come again later")
        return self.opened


def asked_of(request: Request) -> Asked:
    """What the gate knows of a request."""
    asked: Asked = request.scope["state"]["asked"]
    return asked


class Gate:
    """ASGI middleware; the request's :class:`Asked` is ``scope["state"]["asked"]``.

    A door of this process that has found out who asks says so in ``scope["state"]["principal"]``, and its own name for
    the log in ``scope["state"]["door"]``; nothing that comes over a socket can.

    Args:
        app: the routes.
        admission: lets callers in.
        follower: gives releases.
        cache: keeps answers.
        log: keeps questions.
        threads: for what may wait.
        policy_digest: part of every ETag, since a changed policy changes answers.
    """

    def __init__(
        self,
        app: Any,
        *,
        admission: Admission,
        follower: Follower,
        cache: Cache,
        log: QueryLog,
        threads: ThreadPoolExecutor,
        policy_digest: str,
    ) -> None:
        self._app = app
        self._admission = admission
        self._follower = follower
        self._cache = cache
        self._log = log
        self._threads = threads
        self._policy_digest = policy_digest
        self._tags: dict[tuple[str, str], bytes] = {}
        self._prefix, self._numbers = (
            uuid.uuid4().hex[:22],
            itertools.count(),
        )  # one random number a server, not a request

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request; the life of the server passes through; websockets are refused."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = Asked(scope, f"{self._prefix}{next(self._numbers):010x}")
        scope.setdefault("state", {})["asked"] = asked
        answer = _Answer(asked, scope, send)
        try:
            await self._pass(scope, receive, answer, asked)
        except Problem as problem:
            await answer.problem(problem)
        except _Gone:
            asked.code = "client_gone"
            _break_off(scope)
        except Exception:  # noqa: BLE001 - whatever it is, the caller gets an answer and the log the rest
            _LOG.exception("request %s failed", asked.id)
            await answer.problem(
                Problem("internal", "Something went wrong here.", remedy=f"report the request id {asked.id}")
            )
        finally:
            if asked.path != "/health":
                self._log.write(_entry(asked))

    async def _pass(self, scope: Message, receive: Receive, answer: _Answer, asked: Asked) -> None:
        if len(asked.query) + len(scope.get("raw_path") or b"") > MAX_URI_BYTES:
            raise Problem("uri_too_long", f"The address has more than {MAX_URI_BYTES:,} bytes.", remedy="ask for less")
        if asked.path in _OPEN:
            await self._app(scope, receive, answer)
            return
        if asked.principal is None:  # else a door of this process knows who it is
            asked.principal = await self._authenticate(scope, asked)
        self._admission.count(asked.principal)
        require(asked.principal, needed_scope(asked.method, asked.path))
        asked.opened = await self._release(asked)
        tag = answer.tag = self._tag(asked)
        if asked.method == "GET" and asked.path.startswith(("/v1/datasets/", _METRICS, _GRAPHQL)):
            if asked.headers.get(b"if-none-match") == tag and asked.is_tagged:
                asked.source = "unchanged"
                await answer.unchanged()
                return
            key = self._key(asked)
            kept = await self._cache.get(key)
            if kept is not None:
                asked.source, asked.rows = "cache", kept.rows
                asked.cacheable = True
                await answer.kept(kept)
                return
            answer.collect()
            await self._app(scope, receive, answer)
            if answer.collected is not None and asked.cacheable and asked.status == 200:
                await self._cache.put(key, Kept(answer.headers, bytes(answer.collected), asked.rows or 0))
            return
        await self._app(scope, await _whole_body(receive, asked), answer)

    async def _authenticate(self, scope: Message, asked: Asked) -> Principal:
        given = asked.headers.get(b"authorization", b"").decode("latin-1")
        kind, _, token = given.partition(" ")
        address = str((scope.get("client") or ("",))[0])
        if kind.lower() != "bearer" or not token:
            raise Problem("token_missing", "The request has no token.", remedy="send Authorization: Bearer <token>")
        if self._admission.is_known(token):
            return self._admission.identify(token, address)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._admission.identify, token, address)

    async def _release(self, asked: Asked) -> OpenRelease:
        if b"release=" in asked.query and asked.path.startswith(("/v1/datasets", _METRICS, _GRAPHQL)):
            named = parse_qs(asked.query.decode("latin-1")).get("release")
            if named:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, self._follower.get, named[-1])
        return self._follower.current()

    def _tag(self, asked: Asked) -> bytes:
        """The ETag of what depends on release and role alone; of GraphQL, where not every answer does, also of the
        document, so that a tag is only ever of one that did.
        """
        known = asked.release.id, asked.who.role
        found = self._tags.get(known)
        if found is None:
            found = f'W/"{known[0]}-{digest(known[1], self._policy_digest)[:8]}'.encode()
            self._tags[known] = found
        if asked.path == _GRAPHQL:
            found += b"-" + digest(asked.query.decode("latin-1"))[:8].encode()
        return found + b'"'

    def _key(self, asked: Asked) -> str:
        accept = asked.headers.get(b"accept", b"").decode("latin-1")
        question = (asked.path, asked.query.decode("latin-1"), accept)
        return digest(asked.release.id, asked.who.role, self._policy_digest, *question)


def _break_off(scope: Message) -> None:
    """End the connection now, without what is still to be sent (:mod:`warehouse.serve.server` gives the means)."""
    abort = scope.get("state", {}).get("abort")
    if abort is not None:
        abort()


class _Gone(Exception):
    """The client is gone, or too slow."""


class _Answer:
    """Passes an answer on: adds headers, counts, keeps what may be kept, gives up on a client that sleeps."""

    def __init__(self, asked: Asked, scope: Message, send: Send) -> None:
        self._asked = asked
        self._scope = scope
        self._send = send
        self._begun = False
        self.tag = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.collected: bytearray | None = None

    def collect(self) -> None:
        """Keep the body, as long as it is small."""
        self.collected = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            self._asked.status = int(message["status"])
            self.headers = list(message.get("headers") or ())
            message = {**message, "headers": self.headers + self._own()}
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            self._asked.size_bytes += len(body)
            if self.collected is not None:
                self.collected += body
                if len(self.collected) > MAX_ANSWER_BYTES:
                    self.collected = None
        if not message.get("more_body"):
            await self._send(message)  # what is left goes into a buffer; nobody waits
            return
        try:
            await asyncio.wait_for(self._send(message), SEND_S)
        except (TimeoutError, OSError) as error:
            raise _Gone from error

    @property
    def is_lasting(self) -> bool:
        """Whether the answer is the same as long as the release is."""
        asked = self._asked
        if asked.path == _GRAPHQL:
            return asked.status == 304 or (asked.status == 200 and asked.cacheable)
        return asked.status in {200, 304} and asked.is_tagged

    def _own(self) -> list[tuple[bytes, bytes]]:
        own = [(b"penstock-request-id", self._asked.id.encode()), (b"x-content-type-options", b"nosniff")]
        own.append((b"vary", b"Authorization, Accept"))
        if self._asked.opened is not None:
            own.append((b"penstock-release", self._asked.opened.id.encode()))
        if self.is_lasting:
            own += [(b"etag", self.tag), (b"cache-control", b"private, no-cache")]
        elif self._asked.path not in _OPEN:
            own.append((b"cache-control", b"no-store"))
        return own

    async def unchanged(self) -> None:
        """304: what the client has is what it would get."""
        await self({"type": "http.response.start", "status": 304, "headers": []})
        await self({"type": "http.response.body", "body": b""})

    async def kept(self, kept: Kept) -> None:
        """An answer that was given before."""
        await self({"type": "http.response.start", "status": 200, "headers": kept.headers})
        await self({"type": "http.response.body", "body": kept.body})

    async def problem(self, problem: Problem) -> None:
        """A problem; of an answer that has begun, the connection is broken off, so that nobody takes it for whole."""
        self._asked.code = problem.code
        if self._begun:
            _break_off(self._scope)
            return
        status, headers, body = problem_answer(problem, self._asked.id)
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self({"type": "http.response.body", "body": body})


def problem_answer(problem: Problem, request_id: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of a problem."""
    body = json.dumps(problem.document(f"urn:penstock:request:{request_id}")).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    if problem.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="penstock", error="invalid_token"'))
    if problem.retry_after_s is not None:
        headers.append((b"retry-after", str(problem.retry_after_s).encode()))
    return problem.status, headers, body


async def _whole_body(receive: Receive, asked: Asked) -> Receive:
    """The request's body, read here, within its size and time."""
    too_large = Problem("body_too_large", f"The body has more than {MAX_BODY_BYTES:,} bytes.", remedy="send less")
    told = asked.headers.get(b"content-length", b"0")
    if not told.isdigit() or int(told) > MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    deadline = time.monotonic() + BODY_S
    while True:
        try:
            message = await asyncio.wait_for(receive(), max(0.01, deadline - time.monotonic()))
        except TimeoutError:
            raise Problem(
                "body_timeout", f"The body did not come within {BODY_S:g} s.", remedy="send it at once"
            ) from None
        if message["type"] == "http.disconnect":
            raise _Gone
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise too_large
        if not message.get("more_body"):
            break
    rest: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def again() -> Message:
        return rest.pop() if rest else await receive()

    return again


def _entry(asked: Asked) -> Entry:
    who = asked.principal
    return Entry(
        at=asked.at,
        request_id=asked.id,
        subject=who.subject if who else "",
        role=who.role if who else "",
        token_id=who.token_id if who else "",
        door=asked.door,
        method=asked.method,
        path=asked.path[:500],
        question=asked.question,
        release=asked.opened.id if asked.opened else "",
        status=asked.status,
        code=asked.code,
        source=asked.source,
        rows=asked.rows,
        size_bytes=asked.size_bytes,
        duration_ms=round(1000 * (time.perf_counter() - asked.started), 3),
    )
