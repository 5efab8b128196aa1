"""The real system that the oracle is compared with: one table from PostgreSQL to a release, every stage the real one.

::

    PostgreSQL table t ─▶ raw.shop__t (+ quarantine, history) ─▶ refined.orders (+ quarantine) ─▶ release: fct_orders

Every row carries ``id`` (its key) and ``seq`` (drawn once from one counter, so it names one version of one row for
ever): a row that was lost, doubled or invented is counted, not inferred. Amounts are text at the source: what is no
number cannot be typed, a negative one breaks a rule of the raw gate, one above 900 a rule of the refined gate.

The one part that is not Penstock's own is the model: one SQL statement in place of the dbt project, which costs four
seconds a build and knows of flights only. Everything around it - lease, pins, candidate, seal, publish, retention - is.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import psycopg  # noqa: TID251 - the tests own the source's table
import pytest

from common.fault_points import reach
from common.settings import Settings
from lake.lake import PinnedTable
from lake.paths import TableId
from lake.quarantine import Chosen, quarantined
from lake.schema import Column
from lake.sql import parquet_relation
from penstock import build as builds
from penstock import facts, ledger
from penstock.doctor import examine
from penstock.embedded import EmbeddedServices
from penstock.maintenance import sweep_lake
from penstock.pipeline import Pipeline
from penstock.repair_rows import Texts
from penstock.replay import discard, replay
from penstock.versions import history_of
from transformations import refine
from transformations.refine.model import RefinedTable
from warehouse.inspect import describe_tables
from warehouse.releases import Candidate, Releases

DAYS = ("2013-01-01", "2013-01-02", "2013-01-03")
RAW, REFINED = TableId("raw", "shop__t"), TableId("refined", "orders")
FACT = "fct_orders"
LARGEST = 900
"""Amounts above this break a rule of the refined suite."""

KEPT = 3
"""Releases that are kept."""

Row = tuple[str, int, int, int | None, bool]
"""Day, id, seq, amount, whether it is marked as gone from the source."""

_SPEC = """\
source: shop
kind: postgresql
connection: shop
owner: me@example.org
time_zone: UTC
start_date: 2013-01-01
end_date: 2013-01-01
tables:
  - name: t
    mode: incremental
    schema: {schema}
    primary_key: [id]
    cursor: {{column: at, on_update: {on_update}}}
    version_column: seq
    volume: {{min_share: 0}}
    deletes: {{policy: {deletes}{share}}}
    history: {history}
    on_drift: {{added: evolve, narrowed: quarantine}}
    columns:
      - {{name: id, type: int32, nullable: false}}
      - {{name: at, type: timestamptz, nullable: false}}
      - {{name: seq, type: int64, nullable: false}}
      - {{name: amount, type: int32}}
"""
_SUITE = """\
suite: {table}
budget: {{max_rejected_share: 1.0}}
anomaly: {{warn: none, refuse: none}}
expectations:
  - id: amount_is_plausible
    expect: expect_column_values_to_be_between
    kwargs: {{column: amount, {bound}}}
    severity: critical
    why: Nobody pays that.
"""
_COLUMNS = (
    Column("ds", "date", nullable=False, description="Day."),
    Column("id", "int32", nullable=False, description="Key."),
    Column("seq", "int64", nullable=False, description="Version."),
    Column("amount", "int32", description="Amount."),
    Column("is_gone", "bool", nullable=False, description="Whether it is marked as gone from the source."),
)


def refine_orders(orders: Any) -> Any:
    """Every raw row, with its mark as a flag."""
    import polars as pl

    gone = (
        pl.col("source_deleted_at").is_not_null() if "source_deleted_at" in orders.collect_schema() else pl.lit(False)
    )
    return orders.select("ds", "id", "seq", "amount", gone.alias("is_gone"))


ORDERS = RefinedTable(
    name="orders",
    columns=_COLUMNS,
    partitioned=True,
    primary_key=("id",),
    inputs={"orders": str(RAW)},
    function=refine_orders,
)


def _model(
    pipeline: Pipeline,
    candidate: Candidate,
    pins: Mapping[str, PinnedTable],
    changed: Mapping[str, list[str] | None],
    *,
    anew: bool,
    before: Mapping[str, Any],
) -> dict[str, Any]:
    """Stands for :func:`penstock.build._fill`: the models are one SQL statement, run for the changed days."""
    del before
    reach("warehouse.build.before_models")
    columns, field_ids = pipeline.lake.columns(REFINED)
    pin = pins["orders"]
    with duckdb.connect(str(candidate.database)) as connection:
        nothing = parquet_relation([], columns, field_ids)
        connection.execute(f"CREATE TABLE IF NOT EXISTS {FACT} AS SELECT * FROM {nothing}")
        for key in sorted(pin.attempts) if anew else changed["orders"] or ():
            relation = parquet_relation(list(pin.paths.get(key, ())), columns, field_ids)
            connection.execute(f"DELETE FROM {FACT} WHERE ds = '{key}'")
            connection.execute(f"INSERT INTO {FACT} SELECT * FROM {relation}")
    reach("warehouse.build.after_models")
    history = builds.copy_history(pipeline, candidate.database)
    tables = describe_tables(candidate.database, {FACT: "ds"})
    builds._check_accounts(pipeline, pins, tables)
    return {
        "built_at": pipeline.clock().isoformat(),
        "run_id": pipeline.run_id,
        "inputs": {"orders": {"snapshot_id": pin.snapshot_id, "attempts": dict(pin.attempts)}},
        "changed_keys": dict(changed),
        "full_refresh": anew,
        "tables": tables,
        "verdicts": {},
        "history": history,
    }


def install(patch: pytest.MonkeyPatch) -> None:
    """Let Penstock know this one refined table and its fact, as it knows the demo's."""
    patch.setattr(refine, "REFINED", {"orders": ORDERS})
    for name in list(facts.FACTS):
        patch.delitem(facts.FACTS, name)
    patch.setitem(facts.FACTS, "orders", (FACT, "ds"))
    patch.setattr(builds, "_fill", _model)


