"""Every question and what became of it, as JSON lines in files by day: who, what, which release, rows, bytes, time.

A line is one append. Each process has a file of its own for each day, whose name no other file ever has, and only adds
to it: so a place in a file means the same line for ever, and the table ``ops.queries`` can say up to where it has a
file (``penstock/query_history.py``). Files are private: what people ask may be personal.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One request.

    Attributes:
        at: when it came, UTC, ISO 8601.
        request_id: also sent to the caller.
        subject, role, token_id: who; empty where the token was refused.
        door: ``http``, ``graphql``, ``sql``, ``portal`` or ``flight``.
        method, path: what was asked.
        question: the parameters, the SQL, or the GraphQL document.
        release: id of the release that answered; empty if none did.
        status: of the answer.
        code: of the problem; empty if there was none.
        source: ``query``, ``cache`` or ``unchanged`` (304).
        rows: rows given; null where that has no sense.
        size_bytes: of the answer's body.
        duration_ms: to its last byte.
    """

    at: str
    request_id: str
    subject: str
    role: str
    token_id: str
    door: str
    method: str
    path: str
    question: str
    release: str
    status: int
    code: str
    source: str
    rows: int | None
    size_bytes: int
    duration_ms: float


class QueryLog:
    """Appends entries; safe to use from many threads, and beside other processes.

    Args:
        folder: ``<home>/serve/queries``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._guard = threading.Lock()
        self._day = ""
        self._descriptor = -1
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def write(self, entry: Entry) -> None:
        """Append one entry. Side effects: one write to the file of its day."""
        line = json.dumps(vars(entry), ensure_ascii=True).encode() + b"\n"
        day = entry.at[:10]
        with self._guard:
            if day != self._day:
                if self._descriptor >= 0:
                    os.close(self._descriptor)
                path = self._folder / f"{day}-{uuid.uuid4().hex[:16]}.ndjson"
                self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                self._day = day
            os.write(self._descriptor, line)

    def close(self) -> None:
        """Flush to disk and close."""
        with self._guard:
            if self._descriptor >= 0:
                os.fsync(self._descriptor)
                os.close(self._descriptor)
            self._descriptor, self._day = -1, ""


def now() -> str:
    """This moment, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat()


def read_log(folder: Path) -> Iterator[dict[str, Any]]:
    """Every entry that was written, by day and process; a line that is not whole is left out: its server was killed."""
    for path in sorted(folder.glob("*.ndjson")):
        for line in path.read_bytes().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue
