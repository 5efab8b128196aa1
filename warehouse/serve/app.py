"""The routes of the HTTP API, version 1. What every request passes before them is in :mod:`warehouse.serve.gate`."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any

from fastapi import Body, FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from warehouse.serve.answers import Threads, wanted_format
from warehouse.serve.catalog import dataset_entry, difference, lineage_entry, release_entry
from warehouse.serve.data_routes import Name, data_routes, invalid
from warehouse.serve.description import described
from warehouse.serve.documents import (
    EXAMPLE_PAGE,
    FORMS,
    Dataset,
    Datasets,
    Difference,
    Form,
    Health,
    Lineage,
    Of,
    ReleaseEntry,
    Releases,
    problems,
)
from warehouse.serve.facts import Facts
from warehouse.serve.formats import MEDIA_TYPES
from warehouse.serve.gate import asked_of, problem_answer
from warehouse.serve.graphql import graphql_routes
from warehouse.serve.guarded import run_guarded
from warehouse.serve.kept_pages import KeptPages
from warehouse.serve.metric_routes import metric_routes
from warehouse.serve.opened import Follower
from warehouse.serve.operation_routes import operation_routes
from warehouse.serve.operations import Operations
from warehouse.serve.problems import Problem
from warehouse.serve.sandbox import Sandbox

ReleaseId = Annotated[str, Path(pattern=r"^r\d{6,12}$", examples=["r000001"])]


class SqlBody(BaseModel):
    """A statement."""

    model_config = ConfigDict(extra="forbid")

    sql: str = Field(
        min_length=1,
        max_length=65_536,
        description="One SELECT over datasets of the catalog.",
        examples=["select origin_code, sum(flights) as flights from mart_daily_route_performance group by all"],
    )
    release: str | None = Field(default=None, pattern=r"^r\d{6,12}$", description="An earlier release.")


class _Routes(FastAPI):
    """FastAPI without the middleware that answers the unexpected in plain text: the gate makes a problem of it."""

    def build_middleware_stack(self) -> ASGIApp:
        """The application inside of the gate."""
        handlers: Any = self.exception_handlers
        return ExceptionMiddleware(AsyncExitStackMiddleware(self.router), handlers=handlers)

    def openapi(self) -> dict[str, Any]:
        """The description, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = described(super().openapi())
        return self.openapi_schema


def make_routes(
    follower: Follower, facts: Facts, operations: Operations | None, sandbox: Sandbox | None, threads: Threads
) -> ASGIApp:
    """The application without its gate.

    Args:
        follower: gives releases.
        facts: what is known of datasets outside the warehouse.
        operations: work that may be looked at and asked for; None where there is none.
        sandbox: runs statements; None where this machine cannot.
        threads: do the work.
    """
    app = _Routes(
        title="Penstock",
        version="1",
        summary="Curated datasets, each answer from exactly one release.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        redirect_slashes=False,
    )
    app.exception_handler(Problem)(_on_problem)
    app.exception_handler(RequestValidationError)(_on_validation)
    app.exception_handler(HTTPException)(_on_http)
    _catalog(app, follower, facts, threads)
    _sql(app, follower, sandbox, threads)
    _releases(app, follower, threads)
    operation_routes(app, follower, facts, operations, threads)
    graphql_routes(app, follower, facts, threads)
    metric_routes(app, threads)
    return data_routes(app, threads)


def _catalog(app: FastAPI, follower: Follower, facts: Facts, threads: Threads) -> None:
    pages = KeptPages()

    async def known(name: str) -> Any:
        return await asyncio.get_running_loop().run_in_executor(threads.exports, facts.dataset, name)

    @app.get("/health", response_model=Health, tags=["server"])
    async def health() -> Any:
        """Whether the server has a release to serve; needs no token."""
        return {"status": "ok", "release": follower.current().id}

    @app.get("/v1/datasets", response_model=Datasets, responses=problems(404), tags=["catalog"])
    async def datasets(request: Request, release: Of = None) -> Any:  # noqa: ARG001 - taken by the gate
        """Every dataset that the caller's role may see."""
        asked = asked_of(request)
        opened, role = asked.release, asked.who.role

        async def make() -> dict[str, Any]:
            shown = sorted(opened.shown(role).items())
            return {
                "release": opened.id,
                "datasets": [dataset_entry(opened, each, await known(name)) for name, each in shown],
            }

        return await pages.get((opened.id, role, "datasets"), Datasets, make)

    @app.get("/v1/datasets/{name}", response_model=Dataset, responses=problems(404), tags=["catalog"])
    async def dataset(request: Request, name: Name, release: Of = None) -> Any:  # noqa: ARG001 - as above
        """One dataset: columns, owners, freshness, quality."""
        asked = asked_of(request)
        opened, role = asked.release, asked.who.role
        shown = opened.dataset(role, name)

        async def make() -> dict[str, Any]:
            return dataset_entry(opened, shown, await known(shown.name))

        return await pages.get((opened.id, role, "dataset", shown.name), Dataset, make)

    @app.get("/v1/datasets/{name}/lineage", response_model=Lineage, responses=problems(404), tags=["catalog"])
    async def lineage(request: Request, name: Name) -> Any:
        """What a dataset is made of, and what is made of it."""
        asked = asked_of(request)
        shown = asked.release.dataset(asked.who.role, name)
        return lineage_entry(shown.name, await known(shown.name), asked.release.shown(asked.who.role))


