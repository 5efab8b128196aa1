"""Laws of telemetry: spans nest as the work does and meet log lines and lineage; a collector never holds up a run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from common import usage, work
from common.telemetry import METRICS
from common.usage import Usage
from penstock.embedded import EmbeddedServices
from penstock.lineage_events import Parent
from penstock.pipeline import Pipeline
from tests.command_line import Answer
from tests.door import SameProcess
from tests.integration.penstock.collector import Collector, Told, collecting

DAY, AFTER = "2013-02-12", "2013-02-13"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@dataclass(frozen=True)
class Run:
    """One day through all stages with everything switched on, and what it told."""

    command: SameProcess
    collector: Collector
    answer: Answer
    used: Usage

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its log lines."""
        return [json.loads(line) for line in self.answer.err.splitlines()]

    @property
    def report(self) -> dict[str, Any]:
        """What it printed."""
        return dict(json.loads(self.answer.out))

    def spans(self, name: str) -> list[Told]:
        """Spans of that name."""
        return [span for span in self.collector.spans if span.name == name]

    def costs(self, by: str) -> dict[str, Any]:
        """The account of costs as the command line gives it."""
        return dict(json.loads(replace(self.command, extra={}).run("costs", "--by", by, "--json").out))


@pytest.fixture(scope="module")
def run(services: EmbeddedServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with collecting() as collector:
        extra = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "TRACEPARENT": f"00-{TRACE}-{SPAN}-01",
            "PENSTOCK_LOG_FORMAT": "json",
        }
        command = SameProcess(tmp_path_factory.mktemp("told") / "state", services.connections, extra)
        before = usage.look()
        answer = command.run("run", "--from", DAY, "--to", AFTER, "--json")
        used = usage.look().since(before)
        assert answer.code == 0
        yield Run(command, collector, answer, used)


def test_spans_nest_as_the_work_does_below_what_started_it(run: Run) -> None:
    (root,) = run.spans("penstock run")
    assert (root.trace_id, root.parent_id) == (TRACE, SPAN)
    assert {span.trace_id for span in run.collector.spans} == {TRACE}
    (ingest,) = run.spans("ingest raw.flightops__flights")
    assert ingest.parent_id == root.span_id
    assert [span.name for span in run.collector.children(ingest)] == ["extract", "gate", "publish"]
    (build,) = run.spans("warehouse")
    models, *others = run.collector.children(build)
    assert [models.name, *(span.name for span in others)] == ["models", "gate", "record", "publish"]
    assert "model fct_flights" in {span.name for span in run.collector.children(models)}
    assert all(span.seconds >= 0 for span in run.collector.spans)


def test_attributes_say_which_work_it_was_and_lead_to_its_lineage(run: Run) -> None:
    (root,) = run.spans("penstock run")
    assert root.attributes["penstock.run_id"] == run.report["run_id"]
    assert root.attributes["penstock.lineage.run_id"] == Parent("penstock", run.report["run_id"]).run_id
    (ingest,) = run.spans("ingest raw.flightops__flights")
    assert ingest.attributes == {
        "penstock.stage": "ingest",
        "penstock.table": "raw.flightops__flights",
        "penstock.interval": DAY,
        "penstock.source": "flightops",
    }
    extract, _, publish = run.collector.children(ingest)
    assert (extract.attributes["db.system.name"], extract.attributes["db.collection.name"]) == ("postgresql", "flights")
    lineage = [line for path in (run.command.home / "lineage").iterdir() for line in path.read_text().splitlines()]
    runs = {event["run"]["runId"].replace("-", "") for event in map(json.loads, lineage)}
    assert publish.attributes["penstock.attempt"] in runs
    assert publish.attributes["penstock.rows.published"] > 0
    assert (run.collector.resource["service.name"], run.collector.resource["service.version"]) == ("penstock", "0.1.0")


def test_every_line_is_json_and_says_run_trace_and_where_it_belongs(run: Run) -> None:
    assert {line["run_id"] for line in run.lines} == {run.report["run_id"]}
    # Progress may come before anything is done; so may what a library has to say.
    ours = ("common.", "ingestion.", "lake.", "penstock.", "quality.", "transformations.", "warehouse.")
    traced = [line for line in run.lines if line["logger"].startswith(ours)]
    assert traced
    assert [line for line in traced if line.get("trace_id") != TRACE] == []
    (landed,) = [line for line in run.lines if line.get("table") == "raw.flightops__flights" and "published" in line]
    assert (landed["stage"], landed["interval"], landed["rows_in"]) == ("ingest", DAY, landed["published"])
    assert any(line["message"] == f"release {run.report['release']} is current" for line in run.lines)


