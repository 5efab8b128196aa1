"""Laws of the pages: what the policy hides no page shows, and each can be read by everybody who may see it."""

from __future__ import annotations

import csv
import html
import io
import re
import shlex
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin, urlsplit

import duckdb
import pyarrow.ipc
import pyarrow.parquet
import pytest

from penstock.portal.render import NOTHING
from tests.integration.portal.web import ORIGIN, Browser, Web
from tests.integration.serve.served import CANARY, publish
from warehouse.inspect import describe_tables
from warehouse.releases import Releases
from warehouse.serve.query_log import read_log

HIDDEN = {
    "admin": [],
    "analyst": [CANARY, "payroll", "pilot", "N1<", "note 1<", "LGA,", "no_such_column"],
    "reader": [CANARY, "payroll", "pilot", "delay_min", "tail<", "departed_at"],
    "nobody": [CANARY, "payroll", "pilot", "routes", "flight_id", "delay_min"],
}
"""Role -> what no page may say to it."""


class Page(HTMLParser):
    """The elements of a page, and its text."""

    VOID = frozenset({"meta", "link", "input", "img", "br", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element without content."""
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        """An element ends."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Text."""
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        """Attributes of every element of a name."""
        return [attributes for name, attributes in self.elements if name == tag]

    def links(self) -> Iterator[str]:
        """Addresses that the page leads to or loads."""
        for _, attributes in self.elements:
            for name in ("href", "src"):
                if name in attributes:
                    yield attributes[name]


def check(page: Page) -> None:
    """What everybody needs who does not see a page, or not well."""
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("main")) == len(page.all("h1")) == len(page.all("title")) == 1
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    labels = {each["for"] for each in page.all("label")}
    for field in [*page.all("input"), *page.all("select"), *page.all("textarea")]:
        assert field.get("type") == "hidden" or field["id"] in labels
    assert all("alt" in each for each in page.all("img"))
    assert all(each.get("scope") in {"col", "row", "rowgroup"} for each in page.all("th"))
    assert all("aria-label" in each for each in page.all("nav"))
    assert page.all("a")[0] == {"class": "skip", "href": "#content"}
    assert not page.all("script")
    assert not [each for _, each in page.elements if "style" in each or any(name.startswith("on") for name in each)]
    assert all(each["method"] == "get" for each in page.all("form") if "form_token" not in str(page.elements))


def crawl(browser: Browser) -> dict[str, str]:
    """Every page and file that links of this site lead to from the front page: path -> text."""
    found: dict[str, str] = {}
    waiting = ["/"]
    while waiting:
        path = waiting.pop()
        answer = browser.get(path)
        found[path] = answer.text
        if answer.status_code in {303, 308}:
            waiting.append(answer.headers["location"])
            continue
        assert answer.status_code == 200, (path, answer.text)
        if "text/html" not in answer.headers["content-type"]:
            continue
        page = Page(answer.text)
        check(page)
        for link in page.links():
            target = urlsplit(urljoin(ORIGIN + path, link))
            assert f"{target.scheme}://{target.netloc}" == ORIGIN, link
            following = target.path + (f"?{target.query}" if target.query else "")
            if following not in found and following not in waiting and not target.path.startswith(("/v1", "/dash")):
                waiting.append(following)
    return found


@pytest.mark.parametrize("role", HIDDEN)
def test_no_page_or_file_that_links_lead_to_shows_what_the_policy_hides(web: Web, role: str) -> None:
    pages = crawl(web.signed_in(role, "read", "sql"))
    assert {"/", "/releases", "/runs", "/quarantine", "/incidents"} <= pages.keys()
    seen = [(path, word) for path, text in pages.items() for word in HIDDEN[role] if word in text]
    assert seen == []
    assert ("/datasets/payroll" in pages) == (role == "admin")
    assert ("/datasets/flights" in pages) == (role in {"admin", "analyst"})


@pytest.mark.parametrize(
    "path",
    [
        "/datasets/payroll",
        "/datasets/payroll/download?format=csv",
        "/datasets/payroll/lineage.svg",
        "/datasets/nothing",
        "/releases/r000001/rollback",
        "/releases/r999999",
        "/releases/r000001/diff/r999999",
        "/releases/diff?before=x&after=y",
        "/quarantine/raw.stations__weather",
        "/incidents/i000001",
        "/runs/run-1",
        "/docs/",
        "/quality/",
        "/quality/latest/index.html",
        "/quality/..%2f..%2fserve/issuer.json",
        "/datasets/routes?release=..%2f..",
        "/datasets/routes?cursor=zzz",
        "/datasets/routes?sort=nothing",
        "/datasets/routes?column=day&operator=eq&value=x",
        "/datasets/routes?column=day&operator=xx&value=x",
        "/datasets/routes?column=pilot&operator=eq&value=x",
        "/datasets/routes/download?format=xml",
        "/datasets/routes/download?column=day&operator=eq&value=x",
        "/datasets/%00",
        "/nothing",
    ],
)
def test_what_a_reader_may_not_see_or_asks_wrongly_is_refused_on_a_page_in_words(web: Web, path: str) -> None:
    answer = web.signed_in("reader").get(path)
    assert 400 <= answer.status_code < 500
    page = Page(answer.text)
    check(page)
    assert "What to do: " in page.text
    for leak in (str(web.folder), "Traceback", CANARY, "warehouse.main"):
        assert leak not in answer.text


def test_a_page_says_which_release_it_is_of_and_how_fresh(web: Web) -> None:
    for path in ("/", "/datasets/routes", "/releases", "/runs", "/quarantine", "/incidents", "/nothing"):
        text = Page(web.signed_in("admin").get(path).text).text
        assert "Release r000001" in text
        assert re.search(r"published\s+(just now|\d+ \w+ ago), \d{4}-\d\d-\d\d \d\d:\d\d UTC", text)


def test_search_finds_words_in_names_descriptions_and_columns(web: Web) -> None:
    browser = web.signed_in("admin")

    def found(words: str) -> set[str]:
        links = Page(browser.get("/", params={"q": words}).text).links()
        return {link.removeprefix("/datasets/") for link in links if link.startswith("/datasets/")}

    assert found("ROUTE grain") == {"routes"}
    assert found("departed") == {"flights"}
    assert found("grain departed") == set()
    assert found("") == {"routes", "flights", "payroll", "notes"}
    assert found('"><script>') == set()


def _sorted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=str)


