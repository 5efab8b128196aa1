"""Tables ``ops.*``: what gates judged, where rows went, what it cost and who asked. Derived, never a second book.

::

    receipts, refusals, manifests, cost files ──▶ rows of attempts that the table does not have ──▶ ONE commit, by month

What is true of the data is read off the live files and their receipts; these tables are filled from them and can be
filled again. Which attempts a table has is read off its own live files inside the loop that commits: whoever is
overtaken looks again, so each attempt stands in it once, whoever syncs beside or after a crash. A month's files are
merged into one when there are many, so that a table read once a day for years stays a few files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.fault_points import reach
from lake.catalog import LiveFile
from lake.commit import Change
from lake.lake import Lake
from lake.paths import TableId, engine_path, new_attempt
from lake.plans import Plan, commit_planned
from lake.schema import OPS, Column, arrow_schema
from lake.sql import literal, parquet_relation

MONTH_FILES = 16
"""Files of one month that may collect before they are merged into one."""

_WHERE = (
    Column("month", "string", False, "Partition: month in which it was judged or measured, UTC, YYYY-MM."),
    Column("stage", "string", False, "ingest, refine or warehouse; of costs also run: what belongs to no table."),
    Column("table_name", "string", False, "Lake table such as raw.shop__orders, or table of the warehouse."),
    Column("partition_key", "string", False, "Interval of the batch; whole for a table without intervals."),
    Column(
        "attempt_id",
        "string",
        False,
        "Attempt that was judged; of a release a digest of its id and time; of costs their file.",
    ),
    Column("batch_id", "string", False, "Digest of the batch: the same work has the same id; empty if refused."),
    Column("run_id", "string", False, "Run that did it."),
    Column("release_id", "string", True, "Release whose tables were judged; null for batches."),
    Column("outcome", "string", False, "published or refused."),
)

GATE_RESULT_COLUMNS = (
    *_WHERE,
    Column("rule", "string", False, "Id of the rule; of the guards: volume, anomaly, deletes."),
    Column("expectation", "string", False, "Great Expectations' name of it; empty for the guards."),
    Column("severity", "string", False, "critical, warning or info."),
    Column("is_row_level", "bool", False, "Whether it judges single rows."),
    Column("passed", "bool", False, "Whether the batch met the rule."),
    Column("observed", "string", True, "Observed value, JSON."),
    Column("rows_unexpected", "int64", True, "Rows that broke the rule; null for rules on the batch."),
    Column("rows_checked", "int64", False, "Rows that the gate read."),
    Column("error", "string", True, "Why the rule could not be judged."),
    Column("judged_at", "timestamptz", False, "When the batch was published or refused, UTC."),
)

LEDGER_COLUMNS = (
    *_WHERE,
    Column("rows_in", "int64", False, "Rows that came in: published + quarantined + deduplicated + rejected."),
    Column("published", "int64", False, "Rows published."),
    Column("quarantined", "int64", False, "Rows set aside with the rules they broke."),
    Column("rejected", "int64", False, "Rows of a batch that was refused whole."),
    Column("deduplicated", "int64", False, "Older versions of a key that were dropped."),
    Column("deduplicated_because", "string", True, "How many for which reason, JSON."),
    Column("carried", "int64", False, "Of the rows in and published: were live before and did not come again."),
    Column("deleted", "int64", False, "Of the rows published: marked as gone from the source."),
    Column("replayed", "int64", False, "Of the rows published: waited in quarantine before."),
    Column("discarded", "int64", False, "Of the rows quarantined: nobody needs them any more; the others wait."),
    Column("reason", "string", True, "Why it was refused."),
    Column("warnings", "string", True, "What a person should look at, JSON list."),
    Column("validation", "string", True, "Great Expectations' own result of a batch: path below the lake's root."),
    Column("seconds", "float64", False, "Time of its steps up to the commit, in s."),
    Column("published_at", "timestamptz", False, "When it was published or refused, UTC."),
)

INCIDENT_COLUMNS = (
    Column("month", "string", False, "Partition: month in which it was first seen, UTC, YYYY-MM."),
    Column("incident_id", "string", False, "Its name: i and a number that only grows."),
    Column("cause", "string", False, "Root cause, kind:what. Of one cause at most one incident is open."),
    Column("kind", "string", False, "source, refused, volume, drift, freshness, missing, failure or task."),
    Column("subject", "string", False, "What is wrong, in a few words."),
    Column("severity", "string", False, "critical, warning or info."),
    Column("owner", "string", False, "Who answers for it, by its spec or model; empty if nobody is named."),
    Column("state", "string", False, "open or resolved."),
    Column("reason", "string", False, "What is wrong, as it was last seen."),
    Column("intervals", "string", False, "Partition keys it is about, JSON list; empty where it is about none."),
    Column("affected", "string", False, "Tables and models made from what is broken, JSON list."),
    Column("command", "string", False, "What to run next."),
    Column("first_seen_at", "timestamptz", False, "When it was first seen, UTC."),
    Column("last_seen_at", "timestamptz", False, "When it was last seen, UTC."),
    Column("occurrences", "int64", False, "Failures, refusals and overdue intervals that were seen of it."),
    Column("last_evidence_at", "timestamptz", False, "Moment of the newest of them, UTC."),
    Column("episode", "int64", False, "1, and one more each time it came back soon after it was resolved."),
    Column("resolved_at", "timestamptz", True, "When it was seen to be gone, UTC; null while it is open."),
    Column("part_of", "string", False, "Cause that it turned out to be a consequence of; empty if it is its own."),
    Column("acknowledged_at", "timestamptz", True, "When somebody took it on, UTC; no reminders come after that."),
    Column("acknowledged_by", "string", False, "Who."),
    Column("acknowledged_note", "string", False, "What they said."),
    Column("told", "string", False, "By route, what was said when, and what could not be delivered; JSON."),
)

_BY_NAME = {column.name: column for column in _WHERE}

COST_COLUMNS = (
    *(_BY_NAME[name] for name in ("month", "stage", "table_name", "partition_key", "attempt_id", "run_id")),
    Column("step", "string", False, "extract, refine, models, gate, publish, record; rest of a batch; other of a run."),
    Column("times", "int64", False, "How often it was done."),
    Column("cpu_s", "float64", False, "CPU of the process and of children that ended meanwhile, in s."),
    Column("wall_s", "float64", False, "Time that passed, in s."),
    Column("read_bytes", "int64", False, "Bytes read by the process's read calls, page cache included."),
    Column("written_bytes", "int64", False, "Bytes written by its write calls."),
    Column("peak_rss_bytes", "int64", False, "Largest resident memory of the process up to its end, in bytes."),
    Column("measured_at", "timestamptz", False, "When the run kept it, UTC."),
)

QUERY_COLUMNS = (
    Column("month", "string", False, "Partition: month in which it was asked, UTC, YYYY-MM."),
    Column("log", "string", False, "File of the server's log in which it stands."),
    Column("log_end", "int64", False, "Bytes of that file that are in the table up to its commit."),
    Column("asked_at", "timestamptz", False, "When it came, UTC."),
    Column("request_id", "string", False, "Id that the caller was told."),
    Column("subject", "string", False, "Who asked; empty if the token was refused."),
    Column("role", "string", False, "Role of the policy."),
    Column("token_id", "string", False, "Id of the token; empty if it has none."),
    Column("door", "string", False, "http, graphql or sql; others by their names."),
    Column("method", "string", False, "HTTP method, or what the door calls it."),
    Column("path", "string", False, "What was asked: the address without its parameters."),
    Column("question", "string", False, "Parameters, SQL or GraphQL document, the first 4,000 characters."),
    Column("release_id", "string", False, "Release that answered; empty if none did."),
    Column("status", "int64", False, "HTTP status."),
    Column("code", "string", False, "Code of the problem; empty if there was none."),
    Column("source", "string", False, "query, cache or unchanged."),
    Column("rows", "int64", True, "Rows given; null where that has no sense."),
    Column("size_bytes", "int64", False, "Bytes of the answer's body."),
    Column("duration_ms", "float64", False, "To its last byte, in ms."),
)


@dataclass(frozen=True)
class OpsTable:
    """One of the tables; rows of verdicts and batches are identified by ``attempt_id``.

    Attributes:
        table: its name.
        columns: its columns.
        description: what it holds, and what a row is.
        withheld: columns that releases do not get.
        copied: SQL condition on the rows that releases get.
    """

    table: TableId
    columns: tuple[Column, ...]
    description: str
    withheld: tuple[str, ...] = ("month",)
    copied: str = "true"


GATE_RESULTS = OpsTable(
    TableId(OPS, "gate_results"), GATE_RESULT_COLUMNS, "What gates judged. One row per rule of each verdict."
)
LEDGER = OpsTable(
    TableId(OPS, "ledger"), LEDGER_COLUMNS, "Where each row went. One row per batch, refusal, and changed interval."
)
INCIDENTS = OpsTable(
    TableId(OPS, "incidents"), INCIDENT_COLUMNS, "What is or was wrong. One row per root cause and time it was wrong."
)
COSTS = OpsTable(
    TableId(OPS, "costs"), COST_COLUMNS, "What work has used. One row per step, table and interval of a run."
)
QUERIES = OpsTable(
    TableId(OPS, "queries"),
    QUERY_COLUMNS,
    "Who asked what of the server, and what became of it. One row per request.",
    withheld=("month", "log", "log_end", "token_id", "question"),
    copied="asked_at >= now() - INTERVAL 31 DAY",
)
OPS_TABLES = (GATE_RESULTS, LEDGER, COSTS, INCIDENTS, QUERIES)

Row = Mapping[str, Any]


def declare_ops(lake: Lake) -> None:
    """Make sure the tables exist and hold their columns."""
    for ops in OPS_TABLES:
        lake.ensure(ops.table, ops.columns, partition_by="month")


def ops_relation(lake: Lake, ops: OpsTable) -> str:
    """A DuckDB relation over a table's rows, of the current snapshot. The tables must be declared."""
    return relation(lake, ops, lake.live(ops.table))


