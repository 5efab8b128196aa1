"""What the stages tell the lineage log: which table, of which columns, made of which columns of which tables.

::

    ingest   the spec            a raw column is a column of the source
    refine   the Polars plan     ``transformations/refine/lineage.py``
    build    the compiled SQL    ``transformations/dbt_lineage.py``; kept in the release's manifest for as long as the
                                 models' code stays the same

Column lineage of a refined table is read once per process.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import duckdb

from common.errors import BuildFailed
from common.intervals import day_interval
from ingestion.spec import SourceSpec, TableSpec
from lake.batches import Receipt
from lake.lake import Lake
from lake.paths import WHOLE, TableId
from lake.schema import PARTITION_COLUMN
from penstock.lineage_events import Dataset, LineageLog, Output, Parent
from penstock.lineage_names import source_name

if TYPE_CHECKING:
    from transformations.column_lineage import ColumnLineage
    from transformations.refine.model import RefinedTable
    from warehouse.releases import Release

_LOG = logging.getLogger(__name__)

Lineage = dict[str, dict[str, Any]]
"""Warehouse table -> ``columns`` and ``deciding``, as a release's manifest keeps it."""


class Teller:
    """Tells of batches and releases.

    Args:
        lake: the lake, whose settings say where to.
        sources: all sources.
        parent: what started the work.
    """

    def __init__(self, lake: Lake, sources: Collection[SourceSpec], parent: Parent) -> None:
        self._lake = lake
        self._raw = {str(spec.raw(table.name)): (spec, table) for spec in sources for table in spec.tables}
        self._log = LineageLog(lake.settings, parent, lake.storage if "://" in lake.settings.lake_uri else None)
        self._refined: dict[str, ColumnLineage] = {}

    def tell(self, receipt: Receipt) -> None:
        """Tell of a batch that is live now; nothing of one that was live before."""
        if receipt.state != "published":
            return
        self._lake.work.published(receipt.to_dict())
        with self._needed_by_nobody(receipt.table):
            if receipt.stage == "refine":
                from transformations.refine import REFINED

                self._refine(REFINED[TableId.parse(receipt.table).name], receipt)
            elif receipt.table in self._raw:
                self._ingest(*self._raw[receipt.table], receipt)

    def _ingest(self, spec: SourceSpec, table: TableSpec, receipt: Receipt) -> None:
        source = source_dataset(self._lake.settings.connection(spec.connection).get_secret_value(), spec, table)
        made_of = {column.name: [(source, column.in_source)] for column in table.columns}
        decides = table.cursor or table.window
        deciding = [(source, table.column(decides.column).in_source)] if decides else []
        if table.partitioned and deciding:
            made_of[PARTITION_COLUMN] = deciding
        types = {column.name: column.type for column in table.lake_columns()}
        output = self._output(receipt, types, made_of, deciding)
        self._tell(receipt, [source], output, spec.time_zone)

    def _refine(self, table: RefinedTable, receipt: Receipt) -> None:
        if table.name not in self._refined:
            from transformations.refine.stage import column_lineage

            self._refined[table.name] = column_lineage(self._lake, table, receipt.key)
        lineage = self._refined[table.name]
        made_of = {
            column: [(Dataset.own(each), name) for each, name in sorted(sources)]
            for column, sources in lineage.columns.items()
        }
        deciding = [(Dataset.own(each), name) for each, name in sorted(lineage.deciding)]
        output = self._output(receipt, {column.name: column.type for column in table.columns}, made_of, deciding)
        inputs = [Dataset.own(raw) for raw in {**table.inputs, **table.reference_inputs}.values()]
        zones = [self._raw[raw][0].time_zone for raw in table.inputs.values() if raw in self._raw]
        self._tell(receipt, inputs, output, zones[0] if zones else "UTC")

    def refused(self, stage: str, table: str, attempt: str, reason: str) -> None:
        """Tell of a batch that its gate refused."""
        now = self._lake.clock().astimezone(UTC)
        output = Output(Dataset.own(table), {}, {})
        job = f"{stage}.{table}"
        self._log.tell(job, attempt, started_at=now, ended_at=now, inputs=[], outputs=[output], error=reason)

    def released(self, release: Release) -> None:
        """Tell of each table of a release that was published."""
        with self._needed_by_nobody(f"release {release.id}"):
            self._release(release)

    @contextmanager
    def _needed_by_nobody(self, what: str) -> Iterator[None]:
        """The work is published by now: whatever fails in telling of it must not fail the work."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - logged; see above
            self._log.warn(f"the lineage of {what} cannot be told: {type(error).__name__}: {error}")

    def _release(self, release: Release) -> None:
        lineage: Lineage = release.manifest.get("lineage", {})
        with duckdb.connect(str(release.database), read_only=True) as connection:
            rows = connection.execute(
                "SELECT table_name, column_name, data_type FROM duckdb_columns() "
                "WHERE database_name = current_database() AND schema_name = 'main' ORDER BY table_name, column_index"
            ).fetchall()
        types: dict[str, dict[str, str]] = {}
        for table, column, kind in rows:
            types.setdefault(table, {})[column] = kind
        counted = {table["name"]: table["rows"] for table in release.manifest["tables"]}
        ended = datetime.fromisoformat(release.published_at)
        seconds = sum(release.manifest.get("seconds", {}).values())
        for table, of in sorted(lineage.items()):
            made_of = {column: [_of_model(each) for each in sources] for column, sources in of["columns"].items()}
            deciding = [_of_model(each) for each in of["deciding"]]
            inputs = {dataset for sources in (deciding, *made_of.values()) for dataset, _ in sources}
            self._log.tell(
                f"build.{table}",
                f"{release.id}.{release.manifest.get('run_id', '')}.{table}",
                started_at=ended - timedelta(seconds=seconds),
                ended_at=ended,
                inputs=sorted(inputs, key=str),
                outputs=[
                    Output(
                        Dataset.own(f"warehouse.{table}"),
                        types.get(table, {}),
                        made_of,
                        deciding,
                        counted.get(table),
                        _rules(release.manifest.get("verdicts", {}).get(table, {})),
                    )
                ],
            )

    def _output(
        self,
        receipt: Receipt,
        types: Mapping[str, str],
        made_of: Mapping[str, Sequence[tuple[Dataset, str]]],
        deciding: Sequence[tuple[Dataset, str]],
    ) -> Output:
        return Output(Dataset.own(receipt.table), types, made_of, deciding, receipt.published, _rules(receipt.verdict))

    def _tell(self, receipt: Receipt, inputs: Sequence[Dataset], output: Output, time_zone: str) -> None:
        interval = None if receipt.key == WHOLE else day_interval(receipt.key, time_zone)
        ended = datetime.fromisoformat(receipt.published_at).astimezone(UTC)
        self._log.tell(
            f"{receipt.stage}.{receipt.table}",
            receipt.attempt,
            started_at=ended - timedelta(seconds=sum(receipt.seconds.values())),
            ended_at=ended,
            inputs=inputs,
            outputs=[output],
            interval=None if interval is None else (interval.start, interval.end),
        )


def source_dataset(url: str, spec: SourceSpec, table: TableSpec) -> Dataset:
    """A source's table as OpenLineage names it for its system; nothing secret of the connection is in it.

    Args:
        url: the connection's.
        spec: the source.
        table: what is read there.
    """
    path = table.objects.path if table.objects else None
    return Dataset(*source_name(url, spec.kind, table=table.in_source, schema=table.schema_name, path=path))


def models_made_of(manifest_path: Any, refined: Mapping[str, RefinedTable]) -> Lineage:
    """The models' lineage as a release's manifest keeps it; empty, with a warning, where their SQL cannot be read."""
    from transformations.dbt_lineage import model_lineage

    columns = {name: [column.name for column in table.columns] for name, table in refined.items()}
    try:
        found = model_lineage(manifest_path, columns)
    except BuildFailed as error:
        _LOG.warning("%s", error)
        return {}
    return {
        table: {
            "columns": {column: sorted(map(list, sources)) for column, sources in lineage.columns.items()},
            "deciding": sorted(map(list, lineage.deciding)),
        }
        for table, lineage in found.items()
    }


def _of_model(source: Sequence[str]) -> tuple[Dataset, str]:
    table, column = source
    return Dataset.own(table if table.startswith("refined.") else f"warehouse.{table}"), column


def _rules(verdict: Mapping[str, Any]) -> list[tuple[str, bool]]:
    return [(str(result["rule"]), bool(result["passed"])) for result in verdict.get("results", ())]
