"""Laws of backfills in this process: the plan is what the lake lacks, exactly that runs, and one release ends it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from common.errors import IntervalError, UnknownName
from common.settings import Settings
from lake.paths import TableId
from penstock.backfill import Plan, plan_backfill, summarize
from penstock.backfill_airflow import unwanted
from penstock.backfill_local import run_local
from penstock.backfill_plan import Wish
from penstock.embedded import EmbeddedServices
from penstock.pipeline import Pipeline
from penstock.run import run
from tests.door import Door
from warehouse.releases import Releases

FLIGHTS, WEATHER = TableId("raw", "flightops__flights"), TableId("raw", "stations__weather")
FIRST, END = "2013-02-04", "2013-02-09"
HOLES = ["2013-02-05", "2013-02-07"]
WISH = Wish(("flightops", "stations"), FIRST, END)


@pytest.fixture(scope="module")
def holed(services: EmbeddedServices, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A lake with three of five days, all released; tests copy nothing and fill nothing but the last ones."""
    folder = tmp_path_factory.mktemp("backfill")
    suites = folder / "suites"
    shutil.copytree(Settings.load({}).suites, suites)
    settings = Settings.load({}, home=folder / "state", connections=services.connections)
    settings = settings.model_copy(update={"suites": suites})
    for start, end in ((FIRST, HOLES[0]), ("2013-02-06", HOLES[1]), ("2013-02-08", END)):
        run(Pipeline(settings), start, end, build=end == END)
    return settings


def plan(settings: Settings, wish: Wish) -> Plan:
    return plan_backfill(Pipeline(settings), wish)


def quiet(*_: object) -> None:
    """Progress that nobody watches."""


def keys(found: Plan, stage: str) -> dict[str, list[str]]:
    return {each.table: list(each.keys) for each in (found.ingest if stage == "ingest" else found.refine)}


def test_by_default_only_holes_are_wanted_and_what_is_made_from_them(holed: Settings) -> None:
    found = plan(holed, WISH)
    assert keys(found, "ingest") == {str(FLIGHTS): HOLES, str(WEATHER): HOLES}
    assert keys(found, "refine") == {"refined.flights": HOLES, "refined.weather": HOLES}
    assert [span.keys for span in found.sources["flightops"]] == [[HOLES[0]], [HOLES[1]]]
    assert {"fct_flights", "mart_weather_delay", "dim_planes"} <= set(found.models)


def test_rows_and_time_are_expected_from_history(holed: Settings) -> None:
    found = plan(holed, WISH)
    past = Pipeline(holed).lake.receipts(FLIGHTS)
    (flights,) = [each for each in found.ingest if each.table == str(FLIGHTS)]
    assert flights.rows_expected == round(sum(receipt.published for receipt in past) / len(past) * len(HOLES))
    assert found.work_s_expected is not None
    assert found.work_s_expected > 0


def test_an_empty_lake_has_no_history_and_wants_whole_tables_first(tmp_path: Path, services: EmbeddedServices) -> None:
    settings = Settings.load({}, home=tmp_path / "state", connections=services.connections)
    found = plan(settings, replace(WISH, targets=("flights",), newest_first=True))
    first, *rest = found.sources["flightops"]
    plan_json = json.loads(json.dumps(found.to_dict()))
    assert plan_json == found.to_dict(), "what goes through Airflow comes back the same"
    assert unwanted(plan_json, "flightops", first) == ["announce", "watch"]
    assert unwanted(plan_json, "flightops", rest[0]) == ["ingest_snapshots", "announce", "watch"]
    assert (first.keys, set(first.tables)) == (["2013-02-08"], {"planes", "airlines", "airports", "flights"})
    assert [(span.keys, span.tables) for span in rest] == [(WISH.days[:-1], ("flights",))]
    assert found.work_s_expected is None


@pytest.mark.parametrize(
    ("target", "tables"),
    [
        ("stations", {str(WEATHER)}),
        ("flightops.flights", {str(FLIGHTS)}),
        ("raw.stations__weather", {str(WEATHER)}),
        ("refined.flights", {str(FLIGHTS)}),
        ("weather", {str(WEATHER)}),
        ("fct_flights", {str(FLIGHTS)}),
        ("mart_weather_delay", {str(FLIGHTS), str(WEATHER)}),
    ],
)
def test_a_target_is_a_source_a_table_of_any_stage_or_a_model(holed: Settings, target: str, tables: set[str]) -> None:
    assert keys(plan(holed, replace(WISH, targets=(target,))), "ingest").keys() == tables


