"""Many small files of one partition become one, where a file is not the unit of an account.

::

    small files of a partition ─▶ one file ─▶ same checksum? ─▶ ONE commit, while the partition is what it was

Which tables that is: ``ops.*`` (rows carry their attempt in a column) and the ended versions of histories, a file for
each sync. In raw, refined and quarantine tables a file carries in its name the attempt by whose receipt it counts, and
a partition has the files of one attempt, which that attempt wrote as large as it could. Nothing is merged there. In
quarantine files of attempts that died are dropped, as the next batch of the interval with rejected rows would do: their
rows count for nothing.

A writer that is faster wins: the partition is looked at again at the next maintenance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from common.errors import StateCorrupt
from common.fault_points import reach
from lake.catalog import LiveFile
from lake.commit import Change
from lake.lake import Lake, checksum_of
from lake.paths import TableId, data_location, engine_path, new_attempt
from lake.plans import Plan, commit_planned
from lake.quarantine import QUARANTINE_COLUMNS, still_needed
from lake.sql import parquet_relation

SMALL_BYTES = 32 << 20
"""A file above this is left as it is."""
LEAST_FILES = 4
"""Small files of a partition that are worth a commit."""

Wanted = Callable[[str], bool]


@dataclass(frozen=True)
class Compacted:
    """One partition's files before and after.

    Attributes:
        table, key: which partition.
        files: small files that became one, or that were dropped.
        size_bytes: their size.
        new_bytes: size of the file that took their place; 0 where none did.
    """

    table: str
    key: str
    files: int
    size_bytes: int
    new_bytes: int


def compact(
    lake: Lake,
    table: TableId,
    *,
    run_id: str,
    wanted: Wanted = lambda _key: True,
    least: int = LEAST_FILES,
    dry_run: bool = False,
) -> list[Compacted]:
    """Merge the small files of each partition of a table into one, by one commit per partition.

    Args:
        lake: the lake; the table is declared.
        table: a table whose files' names mean nothing (see the module).
        run_id: the run, for the snapshot.
        wanted: which partition keys.
        least: how many small files are worth it.
        dry_run: change nothing; ``new_bytes`` is then an upper bound.

    Returns:
        The partitions that were merged. One that a faster writer changed is not among them.

    Raises:
        StateCorrupt: the merged file does not hold the rows of those before; nothing was committed.
        CommitConflict, StoreUnavailable: see :func:`lake.commit.change_partitions`.
    """
    done: list[Compacted] = []
    live = sorted(lake.live(table), key=lambda file: file.key)
    for key, several in groupby(live, key=lambda file: file.key):
        files = [file for file in several if _size(file) <= SMALL_BYTES]
        if len(files) < least or not wanted(key):
            continue
        size_bytes = sum(map(_size, files))
        if dry_run:
            done.append(Compacted(str(table), key, len(files), size_bytes, size_bytes))
            continue
        new_bytes = _merge(lake, table, key, files, run_id)
        if new_bytes is not None:
            done.append(Compacted(str(table), key, len(files), size_bytes, new_bytes))
    return done


def _merge(lake: Lake, table: TableId, key: str, files: Sequence[LiveFile], run_id: str) -> int | None:
    """Size of the file that took the place of these; None if another writer was faster."""
    merged = {file.location for file in files}
    columns, field_ids = lake.columns(table)
    attempt = new_attempt()
    location = data_location(lake.settings.lake_uri, table, key, attempt)
    lake.storage.prepare_folder(location)
    with_rows = sorted(engine_path(file.location) for file in files if file.rows)
    try:
        with lake.connect(rows=sum(file.rows for file in files)) as connection:
            before = parquet_relation(with_rows, columns, field_ids)
            lake.write(connection, f"SELECT * FROM {before}", table, location)
            after = parquet_relation([engine_path(location)], columns, field_ids)
            checksums = checksum_of(connection, before), checksum_of(connection, after)
        if checksums[0] != checksums[1]:
            raise StateCorrupt(
                f"The merged file holds {checksums[1]}, those before {checksums[0]}; nothing was committed.",
                table=str(table),
                interval=key,
                remedy="this is a defect of Penstock: report it with this message",
            )
    except BaseException:
        lake.delete_files([location])
        raise

    def make(live: Sequence[LiveFile]) -> Plan | None:
        mine = {file.location for file in live if file.key == key}
        if not merged <= mine:
            return None
        reach("maintain.compact.before_commit")
        summary = {"penstock.run_id": run_id, "penstock.compacted": str(len(merged))}
        return Plan(Change(attempt, {key: (location,)}, summary, frozenset(mine - merged)))

    landed = commit_planned(lake, table, make, interval=key, given=[location])
    return lake.storage.size(location) if landed else None


def drop_abandoned(lake: Lake, table: TableId, *, run_id: str, dry_run: bool = False) -> list[Compacted]:
    """Drop a quarantine table's files of attempts that died, by one commit per partition.

    Args:
        lake: the lake.
        table: the table that the rows were rejected from.
        run_id: the run, for the snapshot.
        dry_run: change nothing.

    Raises:
        CommitConflict, StateCorrupt, StoreUnavailable: see :func:`lake.commit.change_partitions`.
    """
    waiting = table.quarantine
    if not lake.exists(waiting):
        return []
    lake.ensure(waiting, QUARANTINE_COLUMNS, partition_by="partition_key")
    done: list[Compacted] = []
    for key in sorted({file.key for file in lake.live(waiting)}):

        def make(live: Sequence[LiveFile], key: str = key) -> Plan | None:
            mine = [file for file in live if file.key == key]
            kept = still_needed(lake, table, key, mine)
            if len(kept) == len(mine):
                return None
            reach("maintain.compact.before_commit")
            locations = frozenset(file.location for file in kept)
            return Plan(Change(new_attempt(), {key: ()}, {"penstock.run_id": run_id}, locations))

        there = [file for file in lake.live(waiting) if file.key == key]
        needed = {file.location for file in still_needed(lake, table, key, there)}
        dead = [file for file in there if file.location not in needed]
        if dead and (dry_run or commit_planned(lake, waiting, make, interval=key)):
            done.append(Compacted(str(waiting), key, len(dead), sum(map(_size, dead)), 0))
    return done


def _size(file: LiveFile) -> int:
    return int(file.data_file.file_size_in_bytes)
