"""What every page has: who looks, which release, how fresh it is, and the frame around it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

import penstock
from common.settings import Settings
from penstock.portal.door import Door
from penstock.portal.forms import read_form
from penstock.portal.pictures import LineagePictures
from penstock.portal.render import environment
from penstock.portal.sessions import Session, Sessions
from warehouse.serve.problems import Problem
from warehouse.serve.server import Service


class Portal:
    """Everything that pages are made from.

    Args:
        service: the API and what it stands on.
        settings: where the state folder is.
        sessions: who has signed in.
        has_dashboards: whether there is something under ``/dashboards``.
    """

    def __init__(self, service: Service, settings: Settings, sessions: Sessions, *, has_dashboards: bool) -> None:
        self.service = service
        self.settings = settings
        self.sessions = sessions
        self.has_dashboards = has_dashboards
        self.door = Door(service.app)
        self.lineage = LineagePictures(settings)

    @staticmethod
    def now() -> datetime:
        """This moment."""
        return datetime.now(UTC)

    def session(self, request: Request) -> Session:
        """Who looks at a page behind the login."""
        found: Session = request.scope["state"]["session"]
        return found

    def require(self, request: Request, scope: str) -> Session:
        """Who looks, if that scope is theirs.

        Raises:
            Problem: ``scope_missing``.
        """
        session = self.session(request)
        if scope not in session.principal.scopes:
            raise Problem(
                "scope_missing", f"Your sign-in does not have the scope {scope}.", remedy="ask for a token that has it"
            )
        return session

    async def form(self, request: Request) -> dict[str, str]:
        """The fields of a form that this session's page holds.

        Raises:
            Problem: ``scope_missing``, it does not come from such a page; and see :func:`read_form`.
        """
        fields = await read_form(request)
        if not self.sessions.is_form_token(self.session(request).id, fields.get("form_token", "")):
            raise Problem(
                "scope_missing", "The form does not come from this sign-in.", remedy="open the page again and send it"
            )
        return fields

    def page(self, request: Request, template: str, *, status: int = 200, **facts: Any) -> Response:
        """A page in its frame."""
        session: Session | None = request.scope.get("state", {}).get("session")
        release = None
        try:
            release = self.service.follower.current().release
        except Problem as problem:
            if problem.code != "nothing_published":
                raise
        shared = {
            "links": self._links(),
            "more": self._more(session),
            "active": f"/{request.url.path.split('/')[1]}".replace("/datasets", "/"),
            "q": "",
            "version": penstock.__version__,
            "session": session,
            "status": status,
            "scopes": session.principal.scopes if session else frozenset(),
            "form_token": self.sessions.form_token(session.id) if session else "",
            "current": release,
            "path": request.url.path,
            "now": self.now(),
            "has_dashboards": self.has_dashboards,
        }
        text = environment().get_template(template).render(**{**shared, **facts})
        return HTMLResponse(text, status)

    def _links(self) -> list[tuple[str, str]]:
        dashboards = [("/dashboards/", "Dashboards")] if self.has_dashboards else []
        work = [
            ("/releases", "Releases"),
            ("/runs", "Runs"),
            ("/quarantine", "Quarantine"),
            ("/incidents", "Incidents"),
        ]
        return [("/", "Datasets"), *dashboards, *work]

    def _more(self, session: Session | None) -> list[tuple[str, str]]:
        """Links of the footer; what shows more than the policy's datasets is for those who operate."""
        found = [("/v1/openapi.json", "Description of the HTTP API")]
        if session is not None and "operate" in session.principal.scopes:
            found += [("/quality/", "Quality pages"), ("/docs/", "dbt documentation")]
            address = airflow_address(self.settings)
            if address:
                found.append((address, "Airflow"))
        return found


def airflow_address(settings: Settings) -> str:
    """Where people open Airflow: the connection of that name, else the one of the state folder; empty for none."""
    from penstock.scheduler import Scheduler

    if "airflow" in settings.connections:
        url = urlsplit(settings.connection("airflow").get_secret_value())
        return f"{url.scheme}://{url.hostname}" + (f":{url.port}" if url.port else "") + url.path
    scheduler = Scheduler(settings.home)
    return scheduler.url if scheduler.was_started() else ""


class Pages:
    """Routes of one part of the portal.

    Args:
        portal: what pages are made from.
    """

    def __init__(self, portal: Portal) -> None:
        self._portal = portal
