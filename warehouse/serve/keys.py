"""Public keys of issuers: fetched, kept for a while, fetched again when a new key signs.

A key is looked up by its id among the keys of the issuer that the token names, and that issuer must be one of those
configured: no header of a token leads anywhere.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

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
        url = issuer.jwks_url or issuer.name
        if not is_private(url):
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
            url = self._issuer.jwks_url or str(discover(self._issuer.name)["jwks_uri"])
            return KeySet.import_key_set(ask(url))  # type: ignore[arg-type]
        except (OSError, ValueError, KeyError, TypeError, JoseError):
            raise self._unavailable() from None

    @staticmethod
    def _unavailable() -> Problem:
        return unavailable("The issuer of this token does not give its keys now.")


def unavailable(detail: str) -> Problem:
    """What is answered when an issuer does not answer as it should."""
    return Problem("issuer_unavailable", detail, remedy="try again in a moment", retry_after_s=int(RETRY_S))


def is_private(url: str) -> bool:
    """Whether nobody on the way reads along: https, or this machine itself."""
    parts = urlsplit(url)
    return (parts.scheme == "https" and bool(parts.hostname)) or (
        parts.scheme == "http" and parts.hostname in {"127.0.0.1", "localhost"}
    )


def discover(issuer: str) -> dict[str, Any]:
    """What an issuer says of itself: where its keys and its pages are.

    Raises:
        OSError: it does not answer.
        ValueError: what it says is not about this issuer, or names an address that is less private than its own.
    """
    found = ask(issuer.rstrip("/") + "/.well-known/openid-configuration")
    if found.get("issuer") != issuer:
        raise ValueError("the configuration is another issuer's")
    for name in [name for name in found if name == "jwks_uri" or name.endswith("_endpoint")]:
        if urlsplit(str(found[name])).scheme != urlsplit(issuer).scheme or not is_private(str(found[name])):
            raise ValueError(f"{name} is less private than the issuer")
    return found


def ask(url: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The JSON object at an address, within bounds of time and size; no redirect is followed.

    Args:
        url: the address.
        form: fields that are posted; without them it is a GET.
        headers: of the request.

    Raises:
        OSError: there is no answer, or one that is no success (:class:`urllib.error.HTTPError`).
        ValueError: it is no JSON object.
    """
    body = urlencode(form).encode() if form is not None else None
    request = urllib.request.Request(url, body, {"accept": "application/json", **(headers or {})})  # noqa: S310 - is_private
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=_TIMEOUT_S) as answer:
            document = json.loads(answer.read(_MAX_BYTES))
    except http.client.HTTPException as error:
        raise OSError("the answer is not HTTP, or not whole") from error
    if isinstance(document, dict):
        return document
    raise ValueError("the answer is no object")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Everything is where the configuration says, or nowhere."""
