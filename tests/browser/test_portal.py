"""The portal in a browser: what people do with it from end to end, and that every page can be read by everybody."""

from __future__ import annotations

import csv
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from penstock.portal.login import COOKIE
from tests.browser.chromium import MISSING, PATIENCE_MS, Visitor, require
from tests.browser.screenshots import wait_for_charts
from tests.browser.site import DAY, PAGES, Site, serving
from tests.command_line import CommandLine

expect.set_options(timeout=PATIENCE_MS)

CONTRAST = """
() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = rgba(getComputedStyle(at).backgroundColor);
      if (found[3] === 255) return found;
    }
    return [255, 255, 255, 255];
  };
  const light = (colour) => {
    const linear = (c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = [0, 1, 2].map((i) => linear(colour[i] / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const weak = [];
  let looked = 0;
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility()) continue;
    looked += 1;
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) weak.push(`${texts.currentNode.data.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return [looked, weak];
}
"""
"""How many texts a page has, and those whose contrast is under WCAG's 4.5 to 1."""

STRUCTURE = """
() => {
  const wrong = [], ids = new Set();
  let level = 0;
  for (const each of document.querySelectorAll('h1, h2, h3, h4, h5, h6')) {
    const own = Number(each.tagName[1]);
    if (own > level + 1) wrong.push(`h${own} follows h${level}: ${each.textContent.trim()}`);
    level = own;
  }
  for (const each of document.querySelectorAll('input:not([type=hidden]), select, textarea')) {
    if (!each.labels.length && !each.ariaLabel) wrong.push(`no label: ${each.name}`);
  }
  for (const each of document.querySelectorAll('a, button, summary')) {
    if (!each.textContent.trim() && !each.ariaLabel) wrong.push(`no name: ${each.outerHTML}`);
  }
  for (const each of document.querySelectorAll('th:not([scope])')) wrong.push(`no scope: ${each.textContent}`);
  for (const each of document.querySelectorAll('img:not([alt])')) wrong.push(`no text: ${each.src}`);
  for (const each of document.querySelectorAll('[id]')) {
    if (ids.has(each.id)) wrong.push(`twice: ${each.id}`);
    ids.add(each.id);
  }
  return wrong;
}
"""
"""What a reader by ear or keyboard would stumble over: headings that skip, and what has no name."""


def test_somebody_signs_in_finds_filters_and_downloads_a_dataset_sees_its_dashboard_and_an_incident(
    site: Site, come: Callable[..., Visitor], tmp_path: Path
) -> None:
    visitor = come(None)
    page = visitor.page()
    assert visitor.go("/datasets/mart_daily_route_performance") == 200
    expect(page).to_have_title("Sign in · Penstock")
    page.get_by_label("Token").fill(site.token("operator"))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("mart_daily_route_performance")

    page.get_by_label("Search datasets").fill("punctual route")
    page.get_by_label("Search datasets").press("Enter")
    expect(page.get_by_role("status")).to_contain_text("1 of ")
    page.get_by_role("link", name="mart_daily_route_performance").click()

    page.get_by_label("Column of condition 1").select_option("origin_code")
    page.get_by_label("Value of condition 1").fill("JFK")
    page.get_by_label("Sort by").select_option("flights")
    page.get_by_label("Order", exact=True).select_option("largest first")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("table.rows caption")).to_contain_text("filtered")
    cells = page.locator("table.rows tbody tr td:nth-child(3)")
    assert set(cells.all_inner_texts()) == {"JFK"}

    with page.expect_download() as started:
        page.get_by_role("link", name="CSV").click()
    file = tmp_path / "rows.csv"
    started.value.save_as(file)
    assert started.value.suggested_filename == "mart_daily_route_performance-r000001.csv"
    rows = list(csv.DictReader(file.open(encoding="utf-8", newline="")))
    assert {row["origin_code"] for row in rows} == {"JFK"}
    flights = [int(row["flights"]) for row in rows]
    assert flights == sorted(flights, reverse=True)
    assert len(rows) > 20

    page.get_by_role("link", name="Route performance").click()
    wait_for_charts(page)
    expect(page.get_by_text("r000001").first).to_be_visible()
    expect(page.get_by_text(DAY).first).to_be_visible()

    visitor.go("/")
    page.get_by_role("link", name="open incident").click()
    page.get_by_role("link", name="raw.stations__weather is refused").click()
    expect(page.get_by_role("heading", name="What to run next")).to_be_visible()
    expect(page.locator("pre code")).to_contain_text("penstock ingest stations")
    assert str(site.home) not in page.content()


