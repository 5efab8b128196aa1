"""An OpenID provider for development: whoever opens it chooses who to be. It speaks to this machine only.

::

    /authorize ─▶ a page: role, name ─▶ code ─▶ the portal's callback ─▶ /token: code, verifier ─▶ ID and access token

With it a sign-in by redirect is tried and tested as people will use it, against real pages, a real token endpoint and
real keys. It has no passwords, so it listens on loopback, sends nobody anywhere else, and its key is not the local
issuer's: a server believes it only where its address stands in ``PENSTOCK_TOKEN_ISSUERS``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from penstock.portal.forms import read_form
from penstock.portal.openid import CALLBACK
from penstock.portal.render import ICON, STYLE, environment
from warehouse.serve.problems import Problem
from warehouse.serve.tokens import LocalIssuer, half_hash

CODE_S = 60.0
"""How long a code counts, in s."""

TOKEN_S = 3600
"""How long a token counts, in s."""

_CODES = 1000
_SECURITY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self' "
)


@dataclass(frozen=True)
class Grant:
    """What somebody has allowed, until it is fetched.

    Attributes:
        subject, role, scope: who they chose to be, and what that may do.
        nonce, challenge: of the sign-in.
        redirect_uri: where its code was sent.
        ends_at: seconds since 1970.
    """

    subject: str
    role: str
    scope: str
    nonce: str
    challenge: str
    redirect_uri: str
    ends_at: float


class Provider:
    """See the module's text.

    Args:
        folder: of its key.
        roles: scopes that each may have.
        client_id: of the portal.
        client_secret: of the portal; empty for none.
        audience: of access tokens.
        role_claim: claim that holds the role.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        folder: Path,
        roles: Mapping[str, Sequence[str]],
        *,
        client_id: str,
        client_secret: str = "",
        audience: str = "penstock",
        role_claim: str = "role",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.url = ""
        """Its address, which is its name; set when it is known."""
        self.app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._configuration),
                Route("/keys", self._keys),
                Route("/authorize", self._ask, methods=["GET"]),
                Route("/authorize", self._allow, methods=["POST"]),
                Route("/token", self._token, methods=["POST"]),
                Route("/logout", self._leave),
                Route("/static/portal.css", _style),
                Route("/static/icon.svg", _icon),
            ],
            exception_handlers={Problem: self._refuse},
        )
        self._key = LocalIssuer(folder).key()
        self._roles = roles
        self._client_id = client_id
        self._client_secret = client_secret
        self._audience = audience
        self._role_claim = role_claim
        self._clock = clock
        self._grants: dict[str, Grant] = {}

    def access_claims(self, grant: Grant) -> dict[str, Any]:
        """What its access tokens say."""
        own = {"aud": self._audience, "scope": grant.scope, self._role_claim: grant.role, "jti": uuid.uuid4().hex}
        return self._claims(grant) | own

    def identity_claims(self, grant: Grant, access_token: str) -> dict[str, Any]:
        """What its ID tokens say."""
        own = {"aud": self._client_id, "nonce": grant.nonce, "at_hash": half_hash(access_token, "ES256")}
        return self._claims(grant) | own

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A token with such claims."""
        from joserfc import jwt

        return jwt.encode({"alg": "ES256", "kid": self._key.kid, "typ": "JWT"}, dict(claims), self._key)

    def _claims(self, grant: Grant) -> dict[str, Any]:
        now = int(self._clock())
        return {"iss": self.url, "sub": grant.subject, "iat": now, "exp": now + TOKEN_S}

    async def _configuration(self, request: Request) -> Response:  # noqa: ARG002 - a route's
        return JSONResponse(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "end_session_endpoint": f"{self.url}/logout",
                "jwks_uri": f"{self.url}/keys",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic" if self._client_secret else "none"],
                "authorization_response_iss_parameter_supported": True,
            }
        )

    async def _keys(self, request: Request) -> Response:  # noqa: ARG002 - a route's
        return JSONResponse({"keys": [self._key.as_dict(private=False)]})

    async def _ask(self, request: Request) -> Response:
        asked = self._asked(request.query_params)
        text = (
            environment()
            .get_template("provider.html.j2")
            .render(
                session=None, asked=asked, roles=self._roles, client=self._client_id, host=urlsplit(self.url).netloc
            )
        )
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(asked["redirect_uri"]))
        headers = {"content-security-policy": _SECURITY + origin, "cache-control": "no-store"}
        return HTMLResponse(text, headers=headers)

    async def _allow(self, request: Request) -> Response:
        if request.headers.get("origin") != self.url:
            raise _wrong("The request began on another site.")
        fields = await read_form(request)
        asked = self._asked(fields)
        back = {"state": asked["state"], "iss": self.url}
        if "cancel" in fields:
            return _send_back(asked, {"error": "access_denied", **back})
        role, subject = fields.get("role", ""), fields.get("subject", "").strip()
        if role not in self._roles or not subject:
            raise _wrong("Somebody has a name and a role of the policy.")
        scope = " ".join(each for each in self._roles[role] if each in asked["scope"].split())
        code = secrets.token_urlsafe(32)
        while len(self._grants) >= _CODES:
            del self._grants[next(iter(self._grants))]
        self._grants[code] = Grant(
            subject,
            role,
            scope,
            asked["nonce"],
            asked["code_challenge"],
            asked["redirect_uri"],
            self._clock() + CODE_S,
        )
        return _send_back(asked, {"code": code, **back})

    def _asked(self, given: Mapping[str, str]) -> dict[str, str]:
        names = ("client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge")
        asked = {name: given.get(name, "") for name in names}
        if asked["client_id"] != self._client_id:
            raise _wrong("There is no such client.")
        if not _is_callback(asked["redirect_uri"]):
            raise _wrong("Nobody is sent anywhere but to a portal on this machine.")
        method = given.get("code_challenge_method", "S256"), given.get("response_type", "code")
        if method != ("S256", "code") or not asked["code_challenge"] or "openid" not in asked["scope"].split():
            raise _wrong("Only the scope openid, codes, and their proof by S256 are known.")
        return asked

    async def _token(self, request: Request) -> Response:
        fields = await read_form(request)
        grant = self._grants.pop(fields.get("code", ""), None)  # a code counts once, whatever becomes of it
        if not self._is_client(request, fields):
            return JSONResponse({"error": "invalid_client"}, 401)
        proof = hashlib.sha256(fields.get("code_verifier", "").encode()).digest()
        if (
            fields.get("grant_type") != "authorization_code"
            or grant is None
            or grant.ends_at <= self._clock()
            or grant.redirect_uri != fields.get("redirect_uri")
            or grant.challenge != base64.urlsafe_b64encode(proof).rstrip(b"=").decode()
        ):
            return JSONResponse({"error": "invalid_grant"}, 400)
        access = self.sign(self.access_claims(grant))
        identity = self.sign(self.identity_claims(grant, access))
        document = {"access_token": access, "id_token": identity, "token_type": "Bearer", "expires_in": TOKEN_S}
        return JSONResponse(document, headers={"cache-control": "no-store"})

    def _is_client(self, request: Request, fields: Mapping[str, str]) -> bool:
        if fields.get("client_id") != self._client_id:
            return False
        try:
            kind, _, pair = request.headers.get("authorization", "").partition(" ")
            name, _, secret = base64.b64decode(pair).decode().partition(":") if kind == "Basic" else ("", "", "")
        except ValueError:
            return False
        is_known = hmac.compare_digest(unquote(secret).encode(), self._client_secret.encode())
        return is_known and (not self._client_secret or unquote(name) == self._client_id)

    async def _leave(self, request: Request) -> Response:
        """It remembers nobody; whoever comes is sent home."""
        home = request.query_params.get("post_logout_redirect_uri", "")
        if not _is_callback(home, "/login"):
            raise _wrong("Nobody is sent anywhere but to a portal on this machine.")
        return RedirectResponse(home, 303)

    async def _refuse(self, request: Request, error: Exception) -> Response:  # noqa: ARG002 - a handler's
        status = error.status if isinstance(error, Problem) else 400
        return JSONResponse({"error": "invalid_request", "error_description": str(error)}, status)


async def _style(request: Request) -> Response:  # noqa: ARG001 - a route's
    return FileResponse(STYLE, media_type="text/css")


async def _icon(request: Request) -> Response:  # noqa: ARG001 - a route's
    return FileResponse(ICON, media_type="image/svg+xml")


def _is_callback(url: str, path: str = CALLBACK) -> bool:
    parts = urlsplit(url)
    return (
        (parts.scheme, parts.path, parts.query, parts.fragment) == ("http", path, "", "")
        and parts.hostname in {"127.0.0.1", "localhost"}
        and parts.username is None
    )


def _send_back(asked: Mapping[str, str], answer: Mapping[str, str]) -> Response:
    return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(answer)}", 303)


def _wrong(detail: str) -> Problem:
    return Problem("bad_parameter", detail, remedy="begin at the portal's login")
