"""Rows that come for days long past re-open exactly those days, in every stage, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from common.settings import Settings
from penstock import demo_data
from penstock.backfill import plan_backfill
from penstock.backfill_local import run_local
from penstock.backfill_plan import Wish
from penstock.embedded import EmbeddedServices
from penstock.interval_state import interval_states
from penstock.pipeline import Pipeline
from penstock.psql import run_psql
from penstock.run import run
from warehouse.releases import Releases

FIRST, NEXT, END = "2013-04-01", "2013-04-06", "2013-04-07"
LATE = ["2013-04-01", "2013-04-03"]
STAGES = ("raw.flightops__flights", "refined.flights", "fct_flights")
_INSERT = """
insert into flights select year, month, day, dep_time, sched_dep_time, dep_delay, arr_time, sched_arr_time, arr_delay,
    carrier, {flight}, tailnum, origin, dest, air_time, distance, hour, minute, time_hour, updated_at
from flights where day in (1, 3) and ctid in (select min(ctid) from flights where carrier = 'UA' group by day);
"""


@pytest.fixture(scope="module")
def late(module_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedServices, Settings]]:
    """Five days published from services of the module's own, whose spec reads days again to which rows came late."""
    sources = tmp_path_factory.mktemp("late") / "sources"
    shutil.copytree(Settings.load({}).sources, sources)
    spec = sources / "flightops.yml"
    before = "    freshness: {max_age_s: 129600}\n"
    spec.write_text(spec.read_text().replace(before, f"{before}    late: {{beyond: reopen}}\n", 1))
    with EmbeddedServices.start(module_home) as own:
        demo_data.seed(own, first_day=date.fromisoformat(FIRST), last_day=date.fromisoformat(NEXT))
        settings = Settings.load({}, home=module_home).model_copy(update={"sources": sources})
        assert run(Pipeline(settings), FIRST, NEXT).release == "r000001"
        yield own, settings


def changed(settings: Settings) -> dict[str, list[str]]:
    """Refined table -> days that the current release built anew."""
    current = Releases(settings.warehouse).current()
    assert current is not None
    found: dict[str, list[str]] = current.manifest["changed_keys"]
    return found


def test_late_rows_in_two_old_days_recompute_those_two_in_every_stage(late: tuple[EmbeddedServices, Settings]) -> None:
    services, settings = late
    run_psql(services.postgres_url, [_INSERT.format(flight=9999).encode()])
    report = run(Pipeline(settings), NEXT, END)
    published = [
        (each.table, each.key) for each in report.receipts if each.state == "published" and each.key != "whole"
    ]
    for table in STAGES[:2]:
        assert sorted(key for name, key in published if name == table) == [*LATE, NEXT]
    for table in ("raw.stations__weather", "refined.weather"):
        assert [key for name, key in published if name == table] == [NEXT]
    assert changed(settings) == {"flights": [*LATE, NEXT], "weather": [NEXT]}


def test_days_ingested_again_are_stale_downstream_and_a_backfill_of_what_is_stale_recomputes_only_them(
    late: tuple[EmbeddedServices, Settings],
) -> None:
    services, settings = late
    run_psql(services.postgres_url, [_INSERT.format(flight=9998).encode()])
    for day in LATE:
        assert Pipeline(settings).ingest("flightops", "flights", day).state == "published"
    pipeline = Pipeline(settings)
    assert pipeline.stale_keys("flights", NEXT) == LATE, "the next run of Airflow refines them, too"
    assert pipeline.stale_keys("weather", NEXT) == []
    (refined,) = interval_states(pipeline, [STAGES[1]], start=FIRST, end=END)
    assert refined.keys("stale") == LATE
    plan = plan_backfill(pipeline, Wish(("flights",), FIRST, END, mode="stale"))
    assert plan.ingest == ()
    assert [(each.table, list(each.keys)) for each in plan.refine] == [("refined.flights", LATE)]
    summary = run_local(pipeline, plan, lambda *_: None)
    assert summary["release"] == "r000003"
    assert changed(settings) == {"flights": LATE}
    for table in interval_states(Pipeline(settings), STAGES, start=FIRST, end=END):
        assert table.count()["published"] == 6
