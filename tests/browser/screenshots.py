"""Pictures of every page, light, dark and as narrow as a telephone: ``python -m tests.browser.screenshots FOLDER``.

With a state folder behind it, that one is shown. Otherwise a day of flights is published first, with the embedded
services.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from penstock import embedded
from penstock.portal.provider import Provider
from tests.browser.chromium import HEIGHT, PATIENCE_MS, Visitor, browsing, chromium
from tests.browser.site import PAGES, Site, fill, serving
from tests.listening import listening

LOOKS = {"light": ("light", 1280), "dark": ("dark", 1280), "phone": ("light", 390), "phone-dark": ("dark", 390)}
"""Name -> preference, and width in px."""

DASHBOARDS = ("flights", "route_performance", "weather_effect", "platform_health")
_QUIET_MS = 4000
_TALLEST = "Math.max(...[...document.querySelectorAll('*')].map((each) => each.scrollHeight))"
_STILL = """
(quietMs) => {
  const seen = document.body.innerText.length + TALLEST;
  if (window.penstockSeen !== seen) [window.penstockSeen, window.penstockAt] = [seen, Date.now()];
  return Date.now() - window.penstockAt > quietMs;
}
""".replace("TALLEST", _TALLEST)
_MOST_HEIGHT = 8000


def take(site: Site, folder: Path) -> int:
    """Every page in every look; how many pictures there are.

    Side effects: PNG files in the folder.
    """
    program = chromium()
    if program is None:
        raise SystemExit("There is no Chromium on this machine.")
    count = 0
    with browsing(program) as browser:
        for look, (scheme, width) in LOOKS.items():
            visitor = Visitor.come(browser, site.address, scheme=scheme, width=width)
            visitor.go("/login")
            visitor.page().screenshot(path=folder / f"login-{look}.png", full_page=True)
            visitor.sign_in(site.token("operator"))
            for path in (*PAGES, "/quality/", "/docs/", *(f"/dashboards/{name}/" for name in DASHBOARDS)):
                visitor.go(path)
                if path.startswith("/dashboards/") and path != "/dashboards/":
                    wait_for_charts(visitor.page())
                    unroll(visitor.page(), width)
                name = re.sub(r"[^a-z0-9_.]+", "-", path.partition("?")[0].strip("/")) or "home"
                found = "-found" if "?" in path else ""
                visitor.page().screenshot(path=folder / f"{name}{found}-{look}.png", full_page=True)
                visitor.page().set_viewport_size({"width": width, "height": HEIGHT})
                count += 1
            visitor.context.close()
    return count


def take_sign_in(home: Path, folder: Path) -> int:
    """The login where people sign in at an issuer, and the page of the provider for development; how many pictures.

    Side effects: PNG files in the folder.
    """
    roles = {"analyst": ("read", "sql"), "operator": ("read", "sql", "operate")}
    provider = Provider(home / "serve" / "provider", roles, client_id="penstock")

    def make(address: str) -> Any:
        provider.url = address
        return provider.app

    count = 0
    with listening(make) as issuer, browsing(str(chromium())) as browser:
        named = {"PENSTOCK_TOKEN_ISSUERS": issuer, "PENSTOCK_LOGIN_CLIENT_ID": "penstock"}
        with serving(home, named) as site:
            for look, (scheme, width) in LOOKS.items():
                visitor = Visitor.come(browser, site.address, scheme=scheme, width=width)
                for name, path in (("login-issuer", "/login?left=1"), ("provider", "/login/start")):
                    visitor.go(path)
                    visitor.page().screenshot(path=folder / f"{name}-{look}.png", full_page=True)
                    count += 1
                visitor.context.close()
    return count


def wait_for_charts(page: Page) -> None:
    """Until a dashboard says which release it shows; its charts follow. It never ends to talk to its server."""
    page.get_by_text(re.compile(r"[Rr]elease r\d{6}")).first.wait_for(timeout=2 * PATIENCE_MS)


def unroll(page: Page, width: int) -> None:
    """Until nothing comes any more, in a window as high as the dashboard, which scrolls within it."""
    height = 0
    while (tallest := _tallest(page)) > height:
        height = tallest
        page.set_viewport_size({"width": width, "height": height})


def _tallest(page: Page) -> int:
    page.wait_for_function(_STILL, arg=_QUIET_MS, polling=250, timeout=2 * PATIENCE_MS)
    return min(_MOST_HEIGHT, int(page.evaluate(_TALLEST)))


def main() -> None:
    """The command."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    if len(sys.argv) > 2:
        _take_all(Path(sys.argv[2]), folder)
        return
    with tempfile.TemporaryDirectory(prefix="penstock-site-") as made:
        home = Path(made)
        home.chmod(0o711)
        try:
            fill(home)
            _take_all(home, folder)
        finally:
            embedded.remove(home)


def _take_all(home: Path, folder: Path) -> None:
    with serving(home) as site:
        count = take(site, folder)
    count += take_sign_in(home, folder)
    print(f"{count} pictures in {folder}")  # noqa: T201 - a command's answer


if __name__ == "__main__":
    main()
