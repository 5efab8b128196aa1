"""Notes in the lake what fails, and takes the note back when the same thing works again. Every stage is run through it.

Both doors call :class:`penstock.pipeline.Pipeline`, so what is noted there is noted whoever did the work and wherever.
How far an error reaches is said by its class: a source that does not let us in fails as a whole, a table that is not
there fails for every interval, a refused batch for its own. Wrong arguments of a command are nobody's failure.

To note must never change what comes of the work: a store that does not take the note is logged, and the error that was
to be noted goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from common.disk import telling_full_disk
from common.errors import (
    PenstockError,
    SettingsError,
    SourceRefused,
    SourceSchemaError,
    SourceUnavailable,
    SpecError,
    Unreconciled,
    UsageError,
)
from lake.failures import Failure, Scope, forget_failures, known_scopes, record_failure
from lake.lake import Lake
from lake.paths import TableId

_LOG = logging.getLogger(__name__)

_OF_ALL_INTERVALS = (SourceUnavailable, SourceRefused, SourceSchemaError)


class Failures:
    """What fails and works in one run.

    Args:
        lake: where it is noted.
        run_id: the run.
        job: what the run is part of.
    """

    def __init__(self, lake: Lake, run_id: str, job: str) -> None:
        self._lake, self._run_id, self._job = lake, run_id, job
        self._known: set[Scope] | None = None
        self._last: BaseException | None = None

    @contextmanager
    def noting(self, stage: str, *, source: str = "", table: TableId | None = None, key: str = "") -> Iterator[None]:
        """Note an error that leaves this block; take back what was noted if it ends well.

        Args:
            stage: ``connect``, ``ingest``, ``refine``, ``reconcile``; ``build``, ``run`` and others are about no table
                and are what failed themselves.
            source: source, where there is one.
            table: lake table, where it is about one.
            key: partition key, where it is about one.

        Side effects: a small file in the lake is written, or deleted. An error inside ``connect`` is noted if it is one
        of connecting; what fails later is noted where it fails.
        """
        try:
            with telling_full_disk(self._lake.settings.home):
                yield
        except PenstockError as error:
            self.note(error, stage, source=source, table=str(table or ""), key=key)
            raise
        except Exception as error:
            told = PenstockError(f"{type(error).__name__}: a defect of Penstock; the log of run {self._run_id} has it.")
            self.note(told, stage, source=source, table=str(table or ""), key=key, error_name=type(error).__name__)
            self._last = error
            raise
        if table is not None:
            self.works((f"source.{source}",), (str(table),), (str(table), key))  # who reads a table reached its source
        elif stage != "connect":
            self.works((stage,))

    def note(
        self,
        error: PenstockError,
        stage: str,
        *,
        source: str = "",
        table: str = "",
        key: str = "",
        error_name: str = "",
        scope: Scope | None = None,
    ) -> None:
        """Note one error, unless it has been noted on its way or is a slip of whoever called.

        Side effects: one small file in the lake.
        """
        slip = isinstance(error, UsageError) and not isinstance(error, SettingsError | SpecError)
        if slip or error is self._last:
            return
        if stage == "connect" and not isinstance(error, SourceUnavailable | SourceRefused | SettingsError):
            return
        self._last = error
        if isinstance(error, Unreconciled):
            key = error.interval or key  # of many that were compared
        failure = Failure(
            scope=scope or _scope(error, stage, source, table, key),
            stage=stage,
            source=source,
            table=table,
            key=key,
            error=error_name or type(error).__name__,
            problem=error.problem,
            remedy=error.remedy or "",
            run_id=self._run_id,
            job=self._job,
            failed_at=self._lake.clock(),
        )
        try:
            record_failure(self._lake, failure)
            self._scopes().add(failure.scope)
        except (PenstockError, OSError) as unnoted:
            _LOG.warning("that %s failed cannot be noted: %s", "/".join(failure.scope), unnoted)

    def works(self, *scopes: Scope) -> None:
        """Take back what was noted of some things.

        Side effects: files in the lake are deleted, if there are any.
        """
        try:
            again = self._scopes().intersection(scopes)
            if again:
                forget_failures(self._lake, again)
                self._scopes().difference_update(again)
        except (PenstockError, OSError) as error:
            _LOG.warning("that %s works again cannot be noted: %s", "/".join(scopes[-1]), error)

    def _scopes(self) -> set[Scope]:
        if self._known is None:  # one listing a run: what others note meanwhile is theirs to take back
            self._known = known_scopes(self._lake)
        return self._known


def _scope(error: PenstockError, stage: str, source: str, table: str, key: str) -> Scope:
    if not table:
        return (f"source.{source}",) if source else (stage,)
    return (table,) if isinstance(error, _OF_ALL_INTERVALS) or not key else (table, key)
