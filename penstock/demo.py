"""The demo and the laptop set-up: real services, real data, a real Airflow, from nothing.

``run_demo`` is what a newcomer sees first: it starts PostgreSQL, S3 and Airflow under the state folder, has Airflow
fill January 2013 and build once, prints the account, and stops everything it started. ``bring_up`` starts the same and
leaves it running; ``bring_down`` stops it from another process.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from common.intervals import parse_day
from penstock import connect, show

if TYPE_CHECKING:
    from common.settings import Settings
    from penstock.embedded import EmbeddedServices
    from penstock.scheduler import Scheduler

FIRST_DAY = "2013-01-01"

QUERIES = (
    (
        "Routes with the most flights",
        "select origin_code, destination_code, sum(flights) as flights, "
        "round(100.0 * sum(flights_cancelled) / sum(flights), 1) as cancelled_pct "
        "from mart_daily_route_performance group by all order by flights desc, origin_code, destination_code limit 5",
    ),
    (
        "Carriers by mean departure delay",
        "select c.carrier_name, count(*) as flights, round(avg(f.departure_delay_min), 1) as mean_delay_min "
        "from fct_flights f join dim_carriers c using (carrier_code) where not f.is_cancelled "
        "group by all order by mean_delay_min desc limit 5",
    ),
    (
        "Visibility and delay at Newark",
        "select weather_band, flights, flights_cancelled, avg_departure_delay_min, cancelled_pct "
        "from mart_weather_delay where origin_code = 'EWR' and weather_factor = 'visibility_mi' order by band_rank",
    ),
)


def start_services(settings: Settings, *, seed: bool) -> EmbeddedServices:
    """Start the embedded services and fill them with the demo data; both are quick if it was done before."""
    from penstock.demo_data import seed as fill
    from penstock.embedded import EmbeddedServices

    with _step("Starting PostgreSQL and S3"):
        services = EmbeddedServices.start(settings.home)
    if seed:
        with _step("Seeding New York flights 2013"):
            report = fill(services)
        show.say(f"  {', '.join(f'{n:,} {table}' for table, n in report.rows.items())} rows in the sources")
    return services


def bring_up(settings: Settings) -> None:
    """Start services and Airflow and leave them running."""
    from penstock.scheduler import Scheduler

    start_services(settings, seed=True)
    scheduler = Scheduler(settings.home, triggers="ingest_on_events" in expected_dags(settings))
    with _step("Starting Airflow"):
        scheduler.start()
    with _step("Waiting for the DAGs"):
        scheduler.api.wait_for_dags(expected_dags(settings))
    show.say(f"Airflow: {scheduler.url}   user admin, password in {scheduler.folder / 'passwords.json'}")
    show.say("DAGs are paused until you start them. Stop everything with: penstock down")


def bring_down(settings: Settings) -> None:
    """Stop Airflow and the services of this state folder, whoever started them."""
    from penstock import embedded
    from penstock.scheduler import Scheduler

    with _step("Stopping Airflow"):
        Scheduler(settings.home).stop()
    with _step("Stopping PostgreSQL and S3"):
        embedded.stop(settings.home)


def remove_all(settings: Settings) -> None:
    """Stop everything and delete the state folder, and data of the services that had to be kept elsewhere."""
    from penstock import embedded

    bring_down(settings)
    embedded.remove(settings.home)
    shutil.rmtree(settings.home, ignore_errors=True)


def expected_dags(settings: Settings) -> list[str]:
    """The DAGs there are: one to ingest each source, the build, backfills, and one for events if specs have any."""
    from ingestion.spec import load_sources

    specs = load_sources(settings.sources)
    events = ["ingest_on_events"] * any(table.events for spec in specs.values() for table in spec.tables)
    return [f"ingest_{source}" for source in specs] + ["build_warehouse", "backfill", "watch_incidents", *events]


def run_demo(settings: Settings, *, days: int) -> int:
    """The whole demo. Returns the exit code: 0, or 1 if a run failed or an account does not add up.

    Side effects: everything under the state folder; nothing keeps running.
    """
    from penstock.scheduler import Scheduler

    began = time.monotonic()
    end = parse_day(FIRST_DAY).replace(day=days).toordinal() + 1
    last = parse_day(FIRST_DAY).fromordinal(end).isoformat()
    scheduler = Scheduler(settings.home)
    try:
        start_services(settings, seed=True)
        with _step("Starting Airflow"):
            scheduler.start()
        failed = _backfill(settings, scheduler, FIRST_DAY, last)
        problems = _show_result(settings)
    finally:
        bring_down(settings)
    show.say(f"Done in {time.monotonic() - began:.0f} s. The release stays. Ask it yourself:")
    show.say('  .venv/bin/penstock query "select * from mart_daily_route_performance limit 5"')
    show.say("  .venv/bin/penstock status | ledger | releases | quarantine list      make up: keep it all running")
    return 1 if problems or failed else 0


def _backfill(settings: Settings, scheduler: Scheduler, start: str, end: str) -> int:
    """Have Airflow fill the days of every source; the exit code."""
    from ingestion.spec import load_sources
    from penstock.backfill_plan import Wish
    from penstock.backfill_run import run_backfill

    with _step("Waiting for the DAGs"):
        scheduler.api.wait_for_dags(expected_dags(settings))
    wish = Wish(tuple(load_sources(settings.sources)), start, end, parallel=4)
    return run_backfill(settings, wish, dry_run=False, local=False, unpause=True, as_json=False)


def _show_result(settings: Settings) -> list[str]:
    from penstock import ledger
    from penstock.pipeline import Pipeline
    from penstock.quality_pages import write_pages
    from penstock.records import record
    from penstock.show_quarantine import show_counts
    from penstock.status import noticed, quarantine_counts
    from warehouse.releases import Releases

    pipeline = Pipeline(settings)
    record(pipeline)
    entries = ledger.entries(pipeline)
    problems = ledger.problems(entries)
    show.show_ledger(entries, ledger.totals(entries), [], problems, as_json=False)
    columns = ("table", "rule", "severity", "rows", "rows_pct", "intervals", "why")
    show.print_table("What the gates noticed", noticed(pipeline), columns)
    show_counts(quarantine_counts(pipeline), as_json=False)
    show.show_releases(Releases(settings.warehouse).all()[-3:], as_json=False)
    show.say(f"Quality pages: {write_pages(pipeline)}")
    for title, sql in QUERIES:
        show.say(f'\n{title}:\n  penstock query "{sql}"')
        with connect(settings=settings) as connection:
            show.show_query(connection, sql, limit=10, as_json=False)
    return problems


@contextmanager
def _step(title: str) -> Iterator[None]:
    out, began = Console(stderr=False, highlight=False), time.monotonic()
    out.print(f"{title} ...", end=" ")
    yield
    out.print(f"{time.monotonic() - began:.1f} s")
