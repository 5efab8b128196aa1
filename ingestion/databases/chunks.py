"""A large table is read in chunks: what a chunk is, and who can cut a table into them.

::

    ChunkPlanner.plan  ->  ChunkPlan  ->  extract.py writes one Parquet file per chunk, all of one attempt

Chunks are what parallel readers share out and what an interrupted extract keeps. Cutting is an optional ability of a
database: without a planner a table is one chunk, :data:`WHOLE_TABLE`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from common.intervals import Interval
from ingestion.databases.dialect import Session
from ingestion.spec import SourceSpec, TableSpec


@dataclass(frozen=True)
class Chunk:
    """Some rows of a table; the chunks of a plan hold every row once.

    Attributes:
        where: SQL that is true for its rows, besides the interval's own condition.
        first_block, end_block: physical block range, the end exclusive and None for "to the last"; None where the
            chunk is no block range.
    """

    where: str
    first_block: int | None = None
    end_block: int | None = None


WHOLE_TABLE = Chunk("true")


@dataclass(frozen=True)
class ChunkPlan:
    """How one extract reads its rows.

    Attributes:
        chunks: in the order of their files.
        proof: what the source says of itself at this snapshot, JSON-compatible, from which a later snapshot can prove
            that a chunk is as it was; empty where it cannot.
        unprovable: why it cannot; empty where it can.
        rows: how many rows there are in all, counted at this snapshot; None if nobody has counted.
    """

    chunks: Sequence[Chunk] = (WHOLE_TABLE,)
    proof: Mapping[str, Any] = field(default_factory=dict)
    unprovable: str = "one query reads the table in one piece"
    rows: int | None = None


class ChunkPlanner(Protocol):
    """Cuts tables of one database system into chunks."""

    def plan(self, session: Session, spec: SourceSpec, table: TableSpec, interval: Interval) -> ChunkPlan:
        """How to read the rows of an interval (of the whole table, where it has no intervals).

        Side effects: the table cannot be rewritten or dropped until the session's transaction ends.
        """
        ...


@runtime_checkable
class ProvingPlanner(ChunkPlanner, Protocol):
    """A planner whose database can prove that chunks are as they were: an ability that not every database has."""

    def contradiction(self, before: Mapping[str, Any], now: ChunkPlan) -> str:
        """Why chunks read at the snapshot of ``before`` prove nothing now; empty if each can be asked for."""
        ...

    def block_range(self, first: int, end: int | None) -> Chunk:
        """The chunk of these blocks, as :class:`Chunk` names them."""
        ...

    def is_unchanged(
        self, session: Session, table: TableSpec, before: Mapping[str, Any], chunk: Chunk, rows: int
    ) -> bool:
        """Whether the source proves that a chunk holds the very rows that were read: computed there, nothing sent.

        Args:
            session: at the snapshot of now.
            table: its table.
            before: the proof of the plan that read it.
            chunk: the chunk.
            rows: how many rows it had, those set apart included.
        """
        ...
