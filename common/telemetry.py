"""Spans and metrics by OpenTelemetry, sent to a collector by OTLP over HTTP. Loaded only where that is switched on.

::

    penstock run                          parent: TRACEPARENT, or Airflow's own span of the task
      ingest raw.shop__orders             one interval of one table
        extract  gate  publish
      build
        models
          fct_orders ...                  one dbt model

Nobody waits for a collector: spans are sent by a thread of their own, a collector that failed once (after the standard
client's own retries) is not asked again by the same process, and at the end of a run at most :data:`FLUSH_S` seconds
are spent on what is left. A collector that is down is told of once, in a warning.

Providers are our own and not OpenTelemetry's global ones: in a task of Airflow those are Airflow's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from common.errors import PenstockError
from common.logs import masked
from common.settings import process_environment

if TYPE_CHECKING:
    from common.work import Scope

FLUSH_S = 2.0
"""Longest time that the end of a run waits for a collector, in s."""

DURATIONS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
"""Bounds of the histogram of durations, in s: from a small gate to the load of a large table."""

METRICS: Mapping[str, tuple[str, str, str]] = {
    "penstock.stage.duration": ("histogram", "s", "Time of one step of one batch."),
    "penstock.stage.cpu.time": ("counter", "s", "CPU of steps, children included."),
    "penstock.io": ("counter", "By", "Bytes that steps moved by read and write calls."),
    "penstock.rows": ("counter", "{row}", "Rows of batches that went live, by outcome."),
    "penstock.gate.failures": ("counter", "{rule}", "Rules that a batch did not meet."),
    "penstock.batches.refused": ("counter", "{batch}", "Batches that were refused."),
    "penstock.freshness.lag": ("gauge", "s", "Age of the end of a table's newest interval."),
    "penstock.backfill.intervals": ("gauge", "{interval}", "Days of the running backfill, done and left."),
    "penstock.release.age": ("gauge", "s", "Age of the current release."),
}
"""Name -> kind, unit, and what it says."""

_LOG = logging.getLogger(__name__)


class Span:
    """One piece of work as a span. Made by :meth:`Tracing.start`."""

    def __init__(self, span: trace.Span) -> None:
        self.inner = span
        found = span.get_span_context()
        self.trace_id = trace.format_trace_id(found.trace_id)
        self.span_id = trace.format_span_id(found.span_id)

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Say more of it."""
        self.inner.set_attributes(attributes)

    def end(self, error: BaseException | None = None) -> None:
        """It is done, or it failed. Of an error that is not ours only the kind is told: its text may hold anything."""
        if error is not None:
            self.inner.set_attribute("error.type", type(error).__name__)
            told = masked(str(error)) if isinstance(error, PenstockError) else type(error).__name__
            self.inner.set_status(trace.StatusCode.ERROR, told)
        self.inner.end()


