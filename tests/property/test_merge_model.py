"""Rows that move between intervals, against a dictionary: whatever the order of loads, each key stands once, newest.

The source is a dictionary of key to (version, value); a version is an instant, and its day is the row's interval. Loads
read the source as it was at any earlier moment, so runs overtake each other: intervals are loaded in any order, again,
late, from old snapshots, by writers that are overtaken or die at a commit, and rows are rejected on the way. After each
step the lake must hold exactly what a serial merge of everything that was loaded gives, and every account must balance.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from itertools import permutations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from common.settings import Settings
from lake import commit as commits
from lake.batches import MergeRule, Receipt, StagedBatch
from lake.lake import Lake
from lake.paths import TableId, new_attempt
from lake.publish import find_same, identify, publish
from lake.quarantine import quarantined
from lake.schema import Column
from lake.sql import literal
from tests.integration.lake.lakes import NOW, verdict

TABLE = TableId("raw", "shop__accounts")
COLUMNS = (
    Column("ds", "date", False, "Day."),
    Column("id", "int64", False, "Key."),
    Column("version", "int64", False, "Version; its tens are the day."),
    Column("value", "int64", True, "Value; a negative one is rejected."),
)
RULE = MergeRule(keys=("id",), versions=("version",), moves=True)
DAYS = ["2013-01-01", "2013-01-02", "2013-01-03"]
Source = dict[int, tuple[int, int]]
"""Key -> version and value."""


def day_of(version: int) -> str:
    """The interval of a version."""
    return DAYS[version // 10]


def open_lake(home: Path) -> Lake:
    """A handle on the lake, as another process would have it."""
    lake = Lake(Settings.load({}, home=home), clock=lambda: NOW)
    lake.ensure(TABLE, COLUMNS, partition_by="ds")
    return lake


def stage(lake: Lake, key: str, rows: list[tuple[int, int, int]]) -> StagedBatch:
    """Write one interval's rows where nobody reads them."""
    attempt = new_attempt()
    location = lake.staging_location(TABLE, key, attempt)
    ids, versions, values = ([row[n] for row in rows] for n in range(3))
    frame = pa.table(
        {name: pa.array(found, pa.int64()) for name, found in (("id", ids), ("version", versions), ("value", values))}
    )
    with lake.connect() as connection:
        connection.register("frame", frame)
        lake.write(connection, f"SELECT DATE {literal(key)} AS ds, * FROM frame", TABLE, location)
    return StagedBatch(TABLE, key, attempt, (location,), len(rows), len(rows), "code", merge=RULE)


def load(lake: Lake, source: Source, key: str) -> Receipt:
    """What a run does with one interval of the source."""
    rows = [(id_, version, value) for id_, (version, value) in sorted(source.items()) if day_of(version) == key]
    staged = stage(lake, key, rows)
    identity = identify(lake, staged)
    same = find_same(lake, staged, identity)
    if same is not None:
        return same
    rejected = [number for number, (_, _, value) in enumerate(rows) if value < 0]
    return publish(lake, staged, verdict(len(rows), rejected), identity=identity, stage="ingest", run_id="run")


def contents(lake: Lake) -> list[tuple[str, int, int, int]]:
    """Live rows: day, key, version, value."""
    with lake.connect() as connection:
        query = f"SELECT ds::VARCHAR, id, version, value FROM {lake.relation(TABLE)} ORDER BY ALL"
        return connection.execute(query).fetchall()


def expected(loaded: dict[int, tuple[int, int]]) -> list[tuple[str, int, int, int]]:
    """The same of the model."""
    return sorted((day_of(version), id_, version, value) for id_, (version, value) in loaded.items())


def take(model: Source, source: Source, key: str) -> None:
    """The serial model: the newest good version of each key wins."""
    for id_, (version, value) in source.items():
        if day_of(version) == key and value >= 0 and (id_ not in model or version >= model[id_][0]):
            model[id_] = (version, value)


class Died(Exception):
    """Stands for the end of a process."""


