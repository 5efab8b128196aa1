"""A whole pipeline over one table of the test's own: spec, suite and lake in folders that the test owns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.settings import Settings
from lake.batches import Receipt
from lake.paths import TableId
from lake.quarantine import quarantined
from penstock.pipeline import Pipeline
from tests.integration.ingestion.conftest import BucketSource, DatabaseSource

DAY = "2013-01-01"
SUITE = """\
suite: raw/{table}
expectations:
  - id: {column}_is_given
    expect: expect_column_values_to_not_be_null
    kwargs: {{column: {column}}}
    severity: critical
    why: The key.
"""


@dataclass
class Shop:
    """One source named ``shop``, and pipelines over it."""

    folder: Path
    url: str
    table: str

    @property
    def raw(self) -> TableId:
        """Its raw table."""
        return TableId("raw", f"shop__{self.table}")

    @property
    def home(self) -> Path:
        """The state folder."""
        return self.folder / "state"

    def declare(self, text: str) -> None:
        """Write the spec."""
        (self.folder / "sources").mkdir(exist_ok=True)
        (self.folder / "sources" / "shop.yml").write_text(text)
        key = re.search(r"primary_key: \[(\w+)", text)
        suites = self.folder / "suites" / "raw"
        suites.mkdir(parents=True, exist_ok=True)
        assert key is not None
        (suites / f"{self.raw.name}.yml").write_text(SUITE.format(table=self.raw.name, column=key[1]))

    def pipeline(self, *, accept_volume: Sequence[str] = ()) -> Pipeline:
        """What a new process would have."""
        return Pipeline(
            Settings.load(
                {},
                home=self.home,
                sources=self.folder / "sources",
                suites=self.folder / "suites",
                connections={"shop": self.url},
            ),
            clock=lambda: datetime(2026, 1, 2, tzinfo=UTC),
            accept_volume=accept_volume,
        )

    def ingest(self, day: str = DAY, *, accept_volume: Sequence[str] = ()) -> Receipt:
        """One day, in a pipeline of its own."""
        return self.pipeline(accept_volume=accept_volume).ingest("shop", self.table, day)

    def rows(self, *names: str) -> list[tuple[Any, ...]]:
        """Live rows, by the declared columns."""
        pipeline = self.pipeline()
        pipeline.declare_raw()
        with pipeline.lake.connect() as connection:
            wanted = ", ".join(names)
            return connection.execute(
                f"SELECT {wanted} FROM {pipeline.lake.relation(self.raw)} ORDER BY ALL"
            ).fetchall()

    def quarantined(self) -> list[tuple[str, str]]:
        """Rules and reason of each row in quarantine."""
        found = quarantined(self.pipeline().lake, self.raw).to_pylist()
        return sorted((row["rules"], row["reason"]) for row in found)


def database_shop(database: DatabaseSource) -> Shop:
    """A shop whose table ``t`` lies in a schema of the real database."""
    return Shop(database.folder, database.url, "t")


def bucket_shop(bucket: BucketSource) -> Shop:
    """A shop whose table ``orders`` is objects of the real bucket."""
    return Shop(bucket.folder, bucket.url, "orders")
