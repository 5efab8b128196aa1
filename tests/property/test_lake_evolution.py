"""A lake table through random evolutions: what was written under whichever schema reads back exactly, by any engine.

A history is a list of steps: add a column, widen one, stop declaring one, declare it again, publish a day. At its end
each day - written under the schema of its time - must read through the schema of today as it was written, with nulls
for what came later, in DuckDB, Polars and pyarrow; and the table as it was at each earlier snapshot as it was then.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.settings import Settings
from lake.batches import StagedBatch
from lake.evolution import promotable
from lake.lake import Lake
from lake.paths import TableId, new_attempt
from lake.schema import Column, arrow_schema
from lake.sql import literal
from tests.integration.lake.lakes import publish_staged
from transformations.refine import stage as refine_stage

TABLE = TableId("raw", "shop__evolving")
WIDER = {
    "int32": "int64",
    "float32": "float64",
    "decimal(6,2)": "decimal(12,2)",
    "decimal(12,2)": "decimal(38,2)",
}
EXTREMES: dict[str, list[Any]] = {
    "int32": [-(2**31), 2**31 - 1, 0],
    "int64": [-(2**63), 2**63 - 1, 2**31],
    "float32": [1.5, -0.25, 2.0**100],
    "float64": [1.1, 5e-324, 1.7976931348623157e308],
    "decimal(6,2)": [Decimal("9999.99"), Decimal("-0.01")],
    "decimal(12,2)": [Decimal("9999999999.99"), Decimal("0.10")],
    "decimal(38,2)": [Decimal("9" * 36 + ".99"), Decimal("-1.00")],
    "string": ["", "ü\n", "NULL"],
    "date": [date(1, 1, 1), date(9999, 12, 31)],
}
TYPES = ["int32", "float32", "decimal(6,2)", "string", "date"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(TYPES), st.integers(0, 9)),
        st.tuples(st.just("widen"), st.just(""), st.integers(0, 9)),
        st.tuples(st.just("forget"), st.just(""), st.integers(0, 9)),
        st.tuples(st.just("remember"), st.just(""), st.integers(0, 9)),
        st.tuples(st.just("publish"), st.just(""), st.integers(1, 3)),
    ),
    min_size=4,
    max_size=14,
)
"""What is done, a type, and which column or how many rows."""


@dataclass
class History:
    """The lake, and what it must hold."""

    lake: Lake
    types: dict[str, str] = field(default_factory=lambda: {"id": "int32"})
    forgotten: set[str] = field(default_factory=set)
    days: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    snapshots: dict[int, tuple[dict[str, str], dict[str, list[dict[str, Any]]]]] = field(default_factory=dict)

    def declare(self) -> None:
        """The columns as they are now, as a fresh process declares them."""
        self.lake = Lake(self.lake.settings)
        declared = [Column(name, kind) for name, kind in self.types.items() if name not in self.forgotten]
        self.lake.ensure(TABLE, [Column("ds", "date"), *declared], partition_by="ds")

    def step(self, what: str, kind: str, number: int) -> None:
        """One step; one that is not possible now is passed over."""
        names = list(self.types)
        name = names[number % len(names)]
        if what == "add":
            self.types[f"c{len(names)}"] = kind
        elif what == "widen" and self.types[name] in WIDER:
            assert promotable(self.types[name], WIDER[self.types[name]])
            self.types[name] = WIDER[self.types[name]]
            self.forgotten.discard(name)
        elif what == "forget" and name != "id":
            self.forgotten.add(name)
        elif what == "remember":
            self.forgotten.discard(name)
        elif what == "publish":
            self.publish(number)

    def publish(self, count: int) -> None:
        """One more day of rows, with the extremes of each type."""
        self.declare()
        day = f"2013-01-{len(self.days) + 1:02d}"
        given = {name: kind for name, kind in self.types.items() if name not in self.forgotten}
        rows = [
            {name: EXTREMES[kind][n % len(EXTREMES[kind])] for name, kind in given.items()} | {"id": n}
            for n in range(count)
        ]
        frame = pa.Table.from_pylist(rows, schema=arrow_schema([Column(n, k) for n, k in given.items()]))
        attempt = new_attempt()
        location = self.lake.staging_location(TABLE, day, attempt)
        with self.lake.connect() as connection:
            connection.register("frame", frame)
            nulls = self.lake.nulls(TABLE, ["ds", *given])
            self.lake.write(connection, f"SELECT DATE {literal(day)} AS ds, *{nulls} FROM frame", TABLE, location)
        publish_staged(self.lake, StagedBatch(TABLE, day, attempt, (location,), len(rows), len(rows), "code"))
        self.days[day] = rows
        snapshot = self.lake.snapshot_id(TABLE)
        assert snapshot is not None
        self.snapshots[snapshot] = dict(self.types), {key: list(kept) for key, kept in self.days.items()}


def expected(types: dict[str, str], days: dict[str, list[dict[str, Any]]]) -> list[tuple[Any, ...]]:
    """The rows of some days with all columns of a schema."""
    return [(date.fromisoformat(day), *(row.get(name) for name in types)) for day, rows in days.items() for row in rows]


def in_order(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """By day and id."""
    return sorted(rows, key=lambda row: row[:2])


@pytest.mark.filterwarnings("ignore:Iceberg scan planning")
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_every_day_reads_as_it_was_written_after_any_evolution(steps: list[tuple[str, str, int]]) -> None:
    home = Path(tempfile.mkdtemp(prefix="penstock-evolution-"))
    try:
        history = History(Lake(Settings.load({}, home=home)))
        for what, kind, number in [*steps, ("publish", "", 2)]:
            history.step(what, kind, number)
        history.declare()
        lake, types = history.lake, history.types
        names = [c.name for c in lake.columns(TABLE)[0]]
        assert {"ds", *types} >= set(names)  # a column that was forgotten before its first day never came
        stored = {name: kind for name, kind in types.items() if name in names}
        wanted = in_order(expected(stored, history.days))
        columns = ["ds", *stored]
        with lake.connect() as connection:
            chosen = ", ".join(columns)
            assert in_order(connection.execute(f"SELECT {chosen} FROM {lake.relation(TABLE)}").fetchall()) == wanted
        assert in_order(refine_stage._scan(lake, TABLE, lake.paths(TABLE)).select(columns).collect().rows()) == wanted
        table = lake.load(TABLE)
        assert in_order(pl.scan_iceberg(table).select(columns).collect().rows()) == wanted
        found = table.scan().to_arrow().select(columns).to_pylist()
        assert in_order([tuple(row.values()) for row in found]) == wanted
        for snapshot, (then, days) in history.snapshots.items():
            old = table.scan(snapshot_id=snapshot).to_arrow()
            known = {name: kind for name, kind in then.items() if name in old.column_names}
            rows = [tuple(row.values()) for row in old.select(["ds", *known]).to_pylist()]
            assert in_order(rows) == in_order(expected(known, days))
    finally:
        shutil.rmtree(home, ignore_errors=True)
