"""The page that Prometheus reads: figures of what lasts, since a run of a minute cannot be scraped.

::

    interval states, receipts, quarantine, refusals ─┐
    current release                                  ├─> gauges    how it is now
    ops.ledger, ops.gate_results, ops.costs          ├─> counters  what was done so far
    Airflow, where there is one                      ┘

Everything is read, nothing is kept for it and nothing written. Counters are sums over ``ops.*``, which only grow, so
``rate()`` and ``increase()`` hold for them across any number of short runs.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from common.errors import PenstockError
from common.settings import Settings
from lake.ops import COSTS, GATE_RESULTS, LEDGER, OpsTable, ops_relation
from lake.paths import TableId
from penstock.ages import release_age_s, table_lags
from penstock.backfill_run import airflow_of
from penstock.incidents import incidents_of
from penstock.interval_state import interval_states
from penstock.pipeline import Pipeline
from penstock.status import lake_tables
from warehouse.releases import Releases

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry

_SEVERITIES = ("critical", "warning", "info")

Kind = Literal["gauge", "counter"]
Sample = tuple[tuple[str, ...], float]
"""Values of the labels, in their order, and the figure."""


@dataclass(frozen=True)
class Metric:
    """One figure of the page.

    Attributes:
        name: its whole name; a counter's ends with ``_total``.
        kind: gauge or counter.
        labels: names of its labels.
        said: what it says.
        samples: reads it.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    said: str
    samples: Callable[[View], Iterable[Sample]]


