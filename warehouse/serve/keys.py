"""Public keys of issuers: fetched, kept for a while, fetched again when a new key signs.

A key is looked up by its id among the keys of the issuer that the token names, and that issuer must be one of those
configured: no header of a token leads anywhere.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from common.errors import SettingsError
from warehouse.serve.problems import Problem

KEEP_S = 300.0
"""How long an issuer's keys are kept, in s: a key that it withdraws counts no longer after that."""

RETRY_S = 10.0
"""How soon, at most, keys are fetched again because an unknown one signed, or because the issuer did not answer."""

_TIMEOUT_S = 5.0
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Issuer:
    """Somebody whose tokens are believed.

    Attributes:
        name: ``iss`` of the tokens.
        jwks_url: where its public keys are; found by OpenID discovery if empty.
    """

    name: str
    jwks_url: str = ""


class RemoteKeys:
    """The keys of one issuer. Safe to use from many threads.

    Args:
        issuer: the issuer.
        clock: monotonic time in s.
    """

    def __init__(self, issuer: Issuer, clock: Callable[[], float] = time.monotonic) -> None:
        for url in (issuer.jwks_url or issuer.name,):
            parts = urlsplit(url)
            if parts.scheme != "https" and (parts.scheme, parts.hostname) not in {
                ("http", "127.0.0.1"),
                ("http", "localhost"),
            }:
                raise SettingsError(f"The issuer's address {url} is not https.", remedy="use an https:// address")
        self._issuer = issuer
        self._clock = clock
        self._guard = threading.Lock()
        self._keys: KeySet | None = None
        self._fetched_at = self._tried_at = float("-inf")

    def get(self, key_id: str) -> Any:
        """The key of that id.

        Raises:
            Problem: ``token_invalid``, the issuer has no such key; ``issuer_unavailable``, it does not answer.
        """
        with self._guard:
            now = self._clock()
            found = self._find(key_id) if now - self._fetched_at < KEEP_S else None
            if found is None and now - self._tried_at >= RETRY_S:
                self._tried_at = now
                self._keys = self._fetch()
                self._fetched_at = now
                found = self._find(key_id)
            elif found is None and now - self._fetched_at >= KEEP_S:
                raise self._unavailable()
        if found is None:
            raise Problem("token_invalid", "The token is signed by an unknown key.", remedy="get a new token")
        return found

    def _find(self, key_id: str) -> Any:
        for key in self._keys.keys if self._keys else ():
            if key.kid == key_id:
                return key
        return None

    def _fetch(self) -> KeySet:
        try:
            url = self._issuer.jwks_url
            if not url:
                found = self._read(self._issuer.name.rstrip("/") + "/.well-known/openid-configuration")
                if found.get("issuer") != self._issuer.name:
                    raise ValueError
                url = str(found["jwks_uri"])
                if urlsplit(url).scheme != urlsplit(self._issuer.name).scheme:
                    raise ValueError
            return KeySet.import_key_set(self._read(url))  # type: ignore[arg-type]
        except (OSError, ValueError, KeyError, TypeError, JoseError):
            raise self._unavailable() from None

    def _unavailable(self) -> Problem:
        return Problem(
            "issuer_unavailable",
            "The issuer of this token does not give its keys now.",
            remedy="try again in a moment",
            retry_after_s=int(RETRY_S),
        )

    @staticmethod
    def _read(url: str) -> dict[str, Any]:
        opener = urllib.request.build_opener(_NoRedirects)
        with opener.open(url, timeout=_TIMEOUT_S) as answer:
            document: dict[str, Any] = json.loads(answer.read(_MAX_BYTES))
        return document


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Keys are where the configuration says, or nowhere."""
