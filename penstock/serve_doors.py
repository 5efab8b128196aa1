"""The doors that ``penstock serve`` opens beside the web's, each told in a line, all closed again in one go.

::

    Flight       pyarrow, ADBC: TLS, the same tokens and policy
    BI database  the user's, or the embedded PostgreSQL, started and brought in step if need be
    file         <warehouse>/current, for tools that open DuckDB files
    metrics      for Prometheus; on this machine only, since it asks for no token

What was running before is left running. A door that cannot be opened for want of something around it - no PostgreSQL to
start - is told and left out: the others are worth having without it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from common.errors import LeaseHeld, PenstockError, SettingsError, UsageError
from common.settings import Settings
from warehouse.releases import DATABASE, Releases
from warehouse.serve.server import Service

_LOG = logging.getLogger(__name__)
_METRICS_HOLD_S = 15.0


@dataclass(frozen=True)
class Wanted:
    """Which doors to open.

    Attributes:
        flight, bi, metrics: whether.
        host: address that Flight listens on.
        flight_port: its port; 0 takes a free one.
    """

    flight: bool = True
    bi: bool = True
    metrics: bool = True
    host: str = "127.0.0.1"
    flight_port: int = 0


def web(service: Service, settings: Settings, opened: ExitStack) -> Any:
    """The application for the web: the API, the portal, and the dashboards where there is a folder of them.

    Side effects: the key of sessions is made in the state folder, if there is none.
    """
    from penstock.dashboards import dashboards_app
    from penstock.front import front

    if not settings.dashboards.is_dir():
        return front(service, settings)
    dashboards = dashboards_app(settings, policy=service.policy)
    opened.callback(dashboards.close)
    return front(service, settings, dashboards=dashboards)


def open_doors(service: Service, settings: Settings, wanted: Wanted, opened: ExitStack) -> list[str]:
    """Open what is wanted.

    Args:
        service: what is served.
        settings: where everything is.
        wanted: which doors.
        opened: closes them.

    Returns:
        A line for each door, for people.

    Raises:
        UsageError: an address cannot be listened on.
        SettingsError: the files of the Flight door's certificate are not what they should be.
    """
    lines = []
    if wanted.flight:
        lines.append(_flight(service, settings, wanted, opened))
    if wanted.bi:
        lines += _unless_it_fails("BI database", lambda: _bi(settings, opened))
    if service.options.releases is None:
        lines.append(f"File:        {settings.warehouse / 'current' / DATABASE} (docs/bi.md says how to open it)")
    if wanted.metrics:
        lines.append(_metrics(settings, opened))
    return lines


def _unless_it_fails(name: str, opening: Callable[[], str]) -> list[str]:
    try:
        return [opening()]
    except PenstockError as error:
        _LOG.warning("The door %r is left out: %s", name, error)
        return []


def _flight(service: Service, settings: Settings, wanted: Wanted, opened: ExitStack) -> str:
    from warehouse.flight.certificate import own_certificate, read_certificate
    from warehouse.flight.server import FlightDoor

    files = settings.flight_certificate, settings.flight_key
    if files[0] is not None and files[1] is not None:
        certificate = read_certificate(files[0], files[1])
    elif files == (None, None):
        certificate = own_certificate(service.options.state / "flight", wanted.host)
    else:
        raise SettingsError(
            "The Flight door has a certificate without a key, or a key without a certificate.",
            remedy="set both PENSTOCK_FLIGHT_CERTIFICATE and PENSTOCK_FLIGHT_KEY, or neither",
        )
    try:
        door = FlightDoor(service, host=wanted.host, port=wanted.flight_port, certificate=certificate)
    except OSError:
        raise UsageError(
            f"{wanted.host}:{wanted.flight_port} cannot be listened on by the Flight door.",
            remedy="use another --flight-port, or --no-flight",
        ) from None
    opened.callback(door.close)
    believed = f" (believe {certificate.path})" if certificate.path else ""
    return f"Flight:      {door.address}{believed}"


def _bi(settings: Settings, opened: ExitStack) -> str:
    """The BI database: the one that is configured, else the embedded one, in step with the current release."""
    from penstock.doors import BI_CONNECTION, LEASE_WAIT_S, bi_schema, current_release, publish_to_bi
    from penstock.embedded import EmbeddedServices
    from warehouse.lease import lease

    if BI_CONNECTION not in settings.connections:
        current_release(settings)  # without a release on this disk there is nothing to show: say so and start nothing
        opened.enter_context(EmbeddedServices.start(settings.home))
    if Releases(settings.warehouse).current_id() is None:
        schema = bi_schema(settings)
        shown = schema.live() if schema else None  # whoever builds it publishes there too
        _LOG.info("the BI database shows %s", shown.release if shown else "nothing yet")
    else:
        try:
            with lease(settings.warehouse, wait_s=LEASE_WAIT_S) as held:
                publish_to_bi(settings, current_release(settings), held)
        except LeaseHeld as error:  # a build is at work, and will publish
            _LOG.warning("The BI database is served as it is: %s", error)
    place = urlsplit(settings.connection(BI_CONNECTION).get_secret_value())
    where = f"{place.hostname}:{place.port or 5432}{place.path}"
    return f"BI database: postgresql://{where}, schema {settings.bi_schema}"


def _metrics(settings: Settings, opened: ExitStack) -> str:
    from penstock.metrics_server import make_server

    server = opened.enter_context(make_server(settings, "127.0.0.1", 0, every_s=_METRICS_HOLD_S))
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    opened.callback(thread.join)
    opened.callback(server.shutdown)
    return (
        f"Metrics:     http://127.0.0.1:{server.server_address[1]}/metrics (for Prometheus on this machine; no token)"
    )
