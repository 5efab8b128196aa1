"""Laws of lineage: what was published is told, by the standard's own words, and commands answer from that."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openlineage.client import event_v2, facet_v2, serde

from common.errors import GateRefused, StateCorrupt, UnknownName
from common.settings import Settings
from dags.penstock_dags import assets
from dags.penstock_dags.specs import load_schedules
from penstock.embedded import EmbeddedServices
from penstock.lineage import Graph, drop_replaced, graph_of, read_graph
from penstock.lineage_events import Parent
from penstock.pipeline import Pipeline
from penstock.run import run
from penstock.serve import PipelineFacts
from tests.door import Door

DAY, AFTER = "2013-02-12", "2013-02-13"


@pytest.fixture(scope="module")
def pipeline(services: EmbeddedServices, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """One day through all stages."""
    home = tmp_path_factory.mktemp("lineage") / "state"
    settings = Settings.load({}, home=home, connections=services.connections)
    root = Parent("ingest_flightops", "manual__1", "airflow")
    pipeline = Pipeline(settings, parent=Parent("ingest_flightops.ingest", "manual__1", root=root))
    run(pipeline, DAY, AFTER)
    return pipeline


@pytest.fixture(scope="module")
def folder(pipeline: Pipeline) -> Path:
    return pipeline.settings.home / "lineage"


@pytest.fixture(scope="module")
def graph(folder: Path) -> Graph:
    return read_graph(folder)


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob("*.ndjson")) for line in path.read_text().splitlines()]


def test_every_published_batch_and_table_is_told_once_as_started_and_once_as_complete(
    pipeline: Pipeline, folder: Path
) -> None:
    told = [(event["job"]["name"], event["eventType"]) for event in events(folder)]
    raw = [f"ingest.{spec.raw(table.name)}" for spec in pipeline.sources().values() for table in spec.tables]
    refined = [f"refine.refined.{name}" for name in pipeline.refined_tables()]
    marts = ["dim_airports", "dim_carriers", "dim_planes", "fct_flights", "fct_weather_hourly"]
    marts += ["mart_daily_route_performance", "mart_weather_delay"]
    jobs = [*raw, *refined, *(f"build.{name}" for name in marts)]
    assert sorted(told) == sorted((job, kind) for job in jobs for kind in ("START", "COMPLETE"))


def test_airflows_assets_are_called_as_lineage_calls_the_tables(
    graph: Graph, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("flightops", "stations"):
        url = pipeline.settings.connection(name).get_secret_value()
        monkeypatch.setenv(f"PENSTOCK_CONNECTIONS__{name.upper()}", url)
    sources = load_schedules(pipeline.settings.sources)
    tables = [assets.source_asset(source, table) for source in sources for table in source.outlines]
    tables += [asset for source in sources for asset in assets.raw_assets(source)]
    tables += [*assets.refined_assets(), *assets.mart_assets()]
    assert sorted(asset.name for asset in tables) == sorted(graph.tables)
    for other in (assets.reopened_asset(), assets.release_asset()):
        assert other.name.startswith(assets.NO_DATASETS)
        assert other.name not in graph.tables


def test_a_second_run_that_changes_nothing_tells_nothing(pipeline: Pipeline, folder: Path) -> None:
    before = events(folder)
    run(Pipeline(pipeline.settings), DAY, AFTER)
    assert events(folder) == before


def test_the_standards_own_client_reads_every_event_and_gives_it_back_the_same(folder: Path) -> None:
    facets = {
        "schema": facet_v2.schema_dataset.SchemaDatasetFacet,
        "columnLineage": facet_v2.column_lineage_dataset.ColumnLineageDatasetFacet,
        "dataQualityAssertions": facet_v2.data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet,
        "outputStatistics": facet_v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet,
        "parent": facet_v2.parent_run.ParentRunFacet,
        "nominalTime": facet_v2.nominal_time_run.NominalTimeRunFacet,
        "jobType": facet_v2.job_type_job.JobTypeJobFacet,
    }
    for event in events(folder):
        assert event["schemaURL"].endswith("#/$defs/RunEvent")
        run_, job = event["run"], event["job"]
        whole = event_v2.RunEvent(
            eventType=event_v2.RunState[event["eventType"]],
            eventTime=event["eventTime"],
            producer=event["producer"],
            run=event_v2.Run(run_["runId"]),
            job=event_v2.Job(job["namespace"], job["name"]),
            inputs=[event_v2.InputDataset(each["namespace"], each["name"]) for each in event["inputs"]],
            outputs=[event_v2.OutputDataset(each["namespace"], each["name"]) for each in event["outputs"]],
        )
        again = json.loads(serde.Serde.to_json(whole))
        assert (again["run"]["runId"], again["eventType"]) == (run_["runId"], event["eventType"])
        found = {**run_["facets"], **job["facets"]}
        for output in event["outputs"]:
            found |= {**output["facets"], **output.get("outputFacets", {})}
        for name, content in found.items():
            facet: Any = facets[name]
            given = {key: value for key, value in content.items() if not key.startswith("_")}
            assert content["_schemaURL"] == facet._get_schema()
            assert set(given) <= {each.name for each in facet.__attrs_attrs__}
            facet(**given)


def test_the_parent_is_what_started_the_run_and_the_same_for_all_it_did(folder: Path) -> None:
    parents = {json.dumps(event["run"]["facets"]["parent"], sort_keys=True) for event in events(folder)}
    assert len(parents) == 1
    (parent,) = map(json.loads, parents)
    assert parent["job"]["name"] == "ingest_flightops.ingest"
    assert parent["run"]["runId"] == Parent("ingest_flightops.ingest", "manual__1").run_id
    assert parent["run"]["runId"] != Parent("ingest_flightops.ingest", "manual__2").run_id
    assert parent["root"]["job"] == {"namespace": "airflow", "name": "ingest_flightops"}
    assert parent["root"]["run"]["runId"] == Parent("ingest_flightops", "manual__1").run_id


def test_no_secret_of_a_connection_is_told(services: EmbeddedServices, folder: Path) -> None:
    text = "".join(path.read_text() for path in folder.glob("*.ndjson"))
    secrets = [url.split("@")[0].rsplit(":", 1)[1] for url in services.connections.values() if "@" in url]
    assert secrets
    assert not [secret for secret in secrets if secret in text]


def test_a_column_is_followed_from_the_mart_to_the_source_and_back(graph: Graph) -> None:
    table, column = graph.find("mart_daily_route_performance.p90_arrival_delay_min")
    assert (table, column) == ("warehouse.mart_daily_route_performance", "p90_arrival_delay_min")
    above = graph.walk(table, column, "upstream")
    assert [(each.table, each.columns) for each in above[:3]] == [
        ("warehouse.fct_flights", ("arrival_delay_min",)),
        ("refined.flights", ("arrival_delay_min",)),
        ("raw.flightops__flights", ("arr_delay",)),
    ]
    source = above[-1].table
    assert source.startswith("postgres://127.0.0.1:")
    assert source.endswith(".public.flights")
    below = {each.table: each for each in graph.walk(source, "arr_delay", "downstream")}
    assert "p90_arrival_delay_min" in below["warehouse.mart_daily_route_performance"].columns
    assert "arrived_at" in below["refined.flights"].columns
    assert not below["warehouse.mart_daily_route_performance"].rows
    assert not any("weather" in table.removeprefix("warehouse.mart_weather_delay") for table in below)


def test_a_column_that_only_decides_which_rows_there_are_touches_the_rows(graph: Graph) -> None:
    found = {each.table: each for each in graph.walk("warehouse.fct_weather_hourly", "wind_speed_mph", "downstream")}
    assert (found["warehouse.mart_weather_delay"].rows, found["warehouse.mart_weather_delay"].columns) == (True, ())


def test_without_a_column_whole_tables_are_followed(graph: Graph) -> None:
    found = [each.table for each in graph.walk("raw.flightops__airports", None, "downstream")]
    assert found[:2] == ["refined.airports", "refined.flights"]
    assert "warehouse.mart_weather_delay" in found


@pytest.mark.parametrize("name", ["nothing", "fct_flights.nothing", "flights"])
def test_a_name_that_means_nothing_or_several_things_is_refused_with_those_there_are(graph: Graph, name: str) -> None:
    with pytest.raises(UnknownName, match=r"use one of|write more|known are"):
        graph.find(name)


def test_a_refused_batch_is_told_as_failed_with_its_reason(pipeline: Pipeline, tmp_path: Path) -> None:
    suites = tmp_path / "suites"
    shutil.copytree(pipeline.settings.suites, suites)
    suite = suites / "raw" / "flightops__airlines.yml"
    suite.write_text(suite.read_text().replace("min_value: 1", "min_value: 1000", 1))
    home = tmp_path / "state"
    other = Pipeline(pipeline.settings.model_copy(update={"suites": suites, "home": home}))
    with pytest.raises(GateRefused):
        other.ingest("flightops", "airlines", DAY)
    started, failed = events(home / "lineage")
    assert (started["eventType"], failed["eventType"]) == ("START", "FAIL")
    assert "refused the batch" in failed["run"]["facets"]["errorMessage"]["message"]
    assert read_graph(home / "lineage").tables == {}


def test_a_line_that_was_cut_by_a_crash_is_left_out_and_damage_elsewhere_is_refused(
    folder: Path, graph: Graph, tmp_path: Path
) -> None:
    copy = tmp_path / "lineage"
    shutil.copytree(folder, copy)
    (path,) = copy.glob("*.ndjson")
    whole = path.read_text()
    path.write_text(whole + whole[:100])
    assert read_graph(copy).tables == graph.tables
    path.write_text(whole[:100] + "\n" + whole)
    with pytest.raises(StateCorrupt, match=":1 is no lineage event"):
        read_graph(copy)


def test_of_old_months_only_what_the_graph_is_made_of_stays(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "lineage"
    copy.mkdir()

    def tell(month: str, about: str, rest: str = "") -> Path:
        some = [{**event, "eventTime": f"{month}-02T00:00:00+00:00"} for event in events(folder)]
        lines = [json.dumps(event) for event in some if about in event["job"]["name"]]
        path = copy / f"{month}.ndjson"
        path.write_text("".join(f"{line}\n" for line in lines) + rest)
        return path

    first, second = tell("2013-01", "refined."), tell("2013-02", "", '{"cut off')
    third, fourth = tell("2013-03", "refined.flights"), tell("2013-04", "refined.planes")
    tables = read_graph(copy).tables
    assert tables["raw.flightops__flights"].at.startswith("2013-02")
    before = {path: path.read_bytes() for path in (first, second, third, fourth)}
    assert drop_replaced(copy, before="2013-01") == {}
    foreseen = drop_replaced(copy, before="2013-04", dry_run=True)
    assert {path: path.read_bytes() for path in before} == before
    assert drop_replaced(copy, before="2013-04") == foreseen
    assert read_graph(copy).tables == tables
    assert not first.exists(), "all of it was told anew"
    assert fourth.read_bytes() == before[fourth], "its month is not over"
    assert foreseen == {first: len(before[first])} | {
        path: len(before[path]) - path.stat().st_size for path in (second, third)
    }
    left = [json.loads(line) for path in (second, third) for line in path.read_text().splitlines()]
    assert {event["eventType"] for event in left} == {"COMPLETE"}
    names = [output["name"] for event in left for output in event["outputs"]]
    assert sorted([*names, "refined.planes"]) == sorted({*names, "refined.planes"}), "each table once"
    assert drop_replaced(copy, before="2013-04") == {}


def test_hosts_that_share_a_lake_and_no_folder_share_its_lineage(services: EmbeddedServices, tmp_path: Path) -> None:
    lake = {"stations": services.connections["stations"], "lake": services.connections["stations"]}

    def host(name: str) -> Settings:
        return Settings.load(
            {},
            home=tmp_path / name,
            lake_uri="s3://stations/lineage-lake",
            catalog_uri=f"sqlite:///{tmp_path / 'catalog.db'}",
            connections={**services.connections, **lake},
        )

    Pipeline(host("one")).ingest("flightops", "airlines", DAY)
    Pipeline(host("two")).ingest("flightops", "airports", DAY)
    ours = {name for name, node in graph_of(host("three")).tables.items() if node.job}
    assert ours == {"raw.flightops__airlines", "raw.flightops__airports"}
    assert not (tmp_path / "three").exists()
    assert PipelineFacts(host("three"))._lineage("raw.flightops__airlines")[0], "what a server tells of it"


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[str, str, dict[str, Any]]]]]:
    """A lineage server that keeps path, authorization and body of what it gets."""
    got: list[tuple[str, str, dict[str, Any]]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.append((self.path, self.headers.get("Authorization", ""), body))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    running = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_address[1]}", got
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


def test_a_lineage_server_gets_the_same_events_and_one_that_is_down_stops_nothing(
    pipeline: Pipeline, server: tuple[str, list[tuple[str, str, dict[str, Any]]]], tmp_path: Path
) -> None:
    url, got = server
    key = {"PENSTOCK_LINEAGE_API_KEY": "canary-key"}
    for name, address in (("up", url), ("down", "http://127.0.0.1:9")):
        connections = pipeline.settings.connections
        settings = Settings.load(
            {**key, "PENSTOCK_LINEAGE_URL": address}, home=tmp_path / name, connections=connections
        )
        assert Pipeline(settings).ingest("flightops", "airlines", DAY).state == "published"
        assert len(events(settings.home / "lineage")) == 2
    assert [body for _, _, body in got] == events(tmp_path / "up" / "lineage")
    assert {(path, key) for path, key, _ in got} == {("/api/v1/lineage", "Bearer canary-key")}


def test_a_server_that_failed_is_not_asked_again_by_the_same_run(pipeline: Pipeline, tmp_path: Path) -> None:
    asked: list[str] = []

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_error(500)

        def log_message(self, *_: Any) -> None:
            return

    with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as refusing:
        thread = threading.Thread(target=refusing.serve_forever)
        thread.start()
        try:
            environment = {"PENSTOCK_LINEAGE_URL": f"http://127.0.0.1:{refusing.server_address[1]}"}
            settings = Settings.load(environment, home=tmp_path / "state", connections=pipeline.settings.connections)
            once = Pipeline(settings)
            for table in ("airlines", "planes"):
                assert once.ingest("flightops", table, DAY).state == "published"
        finally:
            refusing.shutdown()
            thread.join()
    assert len(asked) == 1
    assert len(events(settings.home / "lineage")) == 4


def test_lineage_that_cannot_be_read_off_stops_nothing_and_says_so(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise NotImplementedError("a node of a later Polars")

    home = tmp_path / "state"
    other = Pipeline(Settings.load({}, home=home, connections=pipeline.settings.connections))
    other.ingest("flightops", "airlines", DAY)
    monkeypatch.setattr("transformations.refine.stage.lineage_of", fail)
    receipt = other.refine("airlines", DAY)
    assert receipt is not None
    assert receipt.state == "published"
    assert "a node of a later Polars" in caplog.text


def test_lineage_that_cannot_be_written_stops_nothing(pipeline: Pipeline, tmp_path: Path) -> None:
    home = tmp_path / "state"
    home.mkdir()
    (home / "lineage").write_text("a file where the folder should be")
    settings = Settings.load({}, home=home, connections=pipeline.settings.connections)
    assert Pipeline(settings).ingest("flightops", "airlines", DAY).state == "published"


def test_the_commands_draw_trees_tables_and_a_picture_and_answer_in_json(pipeline: Pipeline) -> None:
    door = Door(pipeline.settings.home.parent, {})
    tree = door.run("lineage", "fct_flights.arrived_at", "--upstream")
    assert "raw.flightops__airports  (tzone)" in tree.out
    assert "goes into" not in tree.out
    assert "refined.weather" in door.run("lineage").out
    touched = door.run("impact", "raw.flightops__flights.dep_time")
    assert "is_cancelled" in touched.out
    document = json.loads(door.run("impact", "raw.flightops__flights.dep_time", "--json").out)
    assert {each["table"] for each in document["downstream"]} >= {"refined.flights", "warehouse.fct_flights"}
    picture = door.folder / "lineage.svg"
    assert door.run("lineage", "--picture", str(picture)).code == 0
    assert picture.read_text().count("<rect") == len(read_graph(pipeline.settings.home / "lineage").tables) + 1
    refused = door.run("lineage", "nothing")
    assert (refused.code, "known are" in refused.err) == (2, True)
