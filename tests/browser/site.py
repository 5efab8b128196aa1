"""A real state to look at - a day of flights, a row in quarantine, an incident - and a server over it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from uvicorn import Config

from common.settings import Settings
from penstock import demo_data
from penstock.dashboards import dashboards_app
from penstock.embedded import EmbeddedServices
from penstock.front import front
from penstock.operations import PipelineOperations
from penstock.pipeline import Pipeline
from penstock.quality_pages import write_pages
from penstock.run import run
from penstock.serve import PipelineFacts, server_options
from warehouse.serve.server import Patient, Server, Service
from warehouse.serve.tokens import LocalIssuer

DAY, NEXT, LATER = "2013-02-12", "2013-02-13", "2013-02-14"
"""The day that is published (it holds the one absurd wind speed), and one that the sources have nothing of."""

POLICY = """
roles:
  operator:
    scopes: [read, sql, operate]
    datasets:
      "*": {columns: all}
  analyst:
    scopes: [read, sql]
    datasets:
      mart_daily_route_performance: {columns: all}
      fct_flights:
        columns: all
        hide: [flight_number]
        mask: {tail_number: hash}
        rows: "origin_code = 'JFK'"
"""

PAGES = (
    "/",
    "/?q=weather",
    "/datasets/mart_daily_route_performance",
    "/datasets/fct_flights?column=origin_code&operator=eq&value=JFK&sort=departure_delay_min&order=down",
    "/dashboards/",
    "/releases",
    "/releases/r000001",
    "/runs",
    "/quarantine",
    "/quarantine/raw.stations__weather",
    "/incidents",
    "/incidents/i000001",
    "/nothing-is-here",
)
"""Pages of the portal for whoever operates; the last one is not there."""


@dataclass(frozen=True)
class Site:
    """A server in this process.

    Attributes:
        home: its state folder.
        address: where it listens.
    """

    home: Path
    address: str

    def token(self, role: str) -> str:
        """A token of a role with all its scopes."""
        issuer = LocalIssuer(self.home / "serve")
        subject = f"{role}@example.com"
        scopes = ["read", "sql", "operate"]
        return issuer.issue(role, scopes, subject=subject, audience="penstock", expires_in_s=3600)[0]


def fill(home: Path) -> None:
    """Publish a day into a state folder, fail at another, and write the quality pages.

    Side effects: the folder's services run meanwhile.
    """
    with EmbeddedServices.start(home) as services:
        demo_data.seed(services, first_day=date.fromisoformat(DAY), last_day=date.fromisoformat(DAY))
        settings = Settings.load({}, home=home, connections=services.connections)
        assert run(Pipeline(settings), DAY, NEXT).release == "r000001"
        failing = Pipeline(settings)
        run(failing, NEXT, LATER, build=False)
        write_pages(failing)


@contextmanager
def serving(home: Path) -> Iterator[Site]:
    """A server over a state folder on a free port, in a thread."""
    (home / "policy.yml").write_text(POLICY)
    settings = Settings.load({}, home=home)
    service = Service(server_options(settings), PipelineFacts(settings), PipelineOperations(settings))
    charts = dashboards_app(settings, policy=service.policy)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        app = front(service, settings, dashboards=charts)
        config = Config(app, http=Patient, lifespan="off", log_config=None, access_log=False)
        server = _Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="site")
        thread.start()
        try:
            yield Site(home, f"http://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            server.should_exit = True
            thread.join(60)
            charts.close()
            service.close()


class _Server(Server):
    """A server that no signal ends: those belong to the main thread."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing is captured."""
        yield