def test_somebody_signs_in_at_an_issuer_and_out_again(site: Site, chrome: Browser) -> None:
    provider = CommandLine(site.home, {}).start("token", "provider")
    try:
        said = [provider.stdout.readline() for _ in range(2)]
        found = re.search(r"PENSTOCK_TOKEN_ISSUERS=(\S+) PENSTOCK_LOGIN_CLIENT_ID=(\S+)", said[1])
        assert found, (said, provider.stderr.read())
        issuer, client_id = found.groups()
        settings = {"PENSTOCK_TOKEN_ISSUERS": issuer, "PENSTOCK_LOGIN_CLIENT_ID": client_id}
        with serving(site.home, settings) as own:
            visitor = Visitor.come(chrome, own.address)
            page = visitor.page()
            visitor.go("/releases")
            page.get_by_role("link", name="Sign in with").click()
            expect(page.get_by_role("heading", level=1)).to_have_text("Who do you want to be?")
            assert (page.evaluate(CONTRAST)[1], page.evaluate(STRUCTURE)) == ([], [])
            page.get_by_role("button", name="Cancel").click()
            expect(page.get_by_role("alert")).to_contain_text("did not sign you in (access_denied)")
            page.get_by_role("link", name="Sign in with").click()
            page.get_by_label("Name").fill("ada@example.com")
            page.get_by_label("Role").select_option("analyst")
            page.get_by_role("button", name="Continue").click()
            expect(page.get_by_text("ada@example.com")).to_be_visible()
            assert page.url == f"{own.address}/"
            [session] = [each for each in visitor.context.cookies() if each.get("name") == COOKIE]
            assert (session.get("httpOnly"), session.get("sameSite")) == (True, "Lax")
            page.get_by_role("button", name="Sign out").click()
            page.get_by_role("link", name="sign out there as well").click()
            page.wait_for_url(f"{own.address}/login")
            visitor.go("/")
            expect(page).to_have_title("Sign in · Penstock")
            assert ["401" in each for each in visitor.errors] == [True], "the page of the sign-in that was cancelled"
            assert {each.partition("/authorize")[0].partition("/logout")[0] for each in visitor.strangers} >= {issuer}
            assert all(each.startswith(f"{issuer}/") for each in visitor.strangers)
            visitor.context.close()
    finally:
        provider.send_signal(signal.SIGINT)
        assert provider.wait(60) == 0


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_every_page_is_whole_quiet_and_can_be_read(come: Callable[..., Visitor], scheme: str, width: int) -> None:
    visitor = come(scheme=scheme, width=width)
    page = visitor.page()
    for path in PAGES:
        status = visitor.go(path)
        assert status == (404 if path == PAGES[-1] else 200), path
        assert visitor.errors == ([] if status == 200 else [visitor.errors[0]]), path
        looked, weak = page.evaluate(CONTRAST)
        assert (looked > 20, weak) == (True, []), path
        assert page.evaluate(STRUCTURE) == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        for landmark in ("banner", "main", "contentinfo", "search"):
            assert page.get_by_role(landmark).count() == 1, (path, landmark)
        assert page.get_by_role("heading", level=1).count() == 1
        for picture in page.locator("img").all():
            assert picture.evaluate("each => each.decode().then(() => each.naturalWidth)") > 0, path


def test_the_keyboard_reaches_the_content_first_and_shows_where_it_is(come: Callable[..., Visitor]) -> None:
    visitor = come()
    page = visitor.page()
    visitor.go("/")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    outline: Any = skip.evaluate("each => getComputedStyle(each).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def test_who_may_not_operate_sees_that_something_is_wrong_and_no_rows(come: Callable[..., Visitor]) -> None:
    visitor = come("analyst")
    page = visitor.page()
    assert visitor.go("/quarantine/raw.stations__weather") == 403
    assert visitor.go("/datasets/fct_flights") == 200
    assert "flight_number" not in page.content()
    assert set(page.locator("table.rows tbody tr td:nth-child(4)").all_inner_texts()) == {"JFK"}
    visitor.go("/incidents")
    page.get_by_role("link", name="raw.flightops__flights").first.click()
    expect(page.get_by_text("shown to those who may operate")).to_be_visible()
    assert "What to run next" not in page.content()


def test_pages_of_files_ask_no_other_host(come: Callable[..., Visitor]) -> None:
    visitor = come()
    assert visitor.go("/quality/") == 200
    assert visitor.errors == []
    assert visitor.go("/docs/") == 200
    expect(visitor.page().get_by_text("The warehouse of this release")).to_be_visible()
    assert visitor.errors == []
    assert visitor.go("/docs/another") == 404


def test_without_chromium_the_tests_are_skipped_and_in_ci_they_fail() -> None:
    with pytest.raises(pytest.skip.Exception, match=MISSING):
        require(None, in_ci=False)
    with pytest.raises(pytest.fail.Exception, match=MISSING):
        require(None, in_ci=True)