def remembered(lake: Lake, ops: OpsTable, live: Sequence[LiveFile] | None = None) -> set[str]:
    """Attempts that a table has: one column of its live files is read."""
    files = lake.live(ops.table) if live is None else live
    with lake.connect() as connection:
        rows = connection.execute(f"SELECT DISTINCT attempt_id FROM {relation(lake, ops, files)}").fetchall()
    return {str(attempt) for (attempt,) in rows}


def append_missing(lake: Lake, ops: OpsTable, rows: Sequence[Row], *, run_id: str) -> int:
    """Add the rows of those attempts that the table does not have.

    Args:
        lake: the lake; the tables are declared.
        ops: the table.
        rows: rows with the table's columns; all of an attempt's rows come together.
        run_id: the run, for the snapshot.

    Returns:
        Rows added.

    Raises:
        CommitConflict, StateCorrupt, StoreUnavailable: see :func:`lake.commit.change_partitions`.

    Side effects: one commit, or none if nothing is missing.
    """
    added = 0

    def make(live: Sequence[LiveFile]) -> Plan | None:
        nonlocal added
        known = remembered(lake, ops, live)
        missing = [row for row in rows if row["attempt_id"] not in known]
        added = len(missing)
        return append_plan(lake, ops, missing, live, run_id=run_id) if missing else None

    landed = commit_planned(lake, ops.table, make, interval="history") if rows else None
    return added if landed else 0


