"""Airflow's assets, called as lineage calls the tables: asset graph and ``penstock lineage`` speak of the same things.

::

    postgres://host:5432/flightops.public.flights   a table of a source: inlet of its ingest
    raw.flightops__flights                          announced with the day, when all of the source is published
    refined.flights                                 announced with the day
    warehouse.fct_flights                           announced with a release, and with it warehouse.release

Some assets are no table and so no dataset of lineage: ``warehouse.release``; ``raw.reopened``, which says that a day
changed after it was built; and ``events.<what is watched>``. (Those have the watchers: Airflow takes the watchers of an
asset from whichever DAG file it read last, so an asset with watchers must be in one file only.) A source's name has its
host, so it is known where the settings know the connection.
Models between refined tables and marts are views, and lineage looks through them; so do the assets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from airflow.sdk import Asset, AssetWatcher

from dags.penstock_dags.specs import SourceSchedule

_ROOT: Final = Path(__file__).resolve().parents[2]

NO_DATASETS: Final = ("events.", "raw.reopened", "warehouse.release")
"""What the names of assets that are no tables begin with."""


def raw_asset(source: str, table: str) -> Asset:
    """The asset that says: this table, and all others of its source, are published for the event's partition key."""
    return _own(f"raw.{source}__{table}", "raw")


def raw_assets(source: SourceSchedule) -> list[Asset]:
    """The raw assets of a source's tables, in the spec's order."""
    return [raw_asset(source.name, table) for table in source.outlines]


def reopened_asset() -> Asset:
    """The asset that says: an event changed a raw table for a partition key that was refined before."""
    return _own("raw.reopened", "raw")


def source_asset(source: SourceSchedule, table: str) -> Asset:
    """The asset of a table where it comes from; while its place is unknown it is called ``<source>.<table>``."""
    lineage = source.outlines[table].lineage
    name = f"{lineage[0]}/{lineage[1]}" if lineage else f"{source.name}.{table}"
    return Asset(name=name, uri=f"penstock://source/{quote(name, safe='')}", group="source")


def event_asset(name: str, watcher: AssetWatcher) -> Asset:
    """The asset that says: something came, see the event's payload."""
    return Asset(name=f"events.{name}", uri=f"penstock://events/{name}", group="events", watchers=[watcher])


def release_asset() -> Asset:
    """The asset that says: a new release of the warehouse is current."""
    return _own("warehouse.release", "warehouse")


@cache
def refined_assets() -> tuple[Asset, ...]:
    """The refined tables, each of which has a suite of its own."""
    return _named("refined", _ROOT / "quality" / "suites" / "refined", "*.yml")


@cache
def mart_assets() -> tuple[Asset, ...]:
    """The tables that a release publishes."""
    return _named("warehouse", _ROOT / "transformations" / "dbt" / "models" / "marts", "*.sql")


def tell_receipts(outlet_events: Any, receipts: Iterable[Mapping[str, Any]]) -> None:
    """Give the event of each raw or refined table its receipt, of several the last."""
    for receipt in receipts:
        outlet_events[_own(receipt["table"], receipt["table"].partition(".")[0])].extra = receipt


def tell_release(outlet_events: Any, release: Mapping[str, Any]) -> None:
    """Give the event of a release its account, and that of each table what became of its model: rows and seconds."""
    outlet_events[release_asset()].extra = release
    for model in release["models"]:
        asset = _own(f"warehouse.{model['name']}", "warehouse")
        if asset in mart_assets():  # the others are views
            outlet_events[asset].extra = {**model, "release": release["release"]}


def _named(group: str, folder: Path, pattern: str) -> tuple[Asset, ...]:
    return tuple(_own(f"{group}.{path.stem}", group) for path in sorted(folder.glob(pattern)))


def _own(name: str, group: str) -> Asset:
    return Asset(name=name, uri=f"penstock://{group}/{name}", group=group)
