"""Laws of the page for Prometheus: it parses, its figures are the lake's, and asking for it is cheap and harmless."""

from __future__ import annotations

import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from common.errors import UsageError
from common.intervals import day_interval
from common.settings import Settings
from lake.paths import TableId
from penstock import metrics_server
from penstock.costs import account, total
from penstock.embedded import EmbeddedServices
from penstock.ledger import entries
from penstock.metrics import METRICS, TOOK, page
from penstock.metrics_server import Cached, make_server
from penstock.pipeline import Pipeline
from tests.architecture.source_tree import ROOT
from tests.command_line import stored_state
from tests.door import SameProcess

DONE = "2013-02-12"  # it holds the one absurd wind speed

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "penstock.json").read_text())
RULES = yaml.safe_load((ROOT / "deploy" / "prometheus" / "penstock-rules.yml").read_text())


def figures(text: str) -> Figures:
    """Every sample of a page by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(found: Figures, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


@pytest.fixture(scope="module")
def command(services: EmbeddedServices, tmp_path_factory: pytest.TempPathFactory) -> SameProcess:
    """One day through all stages."""
    command = SameProcess(tmp_path_factory.mktemp("figures") / "state", services.connections)
    assert command.run("run", "--from", DONE, "--to", "2013-02-13").code == 0
    assert command.run("record").code == 0
    return command


@pytest.fixture(scope="module")
def pipeline(command: SameProcess) -> Pipeline:
    return Pipeline(command.settings())


@pytest.fixture(scope="module")
def found(pipeline: Pipeline) -> Figures:
    return figures(page(pipeline.settings))


def test_the_page_has_every_metric_with_its_labels(found: Figures) -> None:
    labels = {name: {label for label, _ in at} for name, at in found}
    expected = {metric.name: set(metric.labels) for metric in METRICS} | {TOOK: set()}
    del expected["penstock_backfill_intervals"]  # there is no Airflow
    assert labels == expected


def test_rows_intervals_and_quarantine_are_the_lakes(found: Figures, pipeline: Pipeline) -> None:
    for table in ("raw.flightops__flights", "raw.stations__weather", "refined.flights"):
        receipts = pipeline.lake.receipts(TableId.parse(table))
        rows = sum(receipt.published for receipt in receipts)
        assert of(found, "penstock_table_rows", table=table) == rows > 0
        files = [Path(path) for path in pipeline.lake.paths(TableId.parse(table))]
        assert of(found, "penstock_table_size_bytes", table=table) == sum(path.stat().st_size for path in files)
        waiting = sum(receipt.waiting for receipt in receipts)
        assert of(found, "penstock_quarantine_waiting_rows", table=table) == waiting
    assert of(found, "penstock_quarantine_waiting_rows", table="raw.stations__weather") == 1
    flights = {"stage": "raw", "table": "raw.flightops__flights"}
    assert of(found, "penstock_intervals", **flights, state="published") == 1
    for entry in entries(pipeline):
        if entry.stage != "warehouse":
            at = {"stage": entry.stage, "table": entry.table, "outcome": "published"}
            assert of(found, "penstock_rows_total", **at) == entry.published


def test_freshness_is_the_age_of_the_newest_intervals_end(found: Figures) -> None:
    lag_s = (datetime.now(UTC) - day_interval(DONE, "America/New_York").end).total_seconds()
    assert of(found, "penstock_freshness_lag_seconds", table="raw.flightops__flights") == pytest.approx(lag_s, rel=1e-6)


def test_costs_are_those_of_the_account(found: Figures, pipeline: Pipeline) -> None:
    cpu_s = sum(value for (name, _), value in found.items() if name == "penstock_step_cpu_seconds_total")
    assert cpu_s == pytest.approx(total(account(pipeline, "table"))["cpu_s"], rel=1e-6)
    assert cpu_s > 0


def test_the_page_changes_nothing_and_a_lake_without_anything_has_one_too(pipeline: Pipeline, tmp_path: Path) -> None:
    before = stored_state(pipeline.settings)
    page(pipeline.settings)
    assert stored_state(pipeline.settings) == before
    empty = figures(page(Settings.load({}, home=tmp_path / "new")))
    assert of(empty, "penstock_releases") == 0
    assert not [name for name, _ in empty if name in {"penstock_rows_total", "penstock_release_age_seconds"}]


@pytest.fixture
def server(pipeline: Pipeline) -> Iterator[str]:
    running = make_server(pipeline.settings, "127.0.0.1", 0, every_s=3600)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_address[1]}"
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


def _get(address: str) -> tuple[str, str]:
    with urllib.request.urlopen(address, timeout=60) as answer:  # noqa: S310
        return answer.headers["Content-Type"], answer.read().decode()


def test_scrapes_within_the_interval_get_the_same_page_and_other_paths_nothing(server: str) -> None:
    kind, first = _get(f"{server}/metrics")
    assert kind.startswith("text/plain; version=0.0.4")
    assert figures(first)
    assert _get(f"{server}/metrics")[1] == first
    with pytest.raises(urllib.error.HTTPError, match="404"):
        _get(f"{server}/anything")


def test_a_page_is_made_by_one_while_the_others_get_the_old_one_and_holds_longer_the_dearer_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made, clock = list[float](), [1000.0]

    def dear(_: Settings) -> str:
        made.append(clock[0])
        if len(made) == 2:
            assert cached.get()[1] == "page 1", "who asks while it is made gets the old one"
        clock[0] += 10.0
        return f"page {len(made)}"

    monkeypatch.setattr(metrics_server, "page", dear)
    cached = Cached(Settings.load({}, home=tmp_path), every_s=60, clock_s=lambda: clock[0])
    for _ in range(100):
        cached.get()
        clock[0] += 10.0
    assert made == [1000.0, 1210.0, 1420.0, 1630.0, 1840.0], "ten seconds' work every two hundred"


def test_a_lake_that_cannot_be_read_is_an_answer_of_its_own(tmp_path: Path) -> None:
    settings = Settings.load({"PENSTOCK_CATALOG_URI": "http://127.0.0.1:9"}, home=tmp_path)
    status, text = Cached(settings, every_s=60).get()
    assert status == 503
    assert re.match(r"\w+: .* Remedy: .*\n$", text)


def test_an_address_that_is_taken_is_refused_in_words(server: str, pipeline: Pipeline) -> None:
    port = int(server.rsplit(":", 1)[1])
    with pytest.raises(UsageError, match="Cannot listen"):
        make_server(pipeline.settings, "127.0.0.1", port, every_s=60)


def test_the_text_file_is_the_page_and_so_is_what_the_command_prints(command: SameProcess, tmp_path: Path) -> None:
    target = tmp_path / "collector" / "penstock.prom"
    assert command.run("metrics", "--textfile", str(target)).code == 0
    written, printed = figures(target.read_text()), figures(command.run("metrics").out)
    assert written.keys() == printed.keys()
    assert ("penstock_releases", frozenset[tuple[str, str]]()) in written
    assert command.run("metrics", "--serve", "--textfile", str(target)).code == 2


# -- what is made of the figures ---------------------------------------------------------------------------------------

_NAME = re.compile(r"\bpenstock_\w+")
_KNOWN = {metric.name for metric in METRICS} | {TOOK}


def _panels(parent: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in parent["panels"]:
        if panel["type"] == "row":
            yield from _panels({"panels": panel.get("panels", [])})
        else:
            yield panel


def test_every_panel_of_the_dashboard_asks_for_metrics_there_are_and_has_a_unit() -> None:
    panels = list(_panels(DASHBOARD))
    assert len(panels) >= 12
    for panel in panels:
        asked = [_NAME.findall(target["expr"]) for target in panel["targets"]]
        assert all(asked), panel["title"]
        assert {name for names in asked for name in names} <= _KNOWN, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["description"]
    assert {name for panel in panels for t in panel["targets"] for name in _NAME.findall(t["expr"])} >= _KNOWN - {
        TOOK,
        "penstock_releases",
        "penstock_batches_total",
    }
    ids = [panel["id"] for panel in panels]
    assert len(ids) == len(set(ids))


def test_labels_that_queries_use_are_those_of_their_metric() -> None:
    labels = {metric.name: set(metric.labels) for metric in METRICS} | {TOOK: set()}
    queries = [target["expr"] for panel in _panels(DASHBOARD) for target in panel["targets"]]
    queries += [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
    for query in queries:
        for name, matchers in re.findall(r"(penstock_\w+)\{([^}]*)\}", query):
            used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
            assert used <= labels[name], query
        for grouped in re.findall(r"\bby ?\(([^)]*)\)", query):
            used = {label.strip() for label in grouped.split(",")}
            assert any(used <= labels[name] for name in _NAME.findall(query)), query


def test_every_alert_asks_for_metrics_there_are_and_says_what_to_do() -> None:
    rules = [rule for group in RULES["groups"] for rule in group["rules"]]
    assert len(rules) >= 6
    for rule in rules:
        assert set(_NAME.findall(rule["expr"])) <= _KNOWN, rule["alert"]
        assert _NAME.findall(rule["expr"]), rule["alert"]
        assert {"summary", "description"} <= set(rule["annotations"])
        assert "penstock " in rule["annotations"]["description"], "it names the command to run next"
        assert rule["labels"]["severity"] in {"critical", "warning"}
