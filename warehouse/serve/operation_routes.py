"""The routes of operations: looking needs the scope ``read``, doing needs ``operate`` (the gate sees to it).

Who may only look is told of runs, quarantine and incidents as far as they are about tables that one of the role's
datasets is made from, and without texts that may repeat values of rows or names of machines. Who may operate is told
all of it: the lake is theirs to mend.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Body, FastAPI, Path, Query, Request

from common.errors import PenstockError
from warehouse.serve import operation_documents as documents
from warehouse.serve.answers import Threads
from warehouse.serve.catalog import release_entry
from warehouse.serve.documents import ReleaseEntry, problems
from warehouse.serve.facts import Facts
from warehouse.serve.gate import Asked, asked_of
from warehouse.serve.opened import Follower
from warehouse.serve.operations import Action, Operations, as_problem, backfills_about, incidents_about, runs_about
from warehouse.serve.problems import Problem

_LOG = logging.getLogger(__name__)

_Value = TypeVar("_Value")
_Id = Annotated[str, Path(max_length=200, pattern=r"^[\w.:+-]+$")]
_Limit = Annotated[int, Query(ge=1, le=1000)]
_NEEDS_OPERATE = "Needs the scope `operate`."


def operation_routes(
    app: FastAPI, follower: Follower, facts: Facts, operations: Operations | None, threads: Threads
) -> None:
    """Add the routes of operations.

    Args:
        app: where.
        follower: gives releases.
        facts: say which tables a dataset is made from.
        operations: what is asked; None where the server was started without any.
        threads: do the work.
    """
    call = _Caller(operations, threads)
    tables_of = _TablesOf(facts, threads)
    _looking(app, call, tables_of)
    _backfills(app, call, tables_of)

    @app.post(
        "/v1/releases/{release_id}/rollback",
        response_model=ReleaseEntry,
        responses=problems(404, 501),
        tags=["operations"],
        description=f"Make an earlier release the current one. {_NEEDS_OPERATE}",
    )
    async def roll_back(
        request: Request, release_id: Annotated[str, Path(pattern=r"^r\d{6,12}$", examples=["r000001"])]
    ) -> Any:
        asked = asked_of(request)
        await call(lambda work: work.roll_back(release_id))
        found = await asyncio.get_running_loop().run_in_executor(threads.operations, follower.get, release_id)
        return {**release_entry(found.release, found.shown(asked.who.role)), "current": True}


class _Caller:
    """Calls operations in a thread and makes problems of their errors."""

    def __init__(self, operations: Operations | None, threads: Threads) -> None:
        self._operations = operations
        self._threads = threads

    async def __call__(self, work: Callable[[Operations], _Value]) -> _Value:
        if self._operations is None:
            raise Problem(
                "operations_unavailable", "This server was started without operations.", remedy="ask another one"
            )
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads.operations, work, self._operations)
        except PenstockError as error:
            problem = as_problem(error)
            if problem is None:
                raise
            _LOG.info("refused: %s", error)
            raise problem from None


class _TablesOf:
    """Which tables a caller may know of: the role's datasets, and what they are made from."""

    def __init__(self, facts: Facts, threads: Threads) -> None:
        self._facts = facts
        self._threads = threads

    async def __call__(self, asked: Asked) -> set[str]:
        def look() -> set[str]:
            found = set(asked.release.shown(asked.who.role))
            for name in tuple(found):
                found.update(each.removeprefix("warehouse.") for each in self._facts.dataset(name).upstream)
            return found

        return await asyncio.get_running_loop().run_in_executor(self._threads.operations, look)


