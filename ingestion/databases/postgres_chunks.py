"""PostgreSQL's tables cut into chunks, and the proof that a chunk read by an interrupted extract is still the same.

A table is cut by physical blocks (``ctid`` ranges, which PostgreSQL 14 and later read directly), so chunks are equal in
size whatever its key, and together read each block once. Partitioned and inherited tables, other table access methods
and older servers are cut by ranges of a whole-number key; a view or a foreign table is read in one piece. An interval
is one query by its own index, unless it has more rows than a chunk: then it is cut by time.

The proof needs no trust in clocks or triggers. It asks that the earlier extract's snapshot is the earlier one: of two
processes that read a table, the one that was killed may have begun later. Rows that are visible now and were written by
a transaction that had ended before the earlier snapshot were visible then; a changed row is a new row version of a
later transaction; a deleted one is missing from the count. So a chunk is as it was if no row in its blocks is of a
later transaction, and there are as many. "Ended before" is the snapshot's oldest running transaction, never its list of
running ones: that list leaves out subtransactions. Rows are compared by ``age(xmin)``, that is modulo 2^32, which errs
towards "changed" only, as long as less than half of that has passed. What changes values without touching rows - a
rewritten table, a column dropped and added, a renamed enum label, another server - is compared as part of the proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from common.intervals import Interval, local_bounds
from ingestion.databases.chunks import WHOLE_TABLE, Chunk, ChunkPlan
from ingestion.databases.dialect import Dialect, Session, SnapshotSharing
from ingestion.shared_snapshot import follows
from ingestion.spec import SourceSpec, TableSpec
from lake.sql import identifier, literal

TID_RANGES_SINCE = 140_000
"""The first server version that reads a ``ctid`` range without reading the rest of the table."""

OLDEST_PROOF = 1 << 30
"""Transactions after which an earlier snapshot proves nothing: half of what a 32-bit transaction id can tell apart."""

_SAMPLE_BLOCKS = 100
"""Blocks whose rows are counted where the table has no statistics yet."""

_NEVER_READ_IN_PARTS = {"v": "a view", "f": "a foreign table"}


@dataclass(frozen=True)
class _Relation:
    """What PostgreSQL says of a table, at this snapshot."""

    oid: int
    kind: str
    method: str
    is_inherited: bool
    hides_rows: bool
    file: int
    blocks: int
    rows: float
    pages: int
    version: int
    may_identify: bool
    oldest_running: int
    next_transaction: int
    definition: str


class PostgresChunks:
    """See :class:`ingestion.databases.chunks.ChunkPlanner`."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._huge: dict[str, bool] = {}

    def plan(self, session: Session, spec: SourceSpec, table: TableSpec, interval: Interval) -> ChunkPlan:
        """See :class:`ingestion.databases.chunks.ChunkPlanner`."""
        if table.interval_column is not None:
            return self._interval_plan(session, spec, table, interval)
        name = self._dialect.relation(table)
        session.rows(f"SELECT 1 FROM {name} LIMIT 0")  # its lock keeps the blocks where they are until we are done
        relation = _look_up(session, name)
        if relation.kind in _NEVER_READ_IN_PARTS:
            return ChunkPlan(unprovable=f"{_NEVER_READ_IN_PARTS[relation.kind]} has no blocks of its own")
        if relation.version < TID_RANGES_SINCE or relation.kind not in "rm" or relation.is_inherited:
            return ChunkPlan(self._key_ranges(session, table, relation), unprovable="it is read by ranges of its key")
        if relation.method != "heap":
            return ChunkPlan(self._key_ranges(session, table, relation), unprovable="its rows lie in no heap")
        chunks = self._block_ranges(session, table, relation)
        if relation.hides_rows:
            return ChunkPlan(chunks, unprovable="row security decides which rows are seen")
        if not relation.may_identify:
            return ChunkPlan(chunks, unprovable="the role may not call pg_control_system()")
        cluster, timeline = session.rows(
            "SELECT system_identifier::text, timeline_id FROM pg_control_system(), pg_control_checkpoint()"
        )[0]
        proof = {
            "cluster": cluster,
            "timeline": timeline,
            "relation": relation.oid,
            "file": relation.file,
            "definition": relation.definition,
            "oldest_running": relation.oldest_running,
            "next_transaction": relation.next_transaction,
            "moment": session.moment if isinstance(session, SnapshotSharing) else "",
        }
        return ChunkPlan(chunks, proof=proof, unprovable="")

    def contradiction(self, before: Mapping[str, Any], now: ChunkPlan) -> str:
        """See :class:`ingestion.databases.chunks.ChunkPlanner`."""
        if now.unprovable:
            return now.unprovable
        for part, reason in (
            ("cluster", "it is another database server"),
            ("timeline", "the server was restored or promoted"),
            ("relation", "the table was made anew"),
            ("file", "the table was rewritten (VACUUM FULL, CLUSTER, TRUNCATE or ALTER TABLE)"),
            ("definition", "the table's columns changed"),
        ):
            if before.get(part) != now.proof[part]:
                return reason
        if not follows(now.proof["moment"], str(before.get("moment", ""))):
            return "this snapshot may be the earlier one"
        passed = int(now.proof["next_transaction"]) - int(before["oldest_running"])
        return "too many transactions have passed" if not 0 <= passed < OLDEST_PROOF else ""

    def block_range(self, first: int, end: int | None) -> Chunk:
        """See :class:`ingestion.databases.chunks.ChunkPlanner`."""
        return block_range(first, end)

    def is_unchanged(
        self, session: Session, table: TableSpec, before: Mapping[str, Any], chunk: Chunk, rows: int
    ) -> bool:
        """See :class:`ingestion.databases.chunks.ChunkPlanner`."""
        horizon = literal(str(int(before["oldest_running"]) % (1 << 32)))
        found, later = session.rows(
            f"SELECT count(*) AS found, count(*) FILTER (WHERE age(xmin) <= age({horizon}::xid)) AS later "
            f"FROM {self._dialect.relation(table)} WHERE {chunk.where}"
        )[0]
        return bool(later == 0 and found == rows)

    # -- whole tables ----------------------------------------------------------------------------------------------

    def _block_ranges(self, session: Session, table: TableSpec, relation: _Relation) -> list[Chunk]:
        if relation.rows > 0 and relation.pages > 0:
            rows = relation.rows / relation.pages * relation.blocks
        else:
            sampled = min(relation.blocks, _SAMPLE_BLOCKS)
            where = block_range(0, sampled).where
            found = session.rows(f"SELECT count(*) FROM {self._dialect.relation(table)} WHERE {where}")[0][0]
            rows = found / max(sampled, 1) * relation.blocks
        parts = max(1, min(-(-int(rows) // table.chunk_rows), relation.blocks))
        bounds = [relation.blocks * part // parts for part in range(parts)]
        return [block_range(first, end) for first, end in zip(bounds, [*bounds[1:], None], strict=True)]

    def _key_ranges(self, session: Session, table: TableSpec, relation: _Relation) -> list[Chunk]:
        parts = -(-int(relation.rows) // table.chunk_rows)
        key = table.column(table.primary_key[0]) if table.primary_key else None
        if parts <= 1 or key is None or key.type not in {"int32", "int64"}:
            return [WHOLE_TABLE]
        name = identifier(key.in_source)
        least, most = session.rows(
            f"SELECT min({name}) AS least, max({name}) AS most FROM {self._dialect.relation(table)}"
        )[0]
        if least is None or most - least < parts:
            return [WHOLE_TABLE]
        return _cut(name, [str(least + (most - least) * part // parts) for part in range(1, parts)])

    # -- intervals -------------------------------------------------------------------------------------------------

    def _interval_plan(self, session: Session, spec: SourceSpec, table: TableSpec, interval: Interval) -> ChunkPlan:
        """One query, or several by time if the interval has more rows than a chunk (a day by ``date`` cannot be)."""
        column = table.column(table.interval_column or "")
        if table.name not in self._huge:
            found = session.rows(_ROWS.format(name=literal(self._dialect.relation(table))))  # none for a view
            self._huge[table.name] = any(rows > table.chunk_rows for (rows,) in found)
        if not self._huge[table.name] or column.type == "date":
            return ChunkPlan(unprovable="an interval is read in one piece")
        where = f"FROM {self._dialect.relation(table)} WHERE {self._dialect.interval(spec, table, interval)}"
        if session.rows(f"SELECT count(*) FROM (SELECT 1 {where} LIMIT {table.chunk_rows + 1}) AS _first")[0][0] <= (
            table.chunk_rows
        ):
            return ChunkPlan(unprovable="an interval is read in one piece")
        parts = -(-session.rows(f"SELECT count(*) {where}")[0][0] // table.chunk_rows)
        if column.type == "timestamp":
            start, end = (datetime.fromisoformat(text) for text in local_bounds(interval, spec.time_zone))
        else:
            start, end = interval.start.astimezone(UTC), interval.end.astimezone(UTC)
        cuts = [(start + (end - start) * part / parts).isoformat() for part in range(1, parts)]
        typed = [f"{literal(cut)}::{column.type}" for cut in cuts]
        return ChunkPlan(_cut(identifier(column.in_source), typed), unprovable="an interval is cut by time")


def block_range(first: int, end: int | None) -> Chunk:
    """The rows of a table's blocks from ``first`` on, up to but not ``end`` (None: to the last)."""
    lower = f"ctid >= '({int(first)},0)'::tid"
    return Chunk(lower if end is None else f"{lower} AND ctid < '({int(end)},0)'::tid", first, end)


def _cut(column: str, cuts: list[str]) -> list[Chunk]:
    lower = [f"{column} >= {cut}" for cut in cuts]
    upper = [f"{column} < {cut}" for cut in cuts]
    middle = [f"{low} AND {high}" for low, high in zip(lower, upper[1:], strict=False)]
    return [Chunk(upper[0]), *(Chunk(where) for where in middle), Chunk(lower[-1])]


def _look_up(session: Session, name: str) -> _Relation:
    """The relation of that quoted name, which the session has locked."""
    return _Relation(*session.rows(_RELATION.format(name=literal(name)))[0])


_TREE_ROWS = (
    "(WITH RECURSIVE tree AS (SELECT c.oid, c.relkind, c.reltuples UNION ALL "
    "SELECT child.oid, child.relkind, child.reltuples FROM tree "
    "JOIN pg_inherits ON inhparent = tree.oid JOIN pg_class child ON child.oid = inhrelid) "
    "SELECT coalesce(sum(greatest(reltuples, 0)) FILTER (WHERE relkind <> 'p'), 0)::float8 FROM tree)"
)
_ROWS = f"SELECT {_TREE_ROWS} FROM pg_class AS c WHERE c.oid = {{name}}::regclass AND c.relkind IN ('r', 'm', 'p')"
_DEFINITION = (
    # to_jsonb of whole catalog rows: whatever PostgreSQL will ever say about a column is compared too
    "md5(current_setting('lc_monetary') "
    "|| (SELECT string_agg((to_jsonb(t) - ARRAY['attacl', 'attstattarget'])::text, ',' ORDER BY t.attnum) "
    "FROM pg_attribute AS t WHERE t.attrelid = c.oid) "
    "|| coalesce((SELECT string_agg(e.enumtypid || ' ' || e.enumlabel, ',' ORDER BY e.oid) FROM pg_enum AS e), ''))"
)
_FACTS = (
    "c.oid::bigint",
    "c.relkind::text",
    "coalesce(a.amname::text, '')",
    "c.relhassubclass",
    "row_security_active(c.oid)",
    "coalesce(pg_relation_filenode(c.oid)::bigint, 0)",
    "coalesce(pg_relation_size(c.oid) / current_setting('block_size')::int, 0)",
    _TREE_ROWS,
    "c.relpages",
    "current_setting('server_version_num')::int",
    "has_function_privilege('pg_control_system()', 'EXECUTE') "
    "AND has_function_privilege('pg_control_checkpoint()', 'EXECUTE')",
    "txid_snapshot_xmin(txid_current_snapshot())",
    "txid_snapshot_xmax(txid_current_snapshot())",
    _DEFINITION,
)
_RELATION = (
    f"SELECT {', '.join(f'{fact} AS fact_{number}' for number, fact in enumerate(_FACTS))} "
    "FROM pg_class AS c LEFT JOIN pg_am AS a ON a.oid = c.relam WHERE c.oid = {name}::regclass"
)