class Tracing:
    """What a process sends.

    Args:
        endpoint: base address of the collector, as ``OTEL_EXPORTER_OTLP_ENDPOINT`` has it.
        version: ours.
    """

    def __init__(self, endpoint: str, version: str) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # we say it, once, and the work goes on
        environment = process_environment()
        self._parent = context.get_current()  # in a task of Airflow its span
        if not trace.get_current_span(self._parent).get_span_context().is_valid:
            carrier = {name.lower(): environment.get(name, "") for name in ("TRACEPARENT", "TRACESTATE")}
            self._parent = TraceContextTextMapPropagator().extract(carrier)
        service = {} if "OTEL_SERVICE_NAME" in environment else {"service.name": "penstock"}
        resource = Resource.create({**service, "service.version": version})
        self._health = _Health(endpoint)
        self._traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._traces.add_span_processor(BatchSpanProcessor(_Spans(_address(endpoint, "traces"), self._health)))
        bounds = ExplicitBucketHistogramAggregation(DURATIONS_S)
        self._reader = PeriodicExportingMetricReader(_Metrics(_address(endpoint, "metrics"), self._health))
        self._metrics = MeterProvider(
            metric_readers=[self._reader],
            resource=resource,
            shutdown_on_exit=False,
            views=[View(instrument_name="penstock.stage.duration", aggregation=bounds)],
        )
        self._tracer = self._traces.get_tracer("penstock", version)
        meter = self._metrics.get_meter("penstock", version)
        self._instruments: dict[str, Any] = {
            name: getattr(meter, f"create_{kind}")(name, unit, said) for name, (kind, unit, said) in METRICS.items()
        }

    def start(
        self, name: str, parent: Span | None, attributes: Mapping[str, Any], *, began_ns: int | None = None
    ) -> Span:
        """A span that begins now, or began then.

        Args:
            name: its name.
            parent: the span it is part of; None for the run, whose parent is what started it.
            attributes: what to say of it.
            began_ns: when it began, in ns since 1970.
        """
        above = self._parent if parent is None else trace.set_span_in_context(parent.inner)
        return Span(self._tracer.start_span(name, above, attributes=attributes, start_time=began_ns))

    def past(self, name: str, parent: Span, attributes: Mapping[str, Any], began_s: float, seconds: float) -> None:
        """A span of something that others did and timed, such as a model of dbt.

        Args:
            name: its name.
            parent: the span it is part of.
            attributes: what to say of it.
            began_s: when it began, in s since 1970.
            seconds: how long it took, in s.
        """
        began_ns = int(began_s * 1e9)
        span = self.start(name, parent, attributes, began_ns=began_ns)
        span.inner.end(began_ns + int(seconds * 1e9))

    def ended(self, scope: Scope, *, refused: bool) -> None:
        """A piece of work has ended."""
        what = scope.what
        named = {"penstock.stage": what.stage, "penstock.step": what.step, "penstock.table": what.table}
        if what.step != "rest":
            self._instruments["penstock.stage.duration"].record(scope.seconds, named)
        self._instruments["penstock.stage.cpu.time"].add(max(0.0, scope.used.cpu_s), named)
        for direction, size_bytes in (("read", scope.used.read_bytes), ("write", scope.used.written_bytes)):
            self._instruments["penstock.io"].add(max(0, size_bytes), {**named, "penstock.io.direction": direction})
        if refused:
            of = {"penstock.stage": what.stage, "penstock.table": what.table}
            self._instruments["penstock.batches.refused"].add(1, of)

    def judged(self, table: str, severities: Sequence[str]) -> None:
        """A gate has judged; the severities of the rules that were not met."""
        for severity in severities:
            of = {"penstock.table": table, "penstock.rule.severity": severity}
            self._instruments["penstock.gate.failures"].add(1, of)

    def published(self, stage: str, table: str, counts: Mapping[str, int]) -> None:
        """A batch is live; its rows by outcome, ``rows_in`` among them."""
        for outcome, rows in counts.items():
            of = {"penstock.stage": stage, "penstock.table": table, "penstock.outcome": outcome}
            self._instruments["penstock.rows"].add(rows, of)

    def measure(self, name: str, value: float, **attributes: str) -> None:
        """Set one of the gauges of :data:`METRICS`."""
        self._instruments[name].set(value, {f"penstock.{key}": text for key, text in attributes.items()})

    def close(self) -> None:
        """Send what is left, for at most :data:`FLUSH_S` seconds. Never raises."""
        ends = time.monotonic() + FLUSH_S

        def send() -> None:
            try:
                self._traces.force_flush()
                self._reader.force_flush(FLUSH_S * 1000)
                self._traces.shutdown()
                self._metrics.shutdown(FLUSH_S * 1000)
            except Exception as error:  # noqa: BLE001 - told below; the work is done and must not fail by this
                self._health.failed(error)

        sender = threading.Thread(target=send, name="penstock-telemetry", daemon=True)
        sender.start()
        sender.join(max(0.0, ends - time.monotonic()))
        if sender.is_alive():
            self._health.failed(f"no answer within {FLUSH_S:g} s")
        if self._health.problem:
            _LOG.warning("telemetry could not be sent to %s: %s", masked(self._health.endpoint), self._health.problem)


class _Health:
    """Whether the collector takes what it is sent."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.problem = ""

    def failed(self, problem: object) -> None:
        self.problem = self.problem or f"{problem}"


class _Spans(SpanExporter):
    """The standard exporter, until it fails."""

    def __init__(self, address: str | None, health: _Health) -> None:
        self._inner, self._health = OTLPSpanExporter(address), health

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        if self._health.problem:
            return SpanExportResult.FAILURE
        result = self._inner.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._health.failed("it does not take spans")
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._inner.force_flush(timeout_millis)


class _Metrics(MetricExporter):
    """The same for metrics."""

    def __init__(self, address: str | None, health: _Health) -> None:
        self._inner, self._health = OTLPMetricExporter(address), health
        super().__init__(self._inner._preferred_temporality, self._inner._preferred_aggregation)  # noqa: SLF001 - its own

    def export(self, metrics_data: Any, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        if self._health.problem:
            return MetricExportResult.FAILURE
        result = self._inner.export(metrics_data, timeout_millis, **kwargs)
        if result is not MetricExportResult.SUCCESS:
            self._health.failed("it does not take metrics")
        return result

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        self._inner.shutdown(timeout_millis, **kwargs)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._inner.force_flush(timeout_millis)


def _address(endpoint: str, signal: str) -> str | None:
    """Where a signal goes; None where the standard's own variable for that signal says it."""
    if f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT" in process_environment():
        return None
    return f"{endpoint.rstrip('/')}/v1/{signal}"