# -- rows --------------------------------------------------------------------------------------------------------------

FILTER = {"column": ["origin", "flights"], "operator": ["eq", "ge"], "value": ["JFK", "30"]}


def test_a_filter_shows_and_downloads_the_rows_that_the_api_finds(web: Web) -> None:
    browser = web.signed_in("reader")
    headers = {"Authorization": f"Bearer {web.token('reader')[0]}"}
    query = {"filter": ["origin:eq:JFK", "flights:ge:30"], "sort": "-flights"}
    expected = browser.client.get("/v1/datasets/routes/rows", params=query, headers=headers).json()["rows"]
    assert len(expected) > 20
    asked = {**FILTER, "sort": "flights", "order": "down"}
    page = Page(browser.get("/datasets/routes", params=asked).text)
    assert {"value": "30", "id": "value2"}.items() <= page.all("input")[-2].items()
    downloads = {link.rpartition("=")[2]: link for link in page.links() if "/download?" in link}

    def body(form: str) -> bytes:
        answer = browser.get(downloads[form])
        assert answer.status_code == 200
        assert answer.headers["content-disposition"].startswith('attachment; filename="routes-r000001.')
        content: bytes = answer.content
        return content

    assert list(downloads) == ["csv", "json", "parquet", "arrow"]
    as_csv = list(csv.DictReader(io.StringIO(body("csv").decode())))
    assert _sorted(as_csv) == _sorted([{name: str(value) for name, value in row.items()} for row in expected])
    stored = pyarrow.parquet.read_table(io.BytesIO(body("parquet"))).to_pylist()
    assert _sorted([{**row, "day": str(row["day"])} for row in stored]) == _sorted(expected)
    assert [row["flights"] for row in stored] == [row["flights"] for row in expected]
    assert pyarrow.ipc.open_stream(body("arrow")).read_all().num_rows == len(expected)
    assert b'"release":"r000001"' in body("json").replace(b'": ', b'":')