def _sql(app: FastAPI, follower: Follower, sandbox: Sandbox | None, threads: Threads) -> None:
    @app.post(
        "/v1/sql",
        responses={**problems(404, 406, 415, 422, 501, 503), 200: {"content": FORMS, "description": EXAMPLE_PAGE}},
        tags=["data"],
    )
    async def sql(request: Request, body: Annotated[SqlBody, Body()], form: Form = None) -> Response:
        """One SELECT of the caller's own, in a process of its own."""
        asked = asked_of(request)
        asked.question = body.sql[:4000]
        kind = wanted_format(asked, form)
        loop = asyncio.get_running_loop()
        if body.release is not None:
            asked.opened = await loop.run_in_executor(threads.exports, follower.get, body.release)
        head = f'"release":"{asked.release.id}",'
        run = partial(run_guarded, sandbox, follower, asked.release, asked.who.role, body.sql, kind, head=head)
        answer = await loop.run_in_executor(threads.statements, run)
        asked.rows = answer.rows
        return Response(answer.content, media_type=MEDIA_TYPES[kind])


def _releases(app: FastAPI, follower: Follower, threads: Threads) -> None:
    @app.get("/v1/releases", response_model=Releases, responses=problems(), tags=["releases"])
    async def releases(request: Request) -> Any:
        """Published releases, oldest first."""
        asked = asked_of(request)
        found = await asyncio.get_running_loop().run_in_executor(threads.exports, follower.all)
        return {"releases": [release_entry(each, asked.release.shown(asked.who.role)) for each in found]}

    @app.get("/v1/releases/{release_id}", response_model=ReleaseEntry, responses=problems(404), tags=["releases"])
    async def release_by_id(request: Request, release_id: ReleaseId) -> Any:
        """One release."""
        asked = asked_of(request)
        found = await asyncio.get_running_loop().run_in_executor(threads.exports, follower.get, release_id)
        return release_entry(found.release, found.shown(asked.who.role))

    @app.get(
        "/v1/releases/{before_id}/diff/{after_id}",
        response_model=Difference,
        responses=problems(404),
        tags=["releases"],
    )
    async def diff(request: Request, before_id: ReleaseId, after_id: ReleaseId) -> Any:
        """How one release differs from another, by dataset and interval."""
        asked = asked_of(request)
        loop = asyncio.get_running_loop()
        before = await loop.run_in_executor(threads.exports, follower.get, before_id)
        after = await loop.run_in_executor(threads.exports, follower.get, after_id)
        shown = {**before.shown(asked.who.role), **after.shown(asked.who.role)}
        return difference(before.release, after.release, shown)


def _told(request: Request, problem: Problem) -> Response:
    asked = asked_of(request)
    asked.code = problem.code
    status, headers, body = problem_answer(problem, asked.id)
    response = Response(body, status)
    response.raw_headers = headers
    return response


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - registered for it
    return _told(request, error)


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    first = error.errors()[0]
    return _told(request, invalid(tuple(first["loc"]), first["msg"]))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    code, remedy = {
        404: ("not_found", "see /v1/openapi.json"),
        405: ("method_not_allowed", "use a method of the header Allow"),
        415: ("unsupported_media_type", "send application/json"),
    }.get(error.status_code, ("bad_body", "send JSON in UTF-8"))
    response = _told(request, Problem(code, "There is nothing here to do that with.", remedy=remedy))
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response
