"""Pages of the work behind the datasets: runs, quarantine, incidents, as far as the API tells a role of them."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.portal.base import Pages
from warehouse.serve.problems import Problem

LISTED = 200
"""Most runs and incidents of a page."""

MOST_INCIDENTS = 1000
"""Most that the API tells at once."""

ROWS = 50
"""Most rows in quarantine of a page."""


class Work(Pages):
    """Routes of runs, quarantine and incidents."""

    def routes(self) -> list[Route]:
        """Its routes."""
        return [
            Route("/runs", self.runs, methods=["GET"]),
            Route("/runs/{run_id}", self.run, methods=["GET"]),
            Route("/quarantine", self.quarantine, methods=["GET"]),
            Route("/quarantine/{table}", self.rows, methods=["GET"]),
            Route("/incidents", self.incidents, methods=["GET"]),
            Route("/incidents/{incident_id}", self.incident, methods=["GET"]),
        ]

    async def runs(self, request: Request) -> Response:
        """Runs that were recorded, the newest first."""
        found = await self._portal.door.get(self._portal.session(request), "/v1/runs", [("limit", str(LISTED))])
        return self._portal.page(request, "runs.html.j2", runs=found["runs"])

    async def run(self, request: Request) -> Response:
        """One run with its tables."""
        session, run_id = self._portal.session(request), request.path_params["run_id"]
        return self._portal.page(request, "run.html.j2", run=await self._portal.door.get(session, f"/v1/runs/{run_id}"))

    async def quarantine(self, request: Request) -> Response:
        """How many rows wait, by table, interval and rules."""
        found = await self._portal.door.get(self._portal.session(request), "/v1/quarantine")
        return self._portal.page(request, "quarantine.html.j2", waiting=found["quarantine"])

    async def rows(self, request: Request) -> Response:
        """Rows of a table that wait, with their reasons; only for those who operate."""
        session, table = self._portal.require(request, "operate"), request.path_params["table"]
        path = f"/v1/quarantine/{table}/rows"
        found = await self._portal.door.get(session, path, [("limit", str(ROWS))])
        rows = [{**each, "values": _values(each["row"])} for each in found["rows"]]
        return self._portal.page(request, "quarantined.html.j2", table=found["table"], rows=rows, most=ROWS)

    async def incidents(self, request: Request) -> Response:
        """What is or was wrong; what is open stands first."""
        found = await self._portal.door.get(self._portal.session(request), "/v1/incidents", [("limit", str(LISTED))])
        groups: dict[str, list[Any]] = {"open": [], "resolved": []}
        for each in found["incidents"]:
            groups[each["state"]].append(each)
        return self._portal.page(request, "incidents.html.j2", groups=groups)

    async def incident(self, request: Request) -> Response:
        """One incident in full."""
        session, wanted = self._portal.session(request), request.path_params["incident_id"]
        found = await self._portal.door.get(session, "/v1/incidents", [("limit", str(MOST_INCIDENTS))])
        for each in found["incidents"]:
            if each["id"] == wanted:
                return self._portal.page(request, "incident.html.j2", incident=each)
        raise Problem("unknown_name", "There is no such incident for you.", remedy="see the list of incidents")


def _values(row: str) -> list[tuple[str, Any]]:
    """The values of a rejected row by column; of one that could not be read, all of it."""
    try:
        values = json.loads(row)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        return [("as it came", row)]
    return [
        (name, value if isinstance(value, str) or value is None else json.dumps(value))
        for name, value in values.items()
    ]
