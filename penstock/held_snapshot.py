"""A snapshot of a source that one process holds while others read the source's tables in it.

::

    with holding(pipeline, source, day) as holder:   what is live in the lake, then the source's snapshot
        holder.held.to_dict()  ──small JSON──▶  pipeline.reading(source, day, held=HeldSnapshot.from_dict(...))

``penstock run`` needs none of this: it reads all tables of a source through one session. In Airflow each table is a
task, on another machine perhaps, and the tasks meet in a snapshot that one more task holds.

Such a snapshot is older than the reader that joins it. Whatever another run has published since may come of a newer
state of the source, and must not be replaced by ours (``StagedBatch.base``). So what the lake held when the snapshot
was taken goes with it: one id per table, of the table's own snapshot then.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from common.errors import UsageError
from ingestion.reader import SharesSnapshot, SourceReader, open_source
from ingestion.shared_snapshot import SharedSnapshot
from ingestion.spec import SourceSpec
from lake.lake import Lake
from lake.paths import TableId

if TYPE_CHECKING:
    from penstock.pipeline import Pipeline

_LOG = logging.getLogger(__name__)

Seen = dict[TableId, dict[str, str]]
"""By raw table and partition key, the attempt that was live before a source's snapshot was taken."""


@dataclass(frozen=True)
class HeldSnapshot:
    """A snapshot of a source, and of the lake just before it.

    Attributes:
        snapshot: of the source.
        lake: raw table -> id of its snapshot in the lake; None before its first commit.
    """

    snapshot: SharedSnapshot
    lake: Mapping[str, int | None]

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {**asdict(self.snapshot), "lake": dict(self.lake)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The snapshot that :meth:`to_dict` has told.

        Raises:
            UsageError: nobody can have told that.
        """
        lake = plain.get("lake")
        if not isinstance(lake, Mapping) or not all(each is None or isinstance(each, int) for each in lake.values()):
            raise UsageError("A held snapshot does not say what the lake held.", remedy="clear the task that told it")
        return cls(SharedSnapshot(str(plain.get("name")), str(plain.get("moment"))), dict(lake))


@dataclass(frozen=True)
class Holder:
    """An open session that holds a snapshot.

    Attributes:
        held: what it holds.
        reader: the session.
    """

    held: HeldSnapshot
    reader: SharesSnapshot


@contextmanager
def holding(pipeline: Pipeline, source: str, key: str) -> Iterator[Holder]:
    """Hold a snapshot of a source until the block is left.

    Args:
        pipeline: whose lake and settings.
        source: the source.
        key: partition key of the interval that will be read in it, which must be over: rows that come later are missing
            in it, whenever it is read.

    Raises:
        UsageError: the source has no snapshot that others can join.
        UnknownName, IntervalError, SettingsError, SourceUnavailable, SourceRefused: see ``common/errors.py``.
    """
    spec = pipeline.source(source)
    for table in spec.tables:
        pipeline.refuse_future(source, table.name, key)
    lake = {str(raw): pipeline.lake.snapshot_id(raw) for raw in _raw(spec)}
    with open_source(spec, pipeline.lake) as reader:
        snapshot = reader.shared_snapshot() if isinstance(reader, SharesSnapshot) else None
        if snapshot is None or not isinstance(reader, SharesSnapshot):
            raise UsageError(
                f"A {spec.kind} source has no snapshot that others can join.",
                source=source,
                remedy="read its tables in snapshots of their own",
            )
        yield Holder(HeldSnapshot(snapshot, lake), reader)


def open_at(lake: Lake, spec: SourceSpec, held: HeldSnapshot | None) -> tuple[SourceReader, Seen]:
    """A reader that is not connected yet, and what was live before the snapshot it will read.

    Args:
        lake: the lake.
        spec: the source.
        held: a snapshot that somebody holds. Where the lake has forgotten what was live then - ten commits later, or
            more - the reader takes a snapshot of its own.
    """
    if held is not None:
        known = {raw: lake.attempts_at(raw, held.lake[str(raw)]) for raw in _raw(spec) if str(raw) in held.lake}
        then = {raw: attempts for raw, attempts in known.items() if attempts is not None}
        if then.keys() == set(_raw(spec)):
            return open_source(spec, lake, joins=held.snapshot), then
        _LOG.warning(
            "%s: the lake has forgotten what it held at snapshot %s: read in one of its own",
            spec.source,
            held.snapshot.name,
        )
    # Before the source's snapshot is taken: whatever is published later may come of a newer one.
    seen = {raw: lake.live_attempts(raw) for raw in _raw(spec)}
    return open_source(spec, lake), seen


def moment_of_reader(reader: SourceReader) -> str:
    """Which state of its source a reader sees, as far as the source can tell (``SharesSnapshot.moment``)."""
    return reader.moment if isinstance(reader, SharesSnapshot) else ""


def _raw(spec: SourceSpec) -> list[TableId]:
    return [spec.raw(table.name) for table in spec.tables]
