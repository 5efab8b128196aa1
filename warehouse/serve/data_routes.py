"""Rows and aggregates of a dataset: what is asked for most, so these two routes are gone through directly.

::

    GET /v1/datasets/{name}/rows?... ─▶ parameters, checked by one model each ─▶ question ─▶ page or stream

FastAPI has the same functions with the same models, so they stand in the description, and it answers whatever is not
plainly one of the two. Its own way to parameters is half of what a small request costs beside DuckDB (measured).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import FastAPI, Path, Query, Request
from pydantic import BaseModel, Field, ValidationError
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from warehouse.serve.answers import Threads, page, stream, wanted_format
from warehouse.serve.documents import EXAMPLE_PAGE, FORMS, Page, problems
from warehouse.serve.formats import Format
from warehouse.serve.gate import Asked, asked_of
from warehouse.serve.problems import Problem
from warehouse.serve.query import MAX_FILTERS, MAX_PAGE_ROWS, aggregate_question, rows_question

MAX_NAME = 200
Name = Annotated[
    str, Path(max_length=MAX_NAME, examples=["mart_daily_route_performance"], description="A dataset's name.")
]


class _Common(BaseModel):
    filters: list[str] | None = Field(
        default=None,
        alias="filter",
        max_length=MAX_FILTERS,
        description="`column:operator:value`, may be repeated; all must hold. Operators: eq, ne, lt, le, gt, ge, in "
        "(values separated by commas), starts_with, contains, is_null (true or false).",
        examples=[["origin_code:eq:JFK", "flights:ge:10"]],
    )
    sort: str | None = Field(
        default=None,
        max_length=2000,
        description="Columns, by commas, `-` before one that falls.",
        examples=["-flights"],
    )
    release: str | None = Field(
        default=None, pattern=r"^r\d{6,12}$", description="An earlier release; the current one by default."
    )
    form: Format | None = Field(default=None, alias="format", description="Wins over Accept.")


class RowsQuery(_Common):
    """Parameters of rows."""

    select: str | None = Field(
        default=None, max_length=8000, description="Columns separated by commas.", examples=["origin_code"]
    )
    limit: int | None = Field(default=None, ge=1, le=MAX_PAGE_ROWS, description="Rows; 100 of JSON, else all.")
    cursor: str | None = Field(default=None, max_length=500, description="`next` of the page before.")


class AggregateQuery(_Common):
    """Parameters of aggregates."""

    group: str | None = Field(
        default=None, max_length=8000, description="Columns separated by commas.", examples=["origin_code"]
    )
    measure: list[str] | None = Field(
        default=None,
        max_length=50,
        description="`count`, or `function:column`: sum, min, max, avg, count, count_distinct.",
        examples=[["count", "sum:flights"]],
    )
    limit: int = Field(default=1000, ge=1, le=MAX_PAGE_ROWS, description="Groups.")


_LISTS = frozenset({"filter", "measure"})
_Handler = Callable[[Asked, str, Any], Awaitable[Response]]


def data_routes(app: FastAPI, threads: Threads) -> ASGIApp:
    """Add the two routes to an application, and go past it to them where that can be.

    Args:
        app: the application.
        threads: do the work.

    Returns:
        The application with the direct way before it.
    """

    async def rows(asked: Asked, name: str, given: RowsQuery) -> Response:
        kind = wanted_format(asked, given.form)
        shown = asked.release.dataset(asked.who.role, name)
        question = rows_question(
            shown,
            select=given.select,
            filters=given.filters or (),
            sort=given.sort,
            release=asked.release.id,
            cursor=given.cursor,
            paged=kind == "json",
        )
        if kind == "json":
            return await page(asked, threads, question, limit=given.limit or 100, dataset=shown.name, with_cursor=True)
        return await stream(asked, threads, question, kind, limit=given.limit, dataset=shown.name)

    async def aggregate(asked: Asked, name: str, given: AggregateQuery) -> Response:
        kind = wanted_format(asked, given.form)
        shown = asked.release.dataset(asked.who.role, name)
        question = aggregate_question(
            shown, group=given.group, measures=given.measure or (), filters=given.filters or (), sort=given.sort
        )
        if kind == "json":
            return await page(asked, threads, question, limit=given.limit, dataset=shown.name, with_cursor=False)
        return await stream(asked, threads, question, kind, limit=given.limit, dataset=shown.name)

    @app.get(
        "/v1/datasets/{name}/rows",
        response_model=Page,
        responses={**problems(404, 406, 409, 422), 200: {"content": FORMS, "description": EXAMPLE_PAGE}},
        tags=["data"],
    )
    async def get_rows(request: Request, name: Name, given: Annotated[RowsQuery, Query()]) -> Response:
        """Rows: chosen, filtered, sorted; JSON by pages, CSV, Arrow and Parquet as streams."""
        return await rows(asked_of(request), name, given)

    @app.get(
        "/v1/datasets/{name}/aggregate",
        response_model=Page,
        responses={**problems(404, 406, 422), 200: {"content": FORMS, "description": EXAMPLE_PAGE}},
        tags=["data"],
    )
    async def get_aggregate(request: Request, name: Name, given: Annotated[AggregateQuery, Query()]) -> Response:
        """Measures by groups."""
        return await aggregate(asked_of(request), name, given)

    direct: dict[str, tuple[type[_Common], _Handler]] = {
        "rows": (RowsQuery, rows),
        "aggregate": (AggregateQuery, aggregate),
    }

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        parts: list[str] = scope["path"].split("/") if scope["type"] == "http" else []
        found = direct.get(parts[4]) if len(parts) == 5 and parts[1:3] == ["v1", "datasets"] else None
        if found is None or scope["method"] != "GET" or not 0 < len(parts[3]) <= MAX_NAME:
            await app(scope, receive, send)
            return
        model, handler = found
        response = await handler(scope["state"]["asked"], parts[3], _parameters(scope["query_string"], model))
        await response(scope, receive, send)

    return answer


def _parameters(query: bytes, model: type[_Common]) -> _Common:
    given: dict[str, Any] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name in _LISTS:
            given.setdefault(name, []).append(value)
        else:
            given[name] = value
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise invalid(("query", *first["loc"]), first["msg"]) from None


def invalid(place: tuple[Any, ...], message: str) -> Problem:
    """The problem of a parameter or a body that is not as it should be."""
    where = ".".join(str(part) for part in place)[:200]
    code = "bad_body" if where.startswith("body") else "bad_parameter"
    plain = re.sub(r"[^\x20-\x7e]", "?", str(message))[:200]
    return Problem(code, f"{where}: {plain}.", remedy="see /v1/openapi.json")
