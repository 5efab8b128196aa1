"""The system's Chromium, which no wheel carries, driven by Playwright; it keeps to the page's own origin."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

MISSING = "there is no Chromium on this machine: apt-get install chromium"
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HEIGHT = 900
"""Of a window, in px."""

PATIENCE_MS = 60_000.0
"""How long a page may take on a busy machine, in ms."""


def chromium() -> str | None:
    """Path of the program; None if the machine has none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def require(program: str | None, *, in_ci: bool) -> str:
    """The program; without one the test is skipped, and in continuous integration it fails."""
    if program is None:
        (pytest.fail if in_ci else pytest.skip)(MISSING)
    return program


@contextmanager
def browsing(program: str) -> Iterator[Browser]:
    """A browser without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visitor:
    """Somebody in a browser of their own, and what went wrong in it.

    Attributes:
        context: cookies and window.
        address: of the server, such as ``http://127.0.0.1:41234``.
        strangers: requests that went elsewhere.
        errors: what the console called an error.
    """

    context: BrowserContext
    address: str
    strangers: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @classmethod
    def come(cls, browser: Browser, address: str, *, scheme: str = "light", width: int = 1280) -> Visitor:
        """Open a browser that prefers light or dark, of a width in px."""
        context = browser.new_context(
            viewport={"width": width, "height": HEIGHT},
            color_scheme="dark" if scheme == "dark" else "light",
            accept_downloads=True,
        )
        context.set_default_timeout(PATIENCE_MS)
        visitor = cls(context, address)
        context.on("request", visitor._requested)
        context.on("console", visitor._said)
        return visitor

    def page(self) -> Page:
        """The one page that is open."""
        return self.context.pages[0] if self.context.pages else self.context.new_page()

    def go(self, path: str) -> int:
        """Open a page; its status."""
        answer = self.page().goto(self.address + path)
        assert answer is not None
        return answer.status

    def sign_in(self, token: str) -> None:
        """Through the form."""
        self.go("/login")
        self.page().get_by_label("Token").fill(token)
        self.page().get_by_role("button", name="Sign in").click()
        self.page().get_by_role("button", name="Sign out").wait_for()

    def _requested(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in {"data", "blob", "about"} and f"{parts.scheme}://{parts.netloc}" != self.address:
            self.strangers.append(request.url)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)
