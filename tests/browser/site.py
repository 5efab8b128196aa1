"""A real state to look at - a day of flights, a row in quarantine, an incident - and a server over it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

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
from tests.listening import listening
from warehouse.serve.server import Service
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
def serving(home: Path, environment: Mapping[str, str] | None = None) -> Iterator[Site]:
    """A server over a state folder on a free port, in a thread; with the settings of an environment."""
    (home / "policy.yml").write_text(POLICY)
    settings = Settings.load(environment or {}, home=home)
    service = Service(server_options(settings), PipelineFacts(settings), PipelineOperations(settings))
    charts = dashboards_app(settings, policy=service.policy)
    app = front(service, settings, dashboards=charts)
    try:
        with listening(lambda _: app) as address:
            yield Site(home, address)
    finally:
        charts.close()
        service.close()
