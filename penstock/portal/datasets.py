"""Pages of the catalog: all datasets, one with its rows, columns, lineage, quality and doors, and its download."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from penstock.portal.base import Portal
from penstock.portal.charts import Charts
from penstock.portal.door import Door
from penstock.portal.questions import OPERATORS, PAGE_ROWS, Asked
from penstock.portal.sessions import Session
from penstock.portal.snippets import snippets
from penstock.portal.work import MOST_INCIDENTS
from warehouse.serve.facts import quality_of
from warehouse.serve.gate import Message, Receive, Send
from warehouse.serve.problems import Problem

FORMATS = {"csv": "CSV", "json": "JSON", "parquet": "Parquet", "arrow": "Arrow"}
JSON_ROWS = 10_000
"""Rows of a download as JSON, which the API gives by pages; the other forms hold all of them."""

_PREFIXES = {"mart_": "Marts", "fct_": "Facts", "dim_": "Dimensions", "ops.": "Operations"}
_ASKED_WRONGLY = {"bad_filter", "wrong_type", "unknown_column", "bad_parameter", "cursor_invalid", "too_slow"}


class Datasets:
    """Routes of the catalog.

    Args:
        portal: what pages are made from.
        charts: know which dashboards show a dataset.
    """

    def __init__(self, portal: Portal, charts: Charts) -> None:
        self._portal = portal
        self._charts = charts

    def routes(self) -> list[Route]:
        """Its routes."""
        return [
            Route("/", self.all, methods=["GET"]),
            Route("/datasets", self.home, methods=["GET"]),
            Route("/datasets/{name}", self.one, methods=["GET"]),
            Route("/datasets/{name}/download", self.download, methods=["GET"]),
            Route("/datasets/{name}/lineage.svg", self.picture, methods=["GET"]),
        ]

    async def home(self, request: Request) -> Response:  # noqa: ARG002 - a route's
        """The front page is the list."""
        return RedirectResponse("/", 308)

    async def all(self, request: Request) -> Response:
        """The front page: every dataset of the role, or those that a search finds."""
        session = self._portal.session(request)
        door = self._portal.door
        found, incidents, quarantine = await asyncio.gather(
            door.get(session, "/v1/datasets"),
            door.maybe(session, "/v1/incidents", [("state", "open"), ("limit", str(MOST_INCIDENTS))]),
            door.maybe(session, "/v1/quarantine"),
        )
        q = request.query_params.get("q", "").strip()[:200]
        datasets = [{**each, "match": _matches(each, q.lower().split())} for each in found["datasets"]]
        verdicts = [each["quality"] for each in datasets if each["quality"]["judged"]]
        return self._portal.page(
            request,
            "home.html.j2",
            q=q,
            total=len(datasets),
            groups=_groups([each for each in datasets if each["match"] is not None]),
            shown=sum(each["match"] is not None for each in datasets),
            judged=len(verdicts),
            passed=sum(each["passed"] and not each["not_passed"] for each in verdicts),
            open_incidents=None if incidents is None else incidents["incidents"],
            waiting=None if quarantine is None else sum(each["rows"] for each in quarantine["quarantine"]),
        )

    async def one(self, request: Request) -> Response:
        """A dataset of one release; what is wrong with a filter is told beside the filter."""
        session = self._portal.session(request)
        name, release = request.path_params["name"], await self._release(request, session)
        path, asked = f"/v1/datasets/{name}", Asked.of(request.query_params)
        cursor = request.query_params.get("cursor", "")
        of_release = [("release", release)]
        question = [*asked.api, *of_release, ("limit", str(PAGE_ROWS)), *([("cursor", cursor)] if cursor else [])]
        dataset = await self._portal.door.get(session, path, of_release)
        name = dataset["name"]
        rows, problem = await self._rows(session, path, question)
        loop = asyncio.get_running_loop()
        lineage, history = await asyncio.gather(
            self._portal.door.get(session, f"{path}/lineage", of_release),
            loop.run_in_executor(None, self._history, dataset),
        )
        lineage["downstream"] = self._known(session, lineage["downstream"])
        around = [*lineage["upstream"], *lineage["downstream"]]
        lineage["has_picture"] = await loop.run_in_executor(None, self._portal.lineage.are_told, name, around)
        next_page = (
            rows and rows["next"] and asked.address(f"/datasets/{name}", [*of_release, ("cursor", rows["next"])])
        )
        return self._portal.page(
            request,
            "dataset.html.j2",
            status=problem.status if problem else 200,
            dataset=dataset,
            release=release,
            in_current=name in self._portal.service.follower.current().shown(session.principal.role),
            asked=asked,
            operators=OPERATORS,
            problem=problem,
            rows=rows["rows"] if rows else [],
            is_first=not cursor,
            next_page=f"{next_page}#rows" if next_page else "",
            downloads={
                label: asked.address(f"/datasets/{name}/download", [*of_release, ("format", form)])
                for form, label in FORMATS.items()
            },
            lineage=lineage,
            dashboards=self._charts.of(name),
            failed=_failed(dataset, history, release),
            history=history,
            snippets=snippets(dataset, request, asked, self._portal.settings, session.principal.role),
        )

    async def download(self, request: Request) -> Response:
        """The rows that a page's filter finds, as a file."""
        session = self._portal.session(request)
        release = await self._release(request, session)
        name, form = request.path_params["name"], request.query_params.get("format", "csv")
        dataset = await self._portal.door.get(session, f"/v1/datasets/{name}", [("release", release)])
        question = [*Asked.of(request.query_params).api, ("release", release), ("format", form)]
        if form == "json":
            question.append(("limit", str(JSON_ROWS)))
        path, file = f"/v1/datasets/{dataset['name']}/rows", f"{dataset['name']}-{release}.{form}"
        return _Forwarded(self._portal.door, session, path, question, file)

    async def picture(self, request: Request) -> Response:
        """The lineage of a dataset as a picture."""
        session, name = self._portal.session(request), request.path_params["name"]
        of_release = [("release", await self._release(request, session))]
        lineage = await self._portal.door.get(session, f"/v1/datasets/{name}/lineage", of_release)
        around = [*lineage["upstream"], *lineage["downstream"]]
        loop = asyncio.get_running_loop()
        if not await loop.run_in_executor(None, self._portal.lineage.are_told, lineage["dataset"], around):
            raise Problem("not_found", "There is no picture of this dataset's lineage.", remedy="read the list")
        text = await loop.run_in_executor(None, self._portal.lineage.draw, lineage["dataset"], around)
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        return Response(text, media_type="image/svg+xml", headers={"content-security-policy": policy})

    async def _rows(
        self, session: Session, path: str, question: list[tuple[str, str]]
    ) -> tuple[dict[str, Any] | None, Problem | None]:
        try:
            return await self._portal.door.get(session, f"{path}/rows", question), None
        except Problem as problem:
            if problem.code not in _ASKED_WRONGLY:
                raise
            return None, problem

    async def _release(self, request: Request, session: Session) -> str:
        """The release that the page is of: the address's, else the current one; a page is of one from end to end."""
        wanted = request.query_params.get("release")
        if wanted:
            found = await self._portal.door.get(session, f"/v1/releases/{wanted}")
            return str(found["id"])
        return self._portal.service.follower.current().id

    def _known(self, session: Session, tables: list[str]) -> list[str]:
        """Of tables made from a dataset, those that its links lead to: datasets of the current release."""
        shown = self._portal.service.follower.current().shown(session.principal.role)
        return [each for each in tables if each.removeprefix("warehouse.") in shown]

    def _history(self, dataset: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Verdict and rows of a dataset, as the role sees it, in each release that is kept, the newest first."""
        name = dataset["name"]
        found: list[dict[str, Any]] = []
        for release in reversed(self._portal.service.follower.all()):
            table = next((each for each in release.manifest.get("tables", ()) if each["name"] == name), None)
            if table is not None:
                rows = None if dataset["filtered"] else int(table["rows"])
                told = {"id": release.id, "current": release.current, "published_at": release.published_at}
                verdict = release.manifest.get("verdicts", {}).get(name, {})
                told |= {"rows": rows, "quality": quality_of(release.manifest, name)}
                found.append({**told, "results": verdict.get("results", [])})
        most = max((each["rows"] or 0 for each in found), default=0) or 1
        return [{**each, "share": (each["rows"] or 0) / most} for each in found]


class _Forwarded(Response):
    """An answer that the API gives to the browser itself; of JSON, which it would show, a file is made."""

    def __init__(self, door: Door, session: Session, path: str, question: list[tuple[str, str]], name: str) -> None:
        super().__init__()
        self._ask = partial(door.forward, session, path, question)
        self._name = name

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Pass the answer on."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [each for each in message["headers"] if each[0].lower() != b"content-disposition"]
                headers.append((b"content-disposition", f'attachment; filename="{self._name}"'.encode()))
                message = {**message, "headers": headers}
            await send(message)

        await self._ask(scope, receive, sending)


def _failed(dataset: Mapping[str, Any], history: list[dict[str, Any]], release: str) -> list[dict[str, Any]]:
    """Rules that did not pass in a release, with their reasons; how many rows broke them, where all rows are shown."""
    results: list[dict[str, Any]] = next((each["results"] for each in history if each["id"] == release), [])
    return [
        {
            "rule": each["rule"],
            "severity": each["severity"],
            "why": each.get("why", ""),
            "rows": None if dataset["filtered"] else each.get("rows_unexpected"),
        }
        for each in results
        if not each["passed"]
    ]


def _groups(datasets: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Datasets by what their names say they are, those that are made for readers first."""
    groups = [
        (title, [each for each in datasets if each["name"].startswith(prefix)]) for prefix, title in _PREFIXES.items()
    ]
    others = [each for each in datasets if not each["name"].startswith(tuple(_PREFIXES))]
    return [(title, members) for title, members in [*groups[:-1], ("Others", others), groups[-1]] if members]


def _matches(dataset: Mapping[str, Any], words: list[str]) -> str | None:
    """None if a dataset does not hold all words; else the first column that had to help, or nothing."""
    own = " ".join([dataset["name"], dataset["description"], *dataset["owners"]]).lower()
    columns = {each["name"]: f"{each['name']} {each['description']}".lower() for each in dataset["columns"]}
    helped = ""
    for word in words:
        if word in own:
            continue
        column = next((name for name, text in columns.items() if word in text), None)
        if column is None:
            return None
        helped = helped or column
    return helped
