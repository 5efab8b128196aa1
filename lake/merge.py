"""A batch merged by key with what is live: one commit, in which every key stands once, in its newest version.

::

    batch's keys + versions ─┐
                             ├─ join on key columns only ─▶ chosen rows ─▶ rewritten partitions ─┐
    live files that may hold │                                                                  ├─▶ ONE commit
    them (min/max of keys) ──┘            batch + live rows that did not come again ────────────┘

A row whose cursor moves comes again in another interval than before. So publishing an interval takes older versions of
its keys out of whatever partitions hold them, and leaves alone a version that is newer than the batch's own: whatever
the order in which intervals are loaded, the newest version stays, once. Live rows of the interval that did not come
again stay too, for their newer version may not be loaded yet.

The plan is made inside the loop that commits, from the live files that the commit is made against: who is overtaken
plans again. Iceberg's own delete files would make the publish cheaper and every reader dearer, and DuckDB and Polars
read the files themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import duckdb

from common.errors import VolumeRefused
from common.fault_points import reach
from common.hashing import digest
from lake.batches import MergeRule, Receipt, StagedBatch
from lake.catalog import LiveFile
from lake.commit import Change
from lake.key_bounds import KeyBounds
from lake.lake import Lake
from lake.paths import attempt_of, engine_path, new_attempt
from lake.plans import Plan, commit_planned
from lake.quarantine import carry_quarantine
from lake.rewrite import (
    NO_FILE,
    Part,
    file_relation,
    leaving_out,
    live_receipt,
    rewritten_receipt,
    write_parts,
    write_receipts,
)
from lake.schema import DELETED_COLUMN
from lake.sql import identifier, literal, parquet_relation
from lake.together import overtaken_error

NEWER_LIVES = "a newer version is live"
NEWER_CAME = "a newer version came in another interval"
TWICE = "the batch holds the key twice"


class Merge:
    """One batch on its way into a table by key.

    Args:
        connection: of the lake, for as long as the merge takes.
        lake: the lake.
        batch: the batch without its rejected rows.
        receipt: its receipt as if it took the partition's place.
        quarantine: commits the rejected rows under a receipt's attempt.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        lake: Lake,
        batch: StagedBatch,
        receipt: Receipt,
        quarantine: Callable[[Receipt], None],
    ) -> None:
        assert batch.merge is not None  # noqa: S101 - the caller asks for a merge
        self._connection, self._lake, self._batch, self._receipt = connection, lake, batch, receipt
        self._rule: MergeRule = batch.merge
        self._quarantine = quarantine
        self._planned = 0
        self._numbers: dict[str, int] = {}
        self._marks = any(column.name == DELETED_COLUMN for column in lake.columns(batch.table)[0])
        self._keys = ", ".join(identifier(name) for name in self._rule.keys)
        self._duplicates = self._take_keys()
        self._bounds = KeyBounds(connection, lake, batch.table, self._rule.keys, "incoming")

    def commit(self) -> Receipt | None:
        """Merge and commit; the receipt of the batch's own partition, or None if the same batch had landed.

        Raises:
            VolumeRefused: more rows would be marked as deleted than the rule allows.
            Overtaken: another run has published the partition since the batch began to be read.
            CommitConflict, StateCorrupt, StoreUnavailable: see :func:`lake.commit.change_partitions`.

        Side effects: the batch's partition and those that held older versions change, or nothing does; files that are
        known not to be live are deleted.
        """
        table, key = self._batch.table, self._batch.key
        landed = commit_planned(self._lake, table, self._make, interval=key, given=self._batch.files)
        return landed.receipts[key] if landed else None

    def _make(self, live: Sequence[LiveFile]) -> Plan | None:
        attempts = {attempt for f in live if f.key == self._batch.key and (attempt := attempt_of(f.location))}
        found = (self._lake.find_receipt(self._batch.table, self._batch.key, attempt) for attempt in attempts)
        if any(other is not None and other.came_as == self._receipt.batch_id for other in found):
            return None
        if self._lake.is_overtaken(self._batch, self._receipt.run_id, live):
            raise overtaken_error(self._receipt)
        plan = self._plan(live)
        self._planned += 1
        reach("lake.merge.before_commit")
        return plan

    # -- which rows ------------------------------------------------------------------------------------------------

    def _take_keys(self) -> int:
        """Make ``incoming``, one row per key of the batch, and ``twice``, the others; answers how many those are."""
        relation = self._relation(self._batch.files)
        wanted = ", ".join(identifier(name) for name in dict.fromkeys((*self._rule.keys, *self._rule.versions)))
        columns = f"{wanted}, file_index::INTEGER AS file, file_row_number AS row_number"
        self._run(f"CREATE OR REPLACE TEMP TABLE incoming AS SELECT {columns} FROM {relation}")
        self._run("CREATE OR REPLACE TEMP TABLE twice (file INTEGER, row_number BIGINT)")
        rows, keys = self._row(
            f"SELECT count(*), (SELECT count(*) FROM (SELECT DISTINCT {self._keys} FROM incoming)) FROM incoming"
        )
        if rows == keys:
            return 0
        order = ", ".join(f"{identifier(name)} DESC NULLS LAST" for name in self._rule.versions)
        self._run(
            "INSERT INTO twice SELECT file, row_number FROM incoming QUALIFY row_number() OVER "
            f"(PARTITION BY {self._keys} ORDER BY {order + ', ' if order else ''}file DESC, row_number DESC) > 1"
        )
        self._run(
            "DELETE FROM incoming USING twice WHERE incoming.file = twice.file "
            "AND incoming.row_number = twice.row_number"
        )
        return rows - keys

    def _choose(self, here: Sequence[LiveFile], elsewhere: Sequence[LiveFile]) -> None:
        """Make ``chosen``: rows to leave out, by file and row number, of live files and of the batch's own."""
        self._number([*self._batch.files, *(file.location for file in (*here, *elsewhere))])
        self._run(
            "CREATE OR REPLACE TEMP TABLE met "
            "(file INTEGER, row_number BIGINT, is_older BOOLEAN, is_marked BOOLEAN, key_hash UBIGINT, "
            "batch_file INTEGER, batch_row BIGINT)"
        )
        for files, wins in ((here, "<="), (elsewhere, "<")):
            if not files:
                continue
            live, new = self._version("live"), self._version("incoming")
            marked = f"live.{identifier(DELETED_COLUMN)} IS NOT NULL" if self._marks else "false"
            older = f"({marked} OR {live} {wins} {new})" if self._rule.moves else "true"
            self._run(
                f"INSERT INTO met SELECT live.file_index + {self._numbers[engine_path(files[0].location)]}, "
                f"live.file_row_number, {older}, {marked}, "
                f"hash({', '.join(f'live.{identifier(name)}' for name in self._rule.keys)}), incoming.file, "
                f"incoming.row_number FROM {self._relation([file.location for file in files])} AS live "
                f"JOIN incoming USING ({self._keys})"
            )
        self._run(
            "CREATE OR REPLACE TEMP TABLE chosen AS SELECT file, row_number FROM met WHERE is_older UNION ALL "
            "SELECT DISTINCT batch_file, batch_row FROM met WHERE NOT is_older UNION ALL SELECT * FROM twice"
        )

    def _version(self, side: str) -> str:
        """SQL of a row's version, to be compared as one value; a null is the oldest."""
        columns = {column.name: column for column in self._lake.columns(self._batch.table)[0]}
        names = [f"{side}.{identifier(name)}" for name in self._rule.versions]
        if len(names) == 1 and not columns[self._rule.versions[0]].nullable:
            return names[0]
        return f"row({', '.join(f'{name} IS NOT NULL, {name}' for name in names) or '0'})"

    # -- what becomes of them --------------------------------------------------------------------------------------

    def _plan(self, live: Sequence[LiveFile]) -> Plan:
        """Write everything the merge changes, and its receipts. Side effects: none is left when it raises."""
        here = [file for file in live if file.key == self._batch.key and file.rows]
        others = [file for file in live if file.key != self._batch.key and file.rows] if self._rule.moves else []
        self._choose(here, [file for file in others if self._bounds.may_hold(file)])
        paths = list(self._numbers)
        dropped: dict[str, tuple[int, int, int]] = {
            paths[file]: (int(rows), int(marked), int(hashes))
            for file, rows, marked, hashes in self._connection.execute(
                "SELECT file, count(*), count(*) FILTER (is_marked), sum(key_hash::HUGEINT) FROM met "
                "WHERE is_older GROUP BY file"
            ).fetchall()
        }
        attempt = new_attempt() if self._planned else self._batch.attempt
        files: dict[str, tuple[str, ...]] = {}
        receipts: dict[str, Receipt] = {}
        try:
            files[self._batch.key], receipts[self._batch.key] = self._own_partition(here, live, dropped, attempt)
            for key in sorted({file.key for file in others if engine_path(file.location) in dropped}):
                mine = sorted((file for file in live if file.key == key), key=lambda file: file.location)
                files[key], receipts[key] = self._without_older(key, mine, dropped)
            touched = tuple(key for key in files if key != self._batch.key)
            receipts[self._batch.key] = replace(receipts[self._batch.key], touched=touched)
            if receipts[self._batch.key].quarantined:
                self._quarantine(receipts[self._batch.key])
            write_receipts(self._lake, self._batch.table, receipts)
        except BaseException:
            written = [location for locations in files.values() for location in locations]
            self._lake.delete_files([location for location in written if location not in self._batch.files])
            raise
        own = receipts[self._batch.key]
        summary = {
            "penstock.batch_id": own.batch_id,
            "penstock.partition_key": own.key,
            "penstock.run_id": own.run_id,
            "penstock.rows_in": str(own.rows_in),
            "penstock.published": str(own.published),
            "penstock.partitions_rewritten": str(len(files) - 1),
        }
        return Plan(Change(attempt, files, summary), receipts)

    def _own_partition(
        self, here: Sequence[LiveFile], live: Sequence[LiveFile], dropped: dict[str, tuple[int, int, int]], attempt: str
    ) -> tuple[tuple[str, ...], Receipt]:
        """The batch's rows, but those of which a newer version lives; and the live rows that did not come again."""
        table, key, rule = self._batch.table, self._batch.key, self._rule
        older = [dropped.get(engine_path(file.location), (0, 0, 0)) for file in here]
        carried = sum(file.rows for file in here) - sum(rows for rows, _, _ in older)
        held = next((attempt_of(file.location) for file in live if file.key == key), None)
        before = self._lake.find_receipt(table, key, held) if held else None
        deleted = (before.deleted if before else 0) - sum(marked for _, marked, _ in older)
        if rule.marks:
            self._refuse_vanishing(carried - deleted, sum(file.rows for file in live) - deleted)
            deleted = carried
        (outdated,) = self._row("SELECT count(DISTINCT (batch_file, batch_row)) FROM met WHERE NOT is_older")
        parts = []
        fresh = bool(outdated or self._duplicates or attempt != self._batch.attempt)
        if fresh:
            parts += [self._leaving_out(file, self._batch.rows_staged) for file in self._batch.files]
        for file in here if carried else ():
            part = self._leaving_out(file.location, file.rows)
            if rule.marks:
                mark, now = identifier(DELETED_COLUMN), literal(self._lake.clock().isoformat())
                marked = f"coalesce({mark}, TIMESTAMPTZ {now}) AS {mark}"
                part = replace(part, query=f"SELECT * REPLACE ({marked}) FROM ({part.query})")
            parts.append(part)
        first = len(self._batch.files)
        added, _ = write_parts(self._connection, self._lake, table, key, parts, attempt=attempt, first_part=first)
        because = {NEWER_LIVES: outdated, TWICE: self._duplicates}
        staged = self._receipt
        receipt = replace(
            staged,
            attempt=attempt,
            proof="",
            rows_in=staged.rows_in + carried,
            published=staged.published - outdated - self._duplicates + carried,
            deduplicated=staged.deduplicated + outdated + self._duplicates,
            carried=carried,
            deleted=deleted,
            because={reason: rows for reason, rows in because.items() if rows},
            replayed=min(before.replayed, carried) if before else 0,
            # Of the batch that lives as this is planned: somebody may have decided on its rows a moment ago.
            repairs=before.repairs if before and staged.quarantined else (),
        )
        if carried or outdated:
            kept = before.batch_id if before else ""
            receipt = replace(receipt, batch_id=digest(staged.batch_id, kept, outdated), staged_id=staged.batch_id)
        return (added if fresh else (*self._batch.files, *added)), receipt

    def _without_older(
        self, key: str, files: Sequence[LiveFile], dropped: dict[str, tuple[int, int, int]]
    ) -> tuple[tuple[str, ...], Receipt]:
        """Another partition without the rows of which a newer version came."""
        table, attempt = self._batch.table, new_attempt()
        found = [dropped.get(engine_path(file.location), (0, 0, 0)) for file in files]
        gone, marked, hashes = (sum(figures) for figures in zip(*found, strict=True))
        parts = [self._leaving_out(file.location, file.rows) for file in files]
        written, _ = write_parts(self._connection, self._lake, table, key, parts, attempt=attempt)
        before = live_receipt(self._lake, table, key, files, attempt_of(files[0].location) or new_attempt())
        receipt = rewritten_receipt(
            self._lake,
            before,
            attempt,
            self._receipt.run_id,
            f"without {hashes:x}",
            published=before.published - gone,
            deduplicated=before.deduplicated + gone,
            deleted=before.deleted - marked,
            replayed=min(before.replayed, before.published - gone),
            because={**before.because, NEWER_CAME: before.because.get(NEWER_CAME, 0) + gone},
        )
        if receipt.quarantined:
            carry_quarantine(self._connection, self._lake, table, key, before.attempt, receipt)
        return written, receipt

    def _leaving_out(self, location: str, rows: int) -> Part:
        relation = file_relation(self._lake, self._batch.table, location)
        return leaving_out(relation, self._numbers.get(engine_path(location), NO_FILE), rows)

    def _refuse_vanishing(self, vanished: int, rows: int) -> None:
        share = self._rule.max_deleted_share
        if share is not None and vanished > share * rows:
            raise VolumeRefused(
                f"{vanished} of {rows} live rows did not come again, more than {share:.0%} of them. "
                "Nothing was published.",
                table=str(self._batch.table),
                interval=self._batch.key,
                remedy=f"look whether the source is whole; if it is, run again with --accept-volume {self._batch.table}"
                ", or raise 'deletes: {max_share: ...}' in the spec",
            )

    # -- SQL -------------------------------------------------------------------------------------------------------

    def _relation(self, locations: Sequence[str]) -> str:
        columns, field_ids = self._lake.columns(self._batch.table)
        paths = [engine_path(location) for location in locations]
        return parquet_relation(paths, columns, field_ids, row_number=True)

    def _number(self, locations: Sequence[str]) -> None:
        """Number files: DuckDB tells a row's file by its place in a list for half of what its path costs (measured)."""
        self._numbers = {engine_path(location): number for number, location in enumerate(locations)}

    def _run(self, statement: str) -> None:
        self._connection.execute(statement)

    def _row(self, query: str) -> tuple[int, ...]:
        return tuple(int(value or 0) for value in self._connection.execute(query).fetchone() or ())
