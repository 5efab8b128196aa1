"""Quarantine: rejected rows as they came, with the rules they broke, until somebody repairs or discards them.

One table per lake table, ``quarantine.<namespace>__<name>``. The row itself is JSON text, so that a row fits whatever
columns its table has today or had when the row was rejected. Of a row that had its types (form ``typed``) every value
comes back exactly: numbers with all their digits, instants of any year, NaN and infinity as text, bytes as Base64.
A row without them (form ``source``) is told as its reader saw it.

A row's id comes of its interval and its content: the same row that is rejected again has the same id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import duckdb
from pyiceberg.conversions import from_bytes
from pyiceberg.types import TimestamptzType

from common.fault_points import reach
from common.verdict import Verdict
from lake.batches import Receipt, unaccounted
from lake.catalog import LiveFile
from lake.commit import replace_partition
from lake.lake import Lake
from lake.paths import TableId, attempt_of, engine_path
from lake.schema import Column, arrow_schema, described
from lake.sql import identifier, literal, parquet_relation

if TYPE_CHECKING:
    import pyarrow as pa

ABANDONED_AFTER = timedelta(days=1)
"""How long an attempt may take from rejecting rows to its commit; older ones that are not live have died."""

QUARANTINE_COLUMNS = described("""
    partition_key   string        Partition key of the batch the row came in.
    stage           string        Stage whose gate rejected it: ingest or refine.
    rules           string        Ids of the critical rules it broke, comma-separated.
    reason          string        The rules' reasons in words.
    row             string        The row as it came, JSON.
    position        string        Where it stood: row number in the batch, or object and line.
    batch_id        string        Batch it came in.
    attempt_id      string        Attempt that wrote the batch's live files.
    run_id          string        Run that rejected it.
    quarantined_at  timestamptz   When, UTC.
    row_id          string?       Names the row: the same row of the same interval always has the same id.
    form            string?       typed: every value of the row is exact; source: the row as its reader saw it.
    discarded_at    timestamptz?  When somebody decided that it is not needed; null while it waits.
    discarded_by    string?       Who did.
    discard_reason  string?       Why.
