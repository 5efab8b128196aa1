"""One published day, one server and one browser for all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from common.settings import process_environment
from tests.browser.chromium import Visitor, browsing, chromium, require
from tests.browser.site import Site, fill, serving


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    """The system's Chromium; only continuous integration must have it."""
    with browsing(require(chromium(), in_ci=bool(process_environment().get("CI")))) as browser:
        yield browser


@pytest.fixture(scope="module")
def site(chrome: Browser, module_home: Path) -> Iterator[Site]:  # noqa: ARG001 - no day is published for nobody
    """A server over a published day."""
    fill(module_home)
    with serving(module_home) as running:
        yield running


@pytest.fixture
def come(chrome: Browser, site: Site) -> Iterator[Callable[..., Visitor]]:
    """Opens browsers of their own; whatever happened in them, nothing was asked of another host."""
    visitors: list[Visitor] = []

    def coming(role: str | None = "operator", *, scheme: str = "light", width: int = 1280) -> Visitor:
        visitor = Visitor.come(chrome, site.address, scheme=scheme, width=width)
        visitors.append(visitor)
        if role is not None:
            visitor.sign_in(site.token(role))
        return visitor

    yield coming
    for visitor in visitors:
        assert visitor.strangers == []
        visitor.context.close()
