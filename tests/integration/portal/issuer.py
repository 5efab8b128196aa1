"""People who sign in at an issuer of their own, which can be made to lie, and what they are told."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
from starlette.testclient import TestClient

from penstock.portal.login import COOKIE
from penstock.portal.provider import Grant, Provider
from tests.integration.portal.web import Browser, Web, web_of
from tests.listening import listening
from warehouse.serve.keys import Issuer

HERE = "http://127.0.0.1:4711"
"""Where these browsers see the portal."""

ROLES = {"admin": ("read", "sql", "operate"), "reader": ("read",), "stranger": ("read",)}


class Crooked(Provider):
    """A provider whose tokens and pages can be made to lie."""

    access: dict[str, Any]
    identity: dict[str, Any]

    def access_claims(self, grant: Grant) -> dict[str, Any]:
        """With the lies of this test."""
        return super().access_claims(grant) | self.access

    def identity_claims(self, grant: Grant, access_token: str) -> dict[str, Any]:
        """As above; None leaves a claim out."""
        claims = super().identity_claims(grant, access_token) | self.identity
        return {name: value for name, value in claims.items() if value is not None}


_PORTS = itertools.count(1)


def browser(web: Web, base_url: str = HERE, address: str = "") -> Browser:
    """A browser on a machine of its own, so that nobody pays for the failures of others."""
    client = (address or f"machine-{next(_PORTS)}", 50_000)
    headers = {"Origin": base_url}
    return Browser(TestClient(web.app, base_url=base_url, client=client, follow_redirects=False, headers=headers))


@dataclass
class Somebody:
    """A person with a browser, between the portal and the issuer.

    Attributes:
        web: the portal.
        issuer: the issuer.
        browser: cookies of the portal.
    """

    web: Web
    issuer: Crooked
    browser: Browser = field(init=False)

    def __post_init__(self) -> None:
        self.browser = browser(self.web)

    def start(self, onward: str = "/") -> str:
        """The first step; the issuer's page that it leads to."""
        answer = self.browser.get(f"/login/start?{urlencode({'next': onward})}")
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])

    def allow(self, page: str, role: str = "admin", **pressed: str) -> str:
        """Choose somebody on the issuer's page; where it sends the browser back to."""
        shown = httpx.get(page)
        assert shown.status_code == 200, shown.text
        fields = {
            name: unescape(value) for name, value in re.findall(r'type="hidden" name="(\w+)" value="(.*?)"', shown.text)
        }
        answer = httpx.post(
            f"{self.issuer.url}/authorize",
            data={**fields, "role": role, "subject": "ada@example.com", **pressed},
            headers={"Origin": self.issuer.url},
        )
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    def come_back(self, where: str, **changed: str) -> Any:
        """Follow the issuer's answer, with parameters of it changed; an empty one is left out."""
        parts = urlsplit(where)
        assert f"{parts.scheme}://{parts.netloc}" == HERE
        given = {**dict(parse_qsl(parts.query)), **changed}
        return self.browser.get(f"{parts.path}?{urlencode({k: v for k, v in given.items() if v})}")

    def sign_in(self, role: str = "admin", onward: str = "/") -> Any:
        """All steps; the last answer."""
        return self.come_back(self.allow(self.start(onward), role))


@contextlib.contextmanager
def running(folder: Path, secret: str = "", **named: str) -> Iterator[Somebody]:
    """A portal whose people sign in at an issuer of its own."""
    issuer = Crooked(folder / "provider", ROLES, client_id="portal", client_secret=secret)
    issuer.access, issuer.identity = {}, {}

    def make(address: str) -> Any:
        issuer.url = address
        return issuer.app

    with listening(make) as address:
        settings = {"PENSTOCK_LOGIN_CLIENT_ID": "portal", "PENSTOCK_LOGIN_CLIENT_SECRET": secret, **named}
        web = web_of(folder, settings, issuers=(Issuer(address), Issuer("https://other.example.com")))
        try:
            yield Somebody(web, issuer)
        finally:
            web.service.close()


def refused(answer: Any, status: int = 401) -> str:
    """What somebody is told who is not let in; no session began, and the attempt is over."""
    assert answer.status_code == status, answer.text
    assert COOKIE not in {each.partition("=")[0] for each in answer.headers.get_list("set-cookie")}
    found = re.search(r'role="alert"><b>(.*?)</b>', answer.text)
    assert found
    return unescape(found[1])
