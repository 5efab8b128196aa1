"""One interval's next attempt: what is decided of its quarantined rows, judged together with its live rows.

Candidates are typed from text, those of another interval or with another interval's key set aside; then live rows and
candidates are staged and judged as one batch, candidates that fail are taken out, and the rest is judged again until
only rows that pass are left. See ``penstock/replay.py`` for what people ask, ``lake/rework.py`` for the commit.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.errors import CommitConflict, GateRefused, UnknownName, located
from lake.batches import Receipt
from lake.catalog import LiveFile
from lake.paths import WHOLE, TableId, engine_path, new_attempt
from lake.quarantine import ALL, QUARANTINE_COLUMNS, quarantined
from lake.rework import Repair, Rework, publish_rework
from lake.schema import DELETED_COLUMN, PARTITION_COLUMN, Column, arrow_schema
from lake.sql import identifier, literal, parquet_relation
from penstock.repair_rows import Candidate, Texts, texts_of, typed_rows

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from common.verdict import Verdict
    from ingestion.spec import SourceSpec, TableSpec
    from penstock.pipeline import Pipeline

_TRIES = 10
"""How often an interval is looked at again because another run was faster."""


@dataclass(frozen=True)
class Outcome:
    """What became of one row: ``published``, ``stays``, ``discarded`` or ``not waiting``."""

    row_id: str
    key: str
    outcome: str
    rules: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Decisions:
    """What is to become of an interval's quarantined rows.

    Attributes:
        replay: row id -> text of columns as they were repaired; those left out, or None for all, as they came.
        discard: row ids.
        by, reason: who decided, and why.
    """

    replay: Mapping[str, Texts | None]
    discard: frozenset[str]
    by: str
    reason: str


def declare(pipeline: Pipeline, table: TableId) -> None:
    """Tell the lake the columns of a table that rows are published to, and of those it is made from."""
    pipeline.declare_raw()
    if table.namespace == "raw":
        return
    refined = pipeline.refined(table.name)
    pipeline.lake.ensure(table, refined.columns, partition_by=PARTITION_COLUMN if refined.partitioned else None)


def decide(pipeline: Pipeline, table: TableId, key: str, decisions: Decisions) -> tuple[Receipt | None, list[Outcome]]:
    """Do it, again if another run was faster. Rows that do not wait any more are passed over.

    Returns:
        The new receipt, or None if nothing changed, and what became of each row.

    Raises:
        GateRefused: the live rows themselves break the suite of today, or the account does not add up.
        CommitConflict: other runs kept changing the interval.
        See ``common/errors.py``; whatever it is, the lake is as it was.
    """
    with located(table=str(table), interval=key):
        for tried in range(1, _TRIES):
            try:
                return _Attempt(pipeline, table, key, decisions).commit()
            except CommitConflict:
                time.sleep(0.05 * tried)
        return _Attempt(pipeline, table, key, decisions).commit()


class _Attempt:
    """One look at an interval, and what is made of it."""

    def __init__(self, pipeline: Pipeline, table: TableId, key: str, decisions: Decisions) -> None:
        self._pipeline, self._lake = pipeline, pipeline.lake
        self._table, self._key, self._decisions = table, key, decisions
        self._spec, self._source = _spec_of(pipeline, table)
        self._columns, self._field_ids = self._lake.columns(table)
        self._live = self._lake.live(table)
        self._mine = [file for file in self._live if file.key == key]
        base = self._lake.receipt(table, key)
        if base is None:
            raise UnknownName("The interval's receipt is lost.", remedy="run the interval again")
        self._base = base
        self._waiting = quarantined(self._lake, table, key, chosen=ALL).to_pylist()
        self._reasons: dict[str, tuple[str, str]] = {}
        self._attempt = new_attempt()
        self._files: list[str] = []
        self._written = 0

    def commit(self) -> tuple[Receipt | None, list[Outcome]]:
        """The new receipt, or None if nothing changed, and what became of each row."""
        open_rows = [row for row in self._waiting if row["discarded_at"] is None]
        candidates = [self._candidate(row) for row in open_rows if row["row_id"] in self._decisions.replay]
        discarded = [row for row in open_rows if row["row_id"] in self._decisions.discard]
        if not candidates and not discarded:
            return None, []
        started = time.perf_counter()
        passed, verdict, rows, dropped = self._judged(candidates)
        chosen = {candidates[n].row_id: candidates[n] for n in passed}
        repairs = tuple(
            Repair(c.row_id, "replay", str(c.waiting["rules"]), c.values if c.edited else None) for c in chosen.values()
        ) + tuple(Repair(row["row_id"], "discard", row["rules"]) for row in discarded)
        staying = [self._staying(row) for row in self._waiting if row["row_id"] not in chosen]
        outcomes = [self._outcome(c, c.row_id in chosen) for c in candidates]
        outcomes += [Outcome(row["row_id"], self._key, "discarded", row["rules"]) for row in discarded]
        if not repairs and staying == self._waiting:
            self._lake.delete_files(self._files)
            return None, outcomes
        work = Rework(
            self._table,
            self._base,
            frozenset(file.location for file in (self._live if self._moves else self._mine)),
            self._attempt,
            tuple(self._files),
            rows,
            _as_table(staying),
            verdict.to_dict() if verdict and passed else {},
            repairs,
            self._decisions.by,
            self._decisions.reason,
            *dropped,
            alone=self._moves,
            seconds={"replay": time.perf_counter() - started},
        )
        receipt = publish_rework(self._lake, work, run_id=self._pipeline.run_id)
        self._pipeline.teller.tell(receipt)
        return receipt, outcomes

    @property
    def _moves(self) -> bool:
        return self._spec is not None and self._spec.moves

    def _candidate(self, row: dict[str, Any]) -> Candidate:
        came, given = texts_of(row, self._columns), self._decisions.replay[row["row_id"]]
        values = came | (given or {})
        return Candidate(row, values, values != came)

    def _staying(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row of quarantine as it stays: discarded now, or with new reasons, or as it was."""
        if row["discarded_at"] is None and row["row_id"] in self._decisions.discard:
            who = {"discarded_by": self._decisions.by, "discard_reason": self._decisions.reason}
            return {**row, "discarded_at": self._lake.clock(), **who}
        if row["row_id"] in self._reasons:
            rules, reason = self._reasons[row["row_id"]]
            return {**row, "rules": rules, "reason": reason}
        return row

    def _outcome(self, candidate: Candidate, passed: bool) -> Outcome:
        if passed:
            return Outcome(candidate.row_id, self._key, "published", str(candidate.waiting["rules"]))
        return Outcome(candidate.row_id, self._key, "stays", *self._reasons[candidate.row_id])

    # -- judging ---------------------------------------------------------------------------------------------------

    def _judged(self, candidates: Sequence[Candidate]) -> tuple[list[int], Verdict | None, int, tuple[int, int]]:
        """Which candidates pass; the verdict of the files then; rows in them; live rows left out, those marked of them.

        Side effects: :attr:`_files` are written; none is left when it raises.
        """
        with self._lake.connect() as connection:
            try:
                left = self._typed(connection, candidates)
                rows, dropped = self._write_live(connection, left)
                verdict = None
                while left:
                    written = self._write_candidates(connection, left)
                    verdict = self._pipeline.judge(self._table, self._key, self._files)
                    failed = self._failed(verdict, candidates, left, rows)
                    if not failed:
                        self._refuse(verdict, rows)
                        return left, verdict, rows + written, dropped
                    self._lake.delete_files([self._files.pop()])
                    left = [n for n in left if n not in failed]
                    if sum(dropped):
                        self._lake.delete_files([self._files.pop()])
                        rows, dropped = self._write_live(connection, left)
            except BaseException:
                self._lake.delete_files(self._files)
                raise
        return [], verdict, rows, dropped

    def _typed(self, connection: duckdb.DuckDBPyConnection, candidates: Sequence[Candidate]) -> list[int]:
        """Make ``repaired``; the numbers of the candidates that are rows of this interval."""
        required = [c.name for c in self._columns if c.name in self._required()]
        bad = typed_rows(connection, self._columns, required, candidates, belongs=self._belongs())
        for n, problem in bad.items():
            self._reasons[candidates[n].row_id] = ("exact_value", problem)
        for n in self._elsewhere(connection):
            if n not in bad:
                found = "a version of its key is live in another interval"
                self._reasons[candidates[n].row_id], bad[n] = ("key_is_elsewhere", found), found
        return [n for n in range(len(candidates)) if n not in bad]

    def _required(self) -> set[str]:
        """Columns that may not be null."""
        if self._spec is not None:
            return {column.name for column in self._spec.lake_columns() if not column.nullable}
        return {column.name for column in self._pipeline.refined(self._table.name).columns if not column.nullable}

    def _belongs(self) -> str:
        """SQL that says of a row of another interval where it belongs."""
        if self._key == WHOLE:
            return "NULL"
        key = f"DATE {literal(self._key)}"
        days = [f"v.{identifier(PARTITION_COLUMN)}"]
        if self._spec is not None and self._source is not None and self._spec.interval_column:
            chosen = self._spec.column(self._spec.interval_column)
            name = f"v.{identifier(chosen.name)}"
            local = f"timezone({literal(self._source.time_zone)}, {name})" if chosen.type == "timestamptz" else name
            days.append(f"TRY_CAST({local} AS DATE)")
        other = "'it belongs to ' || {0} || ', not to this interval: correct it at the source'"
        return f"coalesce({', '.join(f'CASE WHEN {day} <> {key} THEN {other.format(day)} END' for day in days)})"

    def _elsewhere(self, connection: duckdb.DuckDBPyConnection) -> list[int]:
        """Candidates of whose key a version is live in another interval; only where rows may move."""
        others = [file for file in self._live if file.key != self._key and file.rows]
        if not (self._moves and others and self._spec):
            return []
        keys = ", ".join(identifier(name) for name in self._spec.primary_key)
        query = f"SELECT DISTINCT _n FROM repaired JOIN {self._relation(others)} USING ({keys})"
        return [int(row[0]) for row in connection.execute(query).fetchall()]

    def _relation(self, files: Sequence[LiveFile]) -> str:
        return parquet_relation([engine_path(file.location) for file in files], self._columns, self._field_ids)

    def _write_live(self, connection: duckdb.DuckDBPyConnection, left: Sequence[int]) -> tuple[int, tuple[int, int]]:
        """Write the live rows but those that a candidate takes the place of; how many, and how many of those."""
        relation, gone = self._relation(self._mine), "false"
        if self._spec is not None and (self._spec.moves or self._spec.keeps_deleted):
            same = " AND ".join(
                f"live.{identifier(c.name)} IS NOT DISTINCT FROM r.{identifier(c.name)}" for c in self._columns
            )
            if self._spec.keeps_deleted:
                keyed = " AND ".join(f"live.{identifier(n)} = r.{identifier(n)}" for n in self._spec.primary_key)
                same = f"({same}) OR (live.{identifier(DELETED_COLUMN)} IS NOT NULL AND {keyed})"
            numbers = ", ".join(map(str, left)) or "NULL"
            gone = f"EXISTS (SELECT 1 FROM repaired AS r WHERE r._n IN ({numbers}) AND ({same}))"
        marked = f"live.{identifier(DELETED_COLUMN)} IS NOT NULL" if _has(self._columns, DELETED_COLUMN) else "false"
        figures = connection.execute(
            f"SELECT count(*) FILTER ({gone}), count(*) FILTER (({gone}) AND {marked}) FROM {relation} AS live"
        ).fetchone()
        query = f"SELECT live.* FROM {relation} AS live WHERE NOT ({gone})"
        rows = self._write(connection, query)
        return rows, (int(figures[0]), int(figures[1])) if figures else (0, 0)

    def _write_candidates(self, connection: duckdb.DuckDBPyConnection, left: Sequence[int]) -> int:
        query = f"SELECT * EXCLUDE (_n, _problem) FROM repaired WHERE _n IN ({', '.join(map(str, left))}) ORDER BY _n"
        return self._write(connection, query)

    def _write(self, connection: duckdb.DuckDBPyConnection, query: str) -> int:
        # A name is used once: engines remember a file's bytes by its name.
        location = self._lake.staging_location(self._table, self._key, self._attempt, self._written)
        self._written += 1
        self._files.append(location)
        return self._lake.write(connection, query, self._table, location)

    def _failed(
        self, verdict: Verdict, candidates: Sequence[Candidate], left: Sequence[int], live_rows: int
    ) -> set[int]:
        """The candidates that the gate rejected, their reasons noted."""
        why = {result.rule: result.why or result.expectation for result in verdict.results}
        failed = set()
        for reject in verdict.rejects.to_pylist():
            place = reject["row_number"] - live_rows
            if place < 0:
                continue
            candidate, rules = candidates[left[place]], reject["rules"]
            reason = "; ".join(why[rule] for rule in sorted(rules))
            repaired = "as repaired: " if candidate.edited else ""
            self._reasons[candidate.row_id] = (",".join(rules), repaired + reason)
            failed.add(left[place])
        return failed

    def _refuse(self, verdict: Verdict, live_rows: int) -> None:
        """Refuse an interval that fails although no repaired row is to blame.

        Raises:
            GateRefused: with the remedy.
        """
        if verdict.passed and not verdict.rows_rejected:
            return
        broken = f"{verdict.rows_rejected} of {live_rows} live rows break its rules" if verdict.rows_rejected else ""
        raise GateRefused(
            f"The interval does not pass its suite as it is now: {'; '.join(verdict.reasons) or broken}.",
            table=str(self._table),
            interval=self._key,
            remedy="run the interval again, so that all its rows are judged by the suite of today, then replay; "
            "nothing was published",
        )


def _spec_of(pipeline: Pipeline, table: TableId) -> tuple[TableSpec | None, SourceSpec | None]:
    for spec in pipeline.sources().values():
        for each in spec.tables:
            if spec.raw(each.name) == table:
                return each, spec
    return None, None


def _has(columns: Sequence[Column], name: str) -> bool:
    return any(column.name == name for column in columns)


def _as_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    schema = arrow_schema(QUARANTINE_COLUMNS)
    return pa.Table.from_pylist([{name: row[name] for name in schema.names} for row in rows], schema=schema)
