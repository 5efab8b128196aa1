"""Pages of releases: all of them, one, how two differ, and the way back to an earlier one, which is asked twice."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from penstock.portal.base import Pages
from penstock.portal.sessions import Session
from warehouse.serve.problems import Problem


class Releases(Pages):
    """Routes of releases."""

    def routes(self) -> list[Route]:
        """Its routes."""
        return [
            Route("/releases", self.all, methods=["GET"]),
            Route("/releases/diff", self.chosen, methods=["GET"]),
            Route("/releases/{release_id}", self.one, methods=["GET"]),
            Route("/releases/{before_id}/diff/{after_id}", self.diff, methods=["GET"]),
            Route("/releases/{release_id}/rollback", self.ask, methods=["GET"]),
            Route("/releases/{release_id}/rollback", self.roll_back, methods=["POST"]),
        ]

    async def all(self, request: Request) -> Response:
        """All releases, the newest first."""
        found = await self._found(self._portal.session(request))
        return self._portal.page(request, "releases.html.j2", releases=list(reversed(found)))

    async def one(self, request: Request) -> Response:
        """A release and how it differs from the one that it was built upon."""
        session, release_id = self._portal.session(request), request.path_params["release_id"]
        release = await self._portal.door.get(session, f"/v1/releases/{release_id}")
        ids = {each["id"] for each in await self._found(session)}
        release["current"] = release["id"] == self._portal.service.follower.current().id
        difference = None
        if release["parent"] in ids:
            difference = await self._difference(session, release["parent"], release["id"])
        return self._portal.page(request, "release.html.j2", release=release, difference=difference)

    async def chosen(self, request: Request) -> Response:
        """From the form to the page of two releases."""
        before, after = (request.query_params.get(name, "") for name in ("before", "after"))
        ids = {each["id"] for each in await self._found(self._portal.session(request))}
        if not {before, after} <= ids:
            raise Problem("unknown_release", "There is no such release.", remedy="choose two of the list")
        return RedirectResponse(f"/releases/{before}/diff/{after}", 303)

    async def diff(self, request: Request) -> Response:
        """How two releases differ."""
        before, after = request.path_params["before_id"], request.path_params["after_id"]
        difference = await self._difference(self._portal.session(request), before, after)
        return self._portal.page(request, "diff.html.j2", difference=difference)

    async def ask(self, request: Request) -> Response:
        """What a rollback would change, and once more whether it is meant."""
        session, release_id = self._portal.require(request, "operate"), request.path_params["release_id"]
        release = await self._portal.door.get(session, f"/v1/releases/{release_id}")
        current = self._portal.service.follower.current().id
        if release["id"] == current:
            raise Problem("not_found", f"{current} is the current release already.", remedy="choose an earlier one")
        difference = await self._difference(session, current, release["id"])
        return self._portal.page(request, "rollback.html.j2", release=release, difference=difference)

    async def roll_back(self, request: Request) -> Response:
        """Move the pointer, if the page that asked was of the release that still is current."""
        session, release_id = self._portal.require(request, "operate"), request.path_params["release_id"]
        fields = await self._portal.form(request)
        current = self._portal.service.follower.current().id
        if fields.get("instead_of") != current:
            raise Problem(
                "busy", f"Meanwhile {current} has been published.", remedy="look at what would change, and decide again"
            )
        await self._portal.door.post(session, f"/v1/releases/{release_id}/rollback")
        return RedirectResponse(f"/releases/{release_id}", 303)

    async def _found(self, session: Session) -> list[dict[str, Any]]:
        found = (await self._portal.door.get(session, "/v1/releases"))["releases"]
        return [{**each, "rows": sum(rows or 0 for rows in each["datasets"].values())} for each in found]

    async def _difference(self, session: Session, before: str, after: str) -> dict[str, Any]:
        found: dict[str, Any] = await self._portal.door.get(session, f"/v1/releases/{before}/diff/{after}")
        order = ["removed", "added", "changed", "unchanged"]
        return {**found, "datasets": sorted(found["datasets"], key=lambda each: order.index(each["change"]))}