def test_metrics_have_the_rows_of_the_report_and_every_name_is_a_declared_one(run: Run) -> None:
    told = run.collector.metrics
    assert set(told) <= set(METRICS)
    assert set(METRICS) - set(told) == {"penstock.batches.refused", "penstock.backfill.intervals"}
    rows = {(at["penstock.stage"], at["penstock.table"], at["penstock.outcome"]): n for at, n in told["penstock.rows"]}
    for table in run.report["tables"]:
        assert rows[table["stage"], table["table"], "published"] == table["published"]
    lags = {at["penstock.table"] for at, _ in told["penstock.freshness.lag"]}
    assert {"raw.flightops__flights", "refined.flights"} <= lags


def test_no_secret_is_in_anything_that_is_told(run: Run) -> None:
    secrets = [url.split("@")[0].rsplit(":", 1)[1] for url in run.command.connections.values() if "@" in url]
    assert secrets
    told = b"".join(run.collector.bodies) + run.answer.err.encode()
    assert not [secret for secret in secrets if secret.encode() in told]


def test_costs_add_up_to_what_the_process_used(run: Run) -> None:
    for by in ("table", "stage", "run", "day"):
        found = run.costs(by)
        # A process also spends before its command begins (loading code) and after it (giving memory back): in a large
        # test process that has been a quarter of the whole.
        assert 0.5 * run.used.cpu_s < found["total"]["cpu_s"] < 1.01 * run.used.cpu_s
        assert sum(row["cpu_share_pct"] for row in found["rows"]) == pytest.approx(100)
    assert found["total"]["written_bytes"] > 1_000_000
    steps = {(row["stage"], row["step"]) for row in run.costs("stage")["rows"]}
    assert {("ingest", "extract"), ("refine", "refine"), ("warehouse", "models"), ("run", "other")} <= steps
    tables = {row["table_name"]: row for row in run.costs("table")["rows"]}
    assert {"raw.flightops__flights", "refined.flights", "warehouse.fct_flights"} <= set(tables)
    assert all(row["cpu_s"] >= 0 and row["times"] > 0 for row in tables.values())


def test_the_release_has_the_costs_of_its_own_build_up_to_then(run: Run) -> None:
    asked = "select distinct stage, step from ops.costs"
    found = json.loads(replace(run.command, extra={}).run("query", asked, "--json").out)
    steps = {(row["stage"], row["step"]) for row in found}
    assert {("ingest", "extract"), ("ingest", "publish"), ("refine", "gate"), ("warehouse", "models")} <= steps


def test_a_refused_batch_is_an_error_of_its_span_a_count_and_a_line_that_says_why(run: Run, tmp_path: Path) -> None:
    suites = tmp_path / "suites"
    shutil.copytree(run.command.settings().suites, suites)
    suite = suites / "raw" / "flightops__airlines.yml"
    suite.write_text(suite.read_text().replace("min_value: 1", "min_value: 1000", 1))
    with collecting() as collector:
        extra = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "PENSTOCK_LOG_FORMAT": "json",
            "PENSTOCK_SUITES": str(suites),
        }
        command = replace(run.command, home=tmp_path / "state", extra=extra)
        answer = command.run("ingest", "flightops", "--day", DAY, "--table", "airlines")
    assert answer.code == 1
    failed = {span.name: span.attributes["error.type"] for span in collector.spans if span.is_error}
    assert failed == dict.fromkeys(("penstock ingest", "ingest raw.flightops__airlines", "publish"), "GateRefused")
    at = {"penstock.stage": "ingest", "penstock.table": "raw.flightops__airlines"}
    assert collector.metrics["penstock.batches.refused"] == [(at, 1.0)]
    assert sum(n for _, n in collector.metrics["penstock.gate.failures"]) >= 1
    refused = [json.loads(line) for line in answer.err.splitlines() if line.startswith("{")]
    (line,) = [line for line in refused if line["message"].startswith("refused: The gate refused the batch")]
    assert (line["table"], line["interval"], line["error"]) == ("raw.flightops__airlines", DAY, "GateRefused")
    costs = json.loads(replace(command, extra={}).run("costs", "--by", "stage", "--json").out)
    assert ("ingest", "gate") in {(row["stage"], row["step"]) for row in costs["rows"]}


@pytest.mark.parametrize("kind", ["closed", "refusing", "silent"])
def test_a_collector_that_is_down_is_told_of_once_and_holds_up_nothing(
    run: Run, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with collecting(400 if kind == "refusing" else 200, 60.0 if kind == "silent" else 0.0) as collector:
        url = "http://127.0.0.1:9" if kind == "closed" else collector.url
        settings = run.command.settings().model_copy(update={"home": tmp_path, "otlp_endpoint": url})
        settings = settings.model_copy(update={"lake_uri": str(tmp_path / "lake")})
        work.begin("ingest")
        pipeline = Pipeline(settings)
        assert pipeline.ingest("flightops", "airlines", DAY).state == "published"
        work.end()
        assert collector.answered == (len(collector.bodies) if kind == "refusing" else 0), "nobody waited for it"
    (warned,) = [record for record in caplog.records if record.name == "common.telemetry"]
    assert "telemetry could not be sent to http://127.0.0.1:" in warned.getMessage()
    assert len(collector.bodies) <= 2, "one that failed is not asked again"
