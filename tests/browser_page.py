"""A real Chromium, headless, that notes what a page asks of other hosts and what goes wrong in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from common.settings import process_environment

WAIT_MS = 60_000
"""How long an event may take on a busy machine."""

_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; the test is skipped where there is none, but not in continuous integration."""
    program = shutil.which("chromium")
    if program is None:
        (pytest.fail if process_environment().get("CI") else pytest.skip)("There is no chromium on this machine.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """One page.

    Attributes:
        page: the page.
        elsewhere: addresses of other origins that it asked for.
        errors: what went wrong in its scripts, or was refused to it.
    """

    page: Page
    elsewhere: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@contextmanager
def visit(browser: Browser, origin: str, *, cookies: Mapping[str, str], scheme: str = "light") -> Iterator[Visit]:
    """A page of a browser profile of its own.

    Args:
        browser: the browser.
        origin: such as ``http://127.0.0.1:8080``.
        cookies: of that origin.
        scheme: ``light`` or ``dark``.
    """
    context = browser.new_context(color_scheme="dark" if scheme == "dark" else "light")
    context.set_default_timeout(WAIT_MS)
    context.add_cookies([{"name": name, "value": value, "url": origin} for name, value in cookies.items()])
    seen = Visit(context.new_page())
    own = (origin, origin.replace("http", "ws", 1), "data:", f"blob:{origin}")
    seen.page.on("request", lambda made: None if made.url.startswith(own) else seen.elsewhere.append(made.url))
    seen.page.on("websocket", lambda made: None if made.url.startswith(own) else seen.elsewhere.append(made.url))
    seen.page.on("console", lambda said: seen.errors.append(said.text) if said.type == "error" else None)
    seen.page.on("pageerror", lambda error: seen.errors.append(str(error)))
    try:
        yield seen
    finally:
        context.close()
