"""The portal's routes, and what becomes of errors: a page that says in words what is wrong and what to do."""

from __future__ import annotations

import logging
import uuid
from typing import Any

from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route, Router

from common.errors import PenstockError
from common.settings import Settings
from penstock.portal.base import Portal
from penstock.portal.charts import Charts
from penstock.portal.datasets import Datasets
from penstock.portal.files import Files
from penstock.portal.login import Login
from penstock.portal.releases import Releases
from penstock.portal.render import ICON, STYLE
from penstock.portal.sessions import Sessions
from penstock.portal.work import Work
from warehouse.serve.gate import ASGIApp, Message, Receive, Send
from warehouse.serve.problems import Problem
from warehouse.serve.server import Service

_LOG = logging.getLogger(__name__)


def make_portal(service: Service, settings: Settings, sessions: Sessions, *, has_dashboards: bool) -> ASGIApp:
    """The portal without the front's checks, which must stand before it.

    Args:
        service: the API and what it stands on.
        settings: where the pages of the state folder are.
        sessions: who has signed in.
        has_dashboards: whether there is something under ``/dashboards``.
    """
    portal = Portal(service, settings, sessions, has_dashboards=has_dashboards)

    charts = Charts(portal)
    routes = [
        *Login(portal).routes(),
        Route("/static/portal.css", _style, methods=["GET"]),
        Route("/static/icon.svg", _icon, methods=["GET"]),
        *charts.routes(),
        *Datasets(portal, charts).routes(),
        *Releases(portal).routes(),
        *Work(portal).routes(),
        *Files(portal).routes(),
    ]
    problems = _Problems(portal)
    handlers: dict[Any, Any] = {
        PenstockError: problems.on_known,
        HTTPException: problems.on_http,
        Exception: problems.on_unknown,
    }
    pages = ExceptionMiddleware(Router(routes), handlers=handlers)

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await pages({**scope, "app": pages}, receive, send)  # with an "app" the router raises what it does not find

    return app


async def _style(request: Request) -> Response:  # noqa: ARG001 - a route's
    return FileResponse(STYLE, media_type="text/css", headers={"cache-control": "public, max-age=31536000, immutable"})


async def _icon(request: Request) -> Response:  # noqa: ARG001 - a route's
    return FileResponse(ICON, media_type="image/svg+xml", headers={"cache-control": "public, max-age=86400"})


class _Problems:
    def __init__(self, portal: Portal) -> None:
        self._portal = portal

    async def on_known(self, request: Request, error: PenstockError) -> Response:
        """What is refused, with its remedy; of what is broken here only its number in the log."""
        if not isinstance(error, Problem):
            return await self.on_unknown(request, error)
        return self._page(request, error.status, error.problem, error.remedy or "")

    async def on_http(self, request: Request, error: HTTPException) -> Response:
        """A page that is not there."""
        text = {404: "There is no such page.", 405: "That cannot be done here."}
        return self._page(
            request, error.status_code, text.get(error.status_code, str(error.detail)), "go to the front page"
        )

    async def on_unknown(self, request: Request, error: Exception) -> Response:
        """A defect, or a broken state: told in the log, not to the reader."""
        number = uuid.uuid4().hex
        _LOG.error("page %s failed (%s)", request.url.path, number, exc_info=error)
        return self._page(request, 500, "Something went wrong here.", f"report the number {number}")

    def _page(self, request: Request, status: int, text: str, remedy: str) -> Response:
        return self._portal.page(request, "problem.html.j2", status=status, text=text, remedy=remedy)
