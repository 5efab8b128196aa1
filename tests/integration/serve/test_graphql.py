"""GraphQL gives what the HTTP API gives, to whom it gives it, and asks no more of the server than is allowed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from graphql import build_client_schema, get_introspection_query

from tests.integration.serve.served import CANARY, Response, Served
from warehouse.serve import graphql_schema
from warehouse.serve.query_log import read_log

ROWS = "query q($cursor: String) { dataset(name: %r) { rows(%s, cursor: $cursor) { complete next rows } } }"
LASTING = '{ dataset(name: "routes") { name rowCount columns { name } aggregate(group: ["origin"]) { rows } } }'


def post(served: Served, query: str, role: str = "admin", **more: Any) -> Response:
    headers = {"Authorization": f"Bearer {served.tokens[role]}"}
    return served.client.post("/graphql", json={"query": query, **more}, headers=headers)


def data(served: Served, query: str, role: str = "admin", **more: Any) -> Any:
    answer = post(served, query, role, **more)
    assert answer.status_code == 200, answer.text
    assert "errors" not in answer.json(), answer.text
    return answer.json()["data"]


def codes(answer: Response) -> list[str]:
    return [error["extensions"]["code"] for error in answer.json()["errors"]]


@pytest.mark.parametrize("role", ["admin", "analyst", "reader", "nobody", "broken"])
def test_a_role_sees_the_same_catalog_as_by_http(served: Served, role: str) -> None:
    asked = (
        "{ datasets { name description filtered rowCount owners columns { name type description masked } "
        "quality { judged passed rules notPassed { rule severity } } lineage { upstream downstream } "
        "freshness { release builtAt publishedAt newestInterval intervals { state intervals } } } }"
    )
    found = data(served, asked, role)["datasets"]
    by_http = served.get("/v1/datasets", role).json()["datasets"]
    assert [each["name"] for each in found] == [each["name"] for each in by_http]
    for one, other in zip(found, by_http, strict=True):
        lineage = served.get(f"/v1/datasets/{one['name']}/lineage", role).json()
        assert one["lineage"] == {"upstream": lineage["upstream"], "downstream": lineage["downstream"]}
        assert one["columns"] == other["columns"]
        assert (one["rowCount"], one["filtered"], one["owners"]) == (other["rows"], other["filtered"], other["owners"])
        assert one["freshness"]["newestInterval"] == other["freshness"]["newest_interval"]
        assert one["quality"]["notPassed"] == other["quality"]["not_passed"]


def test_rows_are_those_of_http_digit_by_digit_and_pages_lose_none(served: Served) -> None:
    filters, cursor, found, texts = 'filter: ["flights:ge:10"], sort: ["-flights", "day"], limit: 70', None, [], []
    while True:
        asked = ROWS.replace("%r", '"routes"').replace("%s", filters)
        answer = post(served, asked, variables={"cursor": cursor})
        texts.append(answer.text)
        page = answer.json()["data"]["dataset"]["rows"]
        found += page["rows"]
        cursor = page["next"]
        if page["complete"]:
            break
    options = {"filter": "flights:ge:10", "sort": "-flights,day"}
    assert found == served.rows("/v1/datasets/routes/rows", **options, limit=10_000)
    first = served.get("/v1/datasets/routes/rows", **options, limit=70).text
    assert first[first.index('"rows":[') + 7 : -1] in texts[0]
    assert len(texts) > 3
    sums = data(
        served, '{ dataset(name: "routes") { aggregate(group: ["origin"], measure: ["sum:flights"]) { rows } } }'
    )
    assert sums["dataset"]["aggregate"]["rows"] == served.rows(
        "/v1/datasets/routes/aggregate", group="origin", measure="sum:flights"
    )


def test_releases_and_their_differences_are_those_of_http(served: Served) -> None:
    found = data(served, "{ releases { id current datasets { name rows } } release { id } }", "reader")
    [release] = served.get("/v1/releases", "reader").json()["releases"]
    assert found["release"]["id"] == release["id"]
    assert {each["name"]: each["rows"] for each in found["releases"][0]["datasets"]} == release["datasets"]
    asked = '{ difference(before: "r000001", after: "r000001") { name change rowsBefore rowsAfter } }'
    changes = data(served, asked, "analyst")["difference"]
    assert [(each["name"], each["rowsAfter"]) for each in changes] == [("flights", None), ("routes", 400)]


@pytest.mark.parametrize(
    ("query", "role", "code"),
    [
        ('{ dataset(name: "payroll") { rows { rows } } }', "analyst", "unknown_dataset"),
        ('{ dataset(name: "flights") { rows(select: ["pilot"]) { rows } } }', "analyst", "unknown_column"),
        ('{ dataset(name: "routes") { rows(select: ["day, (select 1)"]) { rows } } }', "admin", "unknown_column"),
        ('{ dataset(name: "routes") { rows(filter: ["flights:eq:x"]) { rows } } }', "admin", "wrong_type"),
        ('{ dataset(name: "routes") { rows(filter: ["flights"]) { rows } } }', "admin", "bad_filter"),
        ('{ dataset(name: "routes") { rows(limit: 0) { rows } } }', "admin", "bad_parameter"),
        ('{ dataset(name: "routes") { rows(cursor: "x") { rows } } }', "admin", "cursor_invalid"),
        ('{ difference(before: "r000001", after: "../x") { name } }', "admin", "unknown_release"),
    ],
)
def test_a_field_that_is_refused_has_the_code_of_http(served: Served, query: str, role: str, code: str) -> None:
    answer = post(served, query, role)
    assert (answer.status_code, codes(answer)) == (200, [code])
    assert answer.json()["errors"][0]["extensions"]["remedy"]
    assert CANARY not in answer.text


FLOOD = "query { " + " ".join(f'a{n}: dataset(name: "routes") {{ name }}' for n in range(31)) + " }"
LAUGHS = (
    "query { ...f0 } "
    + " ".join(f"fragment f{n} on Query {{ ...f{n + 1} x: __typename ...f{n + 1} }}" for n in range(25))
    + " fragment f25 on Query { __typename }"
)
HUGE = (
    "{ datasets { rows(limit: 10000) { rows } aggregate(limit: 10000) { rows } "
    + "".join(f"r{n}: rows(limit: 10000) {{ rows }} " for n in range(6))
    + "} }"
)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "bad_body"),
        ("{", "bad_query"),
        ("{ nothing }", "bad_query"),
        ("mutation { x }", "bad_query"),
        ("{ ...f } fragment f on Query { ...f }", "bad_query"),
        ("{" * 900, "bad_query"),
        ("query a { __typename } query b { __typename }", "bad_query"),
        ("{ __typename }" * 700, "bad_query"),
        (FLOOD, "query_too_large"),
        (LAUGHS, "query_too_large"),
        (HUGE, "query_too_large"),
    ],
)
def test_a_document_that_asks_for_too_much_or_is_none_is_a_problem(served: Served, query: str, code: str) -> None:
    answer = post(served, query)
    assert (answer.status_code, answer.json()["code"]) == (400, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_limit_in_a_variable_counts_as_much_as_one_in_the_document(served: Served) -> None:
    query = "query q($n: Int!) { datasets { " + "".join(f"r{n}: rows(limit: $n) {{ rows }} " for n in range(8)) + "} }"
    assert post(served, query, variables={"n": 10}).status_code == 200
    assert post(served, query, variables={"n": 10_000}).json()["code"] == "query_too_large"
    assert post(served, query, variables={"n": "many"}).json()["code"] == "query_too_large"


def test_the_gate_is_the_same(served: Served, start: Callable[..., Served]) -> None:
    assert served.client.post("/graphql", json={"query": LASTING}).json()["code"] == "token_missing"
    assert served.client.get("/graphql", params={"query": LASTING}).status_code == 401
    token, _ = served.issuer.issue("admin", ["sql"], subject="t", audience="penstock", expires_in_s=60)
    headers = {"Authorization": f"Bearer {token}"}
    assert served.client.post("/graphql", json={"query": LASTING}, headers=headers).json()["code"] == "scope_missing"
    own = start(requests_per_min=1)
    assert {post(own, LASTING).status_code for _ in range(4)} == {200, 429}
    logged = [each for each in read_log(own.folder / "serve" / "queries") if each["status"] == 200]
    assert (logged[0]["door"], logged[0]["question"], logged[0]["rows"]) == ("graphql", LASTING, 4)


def test_only_an_answer_that_is_the_releases_alone_is_tagged_and_kept(start: Callable[..., Served]) -> None:
    served = start()
    first = served.get("/graphql", query=LASTING)
    assert first.headers["etag"].startswith('W/"r000001-')
    second = served.get("/graphql", query=LASTING)
    assert (second.text, second.headers["etag"]) == (first.text, first.headers["etag"])
    unchanged = served.get("/graphql", query=LASTING, headers={"If-None-Match": first.headers["etag"]})
    assert (unchanged.status_code, unchanged.text) == (304, "")
    moving = '{ dataset(name: "routes") { owners } }'
    for query in (moving, "{ releases { id } }", '{ dataset(name: "nothing") { name } }'):
        answer = served.get("/graphql", query=query, headers={"If-None-Match": first.headers["etag"]})
        assert (answer.status_code, answer.headers.get("etag")) == (200, None)
    other = served.get("/graphql", "analyst", query=LASTING, headers={"If-None-Match": first.headers["etag"]})
    assert other.status_code == 200
    sources = [each["source"] for each in read_log(served.folder / "serve" / "queries")]
    assert sources[:3] == ["query", "cache", "unchanged"]


def test_what_nobody_expected_is_told_by_the_requests_id_alone(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError(f"/secret/path {CANARY}")

    monkeypatch.setattr(graphql_schema, "difference", breaks)
    answer = post(served, '{ difference(before: "r000001", after: "r000001") { name } }')
    assert codes(answer) == ["internal"]
    assert CANARY not in answer.text
    assert answer.headers["penstock-request-id"] in answer.json()["errors"][0]["extensions"]["remedy"]


def test_the_schema_can_be_asked_for_and_there_is_no_page(served: Served) -> None:
    schema = build_client_schema(data(served, get_introspection_query()))
    assert {"dataset", "datasets", "release", "releases", "difference"} <= set(schema.query_type.fields)  # type: ignore[union-attr]
    page = served.get("/graphql", headers={"Accept": "text/html"})
    assert (page.status_code, page.json()["code"]) == (400, "bad_parameter")


def test_an_earlier_release_is_named_in_the_address(served: Served) -> None:
    assert served.get("/graphql", query=LASTING, release="r000001").json() == json.loads(post(served, LASTING).text)
    assert served.get("/graphql", query=LASTING, release="r999999").json()["code"] == "unknown_release"
