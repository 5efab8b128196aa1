"""The direct way to rows and aggregates answers as the framework's own; and a query that takes too long is ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duckdb
import pytest

from tests.integration.serve.served import Response, Served
from warehouse.serve import answers, data_routes
from warehouse.serve.problems import Problem

QUESTIONS = (
    *("rows", "rows?", "rows?limit=5", "rows?limit=5&limit=7", "rows?limit=05", "rows?limit=+5", "rows?limit=5.0"),
    *("rows?limit=", "rows?limit=0", "rows?limit=x", "rows?limit=1e2", "rows?select=day&select=origin", "rows?select="),
    *("rows?filter=flights:ge:10&filter=origin:eq:JFK", "rows?filter=", "rows?filter", "rows?unknown=1", "rows?sort="),
    *("rows?format=csv", "rows?format=xml", "rows?format=", "rows?release=r1", "rows?release=", "rows?release=r000001"),
    *("rows?select=%C3%BC", "rows?select=%FF", "rows?select=a+b", "rows?cursor=x", "rows?%66ilter=flights:ge:49"),
    *("aggregate", "aggregate?measure=sum:flights&measure=count&group=origin", "aggregate?limit=", "aggregate?limit=2"),
    *(
        "aggregate?group=",
        "aggregate?measure=",
        "aggregate?sort=-origin&group=origin",
        "rows/",
        "aggregate?format=arrow",
    ),
    "rows?" + "&".join(["filter=flights:ge:1"] * 21),
)


def told(answer: Response) -> Any:
    kind = answer.headers["content-type"]
    if kind == "application/problem+json":
        return answer.status_code, {**answer.json(), "instance": ""}
    return answer.status_code, kind, answer.headers.get("etag"), answer.content


def test_the_direct_way_answers_as_the_framework_does(
    served: Served, start: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(of: Served) -> list[Any]:
        headers = {"Authorization": f"Bearer {of.tokens['admin']}"}
        return [told(of.client.get(f"/v1/datasets/routes/{question}", headers=headers)) for question in QUESTIONS]

    direct = ask(served)
    assert {found[0] for found in direct} == {200, 400, 404}
    monkeypatch.setattr(data_routes, "MAX_NAME", 0)
    assert dict(zip(QUESTIONS, ask(start()), strict=True)) == dict(zip(QUESTIONS, direct, strict=True))


def test_a_query_that_takes_too_long_is_ended_and_so_is_one_that_waits_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answers, "QUERY_S", 0.3)
    busy = "SELECT count(*) FROM range(100_000_000_000) AS r(i) WHERE i % 7 = 1"

    async def ask() -> list[Any]:
        with ThreadPoolExecutor(1) as pool, duckdb.connect() as one, duckdb.connect() as other:
            asked = (
                answers.in_time(pool, one, lambda: one.execute(busy).fetchall()),
                answers.in_time(pool, other, lambda: other.execute(busy).fetchall()),
            )
            found = await asyncio.gather(*asked, return_exceptions=True)
            other.interrupt()
            return [*found]

    assert [error.code for error in asyncio.run(ask()) if isinstance(error, Problem)] == ["too_slow", "too_slow"]
