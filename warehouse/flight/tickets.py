"""What a caller may ask for: parsed from a ticket, a descriptor or a prepared statement's handle.

::

    b"fct_flights"                                                     a dataset, whole
    {"dataset": "fct_flights", "select": "origin_code", "filter": ["flights:ge:10"], "sort": "-flights", "limit": 5}
    {"sql": "select ...", "parameters": "<Arrow IPC of one row, base64>"}
    Any{CommandGetTables ...}                                          a message of Flight SQL

Either of the first three may name a ``release``. A ticket is no secret and no permission: whoever brings one is looked
at as if the question were asked for the first time. So the server keeps no state of statements; a handle holds its
statement and, once they are bound, its parameters.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from warehouse.flight.wire import Message, parse_any
from warehouse.serve.policy import Shown
from warehouse.serve.problems import Problem
from warehouse.serve.query import MAX_FILTERS
from warehouse.serve.sql_check import CATALOG, MAX_SQL_BYTES

MAX_ASKED_BYTES = 256 << 10
"""Longest ticket, command or body of an action that is looked at."""

MAX_PARAMETER_BYTES = 64 << 10

_PART = r'(?:"(?:[^"]|"")+"|[A-Za-z_]\w*)'
_WHOLE = re.compile(rf"\s*(?:select\s+\*\s+)?from\s+({_PART}(?:\.{_PART}){{0,2}})\s*;?\s*", re.IGNORECASE)
_RELEASE = Field(default=None, pattern=r"^r\d{6,12}$")


class DatasetAsked(BaseModel):
    """Rows of a dataset, as ``/v1/datasets/{name}/rows`` of the HTTP door has them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str = Field(min_length=1, max_length=200)
    select: str | None = Field(default=None, max_length=8000)
    filter: tuple[str, ...] = Field(default=(), max_length=MAX_FILTERS)
    sort: str | None = Field(default=None, max_length=2000)
    limit: Annotated[int, Field(ge=1)] | None = None
    release: str | None = _RELEASE


class _SqlAsked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    sql: str = Field(max_length=MAX_SQL_BYTES)
    parameters: bytes = Field(default=b"", max_length=2 * MAX_PARAMETER_BYTES)
    release: str | None = _RELEASE


@dataclass(frozen=True)
class SqlAsked:
    """A statement.

    Attributes:
        sql: its text.
        parameters: values of its ``?``, see :class:`warehouse.serve.sandbox.Statement`.
        release: the release that it is to read; the current one if None.
    """

    sql: str
    parameters: bytes = b""
    release: str | None = None

    def handle(self) -> bytes:
        """The bytes that :func:`parse` reads."""
        document = {"sql": self.sql, "parameters": base64.b64encode(self.parameters).decode(), "release": self.release}
        return json.dumps({name: value for name, value in document.items() if value}).encode()

    def at(self, release: str) -> SqlAsked:
        """The same of one certain release."""
        return replace(self, release=self.release or release)

    def dataset(self, shown: Mapping[str, Shown]) -> Shown | None:
        """The dataset that the statement gives as it is (``SELECT * FROM name``); None if it does anything else."""
        found = _WHOLE.fullmatch(self.sql)
        if found is None or self.parameters:
            return None
        parts = [
            part[1:-1].replace('""', '"') if part.startswith('"') else part for part in re.findall(_PART, found[1])
        ]
        names = [part.lower() for part in parts]
        if len(names) == 3 and names[0] == CATALOG:
            del names[0]
        if len(names) == 2 and names[0] == "main":
            del names[0]
        return shown.get(".".join(names)) if len(names) < 3 else None


Asked = DatasetAsked | SqlAsked | Message


def dataset_ticket(asked: DatasetAsked) -> bytes:
    """The bytes that :func:`parse` reads."""
    return asked.model_dump_json(exclude_defaults=True).encode()


def parse(content: bytes) -> Asked:
    """What a ticket, a command or a handle asks for.

    Raises:
        Problem: ``bad_body``, ``body_too_large``.
    """
    if len(content) > MAX_ASKED_BYTES:
        raise Problem("body_too_large", f"It has more than {MAX_ASKED_BYTES:,} bytes.", remedy="send less")
    if content.lstrip()[:1] == b"{":
        return _parse_document(content)
    message = parse_any(content)
    if message is not None:
        return message
    try:
        return DatasetAsked(dataset=content.decode())
    except (UnicodeDecodeError, ValidationError):
        raise _bad("It names no dataset.") from None


def _parse_document(content: bytes) -> DatasetAsked | SqlAsked:
    try:
        document = json.loads(content)
        if "sql" not in document:
            return DatasetAsked.model_validate_json(content)
        asked = _SqlAsked.model_validate_json(content)
        return SqlAsked(asked.sql, base64.b64decode(asked.parameters, validate=True), asked.release)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise _bad(f"{'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
    except (ValueError, RecursionError, UnicodeDecodeError):
        raise _bad("It is no JSON document.") from None


def _bad(detail: str) -> Problem:
    return Problem("bad_body", detail[:300], remedy="name a dataset, or write a ticket as docs/flight.md says")
