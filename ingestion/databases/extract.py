"""The rows of one table and interval -> one Parquet file per chunk, by several readers of one snapshot.

::

    plan chunks -> what did a killed run leave? -> keep what the source proves unchanged -> read the rest, in parallel

Every reader is a connection of its own with its own thread; DuckDB itself is given one thread, because a second one
only spins while a single stream waits. A chunk's file is flushed and noted before its reader goes on. When one reader
fails, the others are broken off, and everything that was written is deleted: only a killed process leaves anything.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from common.errors import TerminalError
from common.fault_points import reach
from ingestion.databases.chunks import Chunk, ChunkPlan, ChunkPlanner, ProvingPlanner
from ingestion.databases.dialect import Breakable, Session, SnapshotSharing
from ingestion.extract_record import ExtractRecord, delete_staged
from ingestion.spec import TableSpec
from lake.lake import Lake
from lake.paths import TableId, new_attempt

if TYPE_CHECKING:
    import pyarrow as pa

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Query:
    """What to read of a table, apart from which chunk.

    Attributes:
        select: from a chunk's condition to the DuckDB query whose rows are written.
        rejects: from a session and a chunk's condition to the rows that have no exact form; None if every row has one.
        digest: names everything that decides what a chunk's file holds: code, expressions, conditions.
    """

    select: Callable[[Session, str], str]
    rejects: Callable[[Session, str], pa.Table | None] | None
    digest: str


@dataclass
class Extracted:
    """What has been written.

    Attributes:
        attempt: names the files.
        files: in the order of the chunks.
        rows: rows in them.
        rejects: rows set apart, one table per chunk.
        warnings: what became of an interrupted extract.
    """

    attempt: str
    files: tuple[str, ...] = ()
    rows: int = 0
    rejects: list[pa.Table] = field(default_factory=list)
    warnings: tuple[str, ...] = ()


class Extract:
    """One extract of one partition.

    Args:
        lake: where the files go.
        raw: the lake table.
        key: the partition key.
        table: its spec.
        session: the run's session; others join its snapshot where chunks are read at once.
        record: of this extract.
    """

    def __init__(
        self, lake: Lake, raw: TableId, key: str, table: TableSpec, session: Session, record: ExtractRecord
    ) -> None:
        self._lake, self._raw, self._key = lake, raw, key
        self._table, self._session, self._record = table, session, record
        self._guard = threading.Lock()
        self._done: dict[int, tuple[int, pa.Table | None]] = {}
        self._is_noted = False

    def run(self, plan: ChunkPlan, planner: ChunkPlanner | None, query: Query) -> Extracted:
        """Write the chunks.

        Raises:
            duckdb.Error: of the reader that failed first.

        Side effects: staged files; none are left when it raises.
        """
        plan, attempt, kept, warnings = self._resumed(plan, planner, query)
        files = [self._location(attempt, part) for part in range(len(plan.chunks))]
        self._is_noted = len(plan.chunks) > 1 and not plan.unprovable
        try:
            self._record.begin(
                attempt=attempt,
                digest=query.digest,
                proof=dict(plan.proof),
                unprovable=plan.unprovable,
                ranges=[(chunk.first_block, chunk.end_block) for chunk in plan.chunks],
                finished=kept,
            )
            reach("ingest.extract.before_read")
            self._read(plan.chunks, files, query, {int(part): figures["rows"] for part, figures in kept.items()})
            reach("ingest.extract.after_write")
            rejects = [found for _, found in self._done.values() if found is not None]
            rows = sum(rows for rows, _ in self._done.values())
            self._check_count(plan, rows + sum(found.num_rows for found in rejects))
        except BaseException:
            delete_staged(self._lake, files)
            raise
        return Extracted(attempt, tuple(files), rows, rejects, warnings)

    def _check_count(self, plan: ChunkPlan, rows: int) -> None:
        if plan.rows is not None and plan.rows != rows:
            raise TerminalError(
                f"The source counts {plan.rows} rows and gave {rows}: the table is not read in one snapshot.",
                table=self._table.name,
                interval=self._key,
                remedy="use a storage engine with consistent reads, such as InnoDB, or read it while nobody writes",
            )

    # -- reading ---------------------------------------------------------------------------------------------------

    def _read(self, chunks: Sequence[Chunk], files: Sequence[str], query: Query, kept: Mapping[int, int]) -> None:
        waiting = iter(range(len(chunks)))
        missing = len(chunks) - len(kept)
        count = max(1, min(self._lake.settings.parallel_reads, missing))

        def work(session: Session) -> None:
            while True:
                with self._guard:
                    part = next(waiting, None)
                if part is None:
                    return
                self._read_chunk(session, part, chunks[part], files[part], query, kept.get(part))

        if count == 1 or not isinstance(self._session, SnapshotSharing):
            work(self._session)
            return
        readers = self._session.readers(count)
        with ThreadPoolExecutor(count, thread_name_prefix="penstock-reader") as pool:
            running = [pool.submit(work, reader) for reader in readers]
            with _broken_off(readers, running):
                wait(running, return_when=FIRST_EXCEPTION)
                _raise_first(running)

    def _read_chunk(
        self, session: Session, part: int, chunk: Chunk, location: str, query: Query, kept: int | None
    ) -> None:
        rows = kept
        if rows is None:
            with bounded(session):
                rows = self._lake.write(session.connection, query.select(session, chunk.where), self._raw, location)
        rejects = query.rejects(session, chunk.where) if query.rejects else None
        size_bytes = self._lake.storage.flush(location) if self._is_noted else 0
        with self._guard:
            self._done[part] = (rows, rejects)
            if self._is_noted:
                total = rows + (rejects.num_rows if rejects is not None else 0)
                self._record.finish(part, rows=rows, total=total, size_bytes=size_bytes)
            reach("ingest.extract.after_chunk")

    # -- after a crash ---------------------------------------------------------------------------------------------

    def _resumed(
        self, plan: ChunkPlan, planner: ChunkPlanner | None, query: Query
    ) -> tuple[ChunkPlan, str, dict[str, Any], tuple[str, ...]]:
        """The plan, the attempt and the finished chunks to go on with, and what to tell of it."""
        left = self._record.left
        if left is None:
            return plan, new_attempt(), {}, ()
        attempt, ranges = str(left.get("attempt", "")), left.get("ranges", [])
        reason = self._refusal(left, plan, planner, query)
        kept: dict[str, Any] = {}
        if isinstance(planner, ProvingPlanner) and not reason:
            plan = ChunkPlan([planner.block_range(*each) for each in ranges], plan.proof, plan.unprovable)
            kept = {
                part: figures
                for part, figures in left["finished"].items()
                if self._is_whole(attempt, int(part), figures)
                and planner.is_unchanged(
                    self._session, self._table, left["proof"], plan.chunks[int(part)], figures["total"]
                )
            }
            reason = "" if kept else "no chunk is finished and unchanged"
        if attempt:
            files = [self._location(attempt, part) for part in range(len(ranges)) if str(part) not in kept]
            if attempt in self._lake.live_attempts(self._raw, self._key).values():
                files, kept = [], {}  # cannot be; but files that a reader has are never touched
            delete_staged(self._lake, files)
        told = (
            f"an interrupted extract was continued: {len(kept)} of {len(ranges)} chunks kept, the others read again"
            if kept
            else f"an interrupted extract was started over: {reason or 'its batch is live'}"
        )
        _LOG.info("%s %s: %s", self._raw, self._key, told)
        return plan, attempt if kept else new_attempt(), kept, (told,)

    def _refusal(self, left: Mapping[str, Any], plan: ChunkPlan, planner: ChunkPlanner | None, query: Query) -> str:
        """Why nothing of what is left can be kept; empty if each chunk is to be asked for."""
        if plan.unprovable or not isinstance(planner, ProvingPlanner):
            return plan.unprovable or "nobody can ask the source"
        if left.get("digest") != query.digest:
            return "the spec, the suite, the columns or Penstock changed"
        if left.get("unprovable", "?"):
            return str(left.get("unprovable", "its record is not complete"))
        return planner.contradiction(left["proof"], plan)

    def _is_whole(self, attempt: str, part: int, figures: Mapping[str, Any]) -> bool:
        return self._lake.storage.size(self._location(attempt, part)) == int(figures["size_bytes"])

    def _location(self, attempt: str, part: int) -> str:
        return self._lake.staging_location(self._raw, self._key, attempt, part)


def bounded(session: Session) -> AbstractContextManager[None]:
    """The time a query may take at most, where the session can enforce it."""
    return session.bounded() if isinstance(session, Breakable) else nullcontext()


@contextmanager
def _broken_off(readers: Sequence[Session], running: Sequence[Future[None]]) -> Iterator[None]:
    """If the block fails, the readers do not go on: none of them is left behind writing."""
    try:
        yield
    except BaseException:
        for reader in readers:
            if isinstance(reader, Breakable):
                reader.sever()
            reader.connection.interrupt()
        wait(running)
        raise


def _raise_first(running: Sequence[Future[None]]) -> None:
    """The error that came first: those of readers that were broken off because of it come later, or not at all."""
    for future in running:
        if future.done() and (error := future.exception()) is not None:
            raise error