def test_pages_follow_each_other_to_the_last_row_and_stay_in_their_release(start: Callable[..., Web]) -> None:
    web = start()
    browser, seen, address = web.signed_in("admin"), list[str](), "/datasets/flights?sort=flight_id&order=down"
    while address:
        page = browser.get(address).text
        seen += re.findall(r"<td class=\"number\">(\d+)</td><td>(?:JFK|LGA)", page)
        if len(seen) == 20:
            publish(web.warehouse, 2)
            web.wait_for("r000002")
        following = [link for link in Page(page).links() if "cursor=" in link]
        address = following[0].replace("&amp;", "&") if following else ""
    assert seen == [str(number) for number in range(99, -1, -1)]
    assert "earlier release r000001" in page


def test_a_mistake_in_a_filter_is_told_beside_it_and_the_form_keeps_what_was_asked(web: Web) -> None:
    answer = web.signed_in("admin").get("/datasets/routes?column=flights&operator=ge&value=many")
    page = Page(answer.text)
    assert answer.status_code == 400
    assert "many" in page.text
    assert {"value": "many"}.items() <= next(each for each in page.all("input") if each.get("id") == "value1").items()
    assert {"role": "alert", "class": "note bad"} in page.all("p")


def test_what_data_and_descriptions_say_is_text_and_never_markup(start: Callable[..., Web]) -> None:
    hostile = "\"><script>alert('1')</script><img src=x onerror=alert(1)>{{ 7*7 }}"
    web = start()
    releases = Releases(web.warehouse)
    candidate = releases.new_candidate(from_scratch=True)
    with duckdb.connect(str(candidate.database)) as connection:
        name = '"<b>"" &?"'
        connection.execute(f'CREATE TABLE {name} ("<i>" VARCHAR)')
        connection.execute(f"INSERT INTO {name} VALUES (?)", [hostile])
        quoted = hostile.replace("'", "''")
        connection.execute(f"COMMENT ON TABLE {name} IS '{quoted}'")
        connection.execute(f"COMMENT ON COLUMN {name}.\"<i>\" IS '{quoted}'")
    verdict = {"passed": False, "results": [{"rule": hostile, "severity": "critical", "passed": False, "why": hostile}]}
    tables = describe_tables(candidate.database, {})
    releases.seal(candidate, {"tables": tables, "verdicts": {'<b>" &?': verdict}, "built_at": "2026-01-01T00:00:00Z"})
    releases.publish(candidate)
    web.wait_for("r000002")
    for path, text in crawl(web.signed_in("admin", "read", "sql")).items():
        if "download" not in path:
            assert "<script" not in text, path
            assert "onerror=alert" not in re.sub(r"&lt;img src=x onerror=alert", "", text), path
            assert "49" not in re.sub(r"[0-9a-f]{12}|\d{2}:\d{2}", "", text) or hostile not in text, path
    assert Page(web.signed_in("admin").get("/").text).text.count("<script>") == 1