def _looking(app: FastAPI, call: _Caller, tables_of: _TablesOf) -> None:
    async def runs_for(asked: Asked) -> list[dict[str, Any]]:
        found = list(await call(lambda work: work.runs()))
        return found if asked.may_operate else runs_about(found, await tables_of(asked))

    @app.get("/v1/runs", response_model=documents.Runs, responses=problems(501), tags=["operations"])
    async def runs(
        request: Request,
        limit: _Limit = 100,
        state: Annotated[Literal["published", "refused", "failed"] | None, Query(description="Only those.")] = None,
    ) -> Any:
        """Runs that were recorded, the newest first: tables, rows, times."""
        found = await runs_for(asked_of(request))
        return {"runs": [each for each in found if state in {None, each["state"]}][:limit]}

    @app.get("/v1/runs/{run_id}", response_model=documents.Run, responses=problems(404, 501), tags=["operations"])
    async def run(request: Request, run_id: _Id) -> Any:
        """One run."""
        for each in await runs_for(asked_of(request)):
            if each["id"] == run_id:
                return each
        raise Problem("unknown_name", f"There is no run {run_id[:80]!r} for you.", remedy="see GET /v1/runs")

    @app.get("/v1/quarantine", response_model=documents.Quarantine, responses=problems(501), tags=["operations"])
    async def quarantine(request: Request) -> Any:
        """How many rows wait in quarantine, by table, interval and rules."""
        asked = asked_of(request)
        found = list(await call(lambda work: work.quarantine()))
        if not asked.may_operate:
            tables = await tables_of(asked)
            found = [each for each in found if each["table"] in tables]
        return {"quarantine": found}

    @app.get(
        "/v1/quarantine/{table}/rows",
        response_model=documents.QuarantinedRows,
        responses=problems(404, 501),
        tags=["operations"],
        description=f"Rows of a lake table that wait, as they came. {_NEEDS_OPERATE}",
    )
    async def quarantined_rows(
        table: Annotated[str, Path(max_length=200, examples=["raw.stations__weather"])], limit: _Limit = 100
    ) -> Any:
        return {"table": table, "rows": await call(lambda work: work.quarantined_rows(table, limit))}

    @app.get("/v1/incidents", response_model=documents.Incidents, responses=problems(501), tags=["operations"])
    async def incidents(
        request: Request,
        limit: _Limit = 100,
        state: Annotated[Literal["open", "resolved"] | None, Query(description="Only those.")] = None,
    ) -> Any:
        """What is or was wrong, by root cause: those that are open first, the gravest of them first."""
        asked = asked_of(request)
        found = list(await call(lambda work: work.incidents()))
        if not asked.may_operate:
            found = incidents_about(found, await tables_of(asked))
        return {"incidents": [each for each in found if state in {None, each["state"]}][:limit]}


def _backfills(app: FastAPI, call: _Caller, tables_of: _TablesOf) -> None:
    async def backfills_for(asked: Asked, backfill_id: str | None = None) -> list[dict[str, Any]]:
        found = list(await call(lambda work: work.backfills(backfill_id)))
        return found if asked.may_operate else backfills_about(found, await tables_of(asked))

    @app.post(
        "/v1/backfills/plan",
        response_model=documents.Plan,
        responses=problems(404, 415, 501),
        tags=["operations"],
        description=f"What a backfill would do, as the lake is now. {_NEEDS_OPERATE}",
    )
    async def plan(wish: Annotated[documents.Wish, Body()]) -> Any:
        return await call(lambda work: work.plan_backfill(wish.model_dump()))

    @app.post(
        "/v1/backfills",
        response_model=documents.Started,
        responses=problems(404, 409, 415, 501),
        tags=["operations"],
        description=f"Have the scheduler run a backfill; the same wish again finds the one that runs. {_NEEDS_OPERATE}",
    )
    async def start(wish: Annotated[documents.StartWish, Body()]) -> Any:
        given = wish.model_dump()
        unpause = given.pop("unpause")
        return await call(lambda work: work.start_backfill(given, unpause=unpause))

    @app.get("/v1/backfills", response_model=documents.Backfills, responses=problems(501), tags=["operations"])
    async def backfills(request: Request) -> Any:
        """Backfills that the scheduler knows, the newest first."""
        return {"backfills": await backfills_for(asked_of(request))}

    @app.get(
        "/v1/backfills/{backfill_id}",
        response_model=documents.Backfill,
        responses=problems(404, 501),
        tags=["operations"],
    )
    async def backfill(request: Request, backfill_id: _Id) -> Any:
        """One backfill: how far it is, and its account once it has ended."""
        for each in await backfills_for(asked_of(request), backfill_id):
            return each
        raise Problem("unknown_name", f"There is no backfill {backfill_id!r} for you.", remedy="see GET /v1/backfills")

    @app.post(
        "/v1/backfills/{backfill_id}/{action}",
        response_model=documents.Backfill,
        responses=problems(404, 409, 501),
        tags=["operations"],
        description=f"Pause, resume or cancel a backfill. What was published stays. {_NEEDS_OPERATE}",
    )
    async def control(backfill_id: _Id, action: Action) -> Any:
        return await call(lambda work: work.control_backfill(action, backfill_id))
