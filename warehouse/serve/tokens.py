"""Who is asking: bearer tokens of any OpenID issuer, and service tokens of Penstock's own.

::

    Authorization: Bearer <JWT> ─▶ issuer is configured ─▶ its key of that id ─▶ signature
                                ─▶ aud, exp, nbf ─▶ role and scopes ─▶ not revoked

Only signatures by public keys are taken: ``none`` and shared secrets (``HS256``) are not on the list, so a public key
can never be used as one. A token that was verified is remembered for a minute by its digest; its end and its revocation
are looked at every time.

The local issuer signs with a key under ``<home>/serve``. It is for development and for services of one's own: its
tokens are only as safe as that folder. A revocation is a file there, and counts with the next request.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.errors import StateCorrupt, UnknownName
from common.files import write_atomic, write_private_once
from warehouse.serve.keys import Issuer, RemoteKeys
from warehouse.serve.policy import Policy
from warehouse.serve.problems import Problem

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LOCAL_ISSUER = "penstock-local"
MAX_TOKEN_BYTES = 8192
REMEMBER_S = 60.0
"""How long a signature is not computed again, in s."""

_LEEWAY_S = 30.0
_REMEMBERED = 10_000
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_REMEDY = "get a new token: from your issuer, or by 'penstock token issue'"


@dataclass(frozen=True)
class Principal:
    """Who is asking.

    Attributes:
        subject: ``sub`` of the token.
        role: its role in the policy.
        scopes: what it may do: what both token and role allow.
        token_id: ``jti``; empty if it has none.
        expires_at: when the token ends, seconds since 1970.
    """

    subject: str
    role: str
    scopes: frozenset[str]
    token_id: str
    expires_at: float


class LocalIssuer:
    """Service tokens: made, listed and revoked in a folder. The key is made when it is first needed.

    Args:
        folder: ``<home>/serve``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def key(self) -> Any:
        """The private key.

        Raises:
            StateCorrupt: its file holds none.
        """
        from joserfc.errors import JoseError
        from joserfc.jwk import ECKey

        path = self.folder / "issuer.json"
        if not path.exists():
            made = ECKey.generate_key("P-256", {"kid": uuid.uuid4().hex}, private=True)
            write_private_once(path, json.dumps(made.as_dict(private=True)))
        try:
            return ECKey.import_key(json.loads(path.read_text()))
        except (ValueError, TypeError, JoseError):
            raise StateCorrupt(f"{path} holds no key.", remedy="remove it; tokens issued so far end with it") from None

    def issue(
        self, role: str, scopes: Iterable[str], *, subject: str, audience: str, expires_in_s: float
    ) -> tuple[str, dict[str, Any]]:
        """Make a token.

        Returns:
            The token, which is kept nowhere, and its claims.

        Side effects: its id, subject, role and end are recorded, so that it can be listed and revoked.
        """
        from joserfc import jwt

        now = int(time.time())
        claims = {
            "iss": LOCAL_ISSUER,
            "aud": audience,
            "sub": subject,
            "role": role,
            "scope": " ".join(scopes),
            "iat": now,
            "nbf": now,
            "exp": now + int(expires_in_s),
            "jti": uuid.uuid4().hex,
        }
        key = self.key()
        token = jwt.encode({"alg": "ES256", "kid": key.kid, "typ": "JWT"}, claims, key)
        write_atomic(self.folder / "tokens" / f"{claims['jti']}.json", json.dumps(claims), mode=0o600)
        return token, claims

    def issued(self) -> list[dict[str, Any]]:
        """Every token that was issued: its claims, and ``revoked``."""
        found = [json.loads(path.read_text()) for path in (self.folder / "tokens").glob("*.json")]
        return [{**each, "revoked": self.is_revoked(each["jti"])} for each in sorted(found, key=lambda c: c["iat"])]

    def revoke(self, token_id: str) -> None:
        """Take a token back, one of ours or another issuer's, by its id.

        Raises:
            UnknownName: that is no id of a token.

        Side effects: counts from the next request on, for every server with this folder.
        """
        if not _ID.fullmatch(token_id):
            raise UnknownName(f"{token_id!r} is no id of a token.", remedy="take it from 'penstock token list'")
        write_atomic(self._revoked(token_id), datetime.now(UTC).isoformat() + "\n")

    def is_revoked(self, token_id: str) -> bool:
        """Whether a token was taken back."""
        return self._revoked(token_id).exists()

    def _revoked(self, token_id: str) -> Path:
        return self.folder / "revoked" / hashlib.sha256(token_id.encode()).hexdigest()


