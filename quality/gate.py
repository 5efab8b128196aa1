"""The gate: staged rows + suite -> verdict. Fails closed.

One :class:`Gate` per process audits hundreds of batches: Great Expectations is imported at the first audit (6 CPU-s),
and plans are kept per suite and schema, so that a later batch costs a few SQL statements and GX's own judging. A fresh
process per batch would spend 50 times more.

What refuses a batch is said in ``quality/decide.py``. A gate that cannot run - no suite, an expectation nobody knows,
a file that cannot be read, no time left - raises :class:`GateCrashed`, which is a refusal that nobody can accept.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from common.errors import GateCrashed, PenstockError, SpecError
from common.verdict import Verdict
from lake.schema import Column
from quality import relation
from quality.deadline import Deadline, OutOfTime
from quality.decide import decide, find_rejects, keep_rejected_rows
from quality.suite import Suite

if TYPE_CHECKING:
    from quality.audit import Audit
    from quality.engine import DuckDBExecutionEngine
    from quality.plan import Plan

_PLANS_KEPT = 128
_ONE_AT_A_TIME = threading.RLock()  # GX shared by threads gave wrong results without an error (measured)


class _Kept:
    """The file of the last audit's rejected rows; gone with the next audit, the gate or the process."""

    def __init__(self) -> None:
        self.path: Path | None = None

    def clear(self) -> None:
        """Delete it if there is one."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        self.path = None


class Gate:
    """Judges batches. Create one per process; cheap until its first audit. Threads wait for each other.

    Args:
        threads: threads of the gate's own DuckDB.
        memory_limit_mb: memory limit of the gate's own DuckDB in MB; None for DuckDB's default.
        spill_directory: where its DuckDB may put what does not fit in memory; a temporary folder by default.
        prepare_connection: called once with the gate's own connection, to load extensions and secrets.
        timeout_s: how long one audit may take; None for any time.
    """

    def __init__(
        self,
        *,
        threads: int = 2,
        memory_limit_mb: int | None = None,
        spill_directory: Path | None = None,
        prepare_connection: Callable[[duckdb.DuckDBPyConnection], None] | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self._threads = threads
        self._memory_limit_mb = memory_limit_mb
        self._spill_directory = spill_directory or Path(tempfile.gettempdir()) / f"penstock-gate-{os.getpid()}"
        self._prepare = prepare_connection
        self._timeout_s = timeout_s
        self._own: duckdb.DuckDBPyConnection | None = None
        self._engine: DuckDBExecutionEngine | None = None
        self._kept = _Kept()
        weakref.finalize(self, self._kept.clear)
        self._plans: OrderedDict[tuple[str, ...], Plan] = OrderedDict()

    def audit_files(
        self,
        suite: Suite,
        files: Sequence[str],
        *,
        columns: Sequence[Column],
        field_ids: Sequence[int] | None = None,
        references: Mapping[str, Sequence[str]] | None = None,
        connection: duckdb.DuckDBPyConnection | None = None,
        parameters: Mapping[str, Any] | None = None,
        rejected_before: int = 0,
    ) -> Verdict:
        """Judge Parquet files as one batch: those that were staged, or those of a lake snapshot.

        Args:
            suite: the table's suite.
            files: local paths or object URIs, read as one relation in list order. A rejected row's ``row_number`` is
                its zero-based position over all of them.
            columns: the columns the files were promised to have.
            field_ids: the columns' Iceberg field ids, of files of a lake snapshot: older ones may have fewer columns.
            references: Parquet files of the tables that ``suite.references`` names.
            connection: a caller's connection to read with; the gate's own by default. A cursor of it is used, so its
                settings and temporary objects stay as they are. Its file cache too: stage under fresh names.
            parameters: values of ``{$PARAMETER: name}`` arguments.
            rejected_before: rows of the batch that were rejected before they could be staged; the budget counts them.

        Raises:
            GateCrashed: the gate could not run, or not in time. No verdict means no publish.

        Side effects: none outside the gate's own DuckDB.
        """
        deadline = Deadline(self._timeout_s)
        started = time.perf_counter()
        with self._running(suite.name, connection, deadline) as used:
            try:
                relation.show_reference_files(used, suite, references or {})
                schema = relation.show_files(used, files, columns, field_ids)
                audit = self._audit(suite, schema, used, parameters or {}, deadline)
                rejects = find_rejects(used, suite, audit)
                kept = self._keep(used, suite, audit)
            finally:
                relation.hide(used, suite)
            verdict = decide(suite, audit, rejects, time.perf_counter() - started, rejected_before)
            return replace(verdict, rejected_rows=kept)

    def audit_database(
        self, suites: Mapping[str, Suite], database: Path, *, parameters: Mapping[str, Any] | None = None
    ) -> dict[str, Verdict]:
        """Judge tables of a candidate DuckDB file. Rows cannot be rejected here: any failed critical rule refuses.

        Args:
            suites: suite by table name (``name`` or ``schema.name``). References of a suite are tables of the file.
            database: the file; opened read-only and closed again.
            parameters: values of ``{$PARAMETER: name}`` arguments.

        Raises:
            GateCrashed: the gate could not run, or not in time: no suites, a file or table that is missing or locked,
                an unknown expectation or argument.
        """
        verdicts: dict[str, Verdict] = {}
        deadline = Deadline(self._timeout_s)
        with self._running(str(database), None, deadline) as used:
            if not suites:
                raise GateCrashed("There are no suites for the candidate.", remedy="write quality/suites/warehouse")
            attached = relation.attach(used, database)
            try:
                for table, suite in suites.items():
                    started = time.perf_counter()
                    try:
                        relation.show_reference_tables(used, suite, attached)
                        schema = relation.show_table(used, attached, table)
                        audit = self._audit(suite, schema, used, parameters or {}, deadline)
                    finally:
                        relation.hide(used, suite)
                    verdicts[table] = decide(suite, audit, None, time.perf_counter() - started)
            finally:
                relation.detach(used, attached)
        return verdicts

    def close(self) -> None:
        """Close the gate's own DuckDB. The gate can be used again."""
        with _ONE_AT_A_TIME:
            self._kept.clear()
            self._engine = None
            if self._own is not None:
                self._own.close()
            self._own = None

    @contextmanager
    def _running(
        self, what: str, connection: duckdb.DuckDBPyConnection | None, deadline: Deadline
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to judge with; any failure becomes a refusal that names its cause."""
        with _ONE_AT_A_TIME:
            borrowed: duckdb.DuckDBPyConnection | None = None
            try:
                if connection is not None:
                    borrowed = connection.cursor()
                    borrowed.execute("SET TimeZone = 'UTC'")
                used = borrowed or self._own_connection()
                with deadline.watching(used):
                    yield used
            except OutOfTime:
                raise GateCrashed(
                    f"The gate took longer than {deadline.limit_s:g} s; it was at {deadline.doing}.",
                    table=what,
                    remedy="make the rule cheaper, or raise PENSTOCK_GATE_TIMEOUT_S; nothing was published",
                ) from None
            except SpecError as error:
                raise GateCrashed(error.problem, table=what, remedy=error.remedy) from error
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

    def _keep(self, connection: duckdb.DuckDBPyConnection, suite: Suite, audit: Audit) -> str:
        """The file with the batch's rejected rows, or nothing. Each has a name of its own: engines remember files."""
        self._kept.clear()
        path = self._spill_directory / f"rejected-{uuid.uuid4().hex}.parquet"
        self._kept.path = path
        return str(path) if keep_rejected_rows(connection, suite, audit, path) else ""

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
        deadline: Deadline,
    ) -> Audit:
        deadline.doing = f"the plan of {suite.origin}"
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
        return audit(plan, self._engine, deadline)
