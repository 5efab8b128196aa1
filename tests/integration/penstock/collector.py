"""A collector of OTLP over HTTP for tests: it keeps what it gets, decoded by OpenTelemetry's own protocol classes."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Told:
    """One span as the collector got it."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    is_error: bool
    seconds: float


@dataclass
class Collector:
    """What has come so far.

    Attributes:
        url: its address, as ``OTEL_EXPORTER_OTLP_ENDPOINT`` takes it.
        bodies: every request, undecoded.
        answered: how many of them were answered.
        spans: in the order they came.
        metrics: name -> points, each its attributes and its value (sum of a histogram).
        resource: of the last request.
    """

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    answered: int = 0
    spans: list[Told] = field(default_factory=list)
    metrics: dict[str, list[tuple[dict[str, Any], float]]] = field(default_factory=dict)
    resource: dict[str, Any] = field(default_factory=dict)

    def children(self, parent: Told) -> list[Told]:
        """Spans directly below one."""
        return [span for span in self.spans if span.parent_id == parent.span_id]

    def take(self, path: str, body: bytes) -> None:
        """One request."""
        self.bodies.append(body)
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resource = _attributes(resource.resource.attributes)
                for scope in resource.scope_spans:
                    self.spans += [_span(span) for span in scope.spans]
        elif path == "/v1/metrics":
            for metrics in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for scope_metrics in metrics.scope_metrics:
                    for metric in scope_metrics.metrics:
                        self.metrics[metric.name] = [*_points(metric)]


@contextlib.contextmanager
def collecting(answer: int = 200, delay_s: float = 0.0) -> Iterator[Collector]:
    """A collector that listens on a free port; it answers so, after so many seconds."""
    collector, ending = Collector(), threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            ending.wait(delay_s)
            if answer == http.HTTPStatus.OK:
                collector.take(self.path, body)
            else:
                collector.bodies.append(body)
            collector.answered += 1
            with contextlib.suppress(OSError):  # who asked may have given up
                self.send_response(answer)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield collector
    finally:
        ending.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in pairs}


def _span(span: Any) -> Told:
    return Told(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        _attributes(span.attributes),
        span.status.code == 2,
        (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
    )


def _points(metric: Any) -> Iterator[tuple[dict[str, Any], float]]:
    kind = metric.WhichOneof("data")
    for point in getattr(metric, kind).data_points:
        value = point.sum if kind == "histogram" else getattr(point, point.WhichOneof("value"))
        yield _attributes(point.attributes), float(value)
