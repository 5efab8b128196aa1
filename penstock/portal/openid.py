"""OpenID Connect as a client: what an issuer is asked for a sign-in, and what of its answer is believed.

::

    begin: attempt (signed cookie) ─▶ authorization endpoint: state, nonce, challenge ─▶ the issuer's own pages
    end:   code, state, iss ─▶ this browser's attempt ─▶ token endpoint: code, verifier
                            ─▶ ID token: this issuer, this client, this attempt
                            ─▶ access token: who may do what, verified as in every door

State, nonce and PKCE's verifier are derived from the attempt's id by the key of the sessions: the cookie that holds the
attempt tells none of them, and the server keeps nothing. Keys and signatures are :mod:`warehouse.serve.tokens`' and
:mod:`warehouse.serve.keys`'; a library for clients would bring a second implementation of both.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
import urllib.error
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from common.errors import SettingsError
from common.settings import Settings
from penstock.portal.sessions import Sessions
from warehouse.serve.keys import KEEP_S, Issuer, ask, discover, is_private, unavailable
from warehouse.serve.problems import Problem
from warehouse.serve.tokens import Tokens

ATTEMPT_S = 600
"""How long somebody may take to sign in at the issuer, in s."""

CALLBACK = "/login/callback"

_AGAIN = "sign in again from here"


@dataclass(frozen=True)
class Client:
    """What this portal is to an issuer.

    Attributes:
        issuer: ``iss`` of its tokens.
        id: of this client at the issuer.
        secret: of this client; empty for a public one, which PKCE alone protects.
        scopes: that are asked for.
        portal_url: where browsers see the portal; empty where that is this machine.
    """

    issuer: str
    id: str
    secret: str
    scopes: str
    portal_url: str

    @property
    def host(self) -> str:
        """The issuer, for people."""
        return urlsplit(self.issuer).netloc


def client_of(settings: Settings, issuers: Iterable[Issuer]) -> Client | None:
    """The client that the settings describe; None if people sign in by pasting a token.

    Raises:
        SettingsError: the settings do not fit together.
    """
    if not settings.login_client_id:
        return None
    believed = [each.name for each in issuers]
    issuer = settings.login_issuer or next(iter(believed), "")
    if issuer not in believed:
        raise SettingsError(
            f"Nobody can sign in by the issuer {issuer or '(none)'}: its tokens are not believed.",
            remedy="name it in PENSTOCK_TOKEN_ISSUERS",
        )
    if settings.portal_url and not is_private(settings.portal_url):
        raise SettingsError(
            f"The portal's address {settings.portal_url} is not https.",
            remedy="set PENSTOCK_PORTAL_URL to an https:// address",
        )
    secret = settings.login_client_secret.get_secret_value()
    return Client(issuer, settings.login_client_id, secret, settings.login_scopes, settings.portal_url.rstrip("/"))


@dataclass(frozen=True)
class Attempt:
    """One sign-in of one browser, from its first step to its last.

    Attributes:
        id: random; secrets are derived from it.
        issuer: who was asked.
        portal: where the browser saw the portal.
        onward: path to go on to.
        ends_at: seconds since 1970.
    """

    id: str
    issuer: str
    portal: str
    onward: str
    ends_at: float


class SignIn:
    """Begins and ends attempts. Safe to use from many threads; its calls wait for the issuer.

    Args:
        client: what this portal is to the issuer.
        sessions: their key signs and derives.
        tokens: verifies.
        clock: seconds since 1970.
    """

    def __init__(
        self, client: Client, sessions: Sessions, tokens: Tokens, clock: Callable[[], float] = time.time
    ) -> None:
        self.client = client
        self._sessions = sessions
        self._tokens = tokens
        self._clock = clock
        self._guard = threading.Lock()
        self._found: tuple[float, dict[str, Any]] | None = None

    def begin(self, portal: str, onward: str) -> tuple[str, str]:
        """A new attempt: the value of its cookie, and the issuer's page to go to.

        Args:
            portal: where the browser sees the portal, such as ``http://127.0.0.1:8080``.
            onward: path to go on to when it is done.

        Raises:
            Problem: ``issuer_unavailable``.
        """
        page = self._endpoint("authorization_endpoint")
        attempt = Attempt(uuid.uuid4().hex, self.client.issuer, portal, onward, self._clock() + ATTEMPT_S)
        challenge = hashlib.sha256(self._derived("verifier", attempt).encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self.client.id,
            "redirect_uri": portal + CALLBACK,
            "scope": self.client.scopes,
            "state": self._derived("state", attempt),
            "nonce": self._derived("nonce", attempt),
            "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        return self._sessions.sign("attempt", json.dumps(vars(attempt))), _with_query(page, asked)

    def end(self, cookie: str, answer: Mapping[str, str]) -> tuple[str, str]:
        """What an attempt came to.

        Args:
            cookie: the attempt's.
            answer: parameters that the issuer sent the browser back with.

        Returns:
            The access token, not yet verified, which only :class:`Tokens` knows to read; the path to go on to.

        Raises:
            Problem: ``sign_in_refused``, the answer is not of this attempt, or the issuer refuses it;
                ``issuer_unavailable``; and what :meth:`Tokens.verify_identity` raises.
        """
        attempt = self._attempt(cookie)
        if not hmac.compare_digest(self._derived("state", attempt).encode(), answer.get("state", "").encode()):
            raise _refused("This answer belongs to another sign-in than the one that this browser began last.")
        self._check_issuer(answer.get("iss"))
        if "error" in answer:
            raise _refused(f"{self.client.host} did not sign you in ({_word(answer['error'])}).")
        if not answer.get("code"):
            raise _refused(f"{self.client.host} sent you back without a code.")
        document = self._redeem(attempt, answer["code"])
        access, identity = document.get("access_token"), document.get("id_token")
        if not isinstance(access, str) or not isinstance(identity, str):
            raise _refused(f"{self.client.host} gave no tokens: the scope 'openid' may be missing.")
        self._tokens.verify_identity(
            identity,
            issuer=attempt.issuer,
            client_id=self.client.id,
            nonce=self._derived("nonce", attempt),
            access_token=access,
        )
        return access, attempt.onward

    def leave(self, portal: str) -> str | None:
        """The issuer's page to sign out there as well; None if it has none.

        Raises:
            Problem: ``issuer_unavailable``.
        """
        page = self._configuration().get("end_session_endpoint")
        asked = {"client_id": self.client.id, "post_logout_redirect_uri": f"{portal}/login"}
        return _with_query(page, asked) if page else None

    def _attempt(self, cookie: str) -> Attempt:
        text = self._sessions.verify("attempt", cookie)
        attempt = Attempt(**json.loads(text)) if text else None
        if attempt is None or attempt.issuer != self.client.issuer:
            raise _refused("This browser began no sign-in, or does not keep cookies.")
        if attempt.ends_at <= self._clock():
            raise _refused(f"The sign-in took longer than {ATTEMPT_S // 60} minutes.")
        return attempt

    def _check_issuer(self, named: str | None) -> None:
        """RFC 9207: an answer of another issuer than was asked ends here, before its code is sent to anybody."""
        promised = self._configuration().get("authorization_response_iss_parameter_supported") is True
        if (named is None and promised) or (named is not None and named != self.client.issuer):
            raise _refused("This answer is another issuer's than the one that was asked.")

    def _redeem(self, attempt: Attempt, code: str) -> dict[str, Any]:
        url = self._endpoint("token_endpoint")
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": attempt.portal + CALLBACK,
            "code_verifier": self._derived("verifier", attempt),
            "client_id": self.client.id,
        }
        headers = {}
        known = self._configuration().get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if self.client.secret and "client_secret_basic" in known:
            pair = f"{quote(self.client.id, safe='')}:{quote(self.client.secret, safe='')}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        elif self.client.secret:
            form["client_secret"] = self.client.secret
        try:
            return ask(url, form, headers)
        except urllib.error.HTTPError as error:
            with error:
                if 400 <= error.code < 500:
                    raise _refused(f"{self.client.host} does not take the code ({_reason(error)}).") from None
            raise self._unavailable() from None
        except (OSError, ValueError):
            raise self._unavailable() from None

    def _endpoint(self, name: str) -> str:
        found = self._configuration().get(name)
        if not found:
            raise self._unavailable()
        return str(found)

    def _configuration(self) -> dict[str, Any]:
        with self._guard:
            if self._found is None or self._clock() - self._found[0] >= KEEP_S:
                try:
                    self._found = self._clock(), discover(self.client.issuer)
                except (OSError, ValueError):
                    raise self._unavailable() from None
            return self._found[1]

    def _unavailable(self) -> Problem:
        return unavailable(f"{self.client.host} does not answer as an issuer should.")

    def _derived(self, purpose: str, attempt: Attempt) -> str:
        return self._sessions.derived(f"attempt's {purpose}", attempt.id)


def _with_query(page: str, asked: Mapping[str, str]) -> str:
    return f"{page}{'&' if urlsplit(page).query else '?'}{urlencode(asked)}"


def _word(text: str) -> str:
    """A code of an issuer's, which is a word, or is not repeated."""
    return text if len(text) <= 60 and text.replace("_", "").isalnum() and text.isascii() else "it did not say why"


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        found = json.loads(error.read(1 << 16)).get("error", "")
    except (OSError, ValueError, AttributeError):
        found = ""
    return _word(str(found))


def _refused(detail: str) -> Problem:
    return Problem("sign_in_refused", detail, remedy=_AGAIN)
