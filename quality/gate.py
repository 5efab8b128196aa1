"""The gate: staged rows + suite -> verdict. Fails closed.

One :class:`Gate` per process audits hundreds of batches: Great Expectations is imported at the first audit (6 CPU-s),
and plans are kept per suite and schema, so that a later batch costs a few SQL statements and GX's own judging. A fresh
process per batch would spend 50 times more.

What refuses a batch, and nothing else:

* a rule that raised, whatever its severity: an answer nobody has is not a pass;
* a critical batch-level rule that failed;
* more rejected rows than the suite's budget, or a critical row-level rule below its own ``mostly``;
* no row left, when there were some.

GX's own ``success`` of the suite is not used: one failed ``info`` rule makes it False, an empty suite True.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from common.errors import GateCrashed, PenstockError
from common.verdict import REJECTS_SCHEMA, RuleResult, Verdict
from lake.schema import Column
from quality import relation
from quality.flags import reject_statement
from quality.suite import Suite

if TYPE_CHECKING:
    from quality.audit import Audit
    from quality.engine import DuckDBExecutionEngine
    from quality.plan import Plan

_PLANS_KEPT = 128
_ONE_AT_A_TIME = threading.RLock()  # GX shared by threads gave wrong results without an error (measured)


class Gate:
    """Judges batches. Create one per process; cheap until its first audit. Threads wait for each other.

    Args:
        threads: threads of the gate's own DuckDB.
        memory_limit_mb: memory limit of the gate's own DuckDB in MB; None for DuckDB's default.
        spill_directory: where its DuckDB may put what does not fit in memory; a temporary folder by default.
        prepare_connection: called once with the gate's own connection, to load extensions and secrets.
    """

    def __init__(
        self,
        *,
        threads: int = 2,
        memory_limit_mb: int | None = None,
        spill_directory: Path | None = None,
        prepare_connection: Callable[[duckdb.DuckDBPyConnection], None] | None = None,
    ) -> None:
        self._threads = threads
        self._memory_limit_mb = memory_limit_mb
        self._spill_directory = spill_directory or Path(tempfile.gettempdir()) / f"penstock-gate-{os.getpid()}"
        self._prepare = prepare_connection
        self._own: duckdb.DuckDBPyConnection | None = None
        self._engine: DuckDBExecutionEngine | None = None
        self._plans: OrderedDict[tuple[str, ...], Plan] = OrderedDict()
        self._last: dict[str, Audit] = {}

    def audit_files(
        self,
        suite: Suite,
        files: Sequence[str],
        *,
        columns: Sequence[Column],
        references: Mapping[str, Sequence[str]] | None = None,
        connection: duckdb.DuckDBPyConnection | None = None,
        parameters: Mapping[str, Any] | None = None,
        rejected_before: int = 0,
    ) -> Verdict:
        """Judge staged Parquet files as one batch.

        Args:
            suite: the table's suite.
            files: local paths or object URIs, read as one relation in list order. A rejected row's ``row_number`` is
                its zero-based position over all of them.
            columns: the columns the files were promised to have.
            references: Parquet files of the tables that ``suite.references`` names.
            connection: a caller's connection to read with; the gate's own by default. A cursor of it is used, so its
                settings and temporary objects stay as they are. Its file cache too: stage under fresh names.
            parameters: values of ``{$PARAMETER: name}`` arguments.
            rejected_before: rows of the batch that were rejected before they could be staged; the budget counts them.

        Raises:
            GateCrashed: the gate could not run. No verdict means no publish.
            SpecError: the suite names an unknown expectation or argument.

        Side effects: none outside the gate's own DuckDB.
        """
        with self._running(suite.name, connection) as used:
            started = time.perf_counter()
            try:
                relation.show_reference_files(used, suite, references or {})
                schema = relation.show_files(used, files, columns)
                audit = self._audit(suite, schema, used, parameters or {})
                rejects = _rejects(used, audit)
            finally:
                relation.hide(used, suite)
            self._last = {suite.name: audit}
        return _verdict(suite, audit, rejects, time.perf_counter() - started, rejected_before)

    def audit_database(
        self, suites: Mapping[str, Suite], database: Path, *, parameters: Mapping[str, Any] | None = None
    ) -> dict[str, Verdict]:
        """Judge tables of a candidate DuckDB file. Rows cannot be rejected here: any failed critical rule refuses.

        Args:
            suites: suite by table name (``name`` or ``schema.name``). References of a suite are tables of the file.
            database: the file; opened read-only and closed again.
            parameters: values of ``{$PARAMETER: name}`` arguments.

        Raises:
            GateCrashed: the gate could not run: no suites, a file or table that is missing or locked.
            SpecError: a suite names an unknown expectation or argument.
        """
        verdicts: dict[str, Verdict] = {}
        audits: dict[str, Audit] = {}
        with self._running(str(database), None) as used:
            if not suites:
                raise GateCrashed("There are no suites for the candidate.", remedy="write quality/suites/warehouse")
            attached = relation.attach(used, database)
            try:
                for table, suite in suites.items():
                    started = time.perf_counter()
                    try:
                        relation.show_reference_tables(used, suite, attached)
                        schema = relation.show_table(used, attached, table)
                        audits[suite.name] = self._audit(suite, schema, used, parameters or {})
                    finally:
                        relation.hide(used, suite)
                    verdicts[table] = _verdict(suite, audits[suite.name], None, time.perf_counter() - started)
            finally:
                relation.detach(used, attached)
            self._last = audits
        return verdicts

    def validation_json(self, suite: str) -> str:
        """Great Expectations' own JSON result of a suite in the last audit, for its documentation and history tools.

        Args:
            suite: suite name.

        Raises:
            KeyError: the last audit did not judge that suite.
        """
        from quality.results import suite_json

        return suite_json(suite, [judgement.gx for judgement in self._last[suite].judgements])

    def close(self) -> None:
        """Close the gate's own DuckDB. The gate can be used again."""
        with _ONE_AT_A_TIME:
            self._engine = None
            if self._own is not None:
                self._own.close()
            self._own = None

    @contextmanager
    def _running(self, what: str, connection: duckdb.DuckDBPyConnection | None) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to judge with; any failure becomes a refusal that names its cause."""
        with _ONE_AT_A_TIME:
            borrowed: duckdb.DuckDBPyConnection | None = None
            try:
                if connection is not None:
                    borrowed = connection.cursor()
                    borrowed.execute("SET TimeZone = 'UTC'")
                yield borrowed or self._own_connection()
            except PenstockError:
                raise
            except Exception as error:
                cause = " ".join(str(error).split()) or type(error).__name__
                raise GateCrashed(
                    f"The gate could not run: {type(error).__name__}: {cause[:500]}",
                    table=what,
                    remedy="correct the cause and run the batch again; nothing was published",
                ) from error
            finally:
                if borrowed is not None:
                    borrowed.close()

    def _own_connection(self) -> duckdb.DuckDBPyConnection:
        if self._own is None:
            config: dict[str, Any] = {
                "threads": self._threads,
                "temp_directory": str(self._spill_directory),
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            }
            if self._memory_limit_mb is not None:
                config["memory_limit"] = f"{self._memory_limit_mb}MB"
            own = duckdb.connect(config=config)
            own.execute("SET TimeZone = 'UTC'")
            own.execute("SET enable_progress_bar = false")
            if self._prepare is not None:
                self._prepare(own)
            self._own = own
        # DuckDB keeps read blocks by path and a coarse time: a file rewritten within a second was judged by its old
        # bytes (measured). Switching the cache off empties it; on again, the statements of one audit share it.
        self._own.execute("SET enable_external_file_cache = false; SET enable_external_file_cache = true")
        return self._own

    def _audit(
        self,
        suite: Suite,
        schema: relation.Schema,
        connection: duckdb.DuckDBPyConnection,
        parameters: Mapping[str, Any],
    ) -> Audit:
        if not suite.expectations:
            raise GateCrashed(
                f"Suite {suite.name} has no expectations, so it would pass anything.",
                table=suite.name,
                remedy="add at least one expectation",
            )
        from quality.audit import audit
        from quality.engine import DuckDBExecutionEngine
        from quality.plan import Planner

        if self._engine is None:
            self._engine = DuckDBExecutionEngine(connection)
        self._engine.connection = connection
        key = (suite.model_dump_json(), repr(schema), json.dumps(dict(parameters), sort_keys=True, default=str))
        plan = self._plans.pop(key, None) or Planner(self._engine, suite, parameters).build()
        if not any(item.error for item in plan.rules):
            self._plans[key] = plan
        if len(self._plans) > _PLANS_KEPT:
            self._plans.popitem(last=False)
        return audit(plan, self._engine)


def _rejects(connection: duckdb.DuckDBPyConnection, audit: Audit) -> pa.Table:
    critical = {
        judgement.test: judgement.result.rule
        for judgement in audit.judgements
        if judgement.test is not None and _rejects_rows(judgement.result)
    }
    if not critical:
        return REJECTS_SCHEMA.empty_table()
    return connection.execute(reject_statement(critical)).to_arrow_table().cast(REJECTS_SCHEMA)


def _rejects_rows(result: RuleResult) -> bool:
    return result.severity == "critical" and result.row_level and not result.error and bool(result.rows_unexpected)


def _verdict(suite: Suite, audit: Audit, rejects: pa.Table | None, seconds: float, rejected_before: int = 0) -> Verdict:
    results = tuple(judgement.result for judgement in audit.judgements)
    kept = REJECTS_SCHEMA.empty_table() if rejects is None else rejects
    rejected = None if rejects is None else rejects.num_rows + rejected_before
    reasons = tuple(_reasons(suite, results, audit.rows_checked + rejected_before, rejected))
    return Verdict(
        suite=suite.name,
        passed=not reasons,
        results=results,
        rows_checked=audit.rows_checked,
        rejects=kept,
        reasons=reasons,
        seconds=seconds,
    )


def _reasons(suite: Suite, results: Sequence[RuleResult], rows: int, rejected: int | None) -> Iterator[str]:
    """Why a batch is refused.

    Args:
        suite: for the budget, and which rules state ``mostly``.
        results: one per rule.
        rows: rows that came in.
        rejected: rows rejected, here or before; None where rows cannot be rejected.
    """
    own_budget = {rule.id for rule in suite.expectations if rule.mostly is not None}
    for result in results:
        if result.error:
            yield f"{result.rule} could not be judged: {result.error}"
        elif result.severity == "critical" and not result.passed:
            if not result.row_level:
                yield f"{result.rule} failed: observed {json.dumps(result.observed, default=str)[:200]}"
            elif rejected is None or result.rule in own_budget:
                yield f"{result.rule} failed on {result.rows_unexpected} of {rows} rows"
    if not rejected:
        return
    most, share = suite.budget.max_rejected_rows, suite.budget.max_rejected_share
    if most is not None and rejected > most:
        yield f"{rejected} rows rejected, more than max_rejected_rows = {most}"
    if share is not None and rejected > share * rows:
        yield f"{rejected} of {rows} rows rejected, more than max_rejected_share = {share}"
    if rejected == rows:
        yield f"all {rows} rows rejected"
