"""A table whose rows move, vanish, come late or change: its source, what runs over it, and what the lake then holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lake.batches import Receipt
from penstock import ledger
from penstock.run import RunReport, run
from penstock.versions import Reconciliation, history_of
from tests.integration.ingestion.conftest import DatabaseSource
from tests.integration.ingestion.shops import Shop

D1, D2, D3, D4 = "2013-01-01", "2013-01-02", "2013-01-03", "2013-01-04"
COLUMNS = "id: int32, at: timestamptz, note: string"
NOON = "'2013-01-0{} 17:00+00'"
RECONCILE = "    deletes: {policy: reconcile, max_share: 0.4}\n"


@dataclass
class Versions:
    """One table of a shop, with the policies that a test declares."""

    database: DatabaseSource
    shop: Shop

    def declare(self, more: str, *, cursor: str | None = "at", on_update: str = "stays") -> None:
        """Write the spec: ``more`` stands before the columns."""
        text = self.database.table(COLUMNS, cursor=cursor).replace("    columns:\n", f"{more}    columns:\n")
        text = text.replace("cursor: {column: at}", f"cursor: {{column: at, on_update: {on_update}}}")
        text = text.replace(
            '{name: at, type: "timestamptz", nullable: true}', '{name: at, type: "timestamptz", nullable: false}'
        )
        self.database.spec_of([text])
        self.shop.declare((self.database.folder / "shop.yml").read_text())

    def make(self, *rows: tuple[int, int, str]) -> None:
        """Make the source's table: id, day of January 2013, note."""
        self.database.run("CREATE TABLE {s}.t (id int primary key, at timestamptz not null, note text)")
        for id_, day, note in rows:
            self.put(id_, day, note)

    def put(self, id_: int, day: int, note: str) -> None:
        """Insert a row or give it a new version."""
        at = NOON.format(day)
        self.database.run(
            f"INSERT INTO {{s}}.t VALUES ({id_}, {at}, '{note}') "
            f"ON CONFLICT (id) DO UPDATE SET at = {at}, note = '{note}'"
        )

    def ingest(self, day: str, *, accept: Sequence[str] = ()) -> Receipt:
        """One day, and what belongs to it."""
        receipt = self.shop.ingest(day, accept_volume=accept)
        self.shop.pipeline().sync_history("shop", "t")
        return receipt

    def run(self, start: str = D1, end: str = D3, *, accept: Sequence[str] = ()) -> RunReport:
        """What ``penstock run`` does, without the demo's own stages."""
        pipeline = self.shop.pipeline(accept_volume=accept)
        pipeline.refined_tables = dict  # type: ignore[method-assign]
        return run(pipeline, start, end, sources=["shop"], build=False)

    def reconcile(self, *, accept: Sequence[str] = ()) -> Reconciliation:
        """Compare keys and mark."""
        return self.shop.pipeline(accept_volume=accept).reconcile_deletes("shop", "t")

    def rows(self) -> list[tuple[Any, ...]]:
        """Day, key, note and whether it is marked."""
        return self.shop.rows("ds::VARCHAR", "id", "note", "source_deleted_at IS NOT NULL")

    def history(self) -> list[tuple[Any, ...]]:
        """Key, note, day from, day to, is deleted."""
        pipeline = self.shop.pipeline()
        spec = pipeline.source("shop")
        kept = history_of(spec, spec.table("t"))
        pipeline.lake.ensure(kept.table, kept.all_columns, partition_by="part")
        with pipeline.lake.connect() as connection:
            return connection.execute(
                "SELECT id, note, strftime(valid_from, '%Y-%m-%d'), strftime(valid_to, '%Y-%m-%d'), is_deleted "
                f"FROM {pipeline.lake.relation(kept.table)} ORDER BY id, valid_from, valid_to"
            ).fetchall()

    def assert_balanced(self) -> None:
        """Every account adds up, in the ledger too."""
        pipeline = self.shop.pipeline()
        pipeline.refined_tables = dict  # type: ignore[method-assign]
        assert ledger.problems(ledger.entries(pipeline)) == []
        rows = sum(file.rows for file in pipeline.lake.live(self.shop.raw))
        assert sum(receipt.published for receipt in pipeline.lake.receipts(self.shop.raw)) == rows
