"""The order in which one batch passes the stages. Both doors - command line and scheduler - call this and nothing else.

::

    ingest:  source -> staged -> gate -> raw.<source>__<table>      one commit
    refine:  raw    -> staged -> gate -> refined.<table>            one commit
    build:   refined (pinned) -> dbt -> candidate -> gate -> sealed
    publish: candidate -> release                                   one pointer move

Stages never import each other; they meet here and in the lake. Every method may be run again, and twice at once: the
same work finds its receipt and changes nothing.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from common.clock import utc_now
from common.errors import Overtaken, UnknownName, located
from common.intervals import Interval, day_interval, parse_day
from common.settings import Settings
from ingestion.reader import SourceReader, check_interval
from ingestion.spec import SourceSpec, TableSpec, load_sources
from lake.batches import Receipt, StagedBatch
from lake.history import Synced
from lake.lake import Clock, Lake
from lake.paths import WHOLE, TableId, engine_path
from lake.schema import PARTITION_COLUMN
from lake.together import Together
from penstock import versions
from penstock.again import until_first
from penstock.anomalies import Anomalies
from penstock.codes import Codes
from penstock.costs import described, work_of
from penstock.failures import Failures
from penstock.held_snapshot import HeldSnapshot, open_at
from penstock.lineage_events import Parent
from penstock.protocol import audit_and_publish
from penstock.replay import reapply
from penstock.suites import suite_parameters
from penstock.versions import LateRows, Reconciliation
from penstock.volume import accepted_tables, check_volume

if TYPE_CHECKING:
    from common.verdict import Signed, Verdict
    from penstock.lineage_told import Teller
    from quality.gate import Gate
    from quality.suite import Suite
    from transformations.refine.model import RefinedTable
    from warehouse.releases import Candidate, Release

_LOG = logging.getLogger(__name__)


class Pipeline:
    """All stages over one lake and one warehouse.

    Args:
        settings: resolved settings.
        clock: the time now; injectable for tests.
        run_id: names this run in receipts and quarantine; random by default.
        accept_volume: raw tables whose batches may be of any size (see ``penstock/volume.py``).
        parent: what started the work, for lineage; this run by default.
        accept_refusal: who answers for batches that their gate refuses; they are published without the rejected rows.

    Raises:
        UnknownName: ``accept_volume`` names no raw table.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock = utc_now,
        run_id: str | None = None,
        accept_volume: Sequence[str] = (),
        parent: Parent | None = None,
        accept_refusal: Signed | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.run_id = run_id or f"run-{uuid.uuid4().hex[:12]}"
        self.accept_refusal = accept_refusal
        self._parent = parent or Parent("penstock", self.run_id)
        self.work = work_of(self, self._parent)
        self.lake = Lake(settings, clock=clock, work=self.work)
        self.failures = Failures(self.lake, self.run_id, f"{self._parent.job}/{self._parent.run}")
        self._codes = Codes(settings, self._sources)
        self._accept_volume = accepted_tables(self.sources(), accept_volume) if accept_volume else frozenset[str]()
        self._seen: WeakKeyDictionary[SourceReader, dict[TableId, dict[str, str]]] = WeakKeyDictionary()
        self.read_anew: set[str] = set()
        self._anomalies = Anomalies(self.lake, self.suite, accepted=self._accept_volume, run_id=self.run_id)

    # -- what there is ---------------------------------------------------------------------------------------------

    @cached_property
    def _sources(self) -> dict[str, SourceSpec]:
        return load_sources(self.settings.sources)

    def sources(self) -> dict[str, SourceSpec]:
        """All source specs by name."""
        return self._sources

    def source(self, name: str) -> SourceSpec:
        """The source of that name.

        Raises:
            UnknownName: no such source; the message lists those there are.
        """
        if name not in self._sources:
            raise UnknownName(
                f"There is no source {name!r}.", source=name, remedy=f"use one of {', '.join(self._sources)}"
            )
        return self._sources[name]

    def refined_tables(self) -> Mapping[str, RefinedTable]:
        """All refined tables by name."""
        from transformations.refine import REFINED

        return REFINED

    def refined(self, name: str) -> RefinedTable:
        """The refined table of that name.

        Raises:
            UnknownName: no such table; the message lists those there are.
        """
        tables = self.refined_tables()
        if name not in tables:
            raise UnknownName(
                f"There is no refined table {name!r}.", table=name, remedy=f"use one of {', '.join(tables)}"
            )
        return tables[name]

    @cached_property
    def gate(self) -> Gate:
        """The one gate of this process: Great Expectations is loaded once."""
        from penstock.gates import make_gate

        return make_gate(self.settings)

    @cached_property
    def teller(self) -> Teller:
        """Tells of what was published, for lineage."""
        from penstock.lineage_told import Teller

        return Teller(self.lake, self._sources.values(), self._parent)

    # -- ingest ----------------------------------------------------------------------------------------------------

    def refuse_future(self, source: str, table: str, key: str) -> None:
        """Refuse an interval that is not over yet, before anything is read.

        Raises:
            UnknownName, IntervalError: naming source, table and interval.
        """
        spec = self.source(source)
        table_spec = spec.table(table)
        with located(source=source, table=table, interval=key):
            check_interval(spec, table_spec, day_interval(key, spec.time_zone), self.lake)

    @contextmanager
    def reading(self, source: str, interval: str = "", *, held: HeldSnapshot | None = None) -> Iterator[SourceReader]:
        """A reader for one source, to do with an interval: of one snapshot, the one that is ``held`` if it lasts."""
        opened, seen = open_at(self.lake, self.source(source), held)
        with self.failures.noting("connect", source=source, key=interval), opened as reader:
            self._seen[reader] = seen
            yield reader

    def ingest(
        self, source: str, table: str, key: str, *, reader: SourceReader | None = None, together: Together | None = None
    ) -> Receipt:
        """Bring one table's rows of one interval into the raw lake.

        Args:
            source: source name.
            table: table name in that source.
            key: partition key, a calendar day in the source's time zone.
            reader: an open reader to share its snapshot; a new one by default.
            together: intervals it may share its commit with; its own by default (:func:`lake.publish.publish`).

        Raises:
            See ``common/errors.py``; whatever it is, the lake is as it was.

        Side effects: an interval that another run has published meanwhile is read again (:attr:`read_anew`).
        """
        spec = self.source(source)
        table_spec = spec.table(table)
        raw = str(spec.raw(table))
        noting = self.failures.noting(
            "ingest", source=source, table=spec.raw(table), key=key if table_spec.partitioned else WHOLE
        )
        work = self.work.batch("ingest", raw, key, source=source)
        with noting, located(source=source, table=table, interval=key), work:
            interval = day_interval(key, spec.time_zone)
            check_interval(spec, table_spec, interval, self.lake)
            if table_spec.coverage is not None and not table_spec.coverage.holds(interval.day):
                return Receipt(raw, key, "ingest", "", "", self.run_id, 0, 0, 0, 0, "outside coverage")
            if reader is None:
                return self._read_anew(spec, table_spec, interval)
            try:
                return self._ingest(spec, table_spec, interval, reader, together)
            except Overtaken as error:
                _LOG.info("%s", error)
                receipt = self._read_anew(spec, table_spec, interval)
                self.read_anew.add(receipt.attempt)
                return receipt

    def _read_anew(self, spec: SourceSpec, table: TableSpec, interval: Interval) -> Receipt:
        """Ingest an interval by a reader of its own, and again if another run was faster."""

        def attempt() -> Receipt:
            with self.reading(spec.source, interval.key) as opened:
                return self._ingest(spec, table, interval, opened, None)

        return until_first(attempt)

    def _ingest(
        self, spec: SourceSpec, table: TableSpec, interval: Interval, reader: SourceReader, together: Together | None
    ) -> Receipt:
        raw = spec.raw(table.name)
        code = self.ingest_code(spec, table)
        known = reader.known_state(table, interval)
        live = None if known is None else self.lake.receipt(raw, interval.key)
        if live is not None and live.source_state == known and live.code == code:
            return reapply(self, raw, live.found_unchanged(seconds={}))
        with self.work.step("extract", **described(spec, table)) as extract:
            staged = reader.stage(table, interval, code=code)
            rule = table.merge_rule(any_share=str(raw) in self._accept_volume)
            staged = replace(staged, merge=rule, base=self._base(reader, staged))
            staged = check_volume(self.lake, staged, table, accepted=self._accept_volume, run_id=self.run_id)
            staged = self._anomalies.check(staged)
        receipt = audit_and_publish(self, staged, "ingest", {"extract": extract.seconds}, together)
        if together is not None and together.holds(receipt):
            if not (receipt.repairs and receipt.waiting):
                return receipt
            together.commit()
        else:
            self.teller.tell(receipt)
        return reapply(self, raw, receipt)

    def _base(self, reader: SourceReader, staged: StagedBatch) -> str | None:
        """The attempt that was live for a batch's partition before its reader was opened (see StagedBatch.base)."""
        return self._seen[reader][staged.table].get(staged.key, "") if reader in self._seen else None

    def ingest_code(self, spec: SourceSpec, table: TableSpec) -> str:
        """See :meth:`penstock.codes.Codes.ingest_code`."""
        return self._codes.ingest_code(spec, table)

    def late_keys(self, source: str, table: str, key: str) -> list[str]:
        """Intervals before ``key`` that are published and may still change: their end is within the late window.

        An interval that was never published is not late but missing; that is for a backfill.
        """
        spec = self.source(source)
        return versions.late_keys(self.lake, spec, spec.table(table), key)

    def late_rows(self, source: str, table: str, reader: SourceReader, known: Sequence[str]) -> LateRows:
        """Rows that came too late, where the spec asks for them (:func:`penstock.versions.late_rows`)."""
        spec = self.source(source)
        return versions.late_rows(self.lake, spec, spec.table(table), reader, known)

    def reconcile_deletes(self, source: str, table: str) -> Reconciliation:
        """Mark rows that the source no longer has (:func:`penstock.versions.reconcile_deletes`)."""
        spec, accepted = self.source(source), self._accept_volume
        with self.failures.noting("reconcile", source=source, table=spec.raw(table), key="deletes"):
            return versions.reconcile_deletes(
                self.lake, spec, spec.table(table), lambda: self.reading(source), accepted=accepted, run_id=self.run_id
            )

    def sync_history(self, source: str, table: str) -> Synced:
        """Bring a table's history in step (:func:`penstock.versions.sync_table_history`)."""
        spec = self.source(source)
        return versions.sync_table_history(self.lake, spec, spec.table(table), run_id=self.run_id)

    def declare_raw(self) -> None:
        """Tell the lake the columns of every raw table that exists, so that they can be read."""
        for spec in self._sources.values():
            for table in spec.tables:
                by = PARTITION_COLUMN if table.partitioned else None
                self.lake.ensure(spec.raw(table.name), table.lake_columns(), partition_by=by)

    # -- refine ----------------------------------------------------------------------------------------------------

    def refine(self, table: str, key: str) -> Receipt | None:
        """Refine one interval of one table from the raw rows that are live.

        Returns:
            The receipt, ``unchanged`` if nothing it is made from changed; None if its raw interval is not there.

        Raises:
            See ``common/errors.py``; whatever it is, the lake is as it was.
        """
        from transformations.refine import stage as refine_stage

        refined = self.refined(table)
        key = key if refined.partitioned else WHOLE
        target = refine_stage.refined_id(refined)
        noting, work = (
            self.failures.noting("refine", table=target, key=key),
            self.work.batch("refine", str(target), key),
        )
        with noting, located(table=str(target), interval=key), work:
            if key != WHOLE:
                parse_day(key)
            self.declare_raw()
            return until_first(lambda: self._refine(refined, target, key))

    def _refine(self, refined: RefinedTable, target: TableId, key: str) -> Receipt | None:
        from transformations.refine import stage as refine_stage

        base = self.lake.live_attempts(target, key).get(key, "")  # before the raw rows are looked at
        inputs = refine_stage.inputs_of(self.lake, refined, key)
        if inputs is None:
            return None
        code = self.refine_code(refined.name)
        live = self.lake.receipt(target, key)
        if live is not None and live.upstream == inputs.upstream and live.code == code:
            return reapply(self, target, live.found_unchanged(seconds={}))
        with self.work.step("refine") as step:
            staged = refine_stage.stage(self.lake, refined, key, inputs, code=code)
            staged = self._anomalies.check(replace(staged, base=base))
        receipt = audit_and_publish(self, staged, "refine", {"refine": step.seconds})
        self.teller.tell(receipt)
        return reapply(self, target, receipt)

    def stale_keys(self, table: str, key: str) -> list[str]:
        """Intervals of a refined table within the late window before ``key`` whose raw rows changed since."""
        refined = self.refined(table)
        late = {
            each
            for spec in self._sources.values()
            for raw_table in spec.tables
            if str(spec.raw(raw_table.name)) in refined.inputs.values()
            for each in self.late_keys(spec.source, raw_table.name, key)
        }
        return sorted(self.rewritten_keys(table, {*late, key}) + versions.stale_keys(self.lake, refined, late))

    def rewritten_keys(self, table: str, known: Set[str]) -> list[str]:
        """Refined intervals outdated by work on other intervals (:func:`penstock.versions.outdated_keys`)."""
        return versions.outdated_keys(self.lake, self._sources.values(), self.refined(table), known=known)

    def suite(self, table: TableId) -> Suite:
        """See :meth:`penstock.codes.Codes.suite`."""
        return self._codes.suite(table)

    def refine_code(self, name: str) -> str:
        """See :meth:`penstock.codes.Codes.refine_code`."""
        return self._codes.refine_code(name)

    # -- warehouse -------------------------------------------------------------------------------------------------

    def build(self, *, full_refresh: bool = False) -> Candidate | None:
        """Build, audit and seal a candidate (see :func:`penstock.build.build`)."""
        from penstock.build import build

        with self.failures.noting("build"):
            return build(self, full_refresh=full_refresh)

    def publish(self, candidate_id: str | None = None) -> Release:
        """Publish a sealed candidate (see :func:`penstock.build.publish`)."""
        from penstock.build import publish

        with self.failures.noting("build"):
            return publish(self, candidate_id)

    def build_and_publish(self, *, full_refresh: bool = False) -> Release | None:
        """Build and publish under one lease; None if there was nothing to do."""
        from penstock.build import build_and_publish

        with self.failures.noting("build"):
            return build_and_publish(self, full_refresh=full_refresh)

    # -- the protocol: audit what was staged, publish as the verdict says -------------------------------------------

    def judge(self, table: TableId, key: str, files: Sequence[str], *, rejected_before: int = 0) -> Verdict:
        """The gate's verdict of staged files that would be all of an interval; nothing is published by it."""
        suite = self.suite(table)
        return self.gate.audit_files(
            suite,
            [engine_path(location) for location in files],
            columns=self.lake.columns(table)[0],
            references=self.references(suite),
            parameters=suite_parameters(self._sources, table, key, self.clock()),
            rejected_before=rejected_before,
        )

    def references(self, suite: Suite) -> dict[str, list[str]]:
        """The live files of the lake tables that a suite's rules read."""
        if any(name.startswith("raw.") for name in suite.references):
            self.declare_raw()
        return {name: self.lake.paths(TableId.parse(name)) for name in suite.references}
