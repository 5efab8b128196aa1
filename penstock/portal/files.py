"""Pages that were written as files: the quality pages of runs and dbt's own documentation, for those who operate.

Both show tables, values and SQL that the policy may hide from a role. They are served under a policy of their own that
lets no request leave them.
"""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route

from penstock.portal.base import Portal
from warehouse.serve.problems import Problem

_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_PAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}\.html")


class Files:
    """Routes of static pages.

    Args:
        portal: knows where they are.
    """

    def __init__(self, portal: Portal) -> None:
        self._portal = portal

    def routes(self) -> list[Route]:
        """Its routes."""
        return [
            Route("/docs", self.docs_home, methods=["GET"]),
            Route("/docs/", self.docs, methods=["GET"]),
            Route("/docs/{name:path}", self.placeholder, methods=["GET"]),
            Route("/quality", self.quality_home, methods=["GET"]),
            Route("/quality/", self.quality_home, methods=["GET"]),
            Route("/quality/{run}/{page}", self.quality, methods=["GET"]),
        ]

    async def docs_home(self, request: Request) -> Response:  # noqa: ARG002 - a route's
        """With the slash that its links need."""
        return RedirectResponse("/docs/", 308)

    async def docs(self, request: Request) -> Response:
        """Dbt's documentation of the current release."""
        self._portal.require(request, "operate")
        path = self._portal.service.follower.current().release.folder / "docs" / "index.html"
        if not path.is_file():
            raise Problem("not_found", "The current release has no dbt documentation.", remedy="build one with docs")
        return FileResponse(path, media_type="text/html")

    async def placeholder(self, request: Request) -> Response:
        """Nothing, for a picture that dbt's page asks for before it has filled in its name."""
        if not request.path_params["name"].startswith(("{{", "${")):
            raise Problem("not_found", "There is no such page.", remedy="begin at the documentation's own")
        return Response(status_code=204)

    async def quality_home(self, request: Request) -> Response:
        """The pages of the last run."""
        self._portal.require(request, "operate")
        if not (self._portal.settings.home / "quality" / "latest" / "index.html").is_file():
            raise Problem(
                "not_found", "No quality pages were written yet.", remedy="write them with 'penstock quality'"
            )
        return RedirectResponse("/quality/latest/index.html", 303)

    async def quality(self, request: Request) -> Response:
        """One page of a run."""
        self._portal.require(request, "operate")
        run, page = request.path_params["run"], request.path_params["page"]
        path = self._portal.settings.home / "quality" / run / page
        if not _RUN.fullmatch(run) or not _PAGE.fullmatch(page) or not path.is_file():
            raise Problem("not_found", "There is no such quality page.", remedy="begin at the index of the last run")
        return FileResponse(path, media_type="text/html")
