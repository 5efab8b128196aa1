"""What a door answers when it does not do what was asked: a stable code, a status, a sentence, a remedy.

The codes are a promise to programs: they are never renamed, and each is explained in ``docs/serving.md``. Details name
what the caller sent and what exists for the caller's role, and nothing else: no path, no SQL of anybody, no stack.
"""

from __future__ import annotations

from typing import Any

from common.errors import UsageError

STATUS: dict[str, int] = {
    "bad_parameter": 400,
    "bad_body": 400,
    "bad_filter": 400,
    "bad_query": 400,
    "query_too_large": 400,
    "wrong_type": 400,
    "cursor_invalid": 400,
    "sql_refused": 400,
    "sql_error": 400,
    "token_missing": 401,
    "token_invalid": 401,
    "token_expired": 401,
    "token_revoked": 401,
    "sign_in_refused": 401,
    "scope_missing": 403,
    "role_unknown": 403,
    "not_found": 404,
    "unknown_dataset": 404,
    "unknown_column": 404,
    "unknown_metric": 404,
    "unknown_release": 404,
    "unknown_name": 404,
    "method_not_allowed": 405,
    "not_acceptable": 406,
    "body_timeout": 408,
    "cursor_of_another_release": 409,
    "conflict": 409,
    "body_too_large": 413,
    "uri_too_long": 414,
    "unsupported_media_type": 415,
    "too_much_memory": 422,
    "too_slow": 422,
    "sql_too_much_memory": 422,
    "sql_too_large": 422,
    "sql_too_slow": 422,
    "too_many_requests": 429,
    "internal": 500,
    "sql_unavailable": 501,
    "operations_unavailable": 501,
    "no_scheduler": 501,
    "busy": 503,
    "nothing_published": 503,
    "issuer_unavailable": 503,
}
"""Code -> HTTP status."""


class Problem(UsageError):
    """A request that is refused, or could not be answered.

    Args:
        code: one of :data:`STATUS`.
        detail: one sentence for the caller.
        remedy: what the caller should do.
        retry_after_s: when to come again, in s.
    """

    def __init__(self, code: str, detail: str, *, remedy: str, retry_after_s: int | None = None) -> None:
        super().__init__(detail, remedy=remedy)
        self.code = code
        self.status = STATUS[code]
        self.retry_after_s = retry_after_s

    def document(self, instance: str = "") -> dict[str, Any]:
        """The body of RFC 9457: ``type``, ``title``, ``status``, ``detail``, and ours, ``code`` and ``remedy``."""
        return {
            "type": f"urn:penstock:problem:{self.code}",
            "title": self.code.replace("_", " "),
            "status": self.status,
            "detail": self.problem,
            "code": self.code,
            "remedy": self.remedy,
            **({"instance": instance} if instance else {}),
        }
