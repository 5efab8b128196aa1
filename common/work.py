"""What a run is doing, told to whoever asks: costs by step, log lines that say what they are about, spans and metrics.

::

    batch("ingest", "raw.shop__orders", "2013-01-01") ─┐ at each boundary: one look at what the process has used
      step("extract")   step("gate")   step("publish") ├─> charged to the innermost step; outside of all it is "other"
                                                       └─> context of log lines; a span, where tracing is switched on

The charges are exclusive, so they add up to what the process used. It is a figure of the whole process, so work is told
by one thread; threads that a step starts are part of it.
"""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, MutableSet, Sequence
from contextlib import contextmanager
from contextvars import Token
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from common import logs, usage
from common.errors import DataRejected
from common.usage import NOTHING, Usage

if TYPE_CHECKING:
    from common.telemetry import Span, Tracing
    from common.verdict import Verdict

_LOG = logging.getLogger(__name__)
MOMENT_S = 0.0002
"""Boundaries that lie closer together share one look: one step's end is the next one's beginning."""

_COUNTS = ("rows_in", "published", "quarantined", "deduplicated")


@dataclass(frozen=True, order=True)
class What:
    """What something was used for; empty where it was for no single one."""

    stage: str
    step: str
    table: str = ""
    interval: str = ""


OTHER = What("run", "other")
"""Everything that is no step of any batch: loading code, plans, connections, comparing, pages."""


@dataclass
class Scope:
    """One piece of work that is being done.

    Attributes:
        what: what it is for.
        used: what it used itself, without what lies inside it.
        seconds: time from begin to end, in s; when it has ended.
        shares: whom it was done for, and each one's share; what is left over is its own.
    """

    what: What
    used: Usage = NOTHING
    seconds: float = 0.0
    shares: Sequence[tuple[What, float]] = ()
    span: Span | None = None

    def came_to(self, receipt: Mapping[str, Any]) -> None:
        """Say what came of it, where it is traced.

        Args:
            receipt: of the batch, as a mapping (``lake/batches.py``).
        """
        if self.span is not None:
            counts = {f"penstock.rows.{name}": receipt[name] for name in _COUNTS}
            ids = {"penstock.attempt": receipt["attempt"], "penstock.state": receipt["state"]}
            self.span.set({**ids, **counts})


@dataclass
class _Clock:
    """The last look at what this process has used, and the runs that count from it."""

    pid: int = 0
    last: Usage = NOTHING
    doing: str = ""
    whole_process: bool = False
    works: MutableSet[Work] = field(default_factory=weakref.WeakSet)

    def charge(self, *, at_once: bool = False) -> Usage:
        """What was used since the last look; nothing if that was a moment ago, unless it must be known ``at_once``."""
        if not at_once and time.perf_counter() - self.last.wall_s < MOMENT_S:
            return NOTHING
        now = usage.look()
        if self.pid != os.getpid():  # after a fork the counters began anew
            self.pid, self.last = os.getpid(), Usage(wall_s=now.wall_s)
        used, self.last = now.since(self.last), now
        return used


_clock = _Clock()


def own_process() -> None:
    """This process was started for the command that begins next, so everything it has used counts."""
    _clock.whole_process = True


def begin(doing: str) -> None:
    """A command or task begins: what was used before is none of its business.

    Args:
        doing: its name.
    """
    _clock.works.clear()
    _clock.doing = doing
    logs.about()
    _clock.charge(at_once=True)
    if _clock.whole_process:
        _clock.whole_process, _clock.last = False, Usage(wall_s=_clock.last.wall_s)


def end(error: BaseException | None = None) -> None:
    """It has ended: every run made meanwhile keeps its costs and sends what is to be sent. Never raises.

    Args:
        error: why it failed.
    """
    works = list(_clock.works)
    _clock.works.clear()
    for work in works:
        work.finish(error)


