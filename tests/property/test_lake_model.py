"""The lake against a dictionary: whatever is done to it, live rows, receipts and quarantine are those of the model.

Each step is one of: publish a batch (with rejected rows, without, or empty), run the same again, be refused, die right
before or right after a commit, be overtaken by another writer between reading and committing, or let several batches
share a commit. After each step a fresh handle on the lake must answer exactly what the model answers.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from common.errors import GateRefused
from common.settings import Settings
from lake import commit as commits
from lake.batches import StagedBatch
from lake.lake import Lake
from lake.publish import identify, publish
from lake.quarantine import quarantined
from lake.together import Together
from tests.integration.lake.lakes import TABLE, Bench, publish_staged, verdict

KEYS = st.sampled_from(["2013-01-01", "2013-01-02", "2013-01-03"])
BATCHES = st.builds(
    lambda rows, early: (tuple(sorted(rows)), early),
    st.lists(st.integers(-3, 3), max_size=4),
    st.integers(0, 1),
)
"""Rows are numbers, of which the negative ones are rejected by the gate; and how many could not be typed at all."""

Batch = tuple[tuple[int, ...], int]


class Died(Exception):
    """Stands for the end of a process."""


class LakeModel(RuleBasedStateMachine):
    """One table of a local lake, and the dictionary that it must equal."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="penstock-model-"))
        self.bench = Bench(Settings.load({}, home=self.home))
        self.live: dict[str, Batch] = {}
        self.refusals = 0

    def teardown(self) -> None:
        """Remove the lake."""
        shutil.rmtree(self.home, ignore_errors=True)

    def stage(self, key: str, batch: Batch, lake: Lake | None = None) -> StagedBatch:
        """Write a batch where nobody reads it."""
        rows, early = batch
        return self.bench.stage([(number, None) for number in rows], key, early=early, lake=lake)

    def do_publish(
        self,
        key: str,
        batch: Batch,
        lake: Lake | None = None,
        *,
        judged_anew: bool = False,
        together: Together | None = None,
    ) -> str:
        """Publish as a run does, or as one whose first look at the lake was a while ago."""
        lake = lake or self.bench.open()
        staged = self.stage(key, batch, lake)
        rejected = [position for position, number in enumerate(batch[0]) if number < 0]
        if not judged_anew:
            return publish_staged(lake, staged, rejected, together=together).state
        answer = verdict(len(batch[0]), rejected)
        return publish(lake, staged, answer, identity=identify(lake, staged), stage="ingest", run_id="run").state

    @initialize()
    def begin(self) -> None:
        """A lake in which one day has been published."""
        self.publish("2013-01-02", ((1, -2), 1))

    @rule(key=KEYS, batch=BATCHES, judged_anew=st.booleans())
    def publish(self, key: str, batch: Batch, judged_anew: bool = False) -> None:
        """Publish; what is live already changes nothing."""
        expected = "unchanged" if self.live.get(key) == batch else "published"
        assert self.do_publish(key, batch, judged_anew=judged_anew) == expected
        self.live[key] = batch

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def run_again(self, data: st.DataObject) -> None:
        """The same work again."""
        key = data.draw(st.sampled_from(sorted(self.live)))
        before = self.bench.lake.snapshot_id(TABLE)
        assert self.do_publish(key, self.live[key]) == "unchanged"
        assert self.bench.lake.snapshot_id(TABLE) == before

    @rule(key=KEYS, batch=BATCHES)
    def be_refused(self, key: str, batch: Batch) -> None:
        """A batch whose verdict is not PASS."""
        lake = self.bench.open()
        staged = self.stage(key, batch, lake)
        with pytest.raises(GateRefused):
            publish(
                lake,
                staged,
                verdict(len(batch[0]), passed=False),
                identity=identify(lake, staged),
                stage="ingest",
                run_id="run",
            )
        self.refusals += 1
        assert len(self.bench.refusal_files()) == self.refusals

    @rule(key=KEYS, batch=BATCHES, point=st.sampled_from(["before", "after"]), nth=st.integers(1, 2))
    def die(self, key: str, batch: Batch, point: str, nth: int) -> None:
        """Die at a commit: the first is that of the rejected rows, if there are any, the last that of the data."""
        reached: Counter[str] = Counter()

        def die_there(name: str) -> None:
            reached[name] += 1
            if name == f"lake.publish.{point}_commit" and reached[name] == nth:
                raise Died

        commits_needed = 0 if self.live.get(key) == batch else 1 + bool(batch[1] or any(n < 0 for n in batch[0]))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(commits, "reach", die_there)
            if nth <= commits_needed:
                with pytest.raises(Died):
                    self.do_publish(key, batch)
            else:
                self.do_publish(key, batch)
        if nth > commits_needed or (nth == commits_needed and point == "after"):
            self.live[key] = batch

    @rule(
        batches=st.dictionaries(KEYS, BATCHES, min_size=2),
        point=st.sampled_from(["", "before", "after"]),
        other=st.none() | st.tuples(KEYS, BATCHES),
    )
    def publish_together(self, batches: dict[str, Batch], point: str, other: tuple[str, Batch] | None) -> None:
        """Several batches by one commit, at which the process may die; another writer may come in before it."""
        lake = self.bench.open()
        together = Together(lake)
        for key, batch in batches.items():
            self.do_publish(key, batch, lake, together=together)
        fresh = {key: batch for key, batch in batches.items() if self.live.get(key) != batch}
        if other is not None:
            self.do_publish(*other, self.bench.open())
            self.live[other[0]] = other[1]

        def die_there(name: str) -> None:
            if name == f"lake.publish.{point}_commit":
                raise Died

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(commits, "reach", die_there)
            if point and any(self.live.get(key) != batch for key, batch in fresh.items()):
                with pytest.raises(Died):
                    together.commit()
            else:
                together.commit()
                assert {receipt.key for receipt in together.take()} == fresh.keys()
                point = ""
        if point != "before":
            self.live.update(fresh)

    @rule(key=KEYS, batch=BATCHES, other_key=KEYS, other=BATCHES, nth=st.integers(1, 2))
    def be_overtaken(self, key: str, batch: Batch, other_key: str, other: Batch, nth: int) -> None:
        """Another writer publishes while this one is about to commit."""
        real, calls = commits._commit, []

        def overtaken(*arguments: Any) -> int:
            calls.append(1)
            if len(calls) == nth:
                patch.setattr(commits, "_commit", real)
                self.do_publish(other_key, other, self.bench.open())
                self.live[other_key] = other
            return real(*arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(commits, "_commit", overtaken)
            self.do_publish(key, batch)
        self.live[key] = batch

    @invariant()
    def the_lake_equals_the_model(self) -> None:
        """Live rows, receipts and quarantine, as a process that has just started sees them."""
        lake = self.bench.open()
        good = {key: sorted(n for n in rows if n >= 0) for key, (rows, _) in self.live.items()}
        assert {key: [n for n, _ in self.bench.rows(key, lake)] for key in self.live} == good
        assert [n for n, _ in self.bench.rows(lake=lake)] == sorted(n for rows in good.values() for n in rows)
        receipts = {receipt.key: receipt for receipt in lake.receipts(TABLE)}
        assert {
            key: (receipt.rows_in, receipt.published, receipt.quarantined) for key, receipt in receipts.items()
        } == {
            key: (len(rows) + early, len(good[key]), len(rows) - len(good[key]) + early)
            for key, (rows, early) in self.live.items()
        }
        assert all(receipt.balanced for receipt in receipts.values())
        waiting = Counter(
            (row["partition_key"], json.loads(row["row"])["id"]) for row in quarantined(lake, TABLE).to_pylist()
        )
        expected: Counter[tuple[str, int | str]] = Counter()
        for key, (rows, early) in self.live.items():
            expected.update((key, n) for n in rows if n < 0)
            expected.update((key, f"x{n}") for n in range(early))
        assert waiting == expected


def test_the_lake_equals_a_dictionary_whatever_happens_to_it() -> None:
    run_state_machine_as_test(
        LakeModel,
        settings=settings(
            max_examples=10,
            stateful_step_count=10,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
            print_blob=True,
        ),
    )