""")

TYPED, SOURCE = "typed", "source"


@dataclass(frozen=True)
class Chosen:
    """Which rows of a quarantine are meant; what is not set does not limit.

    Attributes:
        keys: partition keys.
        ids: row ids.
        rule: id of a rule that the row broke.
        run: id of the run that rejected it.
        discarded: rows that were discarded, rather than those that wait; None for both.
    """

    keys: Sequence[str] | None = None
    ids: Sequence[str] | None = None
    rule: str | None = None
    run: str | None = None
    discarded: bool | None = False

    @property
    def condition(self) -> str:
        """SQL over the columns of quarantine."""
        terms = []
        if self.ids is not None:
            terms.append(f"row_id IN ({', '.join(map(literal, self.ids)) or 'NULL'})")
        if self.rule is not None:
            terms.append(f"list_contains(string_split(rules, ','), {literal(self.rule)})")
        if self.run is not None:
            terms.append(f"run_id = {literal(self.run)}")
        if self.discarded is not None:
            terms.append(f"discarded_at IS {'NOT ' * self.discarded}NULL")
        return " AND ".join(terms) or "true"


ALL = Chosen(discarded=None)
"""Every row, discarded ones too."""


def quarantine_rows(
    connection: duckdb.DuckDBPyConnection,
    staged_relation: str,
    columns: Sequence[Column],
    *,
    verdict: Verdict,
    early_rejects: pa.Table,
    receipt: Receipt,
    quarantined_at: datetime,
) -> str:
    """A query that yields the rejected rows in :data:`QUARANTINE_COLUMNS`.

    Side effects: registers ``verdict_rejects``, ``verdict_reasons`` and ``early_rejects`` on the connection.
    """
    reasons = {r.rule: r.why or r.expectation for r in verdict.results if r.row_level and r.severity == "critical"}
    connection.register("verdict_rejects", verdict.rejects)
    import pyarrow as pa

    named = pa.schema([pa.field("rule", pa.string()), pa.field("why", pa.string())])
    connection.register("verdict_reasons", pa.table({"rule": list(reasons), "why": list(reasons.values())}, named))
    connection.register("early_rejects", early_rejects)
    constants = (
        f"{literal(receipt.batch_id)} AS batch_id, {literal(receipt.attempt)} AS attempt_id, "
        f"{literal(receipt.run_id)} AS run_id, TIMESTAMPTZ {literal(quarantined_at.isoformat())} AS quarantined_at"
    )
    row = ", ".join(f"{literal(c.name)}: {_as_json(c)}" for c in columns)
    head = f"{literal(receipt.key)} AS partition_key, {literal(receipt.stage)} AS stage"
    # Once for each combination of rules: asked for each row it takes more than reading the rows (measured).
    told = (
        "(SELECT rules, string_agg(why, '; ' ORDER BY rule) AS reason FROM "
        "(SELECT DISTINCT rules, unnest(rules) AS rule FROM verdict_rejects) JOIN verdict_reasons USING (rule) "
        "GROUP BY rules) AS told"
    )
    blank = "NULL AS discarded_at, NULL AS discarded_by, NULL AS discard_reason, NULL AS row_id"
    return _with_ids(
        f"SELECT {head}, array_to_string(bad.rules, ',') AS rules, told.reason, to_json({{{row}}})::VARCHAR AS row, "
        f"'row ' || staged.file_row_number AS position, {constants}, {literal(TYPED)} AS form, {blank} "
        f"FROM {staged_relation} AS staged JOIN verdict_rejects AS bad ON staged.file_row_number = bad.row_number "
        f"LEFT JOIN {told} ON told.rules = bad.rules "
        f"UNION ALL SELECT {head}, rule, reason, row, position, {constants}, {literal(SOURCE)}, NULL, NULL, NULL, NULL "
        "FROM early_rejects"
    )


def _as_json(column: Column) -> str:
    """SQL of a value that JSON can hold: infinity and NaN as text, bytes as Base64."""
    name = f"staged.{identifier(column.name)}"
    if column.type in {"float32", "float64"}:
        return f"CASE WHEN isfinite({name}) THEN to_json({name}) ELSE to_json({name}::VARCHAR) END"
    return f"to_base64({name})" if column.type == "binary" else name


def _with_ids(query: str) -> str:
    """A query of quarantined rows, those without an id given one: equal rows of an interval are counted through."""
    content = "substr(sha256(partition_key || chr(10) || row), 1, 16)"
    return (
        "SELECT * REPLACE (coalesce(row_id, _content || CASE WHEN _copy > 1 THEN '-' || _copy ELSE '' END) AS row_id) "
        f"FROM (SELECT *, row_number() OVER (PARTITION BY _content, row_id IS NULL ORDER BY position) AS _copy "
        f"FROM (SELECT *, {content} AS _content FROM ({query})))"
    )


def still_needed(lake: Lake, table: TableId, key: str, waiting: Sequence[LiveFile]) -> list[LiveFile]:
    """Files of a quarantine partition that have to stay when another one is added.

    Those of the live attempt of ``table``, and those written less than a day ago: their attempt may be about to be
    published by a run beside this one. When its rows were rejected says less: a replay writes those that stay anew.
    """
    live = set(lake.live_attempts(table, key).values())
    columns, field_ids = lake.columns(table.quarantine)
    field_id = field_ids[[column.name for column in columns].index("quarantined_at")]
    horizon = lake.clock() - ABANDONED_AFTER

    def is_young(file: LiveFile) -> bool:
        bound = (file.data_file.lower_bounds or {}).get(field_id)
        if bound is None or int(from_bytes(TimestamptzType(), bound)) >= int(horizon.timestamp() * 1_000_000):
            return True  # without a look at the store: no file is older than its rows
        written_at = lake.storage.written_at(file.location)
        return written_at is None or written_at >= horizon

    return [file for file in waiting if attempt_of(file.location) in live or is_young(file)]


def carry_quarantine(
    connection: duckdb.DuckDBPyConnection, lake: Lake, table: TableId, key: str, attempt: str, receipt: Receipt
) -> None:
    """Let the rejected rows of one attempt count for another one, which writes the same batch's rows anew.

    Side effects: a copy of them is committed under the attempt of ``receipt``; it counts once that attempt is live, and
    what it is copied from until then.
    """
    lake.ensure(table.quarantine, QUARANTINE_COLUMNS, partition_by="partition_key")
    columns, field_ids = lake.columns(table.quarantine)
    live = lake.live(table.quarantine, key)
    paths = [engine_path(file.location) for file in live if attempt_of(file.location) == attempt]
    commit_quarantine(connection, lake, table, receipt, parquet_relation(paths, columns, field_ids))


def commit_quarantine(
    connection: duckdb.DuckDBPyConnection, lake: Lake, table: TableId, receipt: Receipt, rows: str
) -> None:
    """Commit rejected rows of one attempt before its data: they count only while that attempt is live.

    Args:
        connection: where ``rows`` can be asked.
        lake: the lake.
        table: the table that the rows were rejected from.
        receipt: of the attempt.
        rows: a relation with :data:`QUARANTINE_COLUMNS`.

    Raises:
        GateRefused: these are not as many rows as the receipt says.

    Side effects: one commit to the quarantine table; rows of attempts that died are dropped on the way.
    """
    waiting = table.quarantine
    lake.ensure(waiting, QUARANTINE_COLUMNS, partition_by="partition_key")
    location = lake.staging_location(waiting, receipt.key, receipt.attempt)
    query = f"SELECT * REPLACE ({literal(receipt.attempt)} AS attempt_id) FROM {rows}"
    written = lake.write(connection, query, waiting, location)
    if written != receipt.quarantined:
        lake.storage.delete(location)
        raise unaccounted(receipt, f"{written} of {receipt.quarantined} rejected rows were found")
    reach("lake.quarantine.before_commit")
    replace_partition(
        lake.catalog,
        waiting,
        receipt.key,
        [location],
        attempt=receipt.attempt,
        summary={"penstock.batch_id": receipt.batch_id, "penstock.run_id": receipt.run_id},
        keep=lambda there: still_needed(lake, table, receipt.key, there),
    )


def quarantined(
    lake: Lake, table: TableId, key: str | None = None, limit: int | None = None, *, chosen: Chosen = ALL
) -> pa.Table:
    """The rows of ``table`` in quarantine now, newest partition last.

    Only rows of live batches count: those of a superseded batch have been judged again since.

    Args:
        lake: the lake.
        table: the table that the rows were rejected from.
        key: only this partition.
        limit: at most so many rows.
        chosen: which rows.
    """
    waiting = table.quarantine
    if not lake.exists(waiting):
        return arrow_schema(QUARANTINE_COLUMNS).empty_table()
    lake.ensure(waiting, QUARANTINE_COLUMNS, partition_by="partition_key")
    live = set(lake.live_attempts(table, key).values())
    columns, field_ids = lake.columns(waiting)
    keys = None if chosen.keys is None else set(chosen.keys)
    files = [f for f in lake.live(waiting, key) if attempt_of(f.location) in live and (keys is None or f.key in keys)]
    relation = parquet_relation([engine_path(f.location) for f in files], columns, field_ids)
    limited = f" LIMIT {int(limit)}" if limit is not None else ""
    names = ", ".join(identifier(column.name) for column in columns)
    with lake.connect() as connection:
        found = f"({_with_ids(f'SELECT * FROM {relation}')})"
        query = (
            f"SELECT {names} FROM {found} WHERE {chosen.condition} ORDER BY partition_key, position, row_id{limited}"
        )
        return connection.execute(query).to_arrow_table()


def rows_stored(lake: Lake, table: TableId) -> dict[str, int]:
    """Rows in quarantine by partition key, counted by the lake's own metadata: what receipts are held against."""
    if not lake.exists(table.quarantine):
        return {}
    live = lake.live_attempts(table)
    found: dict[str, int] = {}
    for file in lake.live(table.quarantine):
        if live.get(file.key) == attempt_of(file.location):
            found[file.key] = found.get(file.key, 0) + file.rows
    return found