def test_all_wants_good_intervals_too_and_no_day_that_the_source_never_had(holed: Settings) -> None:
    found = plan(holed, replace(WISH, mode="all", targets=("stations",)))
    assert found.days("stations") == WISH.days
    edge = plan(holed, Wish(("stations", "flights"), "2013-12-30", "2014-01-03"))
    assert keys(edge, "ingest") == {str(FLIGHTS): ["2013-12-30", "2013-12-31"], str(WEATHER): ["2013-12-30"]}


def test_what_cannot_be_is_refused(holed: Settings) -> None:
    with pytest.raises(UnknownName, match="mart_weather_delay"):
        plan(holed, replace(WISH, targets=("fligths",)))
    early = Pipeline(holed, clock=lambda: datetime(2013, 2, 7, 12, tzinfo=UTC))
    with pytest.raises(IntervalError):
        plan_backfill(early, WISH)


def test_a_limit_per_hour_waits_for_the_hour_and_a_failure_stops_where_asked(holed: Settings) -> None:
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    pipeline, slept = Pipeline(holed, clock=lambda: now[0]), list[float]()
    suite = holed.suites / "raw" / "stations__weather.yml"
    before = suite.read_text()
    suite.write_text(before.replace("kwargs: {min_value: 1}", "kwargs: {min_value: 100000}", 1))

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += timedelta(seconds=seconds)

    wish = replace(WISH, targets=("stations",), max_per_hour=1)
    summary = run_local(pipeline, plan_backfill(pipeline, wish), quiet, sleep=sleep)
    assert slept == [3600.0]
    assert [each["interval"] for each in summary["not_done"] if each["state"] == "failed"] == HOLES
    assert not summary["stopped"]
    stopping = replace(wish, stop_on_failure=True, max_per_hour=None)
    stopped = run_local(pipeline, plan_backfill(pipeline, stopping), quiet)
    assert (stopped["stopped"], stopped["release"]) == (True, None)
    suite.write_text(before)


def test_exactly_the_holes_run_one_release_ends_it_and_then_nothing_is_wanted(
    holed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline(holed)
    before = {key: pipeline.lake.live_attempts(FLIGHTS)[key] for key in pipeline.lake.live_attempts(FLIGHTS)}
    ingested: list[tuple[str, str]] = []
    ingest: Callable[..., object] = pipeline.ingest

    def counting(source: str, table: str, key: str, **kwargs: object) -> object:
        ingested.append((table, key))
        return ingest(source, table, key, **kwargs)

    monkeypatch.setattr(pipeline, "ingest", counting)
    summary = run_local(pipeline, plan_backfill(pipeline, WISH), quiet)
    assert sorted(ingested) == sorted((table, key) for table in ("flights", "weather") for key in HOLES)
    assert summary["not_done"] == []
    after = Pipeline(holed).lake.live_attempts(FLIGHTS)
    assert sorted(after) == WISH.days
    assert {key: after[key] for key in before} == before
    releases = Releases(holed.warehouse).all()
    assert [release.id for release in releases] == ["r000001", summary["release"]]
    assert releases[-1].manifest["changed_keys"] == {"flights": HOLES, "weather": HOLES}
    assert plan(holed, WISH).is_empty
    again = plan(holed, replace(WISH, mode="all", targets=("stations",)))
    assert summarize(pipeline, again.to_dict(), None)["not_done"] == []


def test_the_command_previews_runs_here_without_airflow_and_answers_in_json(holed: Settings) -> None:
    door = Door(holed.home.parent, {name: url.get_secret_value() for name, url in holed.connections.items()})
    shutil.copytree(holed.sources, door.folder / "sources", dirs_exist_ok=True)
    shown = door.run("backfill", "flights", "--from", "2013-02-09", "--to", "2013-02-11", "--dry-run")
    assert shown.code == 0
    assert "2013-02-09 to 2013-02-10" in shown.out
    assert "One release at the end" in shown.out
    told = door.run("backfill", "run", "stations", "--from", "2013-02-09", "--to", "2013-02-10", "--json", "--local")
    assert told.code == 0, told.err
    assert json.loads(told.out)["not_done"] == []
    assert door.run("backfill", "status").code == 2
    assert door.run("backfill", "run", "weather", "--from", FIRST, "--to", END, "--stale", "--all").code == 2
