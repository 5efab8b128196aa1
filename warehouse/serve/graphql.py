"""GraphQL at ``/graphql``, behind the same gate: the same tokens, policy, rates, log and codes as the HTTP API.

::

    POST document, or GET ?query= ─▶ measured ─▶ validated ─▶ resolvers ─▶ {"data": ..., "errors": [...]}

A document that cannot be answered at all is a problem with its status, as everywhere. Of one that can, each field that
fails stands in ``errors`` with ``extensions.code`` and ``extensions.remedy``; the codes are those of
``docs/serving.md``. There is no page to try it on: it would be loaded from somebody else's server.
"""

from __future__ import annotations

import json
import logging
import re
from typing import Annotated, Any

from fastapi import Body, FastAPI, Query, Request
from graphql import GraphQLError
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from warehouse.serve.answers import Threads
from warehouse.serve.documents import Of, problems
from warehouse.serve.facts import Facts
from warehouse.serve.gate import Asked, asked_of
from warehouse.serve.graphql_limits import measure
from warehouse.serve.graphql_schema import Asking, make_schema
from warehouse.serve.opened import Follower
from warehouse.serve.problems import Problem

_LOG = logging.getLogger(__name__)

_MAX_DOCUMENT = 16_384
_EXAMPLE = '{ dataset(name: "mart_daily_route_performance") { rowCount rows(limit: 10) { rows next } } }'
_REMEDY = "see the schema: it can be asked for by introspection"


class GraphqlBody(BaseModel):
    """A GraphQL request."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(min_length=1, max_length=_MAX_DOCUMENT, description="The document.", examples=[_EXAMPLE])
    variables: dict[str, Any] | None = Field(default=None, description="Values of its variables.")
    operation_name: str | None = Field(
        default=None, alias="operationName", max_length=200, description="Which of its operations."
    )
    extensions: dict[str, Any] | None = Field(default=None, description="Sent by some clients; not used.")


class GraphqlError(BaseModel):
    """A field that failed."""

    message: str
    path: list[str | int] | None = None
    extensions: dict[str, Any]


class GraphqlAnswer(BaseModel):
    """An answer."""

    data: dict[str, Any] | None
    errors: list[GraphqlError] | None = None


def graphql_routes(app: FastAPI, follower: Follower, facts: Facts, threads: Threads) -> None:
    """Add ``/graphql``.

    Args:
        app: where.
        follower: gives releases.
        facts: what is known of datasets outside the warehouse.
        threads: do the work.
    """
    schema = make_schema()

    async def answer(request: Request, query: str, variables: dict[str, Any], operation: str | None) -> Response:
        asked = asked_of(request)
        asked.question = query[:4000]
        measure(query, operation, variables, {"datasets": len(asked.release.shown(asked.who.role))})
        asking = Asking(asked, follower, facts, threads)
        result = await schema.execute(query, variables, asking, operation_name=operation)
        errors = [_told(error, asked) for error in result.errors or ()]
        if result.data is None and not any(error.path for error in result.errors or ()):
            raise Problem("bad_query", errors[0]["message"], remedy=_REMEDY)
        if errors:
            asked.code = errors[0]["extensions"]["code"]
        asked.cacheable = asking.lasting and not errors
        document = {"data": result.data, **({"errors": errors} if errors else {})}
        text = re.sub(
            f'"{asking.mark}([0-9]+)"', lambda found: asking.parts[int(found[1])], json.dumps(document, default=str)
        )
        return Response(text.encode(), media_type="application/json")

    responses: Any = {
        **problems(404, 415),
        200: {
            "model": GraphqlAnswer,
            "description": "The answer; errors of single fields stand in it.",
            "content": {
                "application/json": {
                    "example": {
                        "data": {"dataset": {"rowCount": 1, "rows": {"rows": [{"flights": 297}], "next": None}}}
                    }
                }
            },
        },
    }

    @app.post("/graphql", responses=responses, tags=["graphql"])
    async def post(
        request: Request,
        body: Annotated[GraphqlBody, Body()],
        release: Of = None,  # noqa: ARG001 - taken by the gate
    ) -> Response:
        """A GraphQL document over catalog and datasets."""
        return await answer(request, body.query, body.variables or {}, body.operation_name)

    @app.get("/graphql", responses=responses, tags=["graphql"])
    async def get(
        request: Request,
        query: Annotated[str, Query(min_length=1, max_length=_MAX_DOCUMENT, examples=[_EXAMPLE])],
        variables: Annotated[str | None, Query(max_length=8000, description="JSON object.")] = None,
        operation_name: Annotated[str | None, Query(alias="operationName", max_length=200)] = None,
        release: Of = None,  # noqa: ARG001 - taken by the gate
    ) -> Response:
        """The same by GET: an answer that is the release's alone carries an ETag."""
        return await answer(request, query, _variables(variables), operation_name)


def _variables(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Problem("bad_parameter", "query.variables: it is no JSON object.", remedy="send a JSON object")
    return found


def _told(error: GraphQLError, asked: Asked) -> dict[str, Any]:
    """An error as the caller is told: what was refused by its code, what nobody expected by the request's id."""
    original = error.original_error
    if isinstance(original, Problem):
        problem = original
    elif original is None or error.path is None or isinstance(original, GraphQLError):
        problem = Problem("bad_query", error.message[:300], remedy=_REMEDY)
    else:
        _LOG.error("request %s failed", asked.id, exc_info=original)
        problem = Problem("internal", "Something went wrong here.", remedy=f"report the request id {asked.id}")
    extensions = {"code": problem.code, "remedy": problem.remedy}
    return {"message": problem.problem, **({"path": error.path} if error.path else {}), "extensions": extensions}
