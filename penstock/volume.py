"""The volume guard: an answer that is "successful" but nearly empty does not replace rows that readers have now.

A replica that has not caught up, a view whose join lost its other side, a truncated listing: each answers without an
error, and a table that is replaced as a whole would be wiped. So a batch is compared, before its gate, with the rows
that are live for the same partition. Those are counted by the lake's own metadata, so a lost receipt does not disarm
the guard. An interval that never had rows has nothing to lose.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace

from common.errors import UnknownName, VolumeRefused
from ingestion.spec import SourceSpec, TableSpec
from lake.batches import StagedBatch
from lake.lake import Lake
from lake.verdicts import record_refusal

_LOG = logging.getLogger(__name__)


def accepted_tables(sources: Mapping[str, SourceSpec], names: Iterable[str]) -> frozenset[str]:
    """Raw tables whose next batch may be of any size.

    Raises:
        UnknownName: a name is no raw table; the message lists those there are.
    """
    known = [str(spec.raw(table.name)) for spec in sources.values() for table in spec.tables]
    for name in names:
        if name not in known:
            raise UnknownName(f"There is no raw table {name!r}.", table=name, remedy=f"use one of {', '.join(known)}")
    return frozenset(names)


def check_volume(
    lake: Lake, staged: StagedBatch, table: TableSpec, *, accepted: frozenset[str], run_id: str
) -> StagedBatch:
    """The batch, if it may replace what is live; with a warning if only ``accepted`` lets it.

    Args:
        lake: where the live rows are.
        staged: the batch.
        table: its spec; ``volume.min_share`` is the floor.
        accepted: raw tables whose batches may be of any size, by name.
        run_id: the run, for the record of a refusal.

    Raises:
        VolumeRefused: it has less than the declared share of the rows that are live.

    Side effects: a refused batch is deleted, and its account is kept beside the gate's refusals; an accepted one is
    logged, and its receipt will carry the warning.
    """
    if table.moves:
        return staged  # live rows that do not come again stay: an interval read again has few, and wipes nothing
    live = sum(file.rows for file in lake.live(staged.table, staged.key))
    if table.keeps_deleted and live:
        before = lake.receipt(staged.table, staged.key)
        live -= before.deleted if before else 0
    if staged.rows_staged >= table.volume.min_share * live:
        return staged
    found = f"{staged.rows_staged} rows would replace {live}, less than {table.volume.min_share:.0%} of them"
    if str(staged.table) in accepted:
        warning = f"volume accepted by --accept-volume: {found}"
        _LOG.warning("%s %s: %s", staged.table, staged.key, warning)
        return replace(staged, warnings=(*staged.warnings, warning))
    lake.discard(staged)
    figures = {"rows": staged.rows_staged, "rows_live": live, "min_share": table.volume.min_share}
    account = record_refusal(
        lake, staged.table, staged.key, run_id, {"rows_in": staged.rows_in, "volume": figures}, attempt=staged.attempt
    )
    raise VolumeRefused(
        f"The source answered with far fewer rows than before: {found}. Nothing was published.",
        table=str(staged.table),
        interval=staged.key,
        remedy=f"look whether the source is whole; if it is, run again with --accept-volume {staged.table}, or lower "
        f"'volume: {{min_share: ...}}' in the spec. The account: {account}",
    )
