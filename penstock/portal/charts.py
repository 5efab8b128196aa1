"""The list of dashboards, and which of them show a dataset."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from penstock.dashboards import Dashboard, dashboards
from penstock.portal.base import Portal
from warehouse.serve.problems import Problem


class Charts:
    """Routes of the list; the dashboards themselves are an application of their own.

    Args:
        portal: what pages are made from.
    """

    def __init__(self, portal: Portal) -> None:
        self._portal = portal

    def routes(self) -> list[Route]:
        """Its routes."""
        return [
            Route("/dashboards", self.home, methods=["GET"]),
            Route("/dashboards/", self.all, methods=["GET"]),
        ]

    async def home(self, request: Request) -> Response:  # noqa: ARG002 - a route's
        """With the slash that its links need."""
        return RedirectResponse("/dashboards/", 308)

    async def all(self, request: Request) -> Response:
        """Every dashboard with what it says of itself, and the datasets of the role that it names."""
        if not self._portal.has_dashboards:
            raise Problem("not_found", "This server has no dashboards.", remedy="ask another one")
        shown = self._portal.service.follower.current().shown(self._portal.session(request).principal.role)
        listed = [
            (each, [name for name in sorted(shown) if self.shows(each, name)])
            for each in dashboards(self._portal.settings)
        ]
        return self._portal.page(request, "dashboards.html.j2", dashboards=listed)

    def of(self, dataset: str) -> list[Dashboard]:
        """Dashboards that show a dataset."""
        if not self._portal.has_dashboards:
            return []
        return [each for each in dashboards(self._portal.settings) if self.shows(each, dataset)]

    def shows(self, dashboard: Dashboard, dataset: str) -> bool:
        """Whether a dashboard's file names a dataset."""
        text = (self._portal.settings.dashboards / f"{dashboard.name}.py").read_text(encoding="utf-8")
        return re.search(rf"\b{re.escape(dataset)}\b", text) is not None
