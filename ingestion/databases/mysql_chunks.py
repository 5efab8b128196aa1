"""MySQL's tables are cut along their key, so that each chunk fits into memory; see ``mysql_pieces.py`` for the cuts.

The chunks are read one after the other, by the one connection that has the snapshot. Nothing can be kept after a crash:
a snapshot ends with its connection, and the database has no means to prove that rows are those of an older one.
"""

from __future__ import annotations

from common.intervals import Interval
from ingestion.databases.chunks import Chunk, ChunkPlan
from ingestion.databases.dialect import Session
from ingestion.databases.mysql import MysqlDialect, schema_of
from ingestion.databases.mysql_pieces import PIECE_ROWS, cut, piece_rows, primary_key, usable_key
from ingestion.spec import SourceSpec, TableSpec

_UNPROVABLE = "MySQL cannot prove that rows are those of an older snapshot"


class MysqlChunks:
    """See :class:`ingestion.databases.chunks.ChunkPlanner`.

    Args:
        dialect: the session's.
        most_rows: rows of a chunk at most.
    """

    def __init__(self, dialect: MysqlDialect, most_rows: int = PIECE_ROWS) -> None:
        self._dialect = dialect
        self._most_rows = most_rows

    def plan(self, session: Session, spec: SourceSpec, table: TableSpec, interval: Interval) -> ChunkPlan:
        """See :class:`ingestion.databases.chunks.ChunkPlanner`. Rows are counted, and the chunks' bounds looked up."""
        where = self._dialect.interval(spec, table, interval)
        relation, schema = self._dialect.relation(table), schema_of(table)
        columns = self._dialect.known_columns(session, table)
        total = int(session.rows(f"SELECT COUNT(*) AS total FROM {relation} WHERE {where}")[0][0])
        most = min(self._most_rows, table.chunk_rows)
        rows = piece_rows(session, schema, table.in_source, most) if total > 1 else 1
        if total <= rows:
            return ChunkPlan(unprovable=_UNPROVABLE, rows=total)
        keys = [
            primary_key(session, schema, table.in_source),
            [table.column(name).in_source for name in table.primary_key],
        ]
        usable = (usable_key([columns[name] for name in names]) for names in keys if set(names) <= set(columns))
        key = next(filter(None, usable), ())
        conditions = cut(session, relation, where, key, total=total, rows=rows)
        return ChunkPlan([Chunk(condition) for condition in conditions], unprovable=_UNPROVABLE, rows=total)
