"""Bad questions get a problem: right status, stable code, a remedy, and nothing that is not the caller's."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from tests.architecture.source_tree import ROOT
from tests.integration.serve.served import CANARY, Response, Served
from warehouse.serve.gate import MAX_BODY_BYTES
from warehouse.serve.problems import STATUS
from warehouse.serve.query import make_cursor
from warehouse.serve.query_log import read_log

ROWS = "/v1/datasets/routes/rows"
SUMS = "/v1/datasets/routes/aggregate"
OURS = r"(/[\w.-]+){2,}\.(py|duckdb)|Traceback|FROM \(|CAST\(|/tmp/|warehouse\.duckdb"
INJECTIONS = (
    *("'", '"', "';--", '"; drop table routes; --', "' or '1'='1", "1; select * from payroll", "flights)", "flights--"),
    *("flights, (select max(word) from payroll)", "(select word from payroll)", "payroll.word", "main.payroll"),
    *("warehouse.main.payroll", '"payroll"', "flights/**/", "`flights`", "[flights]", "$1", "?", "{{flights}}", "*"),
    *("columns('.*')", "rowid", "_row", "version union select 1", "\u00a0flights", "ﬂights", "flights\n", "../payroll"),
)


def problem(answer: Response, status: int, code: str) -> dict[str, Any]:
    """The problem that an answer is, checked to be one that tells nothing."""
    document: dict[str, Any] = answer.json()
    assert (answer.status_code, document["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert STATUS[code] == status == document["status"]
    assert document["remedy"]
    assert document["instance"].endswith(answer.headers["penstock-request-id"])
    assert CANARY not in answer.text
    assert not re.search(OURS, answer.text)
    return document


@pytest.mark.parametrize(
    ("path", "options", "status", "code"),
    [
        ("/v1/datasets/nothing/rows", {}, 404, "unknown_dataset"),
        ("/v1/datasets/nothing", {}, 404, "unknown_dataset"),
        ("/v1/datasets/nothing/lineage", {}, 404, "unknown_dataset"),
        (ROWS, {"select": "nothing"}, 404, "unknown_column"),
        (ROWS, {"select": "day,day"}, 400, "bad_parameter"),
        (ROWS, {"select": "day,"}, 404, "unknown_column"),
        (ROWS, {"sort": "nothing"}, 404, "unknown_column"),
        (ROWS, {"sort": "day,-day"}, 400, "bad_parameter"),
        (ROWS, {"filter": "day"}, 400, "bad_filter"),
        (ROWS, {"filter": "day:like:x"}, 400, "bad_filter"),
        (ROWS, {"filter": "day:is_null:maybe"}, 400, "bad_filter"),
        (ROWS, {"filter": "day:eq:\0"}, 400, "wrong_type|bad_filter"),
        (ROWS, {"filter": "nothing:eq:1"}, 404, "unknown_column"),
        (ROWS, {"filter": "flights:eq:many"}, 400, "wrong_type"),
        (ROWS, {"filter": "flights:eq:99999999999999999999999"}, 400, "wrong_type"),
        (ROWS, {"filter": "day:eq:2013-02-30"}, 400, "wrong_type"),
        (ROWS, {"filter": "flights:contains:1"}, 400, "wrong_type"),
        (ROWS, {"filter": ["flights:eq:1"] * 21}, 400, "bad_parameter"),
        (ROWS, {"filter": "flights:in:" + ",".join(map(str, range(501)))}, 400, "bad_filter"),
        (ROWS, {"filter": "origin:eq:" + "x" * 20_000}, 414, "uri_too_long"),
        (ROWS, {"limit": 0}, 400, "bad_parameter"),
        (ROWS, {"limit": 10_001}, 400, "bad_parameter"),
        (ROWS, {"limit": "ten"}, 400, "bad_parameter"),
        (ROWS, {"format": "xml"}, 400, "bad_parameter"),
        (ROWS, {"headers": {"Accept": "image/png"}}, 406, "not_acceptable"),
        (ROWS, {"cursor": "x"}, 400, "cursor_invalid"),
        (ROWS, {"cursor": "W10"}, 400, "cursor_invalid"),
        (ROWS, {"cursor": make_cursor("r000001", "other", 5)}, 400, "cursor_invalid"),
        (ROWS, {"cursor": make_cursor("r000000", "other", 5)}, 409, "cursor_of_another_release"),
        (ROWS, {"release": "r999999"}, 404, "unknown_release"),
        (ROWS, {"release": "../../etc"}, 404, "unknown_release"),
        ("/v1/releases/r999999", {}, 404, "unknown_release"),
        ("/v1/releases/latest", {}, 400, "bad_parameter"),
        ("/v1/releases/r000001/diff/r999999", {}, 404, "unknown_release"),
        (SUMS, {"measure": "sum"}, 400, "bad_parameter"),
        (SUMS, {"measure": "sum:origin"}, 400, "wrong_type"),
        (SUMS, {"measure": "median:flights"}, 400, "bad_parameter"),
        (SUMS, {"measure": ["count", "count"]}, 400, "bad_parameter"),
        (SUMS, {"group": "nothing"}, 404, "unknown_column"),
        (SUMS, {"sort": "flights"}, 404, "unknown_column"),
        ("/v1/nothing", {}, 404, "not_found"),
        ("/", {}, 404, "not_found"),
        ("/docs", {}, 404, "not_found"),
        ("/v1/datasets/%2e%2e%2f%2e%2e%2fetc%2fpasswd/rows", {}, 404, "not_found|unknown_dataset"),
        ("/v1/sql", {}, 405, "method_not_allowed"),
    ],
)
def test_a_bad_question_is_a_problem(
    served: Served, path: str, options: dict[str, Any], status: int, code: str
) -> None:
    answer = served.get(path, **options)
    assert answer.json()["code"] in code.split("|")
    problem(answer, status, answer.json()["code"])


@pytest.mark.parametrize("text", INJECTIONS)
def test_no_name_of_a_callers_becomes_sql(served: Served, figures: Callable[..., None], text: str) -> None:
    """Fault 15: every place that takes a name, with every text that would be more than one."""
    places: list[tuple[str, dict[str, Any]]] = [
        (ROWS, {"select": text}),
        (ROWS, {"sort": text}),
        (ROWS, {"sort": f"-{text}"}),
        (ROWS, {"filter": f"{text}:eq:1"}),
        (ROWS, {"filter": f"flights:{text}:1"}),
        (SUMS, {"group": text}),
        (SUMS, {"measure": f"sum:{text}"}),
        (SUMS, {"measure": f"{text}:flights"}),
        (SUMS, {"measure": "count", "sort": text}),
        (f"/v1/datasets/{quote(text, safe='')}/rows", {}),
    ]
    answers = [served.get(path, **options) for path, options in places]
    values = served.rows(SUMS, filter=f"origin:eq:{text}")
    taken = sum(answer.status_code not in {400, 404} for answer in answers) + (values != [{"count": 0}])
    figures(names=1, call_sites=len(places) + 1, executed_payloads=taken)
    for answer, place in zip(answers, places, strict=True):
        assert answer.status_code in {400, 404}, place
        problem(answer, answer.status_code, answer.json()["code"])
    assert values == [{"count": 0}]


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"", {}, 400, "bad_body"),
        (b"{", {}, 400, "bad_body"),
        (b"[]", {}, 400, "bad_body"),
        (b'{"sql": 1}', {}, 400, "bad_body"),
        (b'{"sql": ""}', {}, 400, "bad_body"),
        (b'{"sql": "select 1", "more": 1}', {}, 400, "bad_body"),
        (b'{"sql": "select 1", "release": "../x"}', {}, 400, "bad_body"),
        (b'{"sql": "select 1", "release": "r999999"}', {}, 404, "unknown_release"),
        (b'{"sql": "\xff"}', {}, 400, "bad_body"),
        (b"[" * 50_000, {}, 400, "bad_body"),
        (b'{"sql": "select * from payroll"}', {"role": "analyst"}, 400, "sql_refused"),
        (b'{"sql": "select * from nowhere"}', {}, 400, "sql_refused"),
        (b'{"sql": "select nothing from routes"}', {}, 400, "sql_error"),
        (b'{"sql": "selec 1"}', {}, 400, "sql_error"),
        (b'{"sql": "select 1"}', {"Accept": "image/png"}, 406, "not_acceptable"),
        (b'{"sql": "' + b"x" * MAX_BODY_BYTES + b'"}', {}, 413, "body_too_large"),
        (b'{"sql": "select 1"}', {"role": "reader"}, 403, "scope_missing"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_statement_is_a_problem(
    served: Served, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    given = {k: v for k, v in headers.items() if k != "role"}
    token = served.tokens[headers.get("role", "admin")]
    sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **given}
    problem(served.client.post("/v1/sql", content=content, headers=sent), status, code)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Bearer a.b.c", "bearer x", "Token x"])
def test_without_a_good_token_nothing_is_told(served: Served, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for path in ("/v1/datasets", ROWS, "/v1/datasets/nothing/rows", "/v1/releases", "/v1/nothing"):
        answer = served.client.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        problem(answer, 401, answer.json()["code"])
        assert "penstock-release" not in answer.headers


def test_a_revoked_token_is_refused_by_the_next_request(
    start: Callable[..., Served], figures: Callable[..., None]
) -> None:
    served = start()
    token, claims = served.issuer.issue("admin", ["read"], subject="job", audience="penstock", expires_in_s=60)
    headers = {"Authorization": f"Bearer {token}"}
    assert served.client.get(ROWS, headers=headers).status_code == 200
    served.issuer.revoke(claims["jti"])
    began = time.monotonic()
    answers = [served.client.get(path, headers=headers) for path in (ROWS, "/v1/datasets")]
    figures(
        action="revoked token",
        accepted_bad_tokens=sum(answer.status_code != 401 for answer in answers),
        revocation_delay_s=round(time.monotonic() - began, 3),
    )
    for answer in answers:
        problem(answer, 401, "token_revoked")


def test_too_many_requests_are_told_when_to_come_again(start: Callable[..., Served]) -> None:
    served = start(requests_per_min=5)
    answers = [served.get(ROWS) for _ in range(16)]  # in two minutes at most
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(refused) >= 6
    for answer in refused:
        problem(answer, 429, "too_many_requests")
        assert answer.headers["retry-after"] == "60"
    assert served.get(ROWS, "reader").status_code == 200


def test_who_guesses_tokens_is_slowed_down_and_others_are_not(start: Callable[..., Served]) -> None:
    served = start()
    served.get(ROWS)
    guesses = [served.client.get(ROWS, headers={"Authorization": f"Bearer {n}.b.c"}) for n in range(150)]
    assert {answer.status_code for answer in guesses} == {401, 429}
    assert served.get(ROWS).status_code == 200  # a token that is known needs no guess


def test_every_question_is_logged_with_who_what_and_how_and_no_token_is(start: Callable[..., Served]) -> None:
    served = start()
    served.get(ROWS, "reader", filter="origin:eq:JFK", select="origin")
    served.get(ROWS, "reader", filter="origin:eq:JFK", select="origin")
    served.get("/v1/datasets/payroll/rows", "reader")
    served.sql("select 1 as one")
    served.client.get(ROWS, headers={"Authorization": "Bearer a.b.c"})
    served.client.get("/health")
    found = list(read_log(served.folder / "serve" / "queries"))
    told = [(each["subject"], each["status"], each["code"], each["source"], each["rows"]) for each in found]
    assert told == [
        ("reader", 200, "", "query", 100),
        ("reader", 200, "", "cache", 100),
        ("reader", 404, "unknown_dataset", "query", None),
        ("admin", 200, "", "query", 1),
        ("", 401, "token_invalid", "query", None),
    ]
    assert found[0]["question"] == "filter=origin:eq:JFK&select=origin"
    assert found[3]["question"] == "select 1 as one"
    assert all(each["duration_ms"] > 0 and each["at"] for each in found)
    assert {each["release"] for each in found[:4]} == {"r000001"}
    text = b"".join(path.read_bytes() for path in (served.folder / "serve" / "queries").iterdir()).decode()
    assert [role for role, token in served.tokens.items() if token.split(".")[2] in text] == []
    assert [path for path in (served.folder / "serve" / "queries").iterdir() if path.stat().st_mode & 0o077] == []


def test_every_code_is_explained() -> None:
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    assert {code: status for code, status in STATUS.items() if f"| `{code}` | {status} |" not in text} == {}
