"""DuckDB's error as ours: what every database system's session does alike.

A session judges by the error's text what only it can know - refused, not trusted, unavailable. The error is rebuilt in
any case, because the driver's own may hold connection details.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

import duckdb
from pydantic import SecretStr

from common.errors import PenstockError, StoreUnavailable, TerminalError
from common.intervals import Interval
from common.settings import decode_url_part
from ingestion.spec import SourceSpec, TableSpec

_MOST_TEXT = 400
"""Characters of a driver's message that are passed on."""

Where = dict[str, str | None]
"""Source, table and interval that an error names."""


def where_of(spec: SourceSpec, table: TableSpec | None, interval: Interval | None) -> Where:
    """What an error names."""
    return {
        "source": spec.source,
        "table": table.name if table else None,
        "interval": interval.key if interval else None,
    }


def translated(
    error: duckdb.Error,
    judge: Callable[[str], PenstockError | None],
    *,
    server: str,
    url: SecretStr,
    where: Where,
    words_last: bool = False,
) -> PenstockError:
    """DuckDB's error as ours.

    Args:
        error: DuckDB's.
        judge: from its text to what the session knows it to be, or None.
        server: system and address, for the message.
        url: the connection's; a message that holds its password is not passed on.
        where: what the error names.
        words_last: the server's own words stand at the end of the text, not at its beginning.
    """
    if isinstance(error, duckdb.HTTPException):
        return StoreUnavailable(
            "Writing what was read to the lake failed.", **where, remedy="check that the lake's storage answers"
        )
    text = str(error)
    found = judge(text)
    if found is not None:
        return found
    clean = re.sub(r"\s+", " ", text).strip()
    clean = clean[-_MOST_TEXT:] if words_last else clean[:_MOST_TEXT]
    secret = urlsplit(url.get_secret_value()).password or ""
    if secret and decode_url_part(secret) in clean:
        clean = "(its message holds a secret)"
    return TerminalError(f"Reading from {server} failed: {clean}", **where, remedy="see the message")
