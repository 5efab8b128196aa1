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
from lake.schema import OPS, Column, arrow_schema, described
from lake.sql import literal, parquet_relation

MONTH_FILES = 16
"""Files of one month that may collect before they are merged into one."""

_WHERE = described("""
    month          string   Partition: month in which it was judged or measured, UTC, YYYY-MM.
    stage          string   ingest, refine or warehouse; of costs also run: what belongs to no table.
    table_name     string   Lake table such as raw.shop__orders, or table of the warehouse.
    partition_key  string   Interval of the batch; whole for a table without intervals.
    attempt_id     string   Attempt that was judged; of a release a digest of its id and time; of costs their file.
    batch_id       string   Digest of the batch: the same work has the same id; empty if refused.
    run_id         string   Run that did it.
    release_id     string?  Release whose tables were judged; null for batches.
    outcome        string   published or refused.
""")

GATE_RESULT_COLUMNS = _WHERE + described("""
    rule             string       Id of the rule; of the guards: volume, anomaly, deletes.
    expectation      string       Great Expectations' name of it; empty for the guards.
    severity         string       critical, warning or info.
    is_row_level     bool         Whether it judges single rows.
    passed           bool         Whether the batch met the rule.
    observed         string?      Observed value, JSON.
    rows_unexpected  int64?       Rows that broke the rule; null for rules on the batch.
    rows_checked     int64        Rows that the gate read.
    error            string?      Why the rule could not be judged.
    judged_at        timestamptz  When the batch was published or refused, UTC.
""")

LEDGER_COLUMNS = _WHERE + described("""
    rows_in               int64        Rows that came in: published + quarantined + deduplicated + rejected.
    published             int64        Rows published.
    quarantined           int64        Rows set aside with the rules they broke.
    rejected              int64        Rows of a batch that was refused whole.
    deduplicated          int64        Older versions of a key that were dropped.
    deduplicated_because  string?      How many for which reason, JSON.
    carried               int64        Of the rows in and published: were live before and did not come again.
    deleted               int64        Of the rows published: marked as gone from the source.
    replayed              int64        Of the rows published: waited in quarantine before.
    discarded             int64        Of the rows quarantined: nobody needs them any more; the others wait.
    reason                string?      Why it was refused.
    warnings              string?      What a person should look at, JSON list.
    validation            string?      Great Expectations' own result of a batch: path below the lake's root.
    seconds               float64      Time of its steps up to the commit, in s.
    published_at          timestamptz  When it was published or refused, UTC.
""")

INCIDENT_COLUMNS = described("""
    month              string        Partition: month in which it was first seen, UTC, YYYY-MM.
    incident_id        string        Its name: i and a number that only grows.
    cause              string        Root cause, kind:what. Of one cause at most one incident is open.
    kind               string        source, refused, volume, drift, freshness, missing, failure or task.
    subject            string        What is wrong, in a few words.
    severity           string        critical, warning or info.
    owner              string        Who answers for it, by its spec or model; empty if nobody is named.
    state              string        open or resolved.
    reason             string        What is wrong, as it was last seen.
    intervals          string        Partition keys it is about, JSON list; empty where it is about none.
    affected           string        Tables and models made from what is broken, JSON list.
    command            string        What to run next.
    first_seen_at      timestamptz   When it was first seen, UTC.
    last_seen_at       timestamptz   When it was last seen, UTC.
    occurrences        int64         Failures, refusals and overdue intervals that were seen of it.
    last_evidence_at   timestamptz   Moment of the newest of them, UTC.
    episode            int64         1, and one more each time it came back soon after it was resolved.
    resolved_at        timestamptz?  When it was seen to be gone, UTC; null while it is open.
    part_of            string        Cause that it turned out to be a consequence of; empty if it is its own.
    acknowledged_at    timestamptz?  When somebody took it on, UTC; no reminders come after that.
    acknowledged_by    string        Who.
    acknowledged_note  string        What they said.
    told               string        By route, what was said when, and what could not be delivered; JSON.
""")

COST_COLUMNS = tuple(
    column for column in _WHERE if column.name not in {"batch_id", "release_id", "outcome"}
) + described("""
    step            string       extract, refine, models, gate, publish, record; rest of a batch; other of a run.
    times           int64        How often it was done.
    cpu_s           float64      CPU of the process and of children that ended meanwhile, in s.
    wall_s          float64      Time that passed, in s.
    read_bytes      int64        Bytes read by the process's read calls, page cache included.
    written_bytes   int64        Bytes written by its write calls.
    peak_rss_bytes  int64        Largest resident memory of the process up to its end, in bytes.
    measured_at     timestamptz  When the run kept it, UTC.
""")

QUERY_COLUMNS = described("""
    month        string       Partition: month in which it was asked, UTC, YYYY-MM.
    log          string       File of the server's log in which it stands.
    log_end      int64        Bytes of that file that are in the table up to its commit.
    asked_at     timestamptz  When it came, UTC.
    request_id   string       Id that the caller was told.
    subject      string       Who asked; empty if the token was refused.
    role         string       Role of the policy.
    token_id     string       Id of the token; empty if it has none.
    door         string       http, graphql or sql; others by their names.
    method       string       HTTP method, or what the door calls it.
    path         string       What was asked: the address without its parameters.
    question     string       Parameters, SQL or GraphQL document, the first 4,000 characters.
    release_id   string       Release that answered; empty if none did.
    status       int64        HTTP status.
    code         string       Code of the problem; empty if there was none.
    source       string       query, cache or unchanged.
    rows         int64?       Rows given; null where that has no sense.
    size_bytes   int64        Bytes of the answer's body.
    duration_ms  float64      To its last byte, in ms.
""")


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
