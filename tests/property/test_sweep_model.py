"""The lake's model with sweeps and expiry between its steps: every live row, receipt and quarantined row stays.

All rules of ``test_lake_model.py`` - publish, be refused, die at a commit, be overtaken, share a commit - and besides
them rows of quarantine are discarded by a rework, snapshots expire, and sweeps run without a grace and with one. What a
sweep may take is worked out here by other means: from Iceberg's own metadata, read file by file.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from lake import rework as reworks
from lake.expiry import expire_snapshots
from lake.lake import Lake
from lake.paths import attempt_of
from lake.quarantine import quarantined
from lake.rework import Repair, Rework, publish_rework
from lake.sweep import sweep
from tests.integration.lake.lakes import TABLE
from tests.property.test_lake_model import Died, LakeModel

DAY = timedelta(days=1)
TABLES = (TABLE, TABLE.quarantine)


def named(lake: Lake) -> tuple[set[str], set[str]]:
    """Every file that retained snapshots name, and the attempts whose receipts belong to them."""
    files: set[str] = set()
    attempts: set[str] = set()
    for table in TABLES:
        if not lake.exists(table):
            continue
        loaded = lake.load(table)
        files |= {loaded.metadata_location, *(entry.metadata_file for entry in loaded.metadata.metadata_log)}
        for snapshot in loaded.snapshots():
            files.add(snapshot.manifest_list)
            for manifest in snapshot.manifests(loaded.io):
                files.add(manifest.manifest_path)
                for entry in manifest.fetch_manifest_entry(loaded.io, discard_deleted=True):
                    files.add(entry.data_file.file_path)
                    if table == TABLE:
                        attempts.add(attempt_of(entry.data_file.file_path) or "")
    return files, attempts


class SweptLakeModel(LakeModel):
    """The same lake, swept."""

    def stored(self) -> set[str]:
        """Every file in the lake's folder, but the sweep's own."""
        found = self.bench.lake.storage.list_files(f"file://{self.home}/lake")
        return {path for path in found if "/ops/maintenance/" not in path}

    @rule(keep=st.integers(1, 3))
    def expire(self, keep: int) -> None:
        """Old snapshots go."""
        lake = self.bench.open()
        for table in TABLES:
            expire_snapshots(lake, table, keep=keep)

    @precondition(lambda self: any(early or min(rows, default=0) < 0 for rows, early in self.live.values()))
    @rule(data=st.data(), die=st.booleans())
    def discard_rows(self, data: st.DataObject, die: bool) -> None:
        """Somebody discards a partition's rejected rows: the partition is written anew; or the process dies."""
        key = data.draw(
            st.sampled_from(sorted(k for k, (rows, early) in self.live.items() if early or min(rows, default=0) < 0))
        )
        lake = self.bench.open()
        base = lake.receipt(TABLE, key)
        assert base is not None
        waiting = quarantined(lake, TABLE, key)
        repairs = tuple(Repair(row["row_id"], "discard", row["rules"]) for row in waiting.to_pylist())
        now, position = pa.array([datetime.now(UTC)] * waiting.num_rows), waiting.schema.get_field_index("discarded_at")
        staying = waiting.set_column(position, "discarded_at", now.cast(waiting.schema.field(position).type))
        staged = self.bench.stage(self.bench.rows(key, lake), key, lake=lake)
        work = Rework(
            TABLE,
            base,
            frozenset(file.location for file in lake.live(TABLE, key)),
            staged.attempt,
            staged.files,
            staged.rows_staged,
            staying,
            {},
            repairs,
            "ada",
            "not needed",
        )
        with pytest.MonkeyPatch.context() as patch:
            if die:

                def died(_point: str) -> None:
                    raise Died

                patch.setattr(reworks, "reach", died)
                with pytest.raises(Died):
                    publish_rework(lake, work, run_id="run")
            else:
                publish_rework(lake, work, run_id="run")

    @rule()
    def sweep_without_grace(self) -> None:
        """What nothing names is gone at once, and nothing else."""
        lake = self.bench.open()
        before = self.stored()
        files, attempts = named(lake)
        history = {path for path in before if re.search("/ops/(refusals/|repairs/|format.json$)", path)}
        receipts = {path for path in before if "/ops/receipts/" in path and path[-37:-5] in attempts}
        assert sweep(lake, grace=timedelta(0)).held_back == {}
        assert self.stored() == (before & files) | history | receipts
        assert files <= before
        assert set(lake.live_attempts(TABLE).values()) <= attempts

    @rule(hours=st.integers(0, 60))
    def sweep_later(self, hours: int) -> None:
        """A sweep with the clock some hours ahead: nothing that is named goes, whatever was noted before."""
        lake = self.bench.open()
        moment = datetime.now(UTC) + timedelta(hours=hours)
        sweep(lake, grace=DAY, now=lambda: moment)
        assert named(lake)[0] <= self.stored()


def test_sweeps_take_every_orphan_and_nothing_else_whatever_happened_before() -> None:
    run_state_machine_as_test(
        SweptLakeModel,
        settings=settings(
            max_examples=6,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
            print_blob=True,
        ),
    )
