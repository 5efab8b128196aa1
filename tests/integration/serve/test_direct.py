"""What is made fast answers as before: the direct way to rows, kept pages of the catalog, the end of slow queries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duckdb
import pytest

from tests.integration.serve.served import Response, Served
from warehouse.serve import answers, data_routes
from warehouse.serve.documents import Health
from warehouse.serve.kept_pages import KEPT_S, KeptPages
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


def test_a_page_of_the_catalog_is_kept_for_a_moment_for_its_role_and_release_alone() -> None:
    now, made = [100.0], list[str]()
    pages = KeptPages(lambda: now[0])

    async def ask(release: str, role: str) -> bytes:
        async def make() -> dict[str, str]:
            made.append(role)
            return {"status": "ok", "release": f"{release} {role} {now[0]:g}"}

        return bytes((await pages.get((release, role), Health, make)).body)

    async def go() -> list[bytes]:
        first = [await ask("r1", "a"), await ask("r1", "b"), await ask("r2", "a"), await ask("r1", "a")]
        now[0] += KEPT_S
        return [*first, await ask("r1", "a")]

    answers_given = asyncio.run(go())
    assert made == ["a", "b", "a", "a"]
    assert answers_given[3] == answers_given[0]
    assert len(set(answers_given)) == 4


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
