"""Sessions of people with a browser: a signed cookie that ends with the token it was made from.

::

    token ─▶ verified as in every door ─▶ who, role, scopes, token's id and end ─▶ signed ─▶ cookie

The cookie holds no token, so it opens no other door. What the policy takes from a role, and a token that is taken back,
count with the next request: both are looked at every time. Signing out takes the session itself back, as a token is, so
that a copy of the cookie is worth nothing. The signature covers the issuers and the audience of the settings: a
session of an issuer that is believed no longer ends with it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from common.files import write_private_once
from warehouse.serve.policy import Policy
from warehouse.serve.server import ServerOptions
from warehouse.serve.tokens import LocalIssuer, Principal

MAX_SESSION_S = 12 * 3600.0
"""Longest time a session lasts, in s, whatever its token says."""

_MAX_COOKIE_BYTES = 4000


@dataclass(frozen=True)
class Session:
    """Somebody who has signed in.

    Attributes:
        id: its own, in no log.
        principal: who; its end is the session's.
    """

    id: str
    principal: Principal

    @property
    def user(self) -> dict[str, object]:
        """As the applications below see it, in ``scope["user"]``."""
        who = self.principal
        return {"subject": who.subject, "role": who.role, "scopes": sorted(who.scopes)}


class Sessions:
    """Makes and reads cookies. Safe to use from many threads and processes of one state folder.

    Args:
        options: of the server; its state folder keeps the key.
        policy: what roles may do now.
        issuer: knows what was taken back.
        clock: seconds since 1970.
    """

    def __init__(
        self, options: ServerOptions, policy: Policy, issuer: LocalIssuer, clock: Callable[[], float] = time.time
    ) -> None:
        path = options.state / "session.key"
        write_private_once(path, os.urandom(32).hex())
        believed = json.dumps([[each.name, each.jwks_url] for each in options.issuers] + [options.audience])
        self._key = hmac.new(bytes.fromhex(path.read_text()), believed.encode(), hashlib.sha256).digest()
        self._policy = policy
        self._issuer = issuer
        self._clock = clock

    def start(self, principal: Principal) -> tuple[str, int]:
        """A session for whoever was verified: the cookie's value, and how long it lasts, in s."""
        now = self._clock()
        end = min(principal.expires_at, now + MAX_SESSION_S)
        content = {
            "id": uuid.uuid4().hex,
            "sub": principal.subject,
            "role": principal.role,
            "scopes": sorted(principal.scopes),
            "jti": principal.token_id,
            "exp": end,
        }
        return self.sign("session", json.dumps(content)), max(0, int(end - now))

    def read(self, cookie: str) -> Session | None:
        """The session of a cookie; None if it is none of ours, is over, or was taken back with its token."""
        text = self.verify("session", cookie)
        if text is None:
            return None
        held = json.loads(text)
        role = self._policy.roles.get(held["role"])
        if role is None or held["exp"] <= self._clock():
            return None
        scopes = frozenset(scope for scope in role.scopes if scope in held["scopes"])
        session = Session(held["id"], Principal(held["sub"], held["role"], scopes, held["jti"], held["exp"]))
        return session if self.is_good(session) else None

    def is_good(self, session: Session) -> bool:
        """Whether a session that was read counts still."""
        token_id = session.principal.token_id
        return not (
            session.principal.expires_at <= self._clock()
            or (token_id and self._issuer.is_revoked(token_id))
            or self._issuer.is_revoked(f"session:{session.id}")
        )

    def end(self, session: Session) -> None:
        """Take a session back. Side effects: no copy of its cookie counts any more."""
        self._issuer.revoke(f"session:{session.id}")

    def form_token(self, session_id: str) -> str:
        """What a form of this session's must send along, which no other site can know."""
        return self.derived("form", session_id)

    def derived(self, purpose: str, text: str) -> str:
        """A secret of 43 characters that only servers with this key can make from a text; another for each purpose."""
        return self._mac(purpose, text.encode())

    def is_form_token(self, session_id: str, given: str) -> bool:
        """Whether that is it."""
        return hmac.compare_digest(self.form_token(session_id).encode(), given.encode("utf-8", "replace"))

    def sign(self, purpose: str, text: str) -> str:
        """A text with its signature; of another purpose it is none."""
        content = base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
        return f"{content}.{self._mac(purpose, content.encode())}"

    def verify(self, purpose: str, signed: str) -> str | None:
        """The text that was signed for a purpose; None if it was not."""
        content, _, signature = signed.partition(".")
        if len(signed) > _MAX_COOKIE_BYTES or not hmac.compare_digest(
            self._mac(purpose, content.encode("utf-8", "replace")).encode(), signature.encode("utf-8", "replace")
        ):
            return None
        return base64.urlsafe_b64decode(content + "=" * (-len(content) % 4)).decode()

    def _mac(self, purpose: str, content: bytes) -> str:
        found = hmac.new(self._key, purpose.encode() + b"\0" + content, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(found).rstrip(b"=").decode()
