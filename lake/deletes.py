"""Rows that vanished from the source: marked where they are, by one commit that rewrites only their partitions.

Nothing is removed: ``source_deleted_at`` says when the row was found to be gone. A row is marked only while the very
file it was found in is live; of a partition that another run has published meanwhile nothing is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import duckdb

from common.fault_points import reach
from lake.batches import Receipt
from lake.catalog import LiveFile
from lake.commit import Change
from lake.lake import Lake
from lake.paths import TableId, attempt_of, engine_path, new_attempt
from lake.plans import Plan, commit_planned
from lake.quarantine import carry_quarantine
from lake.rewrite import (
    NO_FILE,
    file_relation,
    live_receipt,
    marking,
    rewritten_receipt,
    write_parts,
    write_receipts,
)

if TYPE_CHECKING:
    import pyarrow as pa

NEVER_THE_SAME = "none"
"""Stands for the staged batch of a partition in which rows were marked: the batch as it once came holds them alive."""

_MARKED = "penstock.rows_deleted_in_source"


def mark_deleted(lake: Lake, table: TableId, vanished: pa.Table, *, run_id: str) -> tuple[list[Receipt], int]:
    """Mark rows as deleted in the source, now.

    Args:
        lake: the lake; its clock says when.
        table: a table with :data:`lake.schema.DELETED_COLUMN`, declared to the lake.
        vanished: the rows, by the engine ``path`` of their file and their ``row_number`` in it.
        run_id: the run, for the receipts.

    Returns:
        The receipts of the partitions that were rewritten, and how many rows were marked: fewer than ``vanished`` where
        another run has published a partition meanwhile.

    Raises:
        CommitConflict, StateCorrupt, StoreUnavailable: see :func:`lake.commit.change_partitions`.

    Side effects: one commit, or none if no such row lives any more.
    """
    if not vanished.num_rows:
        return [], 0
    with lake.connect() as connection:
        connection.register("vanished", vanished)
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE chosen AS "
            "SELECT dense_rank() OVER (ORDER BY path) AS file, path, row_number FROM vanished"
        )
        connection.unregister("vanished")
        figures = connection.execute(
            "SELECT path, file, count(*), sum(row_number) FROM chosen GROUP BY path, file"
        ).fetchall()
        found = {path: (int(rows), f"{rows}:{total}") for path, _, rows, total in figures}
        numbers = {path: int(file) for path, file, _, _ in figures}

        def make(live: Sequence[LiveFile]) -> Plan | None:
            return _plan(connection, lake, table, live, found, numbers, run_id)

        landed = commit_planned(lake, table, make, interval="deleted rows")
    if landed is None:
        return [], 0
    return list(landed.receipts.values()), int(landed.change.summary[_MARKED])


def _plan(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    table: TableId,
    live: Sequence[LiveFile],
    found: dict[str, tuple[int, str]],
    numbers: dict[str, int],
    run_id: str,
) -> Plan | None:
    attempt, moment = new_attempt(), lake.clock()
    files: dict[str, tuple[str, ...]] = {}
    receipts: dict[str, Receipt] = {}
    try:
        for key in sorted({file.key for file in live if engine_path(file.location) in found}):
            mine = sorted((file for file in live if file.key == key), key=lambda file: file.location)
            paths = [engine_path(file.location) for file in mine]
            parts = [
                marking(file_relation(lake, table, file.location), numbers.get(path, NO_FILE), file.rows, moment)
                for path, file in zip(paths, mine, strict=True)
            ]
            files[key], _ = write_parts(connection, lake, table, key, parts, attempt=attempt)
            before = live_receipt(lake, table, key, mine, attempt_of(mine[0].location) or new_attempt())
            chosen = [found[path] for path in paths if path in found]
            what = f"deleted {moment.isoformat()} {[digest for _, digest in chosen]}"
            receipts[key] = rewritten_receipt(
                lake, before, attempt, run_id, what, deleted=before.deleted + sum(rows for rows, _ in chosen)
            )
            receipts[key] = receipts[key].came_anew(NEVER_THE_SAME)
            if before.quarantined:
                carry_quarantine(connection, lake, table, key, before.attempt, receipts[key])
        write_receipts(lake, table, receipts)
    except BaseException:
        lake.delete_files([location for locations in files.values() for location in locations])
        raise
    if not files:
        return None
    reach("lake.deletes.before_commit")
    still = {engine_path(file.location) for file in live}
    rows = sum(rows for path, (rows, _) in found.items() if path in still)
    summary = {"penstock.run_id": run_id, _MARKED: str(rows)}
    return Plan(Change(attempt, files, summary), receipts)