class Tokens:
    """Verifies tokens. Safe to use from many threads.

    Args:
        policy: roles and what they may.
        local: the local issuer.
        issuers: others that are believed.
        audience: what ``aud`` must name.
        role_claim: claim that holds the role, or several.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        policy: Policy,
        local: LocalIssuer,
        *,
        issuers: Iterable[Issuer] = (),
        audience: str,
        role_claim: str = "role",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._policy = policy
        self._local = local
        self._remote = {issuer.name: RemoteKeys(issuer) for issuer in issuers}
        self._audience = audience
        self._role_claim = role_claim
        self._clock = clock
        self._known: dict[bytes, tuple[float, Principal]] = {}

    def verify(self, token: str) -> Principal:
        """Who holds a token.

        Raises:
            Problem: ``token_invalid``, ``token_expired``, ``token_revoked``, ``role_unknown``, ``issuer_unavailable``.
        """
        now = self._clock()
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._known.get(digest)
        if known is not None and now - known[0] < REMEMBER_S:
            principal = known[1]
        else:
            principal = self._principal(self._claims(token)[1])
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[digest] = (now, principal)
        if principal.expires_at <= now:
            raise Problem("token_expired", "The token has expired.", remedy=_REMEDY)
        if principal.token_id and self._local.is_revoked(principal.token_id):
            raise Problem("token_revoked", "The token was revoked.", remedy=_REMEDY)
        return principal

    def is_kept(self, token: str) -> bool:
        """Whether a token is remembered and needs no key that might have to be fetched."""
        known = self._known.get(hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest())
        return known is not None and self._clock() - known[0] < REMEMBER_S

    def verify_identity(self, token: str, *, issuer: str, client_id: str, nonce: str, access_token: str) -> str:
        """Whom an issuer says that a browser belongs to: the subject of an ID token, made for one sign-in.

        Args:
            token: the ID token.
            issuer: who must have made it.
            client_id: for whom it must be made, and for nobody else.
            nonce: what this sign-in sent along.
            access_token: the token that came with it.

        Raises:
            Problem: ``token_invalid``, ``token_expired``, ``issuer_unavailable``.
        """
        header, claims = self._claims(token)
        if claims.get("iss") != issuer:
            raise _invalid("comes from another issuer than the one that was asked")
        self._end(claims, client_id)
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else client_id) != client_id:
            raise _invalid("was made for somebody else")
        given, half = claims.get("nonce"), claims.get("at_hash")
        if not isinstance(given, str) or not hmac.compare_digest(given.encode(), nonce.encode()):
            raise _invalid("belongs to another sign-in")
        if half is not None and half != half_hash(access_token, header["alg"]):
            raise _invalid("belongs to another access token")
        return _subject(claims)

    def _claims(self, token: str) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """Header and claims of a token with a valid signature by its issuer's key."""
        from joserfc import jwt
        from joserfc.errors import JoseError

        header, claimed = _unverified(token)
        if header.get("alg") not in ALGORITHMS or "crit" in header:
            raise _invalid("is not signed by a public key that is accepted")
        key = self._key(claimed.get("iss"), header.get("kid"))
        try:
            return header, jwt.decode(token, key, algorithms=list(ALGORITHMS)).claims
        except (JoseError, ValueError, TypeError):
            raise _invalid("does not have a valid signature") from None

    def _key(self, issuer: Any, key_id: Any) -> Any:
        if not isinstance(key_id, str) or not isinstance(issuer, str):
            raise _invalid("names no issuer or no key")
        if issuer == LOCAL_ISSUER:
            key = self._local.key()
            if key.kid != key_id:
                raise _invalid("is signed by an unknown key")
            return key
        if issuer not in self._remote:
            raise _invalid("comes from an issuer that is not configured")
        return self._remote[issuer].get(key_id)

    def _end(self, claims: Mapping[str, Any], meant_for: str) -> float:
        """When the claims end, seconds since 1970, if they count now and for that audience."""
        now = self._clock()
        audience = claims.get("aud")
        if meant_for not in (audience if isinstance(audience, list) else [audience]):
            raise _invalid("is meant for somebody else")
        expires_at, not_before = _seconds(claims.get("exp")), _seconds(claims.get("nbf", 0))
        if not_before > now + _LEEWAY_S:
            raise _invalid("does not count yet")
        if expires_at <= now:
            raise Problem("token_expired", "The token has expired.", remedy=_REMEDY)
        return expires_at

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        expires_at = self._end(claims, self._audience)
        subject, token_id = _subject(claims), claims.get("jti", "")
        if not isinstance(token_id, str):
            raise _invalid("has no id that can be written")
        named = claims.get(self._role_claim)
        roles = named if isinstance(named, list) else [named]
        role = next((role for role in self._policy.roles if role in roles), None)
        if role is None:
            raise Problem("role_unknown", "The token has no role of the policy.", remedy="ask for a role")
        given = claims.get("scope", claims.get("scp", ""))
        scopes = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
        allowed = frozenset(scope for scope in self._policy.roles[role].scopes if scope in scopes)
        return Principal(subject, role, allowed, token_id, expires_at)


def half_hash(token: str, algorithm: str) -> str:
    """``at_hash`` of an access token, in an ID token that is signed by an algorithm: the left half of its digest."""
    name = {"256": "sha256", "384": "sha384"}.get(algorithm[-3:], "sha512")
    found = hashlib.new(name, token.encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(found[: len(found) // 2]).rstrip(b"=").decode()


def _subject(claims: Mapping[str, Any]) -> str:
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise _invalid("names no subject")
    return subject[:200]


def _seconds(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e15:
        raise _invalid("does not say from when until when it counts")
    return float(value)


def _invalid(what: str) -> Problem:
    return Problem("token_invalid", f"The token {what}.", remedy=_REMEDY)


def _unverified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims as they are written: only to know whose key to take."""
    parts = token.split(".")
    try:
        if len(parts) != 3 or len(token) > MAX_TOKEN_BYTES:
            raise ValueError
        found = [json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in parts[:2]]
    except (ValueError, RecursionError):
        raise _invalid("is no signed JSON web token") from None
    if not all(isinstance(each, dict) for each in found):
        raise _invalid("is no signed JSON web token")
    return found[0], found[1]