@dataclass(frozen=True)
class Policy:
    """What the spec says of rows that change: whether they move to another day, and whether vanished ones stay."""

    name: str
    moves: bool
    marks: bool


PLAIN, MARKS, MOVES = Policy("plain", False, False), Policy("marks", False, True), Policy("moves", True, True)
POLICIES = {policy.name: policy for policy in (PLAIN, MARKS, MOVES)}


@dataclass
class World:
    """One source table, one state folder, and what people and schedulers do with them.

    Attributes:
        folder: holds specs, suites and the state folder.
        schema: the source's own schema.
        url: of the role that reads it.
        admin: a connection of its owner.
        policy: the table's policies.
    """

    folder: Path
    schema: str
    url: str
    admin: psycopg.Connection[Any] = field(repr=False)
    policy: Policy = PLAIN

    @property
    def home(self) -> Path:
        """The state folder."""
        return self.folder / "state"

    def begin(self, policy: Policy) -> None:
        """An empty source table, an empty state folder, and the specs for a policy."""
        self.policy = policy
        shutil.rmtree(self.home, ignore_errors=True)
        for name in ("sources", "suites/raw", "suites/refined"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        text = _SPEC.format(
            schema=self.schema,
            on_update="moves" if policy.moves else "stays",
            deletes="reconcile" if policy.marks else "ignore",
            share=", max_share: 1.0" if policy.marks else "",
            history=str(policy.marks).lower(),
        )
        (self.folder / "sources" / "shop.yml").write_text(text)
        for table, bound in ((RAW, "min_value: 0"), (REFINED, f"max_value: {LARGEST}")):
            path = self.folder / "suites" / table.namespace / f"{table.name}.yml"
            path.write_text(_SUITE.format(table=f"{table.namespace}/{table.name}", bound=bound))
        self.sql("DROP TABLE IF EXISTS {s}.t")
        self.sql("CREATE TABLE {s}.t (id int primary key, at timestamptz not null, seq bigint not null, amount int)")
        self.sql("GRANT SELECT ON ALL TABLES IN SCHEMA {s} TO PUBLIC")

    def sql(self, statement: str) -> None:
        """Run a statement in the source; ``{s}`` is the schema."""
        self.admin.execute(statement.replace("{s}", self.schema))

    def put(self, id_: int, day: str, seq: int, amount: int | None) -> None:
        """Insert a row or give it a new version."""
        value = "NULL" if amount is None else str(amount)
        self.sql(
            f"INSERT INTO {{s}}.t (id, at, seq, amount) VALUES ({id_}, '{day} 12:00+00', {seq}, {value}) "
            f"ON CONFLICT (id) DO UPDATE SET at = excluded.at, seq = excluded.seq, amount = excluded.amount"
        )

    def pipeline(self) -> Pipeline:
        """What a new process would have."""
        settings = Settings.load(
            {},
            home=self.home,
            sources=self.folder / "sources",
            suites=self.folder / "suites",
            connections={"shop": self.url},
            threads=1,
            keep_releases=KEPT,
        )
        return Pipeline(settings)

    # -- what is there -------------------------------------------------------------------------------------------------

    def rows(self, pipeline: Pipeline, table: TableId) -> list[Row]:
        """Live rows of the raw or the refined table, in order."""
        if not pipeline.lake.exists(table):
            return []
        declare(pipeline)
        names = {column.name for column in pipeline.lake.columns(table)[0]}
        gone = "is_gone" if "is_gone" in names else "false"
        gone = "source_deleted_at IS NOT NULL" if "source_deleted_at" in names else gone
        with pipeline.lake.connect() as connection:
            query = f"SELECT ds::VARCHAR, id, seq, amount, {gone} FROM {pipeline.lake.relation(table)} ORDER BY ALL"
            return connection.execute(query).fetchall()

    def waiting(self, pipeline: Pipeline, table: TableId) -> list[tuple[str, int, int, bool]]:
        """Rows in quarantine: day, id, seq, whether it was discarded."""
        found = []
        for row in quarantined(pipeline.lake, table).to_pylist():
            told = json.loads(row["row"])
            found.append((row["partition_key"], int(told["id"]), int(told["seq"]), row["discarded_at"] is not None))
        return sorted(found)

    def history(self, pipeline: Pipeline) -> list[tuple[int, int, bool, bool]]:
        """Versions: id, seq, whether it has ended, whether it ended by deletion."""
        spec = pipeline.source("shop")
        kept = history_of(spec, spec.table("t"))
        if not pipeline.lake.exists(kept.table):
            return []
        pipeline.lake.ensure(kept.table, kept.all_columns, partition_by="part")
        with pipeline.lake.connect() as connection:
            relation = pipeline.lake.relation(kept.table)
            query = f"SELECT id, seq, valid_to IS NOT NULL, is_deleted FROM {relation} ORDER BY ALL"
            return connection.execute(query).fetchall()

    def release(self, pipeline: Pipeline, wanted: str | None = None) -> list[Row]:
        """Rows of a release, as a reader that connects now gets them."""
        with Releases(pipeline.settings.warehouse).connect(wanted) as connection:
            return read_fact(connection)

    def seen(self) -> dict[str, Any]:
        """Everything that a person who has just come can see: rows, quarantine, history and releases."""
        pipeline = self.pipeline()
        found: dict[str, Any] = {}
        for stage, table in (("raw", RAW), ("refined", REFINED)):
            found[stage] = self.rows(pipeline, table)
            found[f"{stage} held"] = self.waiting(pipeline, table)
            found[f"{stage} days"] = sorted(pipeline.lake.live_attempts(table))
        found["history"] = self.history(pipeline)
        releases = Releases(pipeline.settings.warehouse).all()
        found["releases"] = [self.release(pipeline, release.id) for release in releases]
        found["pointer"] = next((n for n, release in enumerate(releases) if release.current), None)
        return found

    def problems(self, *, swept: bool = False) -> list[str]:
        """What contradicts itself: accounts, what the doctor finds damaged, and, once ``swept``, what is left over."""
        pipeline = self.pipeline()
        told = [each for each in examine(pipeline) if each.kind != "hole"]  # an interval that nobody has loaded
        found = [f"{each.kind} {each.where} {each.meaning}" for each in told if swept or each.severity == "damage"]
        declare(pipeline)
        return [*found, *ledger.problems(ledger.entries(pipeline)), *ledger.stored(pipeline)]

    # -- what is done --------------------------------------------------------------------------------------------------

    def repair(self, pipeline: Pipeline, table: TableId, decisions: Mapping[tuple[str, int, int], int | None]) -> None:
        """Replay waiting rows, named by day, id and seq, with a new amount; those with None are discarded."""
        ids = {
            (row["partition_key"], int(told["id"]), int(told["seq"])): row["row_id"]
            for row in quarantined(pipeline.lake, table, chosen=Chosen()).to_pylist()
            for told in [json.loads(row["row"])]
        }
        decisions = {name: amount for name, amount in decisions.items() if name in ids}
        repaired: dict[str, Texts] = {
            ids[key]: {"amount": str(amount)} for key, amount in decisions.items() if amount is not None
        }
        doomed = [ids[key] for key, amount in decisions.items() if amount is None]
        if repaired:
            replay(pipeline, table, Chosen(), repaired=repaired, by="ada", reason="typed wrong")
        if doomed:
            discard(pipeline, table, Chosen(ids=doomed), by="ada", reason="a test order")

    def sweep(self, pipeline: Pipeline) -> None:
        """Delete everything that nothing names, at once: only while nobody else works."""
        outcome = sweep_lake(pipeline, grace_h=0)
        assert outcome.held_back == {}


def declare(pipeline: Pipeline) -> None:
    """Tell the lake the columns of both tables."""
    pipeline.declare_raw()
    pipeline.lake.ensure(REFINED, _COLUMNS, partition_by="ds")


def read_fact(connection: duckdb.DuckDBPyConnection) -> list[Row]:
    """All rows of the fact, in order."""
    return connection.execute(f"SELECT ds::VARCHAR, id, seq, amount, is_gone FROM {FACT} ORDER BY ALL").fetchall()


@contextmanager
def opened_world(services: EmbeddedServices, folder: Path) -> Iterator[World]:
    """A world over services that run, in an empty folder and a schema of its own; the schema is dropped at the end."""
    schema = f"oracle_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(services.postgres_url, autocommit=True) as admin, pytest.MonkeyPatch.context() as patch:
        install(patch)
        admin.execute(f"CREATE SCHEMA {schema}")
        admin.execute(f"GRANT USAGE ON SCHEMA {schema} TO PUBLIC")
        try:
            yield World(folder, schema, services.connections["flightops"], admin)
        finally:
            admin.execute(f"DROP SCHEMA {schema} CASCADE")
