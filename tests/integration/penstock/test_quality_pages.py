"""Laws of the quality pages: whole without a network, inert whatever a row holds, silent about people, bounded."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from common.errors import GateRefused, UnknownName
from common.settings import Settings
from lake.publish import identify, publish
from penstock import quality_facts, quality_samples
from penstock.pipeline import Pipeline
from penstock.quality_pages import find_pages, pages_folder, write_pages
from penstock.records import record
from tests.door import Door
from tests.integration.lake.lakes import Bench, verdict

HOSTILE = "<script>alert('x')</script><img src=http://shop.example.org/x onerror=alert(1)>"
SPEC = """\
source: shop
kind: postgresql
connection: shop
owner: someone@shop.example
tables:
  - name: orders
    mode: append
    cursor: {column: at}
    columns:
      - {name: at, type: date, nullable: false}
      - {name: id, type: int64}
      - {name: note, type: string, pii: PII}
"""
SUITE = """\
suite: raw/shop__orders
description: Orders of <b>the</b> shop.
expectations:
  - id: positive
    expect: expect_column_values_to_be_between
    kwargs: {column: id, min_value: 1}
    severity: critical
    why: An id is > 0.
  - {id: never_asked, expect: expect_column_to_exist, kwargs: {column: id}, severity: info, why: Nobody has yet.}
