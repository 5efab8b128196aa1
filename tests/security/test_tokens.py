"""Fault 21: tokens that are stale, forged, revoked, foreign or strangely made are refused; a good one is believed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from common.errors import SettingsError, UnknownName
from warehouse.serve.keys import KEEP_S, RETRY_S, Issuer, RemoteKeys
from warehouse.serve.policy import Policy, Role
from warehouse.serve.problems import Problem
from warehouse.serve.tokens import LOCAL_ISSUER, LocalIssuer, Tokens

POLICY = Policy(roles={"admin": Role(scopes=("read", "sql", "operate")), "reader": Role(scopes=("read",))})


class Provider:
    """A real issuer on loopback: discovery, keys, and how often they were asked for."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "first"}, private=True)
        self.asked = 0
        self.down = False
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked += 1
                public = provider.key.as_dict(private=False)
                documents: dict[str, Any] = {
                    "/.well-known/openid-configuration": {"issuer": provider.url, "jwks_uri": provider.url + "/keys"},
                    "/keys": {"keys": [public]},
                }
                body = json.dumps(documents.get(self.path, {})).encode()
                self.send_response(503 if provider.down else 200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Answer no longer."""
        self._server.shutdown()
        self._server.server_close()

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Good claims with some changed; None leaves one out."""
        now = int(time.time())
        claims = {"iss": self.url, "aud": "penstock", "sub": "ada", "role": "admin", "scope": "read sql"}
        return {k: v for k, v in {**claims, "exp": now + 600, "jti": "t-1", **changed}.items() if v is not None}

    def token(self, header: dict[str, Any] | None = None, key: Any = None, **changed: Any) -> str:
        """A token with such claims, signed by the issuer's key or another."""
        head = {"alg": "RS256", "kid": "first", **(header or {})}
        return jwt.encode(head, self.claims(**changed), key or self.key, algorithms=[head["alg"]])


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    running = Provider()
    yield running
    running.close()


@pytest.fixture
def tokens(provider: Provider, tmp_path: Path) -> Tokens:
    issuers = [Issuer(provider.url)]
    return Tokens(POLICY, LocalIssuer(tmp_path / "serve"), issuers=issuers, audience="penstock")


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def unsigned(provider: Provider, algorithm: str, **header: Any) -> str:
    return f"{part({'alg': algorithm, 'kid': 'first', **header})}.{part(provider.claims())}."


def signed_with_the_public_key(provider: Provider) -> str:
    """HS256 with the RSA public key as the shared secret: the classic confusion."""
    head = f"{part({'alg': 'HS256', 'kid': 'first'})}.{part(provider.claims())}"
    secret = provider.key.as_pem(private=False)
    digest = hmac.new(secret, head.encode(), hashlib.sha256).digest()
    return f"{head}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def stolen_signature(provider: Provider) -> str:
    head, _, signature = provider.token().split(".")
    return f"{head}.{part(provider.claims(role='admin', sub='eve'))}.{signature}"


NOW = time.time()
STRANGER = RSAKey.generate_key(2048, {"kid": "first"}, private=True)
BAD: dict[str, tuple[Callable[[Provider], str], str]] = {
    "none": (lambda p: unsigned(p, "none"), "token_invalid"),
    "None": (lambda p: unsigned(p, "None"), "token_invalid"),
    "NONE": (lambda p: unsigned(p, "NONE"), "token_invalid"),
    "empty algorithm": (lambda p: unsigned(p, ""), "token_invalid"),
    "no signature": (lambda p: unsigned(p, "RS256"), "token_invalid"),
    "signed with the public key": (signed_with_the_public_key, "token_invalid"),
    "shared secret": (
        lambda p: p.token({"alg": "HS256"}, OctKey.import_key("secret-of-32-bytes-at-the-least!")),
        "token_invalid",
    ),
    "stranger's key with the right id": (lambda p: p.token(key=STRANGER), "token_invalid"),
    "changed claims": (stolen_signature, "token_invalid"),
    "other audience": (lambda p: p.token(aud="billing"), "token_invalid"),
    "other audiences": (lambda p: p.token(aud=["billing", "crm"]), "token_invalid"),
    "no audience": (lambda p: p.token(aud=None), "token_invalid"),
    "unknown issuer": (lambda p: p.token(iss="https://issuer.example.com"), "token_invalid"),
    "issuer with a path": (lambda p: p.token(iss=p.url + "/../"), "token_invalid"),
    "no issuer": (lambda p: p.token(iss=None), "token_invalid"),
    "claims to be local": (lambda p: p.token(iss=LOCAL_ISSUER), "token_invalid"),
    "expired": (lambda p: p.token(exp=int(NOW) - 1), "token_expired"),
    "long expired": (lambda p: p.token(exp=1), "token_expired"),
    "no end": (lambda p: p.token(exp=None), "token_invalid"),
    "end that is no number": (lambda p: p.token(exp="tomorrow"), "token_invalid"),
    "end that is true": (lambda p: p.token(exp=True), "token_invalid"),
    "endless": (lambda p: p.token(exp=1e300), "token_invalid"),
    "not yet": (lambda p: p.token(nbf=int(NOW) + 3600), "token_invalid"),
    "no subject": (lambda p: p.token(sub=None), "token_invalid"),
    "subject that is a list": (lambda p: p.token(sub=["a"]), "token_invalid"),
    "no role": (lambda p: p.token(role=None), "role_unknown"),
    "unknown role": (lambda p: p.token(role="root"), "role_unknown"),
    "role that is an object": (lambda p: p.token(role={"admin": True}), "role_unknown"),
    "key id that is a path": (lambda p: p.token({"kid": "../../../../dev/null"}), "token_invalid"),
    "key id that is SQL": (lambda p: p.token({"kid": "first' or '1'='1"}), "token_invalid"),
    "no key id": (lambda p: p.token({"kid": ""}), "token_invalid"),
    "own key in the header": (
        lambda p: p.token({"jwk": STRANGER.as_dict(private=False), "kid": "mine"}, STRANGER),
        "token_invalid",
    ),
    "address of keys in the header": (
        lambda p: p.token({"jku": "http://127.0.0.1:1/keys", "kid": "mine"}, STRANGER),
        "token_invalid",
    ),
    "critical header": (lambda p: unsigned(p, "RS256", crit=["b64"], b64=False), "token_invalid"),
    "nothing": (lambda _: "", "token_invalid"),
    "not a token": (lambda _: "a.b.c", "token_invalid"),
    "two parts": (lambda _: "e30.e30", "token_invalid"),
    "encrypted": (lambda _: "e30.e30.e30.e30.e30", "token_invalid"),
    "lists": (lambda _: f"{part([])}.{part([])}.x", "token_invalid"),
    "deep": (lambda _: f"{base64.urlsafe_b64encode(b'[' * 3000).decode()}.e30.e30", "token_invalid"),
    "huge": (lambda p: p.token(padding="x" * 10_000), "token_invalid"),
    "no text": (lambda _: "\udcff.\udcff.\udcff", "token_invalid"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_token_is_refused(tokens: Tokens, provider: Provider, figures: Callable[..., None], name: str) -> None:
    make, code = BAD[name]
    codes = []
    for _ in range(2):  # the second time it might be remembered
        try:
            tokens.verify(make(provider))
        except Problem as refused:
            codes.append(refused.code)
    figures(action=name, bad_tokens=2, accepted_bad_tokens=2 - len(codes))
    assert codes == [code, code]


def test_a_good_token_says_who_what_and_until_when(tokens: Tokens, provider: Provider) -> None:
    found = tokens.verify(provider.token())
    assert (found.subject, found.role, sorted(found.scopes), found.token_id) == ("ada", "admin", ["read", "sql"], "t-1")
    assert tokens.verify(provider.token(aud=["x", "penstock"], role=["guest", "reader"])).role == "reader"
    assert tokens.verify(provider.token(scope=None, scp=["read"])).scopes == {"read"}


def test_scopes_are_what_both_token_and_role_allow(tokens: Tokens, provider: Provider) -> None:
    assert tokens.verify(provider.token(role="reader", scope="read sql operate root")).scopes == {"read"}
    assert tokens.verify(provider.token(scope=None)).scopes == frozenset()


def test_a_token_ends_on_time_and_a_revoked_one_at_once_also_when_it_is_remembered(
    provider: Provider, tmp_path: Path
) -> None:
    now = [time.time()]
    local = LocalIssuer(tmp_path / "serve")
    tokens = Tokens(POLICY, local, issuers=[Issuer(provider.url)], audience="penstock", clock=lambda: now[0])
    token = provider.token(exp=int(now[0]) + 30)
    tokens.verify(token)
    now[0] += 31
    with pytest.raises(Problem, match="expired"):
        tokens.verify(token)
    ours, claims = local.issue("reader", ["read"], subject="job", audience="penstock", expires_in_s=600)
    now[0] = time.time()
    assert tokens.verify(ours).role == "reader"
    LocalIssuer(tmp_path / "serve").revoke(claims["jti"])
    with pytest.raises(Problem, match="revoked"):
        tokens.verify(ours)
    assert [(each["sub"], each["revoked"]) for each in local.issued()] == [("job", True)]


def test_a_service_token_is_signed_by_a_key_that_only_its_owner_may_read(tmp_path: Path) -> None:
    local = LocalIssuer(tmp_path / "serve")
    token, claims = local.issue("admin", ["read"], subject="job", audience="penstock", expires_in_s=60)
    assert Tokens(POLICY, local, audience="penstock").verify(token).subject == "job"
    assert (tmp_path / "serve" / "issuer.json").stat().st_mode & 0o077 == 0
    kept = b"".join(path.read_bytes() for path in (tmp_path / "serve" / "tokens").iterdir())
    assert token.split(".")[2].encode() not in kept
    assert claims["exp"] - claims["iat"] == 60
    forged = jwt.encode({"alg": "ES256", "kid": local.key().kid}, claims, ECKey.generate_key("P-256"))
    with pytest.raises(Problem, match="signature"):
        Tokens(POLICY, local, audience="penstock").verify(forged)


@pytest.mark.parametrize("token_id", ["", "../../x", "a/b", "x" * 200, "\0"])
def test_only_an_id_of_a_token_can_be_revoked(tmp_path: Path, token_id: str) -> None:
    with pytest.raises(UnknownName):
        LocalIssuer(tmp_path).revoke(token_id)
    assert list(tmp_path.rglob("*")) == []


def test_a_new_key_is_fetched_when_it_signs_and_an_unknown_one_does_not_ask_the_issuer_again_and_again(
    provider: Provider,
) -> None:
    now = [0.0]
    keys = RemoteKeys(Issuer(provider.url), clock=lambda: now[0])
    keys.get("first")
    asked = provider.asked
    for _ in range(50):
        with pytest.raises(Problem, match="unknown key"):
            keys.get("second")
    assert provider.asked == asked
    before, provider.key = provider.key, RSAKey.generate_key(2048, {"kid": "second"}, private=True)
    try:
        now[0] += RETRY_S
        assert keys.get("second").kid == "second"
        with pytest.raises(Problem, match="unknown key"):
            keys.get("first")
    finally:
        provider.key = before


def test_a_withdrawn_key_and_a_silent_issuer_count_no_longer_than_keys_are_kept(provider: Provider) -> None:
    now = [0.0]
    keys = RemoteKeys(Issuer(provider.url), clock=lambda: now[0])
    keys.get("first")
    provider.down = True
    try:
        now[0] = KEEP_S - 1
        assert keys.get("first").kid == "first"
        now[0] = KEEP_S + 1
        for _ in range(2):
            with pytest.raises(Problem) as refused:
                keys.get("first")
            assert (refused.value.code, refused.value.status) == ("issuer_unavailable", 503)
    finally:
        provider.down = False


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", b"[" * 9]
)
def test_an_issuer_that_answers_no_http_is_unavailable(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reply() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        keys = RemoteKeys(Issuer("http://127.0.0.1", f"http://127.0.0.1:{listener.getsockname()[1]}/keys"))
        with pytest.raises(Problem) as refused:
            keys.get("first")
        thread.join()
    assert refused.value.code == "issuer_unavailable"


@pytest.mark.parametrize("url", ["http://issuer.example.com", "file:///etc/passwd", "ftp://127.0.0.1", "issuer"])
def test_keys_come_by_https_only_but_on_loopback(url: str) -> None:
    with pytest.raises(SettingsError, match="https"):
        RemoteKeys(Issuer(url))
