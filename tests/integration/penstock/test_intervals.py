"""Laws of the interval map: it says of every day what the lake and the release say, and remembers nothing itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from common.errors import GateRefused, UnknownName
from common.settings import Settings
from penstock.embedded import EmbeddedServices
from penstock.interval_state import IntervalState, interval_states
from penstock.pipeline import Pipeline
from penstock.run import run
from tests.door import Door

RAW, REFINED, FACT = "raw.flightops__flights", "refined.flights", "fct_flights"
FIRST, END = "2013-02-10", "2013-02-15"


class Days:
    """One lake over the whole demo data, and a suite folder that a test may change."""

    def __init__(self, services: EmbeddedServices, folder: Path) -> None:
        suites = folder / "suites"
        shutil.copytree(Settings.load({}).suites, suites)
        self.suite = suites / "raw" / "flightops__flights.yml"
        settings = Settings.load({}, home=folder / "state", connections=services.connections)
        self.settings = settings.model_copy(update={"suites": suites})

    def pipeline(self) -> Pipeline:
        """A pipeline as a new process would have it."""
        return Pipeline(self.settings)

    def states(self, table: str, start: str | None = FIRST, end: str | None = END) -> dict[str, IntervalState]:
        """State of each day of a table."""
        (found,) = interval_states(self.pipeline(), [table], start=start, end=end)
        return {each.key: each for each in found.intervals}

    def told(self, table: str) -> str:
        """The same on one line."""
        return " ".join(f"{each.key[8:]}:{each.state}" for each in self.states(table).values())


@pytest.fixture(scope="module")
def days(services: EmbeddedServices, tmp_path_factory: pytest.TempPathFactory) -> Days:
    """The 11th and the 13th are published through all stages; the days between and around them are not."""
    days = Days(services, tmp_path_factory.mktemp("intervals"))
    for start, end in (("2013-02-11", "2013-02-12"), ("2013-02-13", "2013-02-14")):
        run(days.pipeline(), start, end, build=start == "2013-02-13")
    return days


@pytest.fixture
def changed_suite(days: Days) -> Iterator[Callable[[str, str], None]]:
    """Replaces a text of the suite of raw flights until the test ends."""
    before = days.suite.read_text()

    def change(old: str, new: str) -> None:
        assert before.count(old) >= 1
        days.suite.write_text(before.replace(old, new, 1))

    yield change
    days.suite.write_text(before)


def test_days_that_were_never_published_are_missing_in_every_stage(days: Days) -> None:
    wanted = "10:missing 11:published 12:missing 13:published 14:missing"
    assert [days.told(table) for table in (RAW, REFINED, FACT)] == [wanted] * 3
    assert days.states(RAW)["2013-02-12"].reason == "it was never published"
    assert days.states(REFINED)["2013-02-12"].reason == f"{RAW} lacks it"


def test_a_published_day_has_the_rows_that_are_live(days: Days) -> None:
    pipeline = days.pipeline()
    raw = pipeline.lake.receipts(pipeline.source("flightops").raw("flights"))[0]
    found = [days.states(table)[raw.key] for table in (RAW, REFINED, FACT)]
    assert [each.rows for each in found] == [raw.published] * 3


def test_without_days_the_spec_says_where_a_table_begins_and_ends(days: Days) -> None:
    keys = list(days.states(RAW, None, None))
    assert (keys[0], keys[-1], len(keys)) == ("2013-01-01", "2013-12-31", 365)


def test_a_day_that_is_not_over_is_not_expected_yet(days: Days, tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    shutil.copytree(days.settings.sources, sources)
    spec = sources / "flightops.yml"
    spec.write_text(spec.read_text().replace("end_date: 2014-01-01\n", ""))
    # In New York it is still the 14th.
    pipeline = Pipeline(
        days.settings.model_copy(update={"sources": sources}), clock=lambda: datetime(2013, 2, 15, 4, 59, tzinfo=UTC)
    )
    (found,) = interval_states(pipeline, [RAW], start=FIRST)
    assert [each.key for each in found.intervals][-1] == "2013-02-13"


def test_a_day_outside_coverage_is_no_hole(days: Days) -> None:
    (found,) = interval_states(days.pipeline(), ["raw.stations__weather"], start="2013-12-30", end="2014-01-01")
    assert {each.key: each.state for each in found.intervals} == {"2013-12-30": "missing", "2013-12-31": "outside"}
    (refined,) = interval_states(days.pipeline(), ["refined.weather"], start="2013-12-31", end="2014-01-01")
    assert refined.keys("outside") == ["2013-12-31"]


def test_a_changed_suite_makes_its_days_stale_until_they_are_run_again_and_then_what_follows_them(
    days: Days, changed_suite: Callable[[str, str], None]
) -> None:
    changed_suite("The worst day", "On the worst day")
    assert days.told(RAW) == "10:missing 11:stale 12:missing 13:stale 14:missing"
    assert days.told(REFINED) == "10:missing 11:published 12:missing 13:published 14:missing"
    days.pipeline().ingest("flightops", "flights", "2013-02-11")
    assert days.told(RAW) == "10:missing 11:published 12:missing 13:stale 14:missing"
    assert days.states(REFINED)["2013-02-11"].state == "stale"
    assert days.states(REFINED)["2013-02-11"].reason == f"{RAW} changed since"
    assert days.states(FACT)["2013-02-11"].state == "published"
    receipt = days.pipeline().refine("flights", "2013-02-11")
    assert receipt is not None
    assert receipt.state == "unchanged"
    assert days.states(REFINED)["2013-02-11"].state == "published"
    assert days.states(FACT)["2013-02-11"].state == "published"


def test_a_day_that_was_refined_to_other_rows_is_stale_in_the_release_until_it_is_built(
    days: Days, changed_suite: Callable[[str, str], None]
) -> None:
    changed_suite("max_value: 2880", "max_value: 200")  # rejects the most delayed flights of a day
    days.pipeline().ingest("flightops", "flights", "2013-02-13")
    days.pipeline().refine("flights", "2013-02-13")
    assert days.states(FACT)["2013-02-13"].state == "stale"
    days.pipeline().build_and_publish()
    assert days.told(FACT) == "10:missing 11:published 12:missing 13:published 14:missing"


def test_a_refused_day_has_failed_until_a_batch_of_it_is_published(
    days: Days, changed_suite: Callable[[str, str], None]
) -> None:
    changed_suite("kwargs: {min_value: 1}", "kwargs: {min_value: 100000}")
    for day in ("2013-02-12", "2013-02-13"):
        with pytest.raises(GateRefused):
            days.pipeline().ingest("flightops", "flights", day)
    failed = days.states(RAW)
    assert [failed[day].state for day in ("2013-02-12", "2013-02-13")] == ["failed", "failed"]
    assert failed["2013-02-12"].rows == 0
    assert failed["2013-02-12"].reason.startswith("refused: batch_has_rows")
    assert failed["2013-02-13"].rows > 0
    assert failed["2013-02-13"].reason.endswith("the rows of before are still there")
    changed_suite("kwargs: {min_value: 1}", "kwargs: {min_value: 2}")
    days.pipeline().ingest("flightops", "flights", "2013-02-12")
    assert days.states(RAW)["2013-02-12"].state == "published"


def test_a_name_nobody_knows_is_refused_with_those_there_are(days: Days) -> None:
    with pytest.raises(UnknownName, match="fct_weather_hourly"):
        interval_states(days.pipeline(), ["flight"])


def test_the_command_draws_a_calendar_names_the_holes_and_answers_in_json(days: Days) -> None:
    door = Door(days.settings.home.parent, {})
    shutil.copytree(days.settings.sources, door.folder / "sources")
    drawn = door.run("intervals", "flights", "--from", FIRST, "--to", END)
    assert drawn.code == 0
    assert sum(line.startswith("  2013-02") for line in drawn.out.splitlines()) == 3
    assert "  outside" in drawn.out or "- outside" in drawn.out
    told = door.run("intervals", RAW, "--holes", "--from", FIRST, "--to", END)
    assert "never published" in told.out
    assert door.run("intervals").out.count("missing") >= 1
    (table,) = json.loads(door.run("intervals", RAW, "--json", "--from", FIRST, "--to", END).out)
    assert (table["stage"], len(table["intervals"])) == ("raw", 5)
