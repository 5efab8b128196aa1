"""Who comes in, at every door alike: a token that counts, not too often, with the scope that is asked for.

One count for all doors of a server: who has used up its requests at one is not let in at another, and bad tokens of an
address count together.
"""

from __future__ import annotations

from warehouse.serve.policy import Scope
from warehouse.serve.problems import Problem
from warehouse.serve.rate import Rate
from warehouse.serve.tokens import Principal, Tokens

_BAD_TOKENS_PER_MIN = 60


class Admission:
    """Verifies and counts; safe to use from many threads.

    Args:
        tokens: verifies tokens.
        requests_per_min: of one token's subject.
    """

    def __init__(self, tokens: Tokens, *, requests_per_min: int) -> None:
        self._tokens = tokens
        self._requests = Rate(requests_per_min)
        self._bad_tokens = Rate(_BAD_TOKENS_PER_MIN)

    def is_known(self, token: str) -> bool:
        """Whether :meth:`identify` waits for nothing, since it needs no key that might have to be fetched."""
        return self._tokens.is_kept(token)

    def identify(self, token: str, address: str) -> Principal:
        """Who holds a token.

        Args:
            token: the token.
            address: of the caller; one that keeps sending bad tokens is not listened to for the rest of the minute.

        Raises:
            Problem: ``too_many_requests``; and what :meth:`Tokens.verify` raises.
        """
        if self._tokens.is_kept(token):
            return self._tokens.verify(token)
        if self._bad_tokens.is_full(address):
            raise _too_many()
        try:
            return self._tokens.verify(token.strip())
        except Problem:
            self._bad_tokens.hit(address)
            raise

    def count(self, who: Principal) -> None:
        """Count one request.

        Raises:
            Problem: ``too_many_requests``.
        """
        if not self._requests.hit(who.subject):
            raise _too_many()


def needed_scope(method: str, path: str) -> Scope:
    """The scope that a request needs: ``sql`` for statements, ``operate`` for doing, and for rows that nobody
    published; else ``read``.
    """
    if path == "/v1/sql":
        return "sql"
    does = method not in {"GET", "HEAD"} and path.startswith(("/v1/backfills", "/v1/releases/"))
    return "operate" if does or path.startswith("/v1/quarantine/") else "read"


def require(who: Principal, scope: Scope) -> None:
    """Let only who has a scope go on.

    Raises:
        Problem: ``scope_missing``.
    """
    if scope not in who.scopes:
        raise Problem("scope_missing", f"The token does not have the scope {scope}.", remedy="ask for that scope")


def _too_many() -> Problem:
    return Problem("too_many_requests", "There were too many requests.", remedy="wait a minute", retry_after_s=60)
