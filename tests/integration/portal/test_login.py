"""Laws of the front: nobody gets in without a session, and no session outlives its token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

import penstock.front
from penstock.portal.login import COOKIE
from penstock.portal.sessions import MAX_SESSION_S, Sessions
from tests.integration.portal.web import ORIGIN, Web, form_token
from warehouse.serve.keys import Issuer
from warehouse.serve.policy import Policy
from warehouse.serve.tokens import Principal

CLOSED = ("/", "/datasets/routes", "/releases", "/runs", "/quarantine", "/incidents", "/docs/", "/quality/", "/nothing")


@pytest.mark.parametrize("path", [*CLOSED, "/dashboards/", "/dashboards/api/kernel"])
def test_without_a_session_every_page_leads_to_the_login(web: Web, path: str) -> None:
    answer = web.browser().get(path)
    assert (answer.status_code, answer.text) == (303, "")
    assert answer.headers["location"] == (f"/login?next={path}" if path != "/" else "/login")


def test_a_token_signs_in_and_leads_on_to_the_page_that_was_asked_for(web: Web) -> None:
    browser = web.browser()
    asked = browser.get("/releases?a=b")
    page = browser.get(asked.headers["location"])
    assert 'value="/releases?a=b"' in page.text
    answer = browser.sign_in(web.token("admin")[0], "/releases?a=b")
    assert (answer.status_code, answer.headers["location"]) == (303, "/releases?a=b")
    cookie = next(each for each in answer.headers.get_list("set-cookie") if each.startswith(COOKIE))
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert browser.get("/").status_code == 200


@pytest.mark.parametrize(
    "onward", ["//evil.example.com", "https://evil.example.com/", "/\\evil.example.com", "a", "/\n"]
)
def test_the_login_leads_to_no_other_site(web: Web, onward: str) -> None:
    assert web.browser().sign_in(web.token("admin")[0], onward).headers["location"] == "/"


def test_the_cookie_opens_no_door_but_the_web_front(web: Web) -> None:
    token, _ = web.token("admin")
    browser = web.browser()
    browser.sign_in(token)
    cookie = browser.client.cookies[COOKIE]
    assert token not in cookie
    assert browser.get("/v1/datasets").status_code == 401
    assert browser.get("/v1/datasets", headers={"Authorization": f"Bearer {cookie}"}).status_code == 401


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0."])
def test_what_is_no_token_is_refused_in_words(web: Web, token: str) -> None:
    answer = web.browser().sign_in(token)
    assert answer.status_code == 401
    assert 'role="alert"' in answer.text
    assert COOKIE not in answer.headers.get("set-cookie", "")


def test_many_bad_tokens_of_one_address_are_slowed_down_and_a_good_one_with_them(start: Callable[..., Web]) -> None:
    web = start()
    browser = web.browser()
    assert {browser.sign_in("a.b.c").status_code for _ in range(60)} == {401}
    assert browser.sign_in(web.token("admin")[0]).status_code == 429


def test_a_cookie_that_was_changed_is_none(web: Web) -> None:
    browser = web.signed_in("reader")
    cookie = browser.client.cookies[COOKIE]
    content, _, signature = cookie.partition(".")
    forged = [content[:-4] + "AAAA." + signature, f"{content}.{signature[:-2]}AA", content, "x.y", "", "." * 5000]
    for each in forged:
        assert web.browser().get("/", headers={"Cookie": f"{COOKIE}={each}"}).status_code == 303
    assert web.browser().get("/", headers={"Cookie": f"{COOKIE}={cookie}"}).status_code == 200


class Clock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        """Seconds since 1970."""
        return self.now


@pytest.mark.parametrize(("token_s", "session_s"), [(60.0, 60.0), (MAX_SESSION_S * 2, MAX_SESSION_S)])
def test_a_session_ends_with_its_token_and_at_the_latest_after_half_a_day(
    web: Web, token_s: float, session_s: float
) -> None:
    clock = Clock()
    sessions = Sessions(web.service.options, web.service.policy, web.issuer, clock)
    principal = Principal("ada", "admin", frozenset({"read"}), "", clock.now + token_s)
    cookie, lasts_s = sessions.start(principal)
    assert lasts_s == session_s
    clock.now += session_s - 1
    assert sessions.read(cookie) is not None
    clock.now += 1
    assert sessions.read(cookie) is None


def test_a_token_that_is_taken_back_ends_its_sessions_with_the_next_request(web: Web) -> None:
    token, claims = web.token("admin")
    browser, other = web.browser(), web.signed_in("admin")
    browser.sign_in(token)
    assert browser.get("/").status_code == 200
    web.issuer.revoke(claims["jti"])
    assert browser.get("/").status_code == 303
    assert other.get("/").status_code == 200


def test_signing_out_ends_the_session_for_every_copy_of_its_cookie(web: Web) -> None:
    browser = web.signed_in("admin")
    cookie = browser.client.cookies[COOKIE]
    assert browser.post("/", "/logout").headers["location"] == "/login"
    assert web.browser().get("/", headers={"Cookie": f"{COOKIE}={cookie}"}).status_code == 303


def test_a_session_has_no_more_scopes_than_the_policy_gives_its_role_now(web: Web) -> None:
    options, issuer = web.service.options, web.issuer
    before = Sessions(options, Policy.model_validate({"roles": {"r": {"scopes": ["read", "operate"]}}}), issuer)
    cookie, _ = before.start(Principal("ada", "r", frozenset({"read", "operate"}), "", 1e12))
    after = Sessions(options, Policy.model_validate({"roles": {"r": {"scopes": ["read", "sql"]}}}), issuer)
    session = after.read(cookie)
    assert session is not None
    assert session.principal.scopes == {"read"}
    assert Sessions(options, Policy.model_validate({"roles": {"other": {}}}), issuer).read(cookie) is None


def test_a_session_of_an_issuer_that_is_believed_no_longer_has_ended(web: Web) -> None:
    believing = replace(web.service.options, issuers=(Issuer("https://login.example.com"),))
    cookie, _ = Sessions(believing, web.service.policy, web.issuer).start(
        Principal("ada", "admin", frozenset({"read"}), "", 1e12)
    )
    assert Sessions(believing, web.service.policy, web.issuer).read(cookie) is not None
    assert Sessions(web.service.options, web.service.policy, web.issuer).read(cookie) is None


# -- other sites -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["https://evil.example.com", f"{ORIGIN}.example.org", "null", ""])
@pytest.mark.parametrize("path", ["/login", "/logout", "/dashboards/api/kernel"])
def test_a_post_that_another_site_began_is_refused(web: Web, path: str, origin: str) -> None:
    browser = web.signed_in("admin")
    token = form_token(browser.get("/").text)
    answer = browser.client.post(path, data={"form_token": token}, headers={"Origin": origin})
    assert answer.status_code == 403
    assert browser.get("/").status_code == 200


def test_a_form_without_the_token_of_its_own_session_does_nothing(web: Web) -> None:
    browser, other = web.signed_in("admin"), web.signed_in("admin")
    for token in ("", "x", form_token(other.get("/").text)):
        assert browser.client.post("/logout", data={"form_token": token}).status_code == 403
    assert browser.get("/").status_code == 200


def test_the_login_form_of_one_browser_signs_nobody_in_in_another(web: Web) -> None:
    token = form_token(web.browser().get("/login").text)
    answer = web.browser().client.post("/login", data={"token": web.token("admin")[0], "form_token": token})
    assert (answer.status_code, COOKIE in answer.headers.get("set-cookie", "")) == (400, False)


@pytest.mark.parametrize("path", ["/login", "/", "/nothing", "/static/portal.css"])
def test_every_page_forbids_scripts_frames_and_other_hosts(web: Web, path: str) -> None:
    headers = web.signed_in("admin").get(path).headers
    policy = headers["content-security-policy"]
    assert "script-src" not in policy
    assert {"default-src 'none'", "style-src 'self'", "form-action 'self'", "frame-ancestors 'none'"} <= {
        *policy.split("; ")
    }
    assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"form_token=" + b"x" * 40_000, "application/x-www-form-urlencoded", 413),
        (b"a=1&" * 200, "application/x-www-form-urlencoded", 400),
        (b"\xff\xfe=\xff", "application/x-www-form-urlencoded", 403),
        (b"{}", "application/json", 415),
    ],
)
def test_forms_are_read_within_bounds(web: Web, content: bytes, kind: str, status: int) -> None:
    answer = web.signed_in("admin").client.post("/logout", content=content, headers={"Content-Type": kind})
    assert answer.status_code in {status, 400}
    assert "Traceback" not in answer.text


# -- what is below -----------------------------------------------------------------------------------------------------


def test_the_applications_below_know_who_asks_and_not_the_cookie(web: Web) -> None:
    browser = web.signed_in("analyst")
    browser.client.cookies.set("other", "1")
    said = browser.get("/dashboards/routes").text
    assert said.startswith("/dashboards/routes {'subject': 'analyst', 'role': 'analyst', 'scopes': ['read', 'sql']}")
    assert COOKIE not in said
    assert "other=1" in said


def test_a_websocket_needs_a_session_and_its_own_origin(web: Web) -> None:
    inside = web.signed_in("analyst").client
    with inside.websocket_connect("/dashboards/ws", headers={"Origin": ORIGIN}) as socket:
        socket.send_text("hello")
        assert "'role': 'analyst'" in socket.receive_text()
    outside = web.browser().client
    refused: list[tuple[TestClient, str, str]] = [
        (outside, "/dashboards/ws", ORIGIN),
        (inside, "/dashboards/ws", "https://evil.example.com"),
        (inside, "/", ORIGIN),
        (inside, "/v1/datasets", ORIGIN),
    ]
    for client, path, origin in refused:
        with (
            pytest.raises(WebSocketDisconnect),
            client.websocket_connect(path, headers={"Origin": origin}),
        ):
            pass


def test_an_open_websocket_is_closed_when_its_token_is_taken_back(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(penstock.front, "CHECK_S", 0.05)
    token, claims = web.token("analyst")
    browser = web.browser()
    browser.sign_in(token)
    with browser.client.websocket_connect("/dashboards/ws", headers={"Origin": ORIGIN}) as socket:
        socket.send_text("hello")
        assert socket.receive_text()
        web.issuer.revoke(claims["jti"])
        with pytest.raises(WebSocketDisconnect):
            socket.receive_text()


def test_the_api_answers_behind_the_front_as_it_does_alone(web: Web) -> None:
    headers: dict[str, Any] = {"Authorization": f"Bearer {web.token('reader')[0]}"}
    behind, alone = TestClient(web.app), TestClient(web.service.app)
    for path in ("/health", "/v1/datasets", "/v1/datasets/routes/rows?limit=3", "/v1/nothing"):
        assert behind.get(path, headers=headers).json().keys() == alone.get(path, headers=headers).json().keys()
        assert behind.get(path, headers=headers).status_code == alone.get(path, headers=headers).status_code
