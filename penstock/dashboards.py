"""Dashboards: notebooks of one folder, served to whoever has signed in, each reading as its reader's role.

::

    front (login) ─ scope["user"] ─▶ DashboardsApp ─ whose session? ─▶ marimo ─ penstock.connect() ─▶ views of the role

marimo runs each page's notebook in a thread of this process and sends what its cells show, never their code. It serves
all its files itself, so pages work without any other host. A file becomes a dashboard by lying in the folder.
"""

from __future__ import annotations

import ast
import re
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs

from common.errors import SettingsError
from common.settings import Settings
from penstock.page_readers import MARK, close_door, mark, open_door
from warehouse.role_shelf import RoleShelf
from warehouse.serve.gate import Message, Receive, Send
from warehouse.serve.policy import Policy, load_policy, mask_salt
from warehouse.shelf import Shelf
from warehouse.stored import shelf_of

ASGIApp = Callable[[Message, Receive, Send], Awaitable[None]]
BASE = "/dashboards"
SESSION_TTL_S = 60
"""How long a page that was left keeps its thread, in s."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_SESSIONS_KNOWN = 10_000
_SCOPE = "read"


@dataclass(frozen=True)
class Dashboard:
    """A dashboard there is.

    Attributes:
        name: of its file; its page is ``/dashboards/<name>/``.
        title: the ``app_title`` of its ``marimo.App``, or its name.
        description: first paragraph of the file's text.
    """

    name: str
    title: str
    description: str


def dashboards(settings: Settings) -> list[Dashboard]:
    """The dashboards of the folder, by title. Files are read, not run; what is no notebook is left out."""
    found = []
    for path in sorted(settings.dashboards.glob("*.py")):
        if _NAME.fullmatch(path.stem):
            try:
                tree = ast.parse(path.read_bytes())
            except (SyntaxError, ValueError):
                continue
            title = _title(tree)
            if title is not None:
                text = (ast.get_docstring(tree) or "").split("\n\n")[0]
                found.append(Dashboard(path.stem, title or path.stem.replace("_", " "), " ".join(text.split())))
    return sorted(found, key=lambda each: each.title)


def _title(tree: ast.Module) -> str | None:
    """What the file's ``marimo.App(app_title=...)`` says, empty if nothing; None if there is no App."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "marimo.App":
            given = {each.arg: each.value for each in node.keywords}
            said = given.get("app_title")
            return str(said.value) if isinstance(said, ast.Constant) else ""
    return None


def dashboards_app(settings: Settings, *, policy: Policy | None = None) -> DashboardsApp:
    """The application to be mounted at ``/dashboards``, behind a login.

    Args:
        settings: where dashboards and releases are, and who may see what.
        policy: that of ``settings.policy`` by default.

    Raises:
        SettingsError: there is no such folder.
        SpecError: the policy file is not valid.

    Side effects: the key of hashed values is made in the state folder, if there is none. Pages run in threads.
    """
    if not settings.dashboards.is_dir():
        raise SettingsError(
            f"There is no folder {settings.dashboards}.", remedy="name the folder of dashboards: PENSTOCK_DASHBOARDS"
        )
    return DashboardsApp(settings, policy or load_policy(settings.policy))


class DashboardsApp:
    """Every request and websocket of dashboards; ``scope["user"]`` must say ``subject``, ``role`` and ``scopes``.

    Who lacks a role of the policy or the scope ``read`` gets 403. A page's session belongs to the subject and role that
    began it: its id, which a browser chooses, opens nothing for anybody else.

    Args:
        settings: see :func:`dashboards_app`.
        policy: see there.
    """

    def __init__(self, settings: Settings, policy: Policy) -> None:
        self._settings, self._policy = settings, policy
        self._salt = mask_salt(settings.home / "serve")
        self._shelves: dict[str, Shelf] = {}
        self._owners: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._managers: list[Any] = []
        self._guard = threading.Lock()
        self._door = open_door(self._shelf)

    @cached_property
    def _marimo(self) -> ASGIApp:
        """Marimo takes most of a second to load, so it is loaded when the first page is asked for."""
        import marimo

        def as_wanted(app: Any) -> Any:
            # pages follow the reader's light or dark; create_asgi_app itself takes no configuration
            wanted = {"display": {"theme": "system"}, "ai": {}, "runtime": {"auto_instantiate": True}}
            app.state.config_manager = app.state.config_manager.with_overrides(wanted)
            self._managers.append(app.state.session_manager)
            return app

        builder = marimo.create_asgi_app(quiet=True, include_code=False, session_ttl=SESSION_TTL_S)
        built: ASGIApp = builder.with_dynamic_directory(
            path=BASE,
            directory=str(self._settings.dashboards),
            validate_callback=lambda path, _scope: bool(_NAME.fullmatch(path.partition("/")[0])),
            middleware=[as_wanted],
        ).build()
        return built

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request or websocket."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        user = scope.get("user") or {}
        subject, role = str(user.get("subject", "")), str(user.get("role", ""))
        allowed = role in self._policy.roles and _SCOPE in user.get("scopes", ())
        if not allowed or not self._owns(_sessions(scope), (subject, role)):
            await _refuse(scope, receive, send)
            return
        await self._marimo({**scope, "meta": {MARK: mark(self._door, role)}}, receive, send)

    def _owns(self, sessions: Iterable[str], who: tuple[str, str]) -> bool:
        """Whether these sessions are this reader's; one that nobody has yet becomes so."""
        with self._guard:
            for session in sessions:
                if self._owners.setdefault(session, who) != who:
                    return False
                self._owners.move_to_end(session)
            while len(self._owners) > _SESSIONS_KNOWN:
                self._owners.popitem(last=False)
        return True

    def _shelf(self, role: str) -> Shelf:
        with self._guard:
            if role not in self._shelves:
                self._shelves[role] = RoleShelf(
                    shelf_of(self._settings),
                    self._policy.roles[role],
                    salt=self._salt,
                    memory_limit_mb=self._settings.memory_limit_mb,
                    threads=self._settings.threads,
                )
            return self._shelves[role]

    def close(self) -> None:
        """End the pages that are open. Side effects: their threads, which would keep the process alive, end too."""
        close_door(self._door)
        for manager in self._managers:
            manager.close_all_sessions()


def _sessions(scope: Message) -> list[str]:
    """Ids of sessions that a request names, in its header or its query."""
    named = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"marimo-session-id"]
    return named + parse_qs(scope.get("query_string", b"").decode("latin-1")).get("session_id", [])


async def _refuse(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    body = b"Your role may not see this page."
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _live(receive: Receive, send: Send) -> None:
    """Answer a server that tells when it begins and ends."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