class MergeModel(RuleBasedStateMachine):
    """One table of a local lake, a source that changes, and the dictionary that the lake must equal."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="penstock-merge-"))
        open_lake(self.home)
        self.history: list[Source] = [{}]
        self.model: Source = {}
        self.last: dict[str, Source] = {}

    def teardown(self) -> None:
        """Remove the lake."""
        shutil.rmtree(self.home, ignore_errors=True)

    @rule(changes=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 9), st.integers(-1, 2)), min_size=1, max_size=4))
    def change_the_source(self, changes: list[tuple[int, int, int]]) -> None:
        """Rows appear, or get a larger version: in the same interval or in a later one."""
        source = dict(self.history[-1])
        for id_, step, value in changes:
            version = source[id_][0] + step + 1 if id_ in source else step * 3
            if version < 30:
                source[id_] = (version, value)
        self.history.append(source)

    @rule(key=st.sampled_from(DAYS), age=st.integers(0, 3))
    def load(self, key: str, age: int) -> None:
        """Load an interval as the source was some changes ago."""
        source = self.history[max(0, len(self.history) - 1 - age)]
        load(open_lake(self.home), source, key)
        take(self.model, source, key)
        self.last[key] = source

    @rule(data=st.data())
    def load_again(self, data: st.DataObject) -> None:
        """The same work again changes nothing."""
        if self.last:
            key = data.draw(st.sampled_from(sorted(self.last)))
            lake = open_lake(self.home)
            before = lake.snapshot_id(TABLE)
            assert load(lake, self.last[key], key).state == "unchanged"
            assert open_lake(self.home).snapshot_id(TABLE) == before

    @rule(key=st.sampled_from(DAYS), point=st.sampled_from(["before", "after"]))
    def die(self, key: str, point: str) -> None:
        """Die right before or right after the commit of the data."""
        source = self.history[-1]

        def die_there(name: str) -> None:
            if name == f"lake.publish.{point}_commit" and "merge" in seen:
                raise Died
            seen.append(name.split(".")[1])

        seen: list[str] = []
        before = contents(open_lake(self.home))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(commits, "reach", die_there)
            patch.setattr("lake.merge.reach", die_there)
            try:
                load(open_lake(self.home), source, key)
            except Died:
                if point == "before":
                    assert contents(open_lake(self.home)) == before
                    return
        take(self.model, source, key)
        self.last[key] = source

    @rule(key=st.sampled_from(DAYS), other=st.sampled_from(DAYS), age=st.integers(0, 2))
    def be_overtaken(self, key: str, other: str, age: int) -> None:
        """Another writer publishes an interval of its own snapshot while this one is about to commit."""
        mine, theirs = self.history[max(0, len(self.history) - 1 - age)], self.history[-1]
        real = commits._commit
        overtaken: list[int] = []

        def overtake(*arguments: Any) -> int:
            if not overtaken and arguments[1].summary.get("penstock.partitions_rewritten") is not None:
                overtaken.append(1)
                patch.setattr(commits, "_commit", real)
                load(open_lake(self.home), theirs, other)
                take(self.model, theirs, other)
                self.last[other] = theirs
            return real(*arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(commits, "_commit", overtake)
            load(open_lake(self.home), mine, key)
        take(self.model, mine, key)
        self.last[key] = mine

    @invariant()
    def the_lake_equals_the_model(self) -> None:
        """Live rows are the newest good version of each key that was loaded, and every account balances."""
        lake = open_lake(self.home)
        assert contents(lake) == expected(self.model)
        receipts = lake.receipts(TABLE)
        assert all(receipt.balanced for receipt in receipts)
        rows = Counter(day for day, *_ in contents(lake))
        assert {receipt.key: receipt.published for receipt in receipts} == {r.key: rows[r.key] for r in receipts}
        waiting = Counter(row["partition_key"] for row in quarantined(lake, TABLE).to_pylist())
        assert waiting == Counter({r.key: r.quarantined for r in receipts if r.quarantined})
        assert all(sum(receipt.because.values()) == receipt.deduplicated for receipt in receipts)


def test_merging_by_key_equals_a_dictionary_whatever_happens() -> None:
    run_state_machine_as_test(
        MergeModel,
        settings=settings(
            max_examples=12,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
            print_blob=True,
        ),
    )


LOADS = [
    ({1: (1, 1), 2: (2, 1)}, DAYS[0]),
    ({1: (11, 2), 2: (2, 1)}, DAYS[1]),
    ({1: (21, 3), 2: (12, 2)}, DAYS[2]),
    ({1: (21, 3), 2: (12, 2)}, DAYS[1]),
]
"""A backfill and a scheduled run over three days of a source in which two rows move on, each load with what it saw."""


def test_the_final_state_is_that_of_the_serial_order_in_every_interleaving(tmp_path: Path) -> None:
    """Fault 25: 24 of 24 interleavings of four loads end alike; rows lost and duplicated 0."""
    ends = []
    for number, order in enumerate(permutations(LOADS)):
        home = tmp_path / str(number)
        for source, key in order:
            load(open_lake(home), source, key)
        ends.append(contents(open_lake(home)))
    assert ends == [[(DAYS[1], 2, 12, 2), (DAYS[2], 1, 21, 3)]] * 24


def test_rows_leave_a_file_that_is_too_large_for_a_bitmap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lake.rewrite.BITMAP_ROWS", 0)
    for source, key in LOADS:
        load(open_lake(tmp_path), source, key)
    assert contents(open_lake(tmp_path)) == [(DAYS[1], 2, 12, 2), (DAYS[2], 1, 21, 3)]
