"""A front over small releases that answers in the test's own process, and people who sign in to it."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from common.settings import Settings
from penstock.front import Front, front
from penstock.operations import PipelineOperations
from tests.integration.serve.served import Told, options_of, publish
from warehouse.serve.gate import Message, Receive, Send
from warehouse.serve.server import Service
from warehouse.serve.tokens import LocalIssuer


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    """Dashboards of a test: say who asks, over HTTP and over a websocket for as long as that lives."""
    said = f"{scope['path']} {scope['user']} {dict(scope['headers']).get(b'cookie', b'')!r}"
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": said.encode()})
        return
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] != "websocket.disconnect":
        if message["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": said})


ORIGIN = str(TestClient(echo).base_url).rstrip("/")
"""Where the test client finds a server; its websockets know no other place."""


@dataclass
class Web:
    """A front and what it stands on.

    Attributes:
        folder: of warehouse, state and policy.
        service: the API.
        app: the front.
    """

    folder: Path
    service: Service
    app: Front

    @property
    def warehouse(self) -> Path:
        """The folder of the releases."""
        return self.folder / "warehouse"

    def wait_for(self, release: str) -> None:
        """Until the server has noticed that a release is the current one."""
        deadline = time.monotonic() + 60
        while self.service.follower.current().id != release:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    @property
    def issuer(self) -> LocalIssuer:
        """The local issuer."""
        return LocalIssuer(self.folder / "serve")

    def token(self, role: str, *scopes: str, expires_in_s: float = 3600) -> tuple[str, dict[str, Any]]:
        """A token and its claims; with all scopes if none is named."""
        return self.issuer.issue(
            role, scopes or ("read", "sql", "operate"), subject=role, audience="penstock", expires_in_s=expires_in_s
        )

    def browser(self) -> Browser:
        """Somebody with a browser and no cookie."""
        return Browser(TestClient(self.app, base_url=ORIGIN, follow_redirects=False, headers={"Origin": ORIGIN}))

    def signed_in(self, role: str, *scopes: str) -> Browser:
        """Somebody who has signed in."""
        browser = self.browser()
        assert browser.sign_in(self.token(role, *scopes)[0]).status_code == 303
        return browser


@dataclass
class Browser:
    """Keeps cookies, follows no redirect, sends the origin as browsers do."""

    client: TestClient

    def get(self, path: str, **options: Any) -> Any:
        """A page."""
        return self.client.get(path, **options)

    def post(self, page: str, action: str, **fields: str) -> Any:
        """A form of a page, with the token that the page holds."""
        return self.client.post(action, data={"form_token": form_token(self.get(page).text), **fields})

    def sign_in(self, token: str, onward: str = "/") -> Any:
        """The login form with a token."""
        return self.post("/login", "/login", token=token, next=onward)


def form_token(page: str) -> str:
    """What the forms of a page must send along."""
    found = re.search(r'name="form_token" value="([^"]+)"', page)
    assert found, page
    return found[1]


def web_of(folder: Path, named: Mapping[str, str] | None = None, **changed: Any) -> Web:
    """A front over a folder, in which a release is published if there is none; close its service.

    Args:
        folder: of warehouse, state and policy.
        named: settings, as environment variables.
        changed: options of the server.
    """
    if not (folder / "warehouse").exists():
        publish(folder / "warehouse", 1)
    settings = Settings.load(named or {}, home=folder, policy=folder / "policy.yml")
    service = Service(options_of(folder, **changed), Told(), PipelineOperations(settings))
    return Web(folder, service, front(service, settings, dashboards=echo))