class Work:
    """What one run does. Cheap to make; tells nobody until something is done.

    Args:
        run_id: the run.
        tracing: makes what sends spans and metrics; None where that is switched off.
        attributes: more for its span.
        keep: called at the end to keep what was used.
    """

    def __init__(
        self,
        run_id: str = "",
        *,
        tracing: Callable[[], Tracing] | None = None,
        attributes: Mapping[str, str] | None = None,
        keep: Callable[[], None] | None = None,
    ) -> None:
        self.run_id = run_id
        self._make_tracing = tracing
        self._attributes = {"penstock.run_id": run_id, **(attributes or {})}
        self._keep = keep
        self._stack: list[Scope] = []
        self._rows: dict[What, tuple[Usage, int]] = {}
        self._other = Usage()
        self._tracing: Tracing | None = None
        self._root: Span | None = None
        self._began_ns = time.time_ns()
        if run_id:
            logs.about({"run_id": run_id})
        _clock.works.add(self)

    # -- what is being done ----------------------------------------------------------------------------------------

    @contextmanager
    def batch(self, stage: str, table: str, interval: str, *, source: str = "", **attributes: Any) -> Iterator[Scope]:
        """Work on one interval of one table.

        Args:
            stage: ``ingest``, ``refine`` or ``warehouse``.
            table: its full name.
            interval: partition key.
            source: source name, where it is of one.
            attributes: more for its span, by OpenTelemetry's names.
        """
        named = {"penstock.stage": stage, "penstock.table": table, "penstock.interval": interval}
        told = {"source": source, "table": table, "interval": interval, "stage": stage}
        if source:
            named["penstock.source"] = source
        name = stage if stage == table else f"{stage} {table}"
        with self._scope(Scope(What(stage, "rest", table, interval)), name, named | attributes, told) as scope:
            yield scope

    @contextmanager
    def step(self, name: str, *, stage: str = "", **attributes: Any) -> Iterator[Scope]:
        """One step of the batch that is being worked on, or of a stage as a whole."""
        batch = next((each.what for each in reversed(self._stack) if each.what.step == "rest"), What(stage, "rest"))
        what = What(stage or batch.stage, name, batch.table, batch.interval)
        named = {"penstock.stage": what.stage, "penstock.step": name, **attributes}
        with self._scope(Scope(what), name, named, {"step": name, "stage": what.stage}) as scope:
            yield scope

    @contextmanager
    def shared(self, name: str, stage: str, batches: Sequence[tuple[str, str]]) -> Iterator[Scope]:
        """A step done for several batches at once: each bears an equal share.

        Args:
            name: the step.
            stage: their stage.
            batches: table and partition key of each.
        """
        shares = [(What(stage, name, table, key), 1 / len(batches)) for table, key in batches]
        named = {"penstock.stage": stage, "penstock.step": name, "penstock.batches": len(batches)}
        with self._scope(Scope(What(stage, name), shares=shares), name, named, {"step": name}) as scope:
            yield scope

    @contextmanager
    def _scope(
        self, scope: Scope, name: str, attributes: Mapping[str, Any], told: Mapping[str, str]
    ) -> Iterator[Scope]:
        started = time.perf_counter()
        self._charge()
        if self._make_tracing is not None:
            scope.span = self._traced().start(name, self._parent_span(), attributes)
            told = {**told, "trace_id": scope.span.trace_id, "span_id": scope.span.span_id}
        token: Token[Mapping[str, str]] = logs.enter({"run_id": self.run_id, **told})
        self._stack.append(scope)
        failure: BaseException | None = None
        try:
            yield scope
        except BaseException as error:
            failure = error
            raise
        finally:
            self._charge()
            self._stack.pop()
            self._book(scope)
            scope.seconds = time.perf_counter() - started
            self._told_of(scope, failure)
            logs.leave(token)

    def _told_of(self, scope: Scope, failure: BaseException | None) -> None:
        is_batch = scope.what.step == "rest"
        if is_batch and isinstance(failure, DataRejected):
            _LOG.warning("refused: %s", failure, extra={"work": {"error": type(failure).__name__}})
        if scope.span is not None and self._tracing is not None:
            scope.span.end(failure)
            self._tracing.ended(scope, refused=is_batch and isinstance(failure, DataRejected))

    # -- what came of it -------------------------------------------------------------------------------------------

    def judged(self, table: str, verdict: Verdict) -> None:
        """A gate has judged a batch."""
        if self._tracing is not None:
            self._tracing.judged(table, [rule.severity for rule in verdict.failed])

    def published(self, receipt: Mapping[str, Any]) -> None:
        """A batch is live.

        Args:
            receipt: of the batch, as a mapping (``lake/batches.py``).
        """
        counts = {name: receipt[name] for name in _COUNTS}
        told = {name: receipt[name] for name in ("table", "stage", "attempt")} | {"interval": receipt["key"]} | counts
        _LOG.info("published %d of %d rows", receipt["published"], receipt["rows_in"], extra={"work": told})
        if self._tracing is not None:
            self._tracing.published(receipt["stage"], receipt["table"], counts)

    def measure(self, name: str, value: float, **attributes: str) -> None:
        """Set a gauge (``common/telemetry.py``), where that is switched on and something was done."""
        if self._tracing is not None:
            self._tracing.measure(name, value, **attributes)

    @property
    def tracing(self) -> Tracing | None:
        """What sends metrics, once something was done and where it is switched on."""
        return self._tracing

    # -- the account -----------------------------------------------------------------------------------------------

    def take(self) -> list[dict[str, Any]]:
        """What was used for what since the last time; empty as long as nothing was done for any batch.

        What goes on is charged when it ends.
        """
        self._charge(at_once=True)
        if not self._rows:
            return []
        rows, self._rows = self._rows, {}
        rows[OTHER], self._other = (self._other, 1), Usage(peak_rss_bytes=self._other.peak_rss_bytes)
        return [
            {"stage": w.stage, "step": w.step, "table_name": w.table, "partition_key": w.interval, "times": times}
            | {name: round(value, 6) if isinstance(value, float) else value for name, value in used._asdict().items()}
            for w, (used, times) in sorted(rows.items())
        ]

    def finish(self, error: BaseException | None = None) -> None:
        """Keep the costs, and send what is left to be sent. Never raises, and is soon done."""
        if self._keep is not None:
            try:
                self._keep()
            except Exception as problem:  # noqa: BLE001 - the work is done by now and must not fail by what is told of it
                _LOG.warning("what the run used could not be kept: %s", problem)
        if self._root is not None and self._tracing is not None:
            self._root.end(error)
            self._tracing.close()
            self._root = None

    def _charge(self, *, at_once: bool = False) -> None:
        used = _clock.charge(at_once=at_once)
        if self._stack:
            self._stack[-1].used = self._stack[-1].used.plus(used)
        else:
            self._other = self._other.plus(used)

    def _book(self, scope: Scope) -> None:
        own = 1.0 - sum(share for _, share in scope.shares)
        parts = [*scope.shares, (scope.what, own)] if own > 1e-9 else scope.shares
        for what, share in parts:
            used, times = self._rows.get(what, (Usage(), 0))
            self._rows[what] = (used.plus(scope.used, share), times + 1)

    # -- tracing ---------------------------------------------------------------------------------------------------

    def _traced(self) -> Tracing:
        if self._tracing is None and self._make_tracing is not None:
            self._tracing = self._make_tracing()
            name = f"penstock {_clock.doing}".strip()
            self._root = self._tracing.start(name, None, self._attributes, began_ns=self._began_ns)
            logs.about({"trace_id": self._root.trace_id})
        assert self._tracing is not None  # noqa: S101 - asked only where there is a maker
        return self._tracing

    def _parent_span(self) -> Span | None:
        return next((each.span for each in reversed(self._stack) if each.span is not None), self._root)
