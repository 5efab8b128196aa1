"""A source of five tables that a test may break, somebody who is told, and a clock that stands until it is moved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from common.settings import Settings
from penstock.incident import Incident
from penstock.incidents import incidents_of
from penstock.pipeline import Pipeline
from penstock.run import RunReport, run
from tests.integration.ingestion.conftest import DatabaseSource
from tests.integration.ingestion.shops import SUITE
from tests.receivers import JsonReceiver, json_receiver

DAY, NEXT = "2013-01-01", "2013-01-02"
TABLES = ("customers", "kinds", "shops", "taxes", "orders")
SECRET = "token-that-nobody-may-see"


@pytest.fixture
def receiver() -> Iterator[JsonReceiver]:
    """Somebody who is told."""
    with json_receiver() as running:
        yield running


@dataclass
class World:
    """A source of five tables in the real database, a lake, and a clock that stands until it is moved."""

    database: DatabaseSource
    url: str
    notify: dict[str, Any]
    now: datetime = datetime(2013, 1, 2, 12, tzinfo=UTC)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where everything of it lies."""
        return self.database.folder

    def pipeline(self) -> Pipeline:
        """What a new process would have."""
        settings = Settings.load(
            {},
            home=self.folder / "state",
            sources=self.folder / "sources",
            suites=self.folder / "suites",
            connections={"shop": self.url},
            **self.notify,
            **self.extra,
        )
        return Pipeline(settings, clock=lambda: self.now)

    def run(self, first: str = DAY, end: str = NEXT) -> RunReport:
        """A run of some days, the end exclusive; there is no model to build."""
        return run(self.pipeline(), first, end, build=False)

    def incidents(self) -> list[Incident]:
        """All incidents."""
        return incidents_of(self.pipeline().lake)

    def open(self) -> list[str]:
        """Causes of those that are open."""
        return [each.cause for each in self.incidents() if each.is_open]


@pytest.fixture
def world(database: DatabaseSource, receiver: JsonReceiver) -> World:
    """Five tables, of which orders have days."""
    tables = [database.table("id: int32, note: string", table=name) for name in TABLES[:-1]]
    tables.append(database.table("id: int32, at: timestamptz", table="orders", cursor="at"))
    database.spec_of(tables)
    (database.folder / "sources").mkdir()
    (database.folder / "shop.yml").rename(database.folder / "sources" / "shop.yml")
    suites = database.folder / "suites" / "raw"
    suites.mkdir(parents=True)
    for name in TABLES:
        (suites / f"shop__{name}.yml").write_text(SUITE.format(table=f"shop__{name}", column="id"))
        column = "at timestamptz" if name == "orders" else "note text"
        database.run(f"CREATE TABLE {{s}}.{name} (id int, {column})")
    database.run("INSERT INTO {s}.orders VALUES (1, '2013-01-01 12:00+00'), (2, '2013-01-02 12:00+00')")
    for name in TABLES[:-1]:
        database.run(f"INSERT INTO {{s}}.{name} VALUES (1, 'a')")
    return World(database, database.url, {"notify_urls": receiver.url(SECRET)})


def promise_freshness(world: World) -> None:
    """The newest day of the orders must not be older than 36 hours."""
    spec = world.folder / "sources" / "shop.yml"
    cursor = "    cursor: {column: at}\n"
    text = spec.read_text()
    assert text.count(cursor) == 1
    spec.write_text(text.replace(cursor, f"{cursor}    freshness: {{max_age_s: 129600}}\n"))