@pytest.mark.parametrize("dataset", ["routes", "notes"])
def test_texts_to_copy_are_answered_as_they_stand(web: Web, dataset: str) -> None:
    browser = web.signed_in("admin")
    page = browser.get(f"/datasets/{dataset}").text
    texts = re.findall(r"<summary>([^<]+)</summary>\s*(?:<p[^>]*>[^<]*</p>)?\s*<pre[^>]*><code>([^<]*)</code>", page)
    doors = {door: html.unescape(text) for door, text in texts}
    headers = {"Authorization": f"Bearer {web.token('admin')[0]}", "Content-Type": "application/json"}

    def asked(door: str) -> Any:
        words = [word for word in shlex.split(doors[door].replace("\\\n", "")) if word != "\n"]
        [address] = [word for word in words if word.startswith(ORIGIN)]
        body = words[words.index("-d") + 1] if "-d" in words else None
        answer = web.browser().client.request("POST" if body else "GET", address, content=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer

    assert len(asked("HTTP").text.splitlines()) > 10
    assert len(asked("SQL over HTTP").json()["rows"]) == 10
    assert len(asked("GraphQL").json()["data"]["dataset"]["rows"]["rows"]) == 10
    releases = Releases(web.warehouse)
    for door in ("Python", "Arrow Flight SQL"):
        compile(doors[door], door, "exec")
    with releases.connect("current") as connection:
        assert len(connection.execute(doors["SQL file"]).fetchall()) == 10


# -- releases ----------------------------------------------------------------------------------------------------------


def test_a_rollback_asks_once_more_and_is_logged_with_who_asked(start: Callable[..., Web]) -> None:
    web = start()
    publish(web.warehouse, 2)
    web.wait_for("r000002")
    browser = web.signed_in("admin")
    assert 'href="/releases/r000001/rollback"' in browser.get("/releases/r000001").text
    question = browser.get("/releases/r000001/rollback").text
    assert "Go back to release r000001?" in question
    assert web.service.follower.current().id == "r000002"
    answer = browser.post("/releases/r000001/rollback", "/releases/r000001/rollback", instead_of="r000002")
    assert (answer.status_code, answer.headers["location"]) == (303, "/releases/r000001")
    web.wait_for("r000001")
    assert "what readers see" in browser.get("/releases").text
    [entry] = [each for each in read_log(web.folder / "serve" / "queries") if each["path"].endswith("/rollback")]
    assert (entry["subject"], entry["door"], entry["method"], entry["status"]) == ("admin", "portal", "POST", 200)


@pytest.mark.parametrize("instead_of", ["r000001", "", "r999999"])
def test_a_rollback_of_a_page_that_is_out_of_date_does_nothing(start: Callable[..., Web], instead_of: str) -> None:
    web = start()
    publish(web.warehouse, 2)
    web.wait_for("r000002")
    path = "/releases/r000001/rollback"
    assert web.signed_in("admin").post(path, path, instead_of=instead_of).status_code == 503
    assert Releases(web.warehouse).current_id() == "r000002"


def test_only_who_may_operate_is_asked_about_a_rollback_and_can_do_it(start: Callable[..., Web]) -> None:
    web = start()
    publish(web.warehouse, 2)
    web.wait_for("r000002")
    for browser in (web.signed_in("admin", "read", "sql"), web.signed_in("analyst")):
        assert "rollback" not in browser.get("/releases/r000001").text
        assert browser.get("/releases/r000001/rollback").status_code == 403
        sent = browser.post("/releases", "/releases/r000001/rollback", instead_of="r000002")
        assert sent.status_code == 403
    assert Releases(web.warehouse).current_id() == "r000002"


def test_releases_are_compared_by_dataset(start: Callable[..., Web]) -> None:
    web = start()
    publish(web.warehouse, 2, big_rows=3)
    web.wait_for("r000002")
    browser = web.signed_in("admin")
    chosen = browser.get("/releases/diff?before=r000001&after=r000002")
    assert chosen.headers["location"] == "/releases/r000001/diff/r000002"
    text = re.sub(r"\s+", " ", Page(browser.get(chosen.headers["location"]).text).text)
    assert re.search(rf"big added {NOTHING} 3 \+3", text)
    assert re.search(r"notes unchanged 15 15 0", text)


# -- the log -----------------------------------------------------------------------------------------------------------


def test_what_pages_read_stands_in_the_log_of_queries_with_who_read_it(start: Callable[..., Web]) -> None:
    web = start()
    browser = web.signed_in("reader")
    browser.get("/datasets/routes?column=origin&operator=eq&value=JFK")
    browser.get("/datasets/routes/download?format=csv")
    entries: list[dict[str, Any]] = list(read_log(web.folder / "serve" / "queries"))
    rows = [each for each in entries if each["path"] == "/v1/datasets/routes/rows"]
    assert [(each["door"], each["subject"], each["release"], each["rows"]) for each in rows] == [
        ("portal", "reader", "r000001", 20),
        ("portal", "reader", "r000001", 400),
    ]
    assert "filter=origin:eq:JFK" in rows[0]["question"]
    assert next(each["path"] for each in entries if each["door"] == "portal") == "/login"