class View:
    """Lake and releases at one moment; what several figures need is read once."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.lake = pipeline.lake
        self.release = Releases(pipeline.settings.warehouse).current()
        self.intervals = interval_states(pipeline)
        self.receipts = {str(table): self.lake.receipts(table) for table in lake_tables(pipeline)}

    def grouped(self, ops: OpsTable, names: str, figures: str, where: str = "TRUE") -> list[tuple[Any, ...]]:
        """Sums over one of ``ops.*``; none where nothing was recorded yet."""
        if not self.lake.exists(ops.table):
            return []
        self.lake.ensure(ops.table, ops.columns, partition_by="month")
        with self.lake.connect() as connection:
            query = (
                f"SELECT {names}, {figures} FROM {ops_relation(self.lake, ops)} WHERE {where} GROUP BY ALL ORDER BY ALL"
            )
            return connection.execute(query).fetchall()


# -- gauges ------------------------------------------------------------------------------------------------------------


def _lags(view: View) -> Iterator[Sample]:
    for table, lag_s in table_lags(view.pipeline).items():
        yield (table,), lag_s


def _interval_counts(view: View) -> Iterator[Sample]:
    for each in view.intervals:
        for state, count in each.count().items():
            yield (each.stage, each.table, state), count


def _newest_rows(view: View) -> Iterator[Sample]:
    for table, receipts in view.receipts.items():
        if receipts:
            yield (table,), max(receipts, key=lambda receipt: receipt.key).published


def _rows_now(view: View) -> Iterator[Sample]:
    for table, receipts in view.receipts.items():
        yield (table,), sum(receipt.published for receipt in receipts)


def _sizes(view: View) -> Iterator[Sample]:
    for table in view.receipts:
        files = view.lake.live(TableId.parse(table))
        yield (table,), sum(file.data_file.file_size_in_bytes for file in files)


def _waiting(view: View) -> Iterator[Sample]:
    for table, receipts in view.receipts.items():
        yield (table,), sum(receipt.waiting for receipt in receipts)


def _failing_rules(view: View) -> Iterator[Sample]:
    """Of the newest batch of each table."""
    for table, receipts in view.receipts.items():
        counts = dict.fromkeys(_SEVERITIES, 0)
        newest = max(receipts, key=lambda receipt: receipt.key, default=None)
        for result in newest.verdict.get("results", ()) if newest else ():
            counts[result["severity"]] += not result["passed"]
        for severity, count in counts.items():
            yield (table, severity), count


def _release_age(view: View) -> Iterator[Sample]:
    if (age_s := release_age_s(view.pipeline)) is not None:
        yield (), age_s


def _release_rows(view: View) -> Iterator[Sample]:
    for table in view.release.manifest["tables"] if view.release else ():
        yield (table["name"],), table["rows"]


def _releases(view: View) -> Iterator[Sample]:
    yield (), len(Releases(view.pipeline.settings.warehouse).all())


def _incidents(view: View) -> Iterator[Sample]:
    counts = Counter(each.severity for each in incidents_of(view.lake) if each.is_open)
    for severity in _SEVERITIES:
        yield (severity,), counts[severity]


def _backfills(view: View) -> Iterator[Sample]:
    """Of the newest backfill that Airflow knows; nothing where there is none, or it does not answer."""
    from penstock import backfill_airflow

    try:
        api = airflow_of(view.pipeline.settings)
        known = backfill_airflow.status(api)[:1] if api else []
    except PenstockError:
        return
    for backfill in known:
        sources: Mapping[str, Mapping[str, int]] = backfill["sources"]
        for source, days in sources.items():
            yield (source, "done"), days["done"] - days["failed"]
            yield (source, "failed"), days["failed"]
            yield (source, "left"), days["total"] - days["done"]


# -- counters ----------------------------------------------------------------------------------------------------------

_OUTCOMES = ("rows_in", "published", "quarantined", "deduplicated", "rejected")


def _rows_so_far(view: View) -> Iterator[Sample]:
    sums = ", ".join(f"sum({name})" for name in _OUTCOMES)
    for stage, table, *counts in view.grouped(LEDGER, "stage, table_name", sums):
        for outcome, rows in zip(_OUTCOMES, counts, strict=True):
            yield (stage, table, outcome), rows


def _batches_so_far(view: View) -> Iterator[Sample]:
    for stage, table, outcome, count in view.grouped(LEDGER, "stage, table_name, outcome", "count(*)"):
        yield (stage, table, outcome), count


def _failures_so_far(view: View) -> Iterator[Sample]:
    found: dict[tuple[str, ...], int] = defaultdict(int)
    for stage, table, severity, passed, count in view.grouped(
        GATE_RESULTS, "stage, table_name, severity, passed", "count(*)"
    ):
        found[stage, table, severity] += 0 if passed else count
    yield from found.items()


def _cost(figure: str) -> Callable[[View], Iterator[Sample]]:
    def samples(view: View) -> Iterator[Sample]:
        for stage, step, table, value in view.grouped(COSTS, "stage, step, table_name", f"sum({figure})"):
            yield (stage, step, table), value

    return samples


def _moved(view: View) -> Iterator[Sample]:
    for stage, table, read, written in view.grouped(COSTS, "stage, table_name", "sum(read_bytes), sum(written_bytes)"):
        yield (stage, table, "read"), read
        yield (stage, table, "write"), written


METRICS = (
    Metric(
        "penstock_freshness_lag_seconds",
        "gauge",
        ("table",),
        "Time since the end of the table's newest interval; of a table without intervals since it was published.",
        _lags,
    ),
    Metric(
        "penstock_intervals",
        "gauge",
        ("stage", "table", "state"),
        "Intervals by state; missing and failed ones are holes.",
        _interval_counts,
    ),
    Metric("penstock_newest_interval_rows", "gauge", ("table",), "Rows of the newest interval.", _newest_rows),
    Metric("penstock_table_rows", "gauge", ("table",), "Rows that are live.", _rows_now),
    Metric("penstock_table_size_bytes", "gauge", ("table",), "Bytes of the live data files.", _sizes),
    Metric("penstock_quarantine_waiting_rows", "gauge", ("table",), "Rows in quarantine nobody decided on.", _waiting),
    Metric(
        "penstock_failing_rules",
        "gauge",
        ("table", "severity"),
        "Rules that the newest live batch does not meet.",
        _failing_rules,
    ),
    Metric("penstock_release_age_seconds", "gauge", (), "Time since the current release was published.", _release_age),
    Metric("penstock_release_rows", "gauge", ("table",), "Rows of the current release's tables.", _release_rows),
    Metric("penstock_releases", "gauge", (), "Releases that are kept.", _releases),
    Metric("penstock_open_incidents", "gauge", ("severity",), "Incidents that are open.", _incidents),
    Metric(
        "penstock_backfill_intervals",
        "gauge",
        ("source", "state"),
        "Days of Airflow's newest backfill: done, failed, left.",
        _backfills,
    ),
    Metric("penstock_rows_total", "counter", ("stage", "table", "outcome"), "Rows of batches so far.", _rows_so_far),
    Metric(
        "penstock_batches_total",
        "counter",
        ("stage", "table", "outcome"),
        "Batches so far, published or refused.",
        _batches_so_far,
    ),
    Metric(
        "penstock_rule_failures_total",
        "counter",
        ("stage", "table", "severity"),
        "Rules that batches did not meet so far.",
        _failures_so_far,
    ),
    Metric("penstock_steps_total", "counter", ("stage", "step", "table"), "How often steps were done.", _cost("times")),
    Metric(
        "penstock_step_wall_seconds_total", "counter", ("stage", "step", "table"), "Time steps took.", _cost("wall_s")
    ),
    Metric("penstock_step_cpu_seconds_total", "counter", ("stage", "step", "table"), "CPU steps used.", _cost("cpu_s")),
    Metric(
        "penstock_io_bytes_total", "counter", ("stage", "table", "direction"), "Bytes steps read and wrote.", _moved
    ),
)
"""Every figure of the page but the last, which is the time it took to make it."""

TOOK = "penstock_page_seconds"


def page(settings: Settings) -> str:
    """The page, in Prometheus' text format.

    Raises:
        StateCorrupt, StoreUnavailable: lake or releases cannot be read.
    """
    from prometheus_client import generate_latest

    return generate_latest(registry_of(Pipeline(settings))).decode()


def registry_of(pipeline: Pipeline) -> CollectorRegistry:
    """The figures of this moment."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector, CollectorRegistry

    started = time.perf_counter()
    view = View(pipeline)
    families = []
    for metric in METRICS:
        family: Any = (GaugeMetricFamily if metric.kind == "gauge" else CounterMetricFamily)(
            metric.name, metric.said, labels=metric.labels
        )
        for labels, value in metric.samples(view):
            family.add_metric(labels, float(value))
        families.append(family)
    families.append(GaugeMetricFamily(TOOK, "Time it took to make this page.", value=time.perf_counter() - started))

    class _Page(Collector):
        def collect(self) -> Iterator[Any]:
            return iter(families)

    registry = CollectorRegistry()
    registry.register(_Page())
    return registry