"""
PAGE = "ingest.raw.shop__orders.html"


@pytest.fixture
def shop(tmp_path: Path) -> Bench:
    """Two days published, one hostile row in quarantine, and a third day refused."""
    for folder, name, text in (("sources", "shop.yml", SPEC), ("suites/raw", "shop__orders.yml", SUITE)):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).write_text(text.replace("PII", "false"))
    folders = {"sources": tmp_path / "sources", "suites": tmp_path / "suites"}
    bench = Bench(Settings.load({}, home=tmp_path / "state", **folders))
    bench.publish([(1, "a"), (2, "b")], "2013-01-01")
    bench.publish([(0, HOSTILE), (2, "b"), (3, "c" * 5000)], "2013-01-02", rejected=[0, 2])
    staged = bench.stage([(0, "x")], "2013-01-03")
    options = {"identity": identify(bench.lake, staged), "stage": "ingest", "run_id": "run"}
    with pytest.raises(GateRefused):
        publish(bench.lake, staged, verdict(1, [0], passed=False), **options)  # type: ignore[arg-type]
    return bench


def pages(shop: Bench, run_id: str = "run-1") -> dict[str, str]:
    """The pages of a run, by file name."""
    pipeline = Pipeline(shop.settings, run_id=run_id)
    record(pipeline)
    folder = write_pages(pipeline).parent
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text outside of styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it."""
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Keep it."""
        self.text += data


def test_a_page_asks_nobody_for_anything_and_forbids_what_might(shop: Bench) -> None:
    for name, text in pages(shop).items():
        elements = Elements(text).found
        tags = {tag for tag, _ in elements}
        assert tags & {"script", "link", "img", "iframe", "object", "embed", "form", "base", "image", "use"} == set(), (
            name
        )
        addresses = [value for _, attributes in elements for key, value in attributes.items() if key in {"href", "src"}]
        assert all(re.fullmatch(r"[a-z_.]+\.html", str(address)) for address in addresses), addresses
        assert not [key for _, attributes in elements for key in attributes if key.startswith("on") or key == "style"]
        style = text.split("<style>")[1].split("</style>")[0]
        assert "url(" not in style
        assert "@import" not in style
        (policy,) = [a["content"] for tag, a in elements if a.get("http-equiv") == "Content-Security-Policy"]
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_a_hostile_row_is_shown_and_does_nothing(shop: Bench) -> None:
    page = pages(shop)[PAGE]
    assert HOSTILE in Elements(page).text, "shown as it is"
    assert "<script" not in page
    assert "<img" not in page
    assert "<b>the</b>" not in page
    assert "c" * 161 not in page, "a long value is cut"
    assert "(5,000 characters)" in page


def test_a_page_says_what_was_judged_and_why(shop: Bench) -> None:
    found = pages(shop)
    text = re.sub(r"\s+", " ", Elements(found[PAGE]).text)
    for told in ("An id is > 0.", "too many rejected rows", "never judged", "Nobody has yet.", "2013-01-03", "2 of 3"):
        assert told in text, told
    index = re.sub(r"\s+", " ", Elements(found["index.html"]).text)
    assert "raw.shop__orders refused positive 2 5 3 2" in index, "intervals, rows in, published, quarantined"
    assert f'href="{PAGE}"' in found["index.html"]
    assert "<polyline" in found["index.html"]


def test_a_batch_leads_to_great_expectations_own_result_where_it_is_kept(shop: Bench) -> None:
    for path in Path(shop.settings.lake_uri).glob("ops/receipts/raw.shop__orders/2013-01-01/*.json"):
        receipt = json.loads(path.read_text())
        receipt["verdict"]["validation"] = "ops/validations/raw.shop__orders/2013-01-01/x.json"
        path.write_text(json.dumps(receipt))
    page = Elements(pages(shop)[PAGE])
    (link,) = [str(a["href"]) for tag, a in page.found if tag == "a" and "validations" in str(a.get("href"))]
    folder = pages_folder(Pipeline(shop.settings)) / "run-1"
    assert (folder / link).resolve() == Path(
        shop.settings.lake_uri
    ) / "ops/validations/raw.shop__orders/2013-01-01/x.json"


@pytest.mark.parametrize("pii", ["true", "suspected"])
def test_personal_data_is_on_no_page(shop: Bench, pii: str) -> None:
    (shop.settings.sources / "shop.yml").write_text(SPEC.replace("PII", pii))
    for name, text in pages(shop).items():
        assert "alert" not in text, name
        assert "ccc" not in text, name
    page = Elements(pages(shop)[PAGE]).text
    assert quality_samples.MASK in page
    assert "Personal or possibly personal, not shown: note" in re.sub(r"\s+", " ", page)
    assert "row 0" in page, "that there is a bad row is no secret"


def test_what_a_rule_observed_of_a_personal_column_is_a_count() -> None:
    rules = [
        quality_facts.RuleFacts("a", None, "unexpected_rows_expectation", "info", True, observed_last=text)
        for text in ('{"unexpected_count": 2, "partial_unexpected": ["Ann", "Bob"]}', '["Ann"]', "")
    ]
    quality_samples._mask_observed(rules, {"id"})
    assert [json.loads(rules[0].observed_last), *(rule.observed_last for rule in rules[1:])] == [
        {"unexpected_count": 2, "partial_unexpected": []},
        quality_samples.MASK,
        "",
    ]


def test_the_pages_of_the_newest_runs_are_kept_and_latest_is_the_newest(shop: Bench) -> None:
    shop.settings = shop.settings.model_copy(update={"keep_quality_pages": 2})
    for run_id in ("run-1", "run-2", "run-3"):
        pages(shop, run_id)
    root = pages_folder(Pipeline(shop.settings))
    assert sorted(path.name for path in root.iterdir()) == ["latest", "run-2", "run-3"]
    assert (root / "latest" / "index.html").read_text() == (root / "run-3" / "index.html").read_text()
    with pytest.raises(UnknownName, match="there are: run-2, run-3"):
        find_pages(Pipeline(shop.settings), "run-1")
    with pytest.raises(UnknownName, match="cannot be the name of a folder"):
        write_pages(Pipeline(shop.settings, run_id="../up"))


def test_a_page_grows_with_the_intervals_only_so_far(shop: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for constant in ("INTERVALS", "RECENT"):
        monkeypatch.setattr(quality_facts, constant, 2)
    monkeypatch.setattr(quality_samples, "SAMPLE_ROWS", 2)
    for day in range(4, 9):
        shop.publish([(0, "bad"), (1, "good")], f"2013-01-0{day}", rejected=[0])
    page = pages(shop)[PAGE]
    line = re.search(r'polyline class="rows" points="([^"]*)"', page)
    assert line is not None
    assert len(line[1].split()) == 2
    assert page.count("row 0") == 2
    assert "The newest 2 of 7 that wait in quarantine" in re.sub(r"\s+", " ", Elements(page).text)


def test_the_command_writes_pages_and_finds_those_of_a_run(shop: Bench) -> None:
    door = Door(shop.settings.home.parent, {})
    first = json.loads(door.run("quality", "--json").out)["pages"]
    assert Path(first).is_file()
    run_id = Path(first).parent.name
    assert json.loads(door.run("quality", "--run", run_id, "--json").out)["pages"] == first
    assert door.run("quality", "--run", "run-0").code == 2
    assert "3 accounts of batches" not in door.run("record").out, "they were recorded before"
