"""Laws of the sign-in at an issuer: only the browser that began it ends it, once, with tokens made for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest
from joserfc.jwk import ECKey
from starlette.responses import JSONResponse

from common.errors import SettingsError
from common.settings import Settings
from penstock.portal.login import ATTEMPT_COOKIE, COOKIE
from penstock.portal.openid import ATTEMPT_S, SignIn, client_of
from penstock.portal.provider import CODE_S, Provider
from tests.integration.portal.issuer import HERE, ROLES, Somebody, browser, refused, running
from tests.integration.portal.web import ORIGIN, Web, web_of
from tests.listening import listening
from warehouse.serve.keys import Issuer


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Somebody]:
    with running(tmp_path_factory.mktemp("openid")) as found:
        yield found


@pytest.fixture
def ada(world: Somebody) -> Somebody:
    """Somebody new, and an issuer that tells the truth."""
    world.issuer.access, world.issuer.identity = {}, {}
    world.issuer._clock = world.web.service.tokens._clock
    return Somebody(world.web, world.issuer)


def test_who_signs_in_at_the_issuer_gets_the_page_that_was_asked_for_with_the_scopes_of_the_role(ada: Somebody) -> None:
    page = ada.browser.get(ada.browser.get("/releases?a=b").headers["location"])
    link = re.search(r'href="(/login/start[^"]*)"', page.text)
    assert link
    assert unescape(link[1]) == "/login/start?next=/releases%3Fa%3Db"
    answer = ada.sign_in("reader", "/releases?a=b")
    assert (answer.status_code, answer.headers["location"]) == (303, "/releases?a=b")
    cookie = next(each for each in answer.headers.get_list("set-cookie") if each.startswith(COOKIE))
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "ada@example.com" in ada.browser.get("/").text
    assert ada.browser.get("/quarantine/routes").status_code == 403
    assert ATTEMPT_COOKIE not in ada.browser.client.cookies


def test_the_issuer_is_asked_for_a_code_with_proof_and_is_told_no_secret(ada: Somebody) -> None:
    page = ada.start()
    asked = {name: value for name, [value] in parse_qs(urlsplit(page).query).items()}
    assert page.startswith(f"{ada.issuer.url}/authorize?")
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    assert asked["redirect_uri"] == f"{HERE}/login/callback"
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    cookie = ada.browser.client.cookies[ATTEMPT_COOKIE]
    assert not any(asked[name] in cookie for name in ("state", "nonce", "code_challenge"))
    assert parse_qs(urlsplit(ada.start()).query)["state"] != [asked["state"]]


@pytest.mark.parametrize("state", ["", "x", "é", "A" * 43])
def test_a_forged_state_is_refused(ada: Somebody, state: str) -> None:
    where = ada.allow(ada.start())
    assert "another sign-in" in refused(ada.come_back(where, state=state))


def test_an_answer_ends_no_sign_in_of_another_browser_and_no_later_one(ada: Somebody) -> None:
    where = ada.allow(ada.start())
    eve = Somebody(ada.web, ada.issuer)
    assert "began no sign-in" in refused(eve.come_back(where))
    eve.start()
    assert "another sign-in" in refused(eve.come_back(where))


def test_a_code_that_was_replayed_is_refused_also_with_the_cookie_of_its_sign_in(ada: Somebody) -> None:
    where = ada.allow(ada.start())
    cookie = ada.browser.client.cookies[ATTEMPT_COOKIE]
    assert ada.come_back(where).status_code == 303
    copy = Somebody(ada.web, ada.issuer)
    assert "began no sign-in" in refused(copy.come_back(where))
    copy.browser.client.cookies.set(ATTEMPT_COOKIE, cookie, path="/login")
    assert "does not take the code (invalid_grant)" in refused(copy.come_back(where))


def test_a_code_of_somebody_elses_sign_in_has_no_proof_here(ada: Somebody) -> None:
    stolen = parse_qs(urlsplit(ada.allow(ada.start())).query)["code"][0]
    eve = Somebody(ada.web, ada.issuer)
    where = eve.allow(eve.start())
    assert "invalid_grant" in refused(eve.come_back(where, code=stolen))


def test_an_answer_of_another_issuer_is_refused_before_its_code_is_sent_to_anybody(ada: Somebody) -> None:
    where = ada.allow(ada.start())
    for named in ("https://other.example.com", ada.issuer.url + "/", ""):
        kept = dict(ada.browser.client.cookies)
        assert "another issuer" in refused(ada.come_back(where, iss=named))
        ada.browser.client.cookies.set(ATTEMPT_COOKIE, kept[ATTEMPT_COOKIE], path="/login")
    assert ada.come_back(where).status_code == 303


IDENTITY: dict[str, tuple[dict[str, Any], str]] = {
    "wrong nonce": ({"nonce": "n-1"}, "another sign-in"),
    "no nonce": ({"nonce": None}, "another sign-in"),
    "nonce that is no text": ({"nonce": 7}, "another sign-in"),
    "wrong audience": ({"aud": "billing"}, "somebody else"),
    "audience of the API": ({"aud": "penstock"}, "somebody else"),
    "no audience": ({"aud": None}, "somebody else"),
    "several, and not said for whom": ({"aud": ["portal", "billing"]}, "somebody else"),
    "made for another": ({"azp": "billing"}, "somebody else"),
    "expired": ({"exp": 1}, "expired"),
    "no end": ({"exp": None}, "from when until when"),
    "unknown issuer": ({"iss": "https://evil.example.com"}, "not configured"),
    "local issuer": ({"iss": "penstock-local"}, "unknown key"),
    "of another access token": ({"at_hash": "AAAA"}, "another access token"),
    "no subject": ({"sub": None}, "no subject"),
}


@pytest.mark.parametrize("name", IDENTITY)
def test_an_id_token_that_was_not_made_for_this_sign_in_is_refused(ada: Somebody, name: str) -> None:
    ada.issuer.identity, said = IDENTITY[name]
    assert said in refused(ada.sign_in())


def test_an_id_token_for_several_that_says_it_was_made_for_this_client_counts(ada: Somebody) -> None:
    ada.issuer.identity = {"aud": ["billing", "portal"], "azp": "portal", "at_hash": None}
    assert ada.sign_in().status_code == 303


ACCESS: dict[str, tuple[dict[str, Any], int, str]] = {
    "wrong audience": ({"aud": "portal"}, 401, "somebody else"),
    "expired": ({"exp": 1}, 401, "expired"),
    "unknown issuer": ({"iss": "https://evil.example.com"}, 401, "not configured"),
    "no role of the policy": ({"role": "root"}, 403, "no role"),
}


@pytest.mark.parametrize("name", ACCESS)
def test_an_access_token_that_no_door_would_take_signs_nobody_in(ada: Somebody, name: str) -> None:
    ada.issuer.access, status, said = ACCESS[name]
    assert said in refused(ada.sign_in(), status)


def test_a_token_of_a_stranger_with_the_right_key_id_is_refused(ada: Somebody, tmp_path: Path) -> None:
    theirs = Provider(tmp_path, ROLES, client_id="portal")._key.as_dict(private=True)
    good = ada.issuer._key
    ada.issuer._key = ECKey.import_key({**theirs, "kid": good.kid})
    try:
        assert "signature" in refused(ada.sign_in())
    finally:
        ada.issuer._key = good


def test_who_cancels_is_told_so_in_words_and_nothing_of_the_answer_is_repeated_as_it_came(ada: Somebody) -> None:
    where = ada.allow(ada.start(), cancel="1")
    assert "did not sign you in (access_denied)" in refused(ada.come_back(where))
    where = ada.allow(ada.start(), cancel="1")
    text = refused(ada.come_back(where, error="<script>alert(1)</script>"))
    assert "script" not in text
    assert "no code" not in text
    where = ada.allow(ada.start())
    assert "without a code" in refused(ada.come_back(where, code=""))


@pytest.mark.parametrize(
    "onward", ["//evil.example.com", "https://evil.example.com/", "/\\evil.example.com", "a" * 3000]
)
def test_a_sign_in_leads_to_no_other_site(ada: Somebody, onward: str) -> None:
    assert ada.sign_in(onward=onward).headers["location"] == "/"
    cookie = ada.browser.client.cookies.get(ATTEMPT_COOKIE)
    assert cookie is None


def test_an_attempt_and_a_code_do_not_count_for_ever(ada: Somebody) -> None:
    service, now = ada.web.service, [ada.web.service.tokens._clock()]
    settings = Settings.load({"PENSTOCK_LOGIN_CLIENT_ID": "portal"}, home=ada.web.folder)
    client = client_of(settings, service.options.issuers)
    assert client is not None
    late = SignIn(client, ada.web.app._sessions, service.tokens, lambda: now[0])
    cookie, page = late.begin(HERE, "/")
    told = dict(parse_qsl(urlsplit(ada.allow(page)).query))
    now[0] += ATTEMPT_S
    with pytest.raises(Exception, match="longer than 10 minutes"):
        late.end(cookie, told)
    where = ada.allow(ada.start())
    ada.issuer._clock = lambda: now[0] + CODE_S
    assert "invalid_grant" in refused(ada.come_back(where))


def test_a_cookie_that_was_changed_or_made_for_something_else_begins_nothing(ada: Somebody) -> None:
    where = ada.allow(ada.start())
    cookie = ada.browser.client.cookies[ATTEMPT_COOKIE]
    for forged in (cookie[:-2] + "AA", ada.web.app._sessions.sign("form", "{}"), "x.y", ""):
        eve = Somebody(ada.web, ada.issuer)
        eve.browser.client.cookies.set(ATTEMPT_COOKIE, forged, path="/login")
        assert "began no sign-in" in refused(eve.come_back(where))


def test_signing_out_ends_the_session_and_offers_to_end_the_issuers_too(ada: Somebody) -> None:
    ada.sign_in()
    cookie = ada.browser.client.cookies[COOKIE]
    where = ada.browser.post("/", "/logout").headers["location"]
    assert 'href="/login/leave"' in ada.browser.get(where).text
    assert ada.browser.get("/", headers={"Cookie": f"{COOKIE}={cookie}"}).status_code == 303
    page = ada.browser.get("/login/leave").headers["location"]
    assert page.startswith(f"{ada.issuer.url}/logout?")
    assert httpx.get(page).headers["location"] == f"{HERE}/login"


def test_a_service_token_signs_in_where_an_issuer_is_configured_too(ada: Somebody) -> None:
    assert ada.browser.sign_in(ada.web.token("admin")[0]).headers["location"] == "/"


def test_without_an_issuer_there_is_no_way_to_one(web: Web) -> None:
    assert [web.browser().get(f"/login/{step}").status_code for step in ("start", "callback", "leave")] == [404] * 3
    assert "/login/start" not in web.browser().get("/login").text


def test_who_comes_by_an_address_that_nobody_named_is_not_sent_to_the_issuer(ada: Somebody) -> None:
    stranger = browser(ada.web, ORIGIN)
    assert "does not know the address" in refused(stranger.get("/login/start"), 400)


def test_an_address_whose_sign_ins_fail_again_and_again_is_slowed_down_and_others_are_not(ada: Somebody) -> None:
    eve = browser(ada.web, address="eve")
    assert {eve.get("/login/callback?code=x&state=y").status_code for _ in range(60)} == {401}
    assert eve.get("/login/callback?code=x&state=y").status_code == 429
    assert eve.get("/login/start").status_code == 429
    assert ada.sign_in().status_code == 303


def test_a_client_with_a_secret_and_an_address_of_its_own_proves_itself(tmp_path: Path) -> None:
    secret = "s:e+c/r%t é"
    with running(tmp_path, secret, PENSTOCK_PORTAL_URL=HERE) as ada:
        assert ada.sign_in().status_code == 303
        assert "not at home" in refused(browser(ada.web, "http://127.0.0.1:1").get("/login/start"), 400)
        ada.issuer._client_secret = "another"
        assert "invalid_client" in refused(ada.sign_in())


def test_an_issuer_that_is_silent_or_leads_astray_is_told_and_the_token_still_signs_in(
    tmp_path: Path,
) -> None:
    document: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await JSONResponse(document)(scope, receive, send)

    with listening(lambda _: app) as address:
        web = web_of(tmp_path, {"PENSTOCK_LOGIN_CLIENT_ID": "portal"}, issuers=(Issuer(address),))
        try:
            ada = browser(web)
            for endpoint in ("http://evil.example.com/a", "javascript:alert(1)", "//evil.example.com", ""):
                document |= {"issuer": address, "authorization_endpoint": endpoint}
                assert "does not answer" in refused(ada.get("/login/start"), 503)
            document |= {"issuer": "https://evil.example.com", "authorization_endpoint": f"{address}/a"}
            assert "does not answer" in refused(ada.get("/login/start"), 503)
            assert ada.sign_in(web.token("admin")[0]).status_code == 303
        finally:
            web.service.close()


@pytest.mark.parametrize(
    "named",
    [
        {"PENSTOCK_LOGIN_ISSUER": "https://evil.example.com"},
        {"PENSTOCK_PORTAL_URL": "http://portal.example.com"},
        {"PENSTOCK_PORTAL_URL": "portal.example.com"},
    ],
)
def test_settings_of_a_sign_in_that_do_not_fit_together_are_refused(tmp_path: Path, named: dict[str, str]) -> None:
    believed = [Issuer("https://login.example.com")]
    given = {"PENSTOCK_LOGIN_CLIENT_ID": "portal"}
    assert client_of(Settings.load(given, home=tmp_path), believed) is not None
    with pytest.raises(SettingsError):
        client_of(Settings.load(given | named, home=tmp_path), believed)
    with pytest.raises(SettingsError):
        client_of(Settings.load(given, home=tmp_path), [])


@pytest.mark.parametrize(
    "redirect_uri",
    [
        "https://evil.example.com/login/callback",
        "http://evil.example.com/login/callback",
        f"{HERE}/",
        f"{HERE}/login/callback?a=b",
        "http://a@127.0.0.1/login/callback",
        "",
    ],
)
def test_the_provider_for_development_sends_nobody_off_this_machine(ada: Somebody, redirect_uri: str) -> None:
    page = urlsplit(ada.start())
    asked = {**dict(parse_qsl(page.query)), "redirect_uri": redirect_uri}
    assert httpx.get(f"{ada.issuer.url}/authorize", params=asked).status_code == 400
    leaving = httpx.get(f"{ada.issuer.url}/logout", params={"post_logout_redirect_uri": redirect_uri})
    assert leaving.status_code == 400


def test_the_provider_for_development_gives_no_code_for_a_form_of_another_site_or_without_a_proof(
    ada: Somebody,
) -> None:
    asked = dict(parse_qsl(urlsplit(ada.start()).query))
    form = {**asked, "role": "admin", "subject": "eve"}
    url = f"{ada.issuer.url}/authorize"
    assert httpx.post(url, data=form, headers={"Origin": "https://evil.example.com"}).status_code == 400
    for wrong in ({"code_challenge": ""}, {"code_challenge_method": "plain"}, {"client_id": "x"}, {"role": "root"}):
        assert httpx.post(url, data=form | wrong, headers={"Origin": ada.issuer.url}).status_code == 400
