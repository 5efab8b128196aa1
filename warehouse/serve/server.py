"""A server on a port: the application behind its gate, in uvicorn, with time limits for slow callers.

::

    socket ─▶ Patient (uvicorn's HTTP/1.1 with a limit for headers) ─▶ Gate ─▶ routes ─▶ answer
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from common.hashing import digest
from warehouse.releases import Releases
from warehouse.serve.admission import Admission
from warehouse.serve.answers import Threads
from warehouse.serve.app import make_routes
from warehouse.serve.cache import Cache, MemoryCache, RedisCache
from warehouse.serve.facts import Facts, NoFacts
from warehouse.serve.gate import Gate
from warehouse.serve.keys import Issuer
from warehouse.serve.opened import Follower
from warehouse.serve.operations import Operations
from warehouse.serve.policy import load_policy, mask_salt
from warehouse.serve.problems import Problem
from warehouse.serve.query_log import QueryLog
from warehouse.serve.sandbox import Limits, Sandbox
from warehouse.serve.tokens import LocalIssuer, Tokens
from warehouse.shelf import Shelf

HEAD_S = 10.0
"""How long the head of a request may take to arrive, in s."""

_CONNECTIONS = 1000
_STOP_S = 5


@dataclass(frozen=True)
class ServerOptions:
    """How to serve.

    Attributes:
        warehouse: folder of the releases.
        releases: where they are instead, in object storage.
        state: ``<home>/serve``: keys, tokens, revocations, the log of queries.
        policy: the policy file.
        issuers: OpenID issuers that are believed beside the local one.
        audience: what tokens must be meant for.
        role_claim: claim of a token that holds its role.
        requests_per_min: of one subject.
        redis_url: of a cache that servers share; in memory if empty.
        memory_limit_mb: of the queries of one release.
        threads: of DuckDB for one query.
        sql: limits of guarded SQL.
    """

    warehouse: Path
    state: Path
    policy: Path
    releases: Shelf | None = None
    issuers: tuple[Issuer, ...] = ()
    audience: str = "penstock"
    role_claim: str = "role"
    requests_per_min: int = 6000
    redis_url: str = ""
    memory_limit_mb: int = 768
    threads: int = 1
    sql: Limits = field(default_factory=Limits)


class Service:
    """Everything that a server consists of; close it.

    Args:
        options: see there.
        facts: what is known of datasets outside the warehouse.
        operations: work that may be looked at and asked for; none by default.

    Raises:
        SpecError: the policy file is not valid.

    Side effects: threads and processes run until :meth:`close`.
    """

    def __init__(
        self, options: ServerOptions, facts: Facts | None = None, operations: Operations | None = None
    ) -> None:
        policy = load_policy(options.policy)
        self.options = options
        self.policy = policy
        self.issuer = LocalIssuer(options.state)
        self.tokens = Tokens(
            policy,
            self.issuer,
            issuers=options.issuers,
            audience=options.audience,
            role_claim=options.role_claim,
        )
        self.admission = Admission(self.tokens, requests_per_min=options.requests_per_min)
        self.follower = Follower(
            options.releases or Releases(options.warehouse),
            policy,
            salt=mask_salt(options.state),
            memory_limit_mb=options.memory_limit_mb,
            threads=options.threads,
        )
        self.sandbox: Sandbox | None = None
        self.layers: tuple[str, ...] = ()
        with contextlib.suppress(Problem):
            self.sandbox = Sandbox(options.sql)
        if self.sandbox is not None:
            with contextlib.suppress(Problem):  # nothing is published yet
                self.layers = self.sandbox.warm_up(self.follower.current().release.folder)
        self.threads = Threads.start(os.cpu_count() or 2, options.sql.running + options.sql.waiting + 1)
        self.log = QueryLog(options.state / "queries")
        cache: Cache = RedisCache(options.redis_url) if options.redis_url else MemoryCache()
        self._waiting = ThreadPoolExecutor(4, "gate")
        self.app = Gate(
            make_routes(self.follower, facts or NoFacts(), operations, self.sandbox, self.threads),
            admission=self.admission,
            follower=self.follower,
            cache=cache,
            log=self.log,
            threads=self._waiting,
            policy_digest=digest(policy.model_dump_json()),
        )

    def close(self) -> None:
        """End everything. Side effects: no thread or process of it is left."""
        self.follower.close()
        if self.sandbox is not None:
            self.sandbox.close()
        self.threads.close()
        self._waiting.shutdown(wait=False, cancel_futures=True)
        self.log.close()


class Patient(HttpToolsProtocol):
    """HTTP/1.1 with a limit on how long a head may take, and the means to break a connection off."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A connection: its first head must come in time."""
        super().connection_made(transport)
        self._wait()

    def on_message_begin(self) -> None:
        """A head begins: the rest of it must come in time."""
        super().on_message_begin()
        if self._timer is None:
            self._wait()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._stop_waiting()
        self.scope.setdefault("state", {})["abort"] = self.transport.abort
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._timer = self.loop.call_later(HEAD_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Server(uvicorn.Server):
    """uvicorn's server, ended by signals without a fuss."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the server cleanly, and are not raised again after it."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, self.handle_exit)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run(app: Any, *, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        app: what to serve: a service's application, or a front that leads to it among others.
        host: address to listen on.
        port: port; 0 takes a free one.
        ready: told the address when requests can come.

    Raises:
        OSError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
        config = uvicorn.Config(
            app,
            http=Patient,
            loop="auto",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=_STOP_S,
            h11_max_incomplete_event_size=65_536,
        )
        shown = f"[{host}]" if family == socket.AF_INET6 else host
        ready(f"http://{shown}:{listener.getsockname()[1]}")
        Server(config).run(sockets=[listener])