def append_plan(lake: Lake, ops: OpsTable, rows: Sequence[Row], live: Sequence[LiveFile], *, run_id: str) -> Plan:
    """What adds rows to a table whose live files are these. Side effects: files are written that nobody reads yet."""
    import pyarrow as pa

    attempt = new_attempt()
    kept = [file for file in live if file.rows]
    files: dict[str, tuple[str, ...]] = {}
    try:
        with lake.connect() as connection:
            connection.register("came", pa.Table.from_pylist(list(rows), schema=arrow_schema(ops.columns)))
            for month in sorted({str(row["month"]) for row in rows}):
                query = f"SELECT * FROM came WHERE month = {literal(month)}"
                mine = [file for file in kept if file.key == month]
                if len(mine) >= MONTH_FILES:
                    kept = [file for file in kept if file.key != month]
                    query = f"SELECT * FROM {relation(lake, ops, mine)} UNION ALL {query}"
                location = lake.staging_location(ops.table, month, attempt)
                files[month] = (location,)
                lake.write(connection, query, ops.table, location)
        reach("lake.ops.before_commit")
    except BaseException:
        lake.delete_files([location for locations in files.values() for location in locations])
        raise
    return Plan(Change(attempt, files, {"penstock.run_id": run_id}, frozenset(file.location for file in kept)))


def relation(lake: Lake, ops: OpsTable, files: Iterable[LiveFile]) -> str:
    """The same over some of its files."""
    columns, field_ids = lake.columns(ops.table)
    return parquet_relation(sorted(engine_path(file.location) for file in files if file.rows), columns, field_ids)
