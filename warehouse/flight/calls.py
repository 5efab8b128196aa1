"""What every call of the Flight door passes: token, rate; then the log, whatever becomes of it.

::

    headers ─▶ BearerFactory: keeps the token ─▶ handler ─▶ Calls.begin: admission ─▶ work ─▶ Calls.end: one log line

The token is looked at in the handler and not in the middleware, since only there is the caller's address known, by
which bad tokens are counted. A user and a password are taken too, for drivers that know nothing else: the password is
the token, the name is not looked at.
"""

from __future__ import annotations

import base64
import binascii
import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pyarrow import flight

from warehouse.serve.admission import Admission
from warehouse.serve.opened import OpenRelease
from warehouse.serve.problems import Problem
from warehouse.serve.query_log import Entry, QueryLog, now
from warehouse.serve.tokens import Principal

_LOG = logging.getLogger(__name__)
_KEY = "bearer"


class _Bearer(flight.ServerMiddleware):
    """The token of one call; where it came as a password, the caller is told to send it as a token from now on."""

    def __init__(self, token: str, *, told: bool) -> None:
        self.token = token
        self._told = told

    def sending_headers(self) -> dict[str, list[str] | list[bytes]]:
        return {"authorization": [f"Bearer {self.token}"]} if self._told else {}


class BearerFactory(flight.ServerMiddlewareFactory):
    """Takes the token out of a call's headers."""

    def start_call(self, info: Any, headers: Mapping[str, Sequence[Any]]) -> _Bearer:  # noqa: ARG002 - the library's
        """The token, empty where there is none."""
        given = str(next((values[0] for name, values in headers.items() if name.lower() == "authorization"), ""))
        kind, _, value = given.partition(" ")
        if kind.lower() == "bearer":
            return _Bearer(value.strip(), told=False)
        if kind.lower() == "basic":
            try:
                padded = value.strip() + "=" * (-len(value.strip()) % 4)  # some drivers leave the padding out
                password = base64.b64decode(padded, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                password = ""
            return _Bearer(password, told=bool(password) and password.isascii() and password.isprintable())
        return _Bearer("", told=False)


MIDDLEWARE: dict[str, flight.ServerMiddlewareFactory] = {_KEY: BearerFactory()}


class NoHandshake(flight.ServerAuthHandler):
    """Lets handshakes pass, in which a driver only asks for the token of a user; every call is looked at itself."""

    def authenticate(self, outgoing: Any, incoming: Any) -> None:
        """Nothing is asked."""

    def is_valid(self, token: Any) -> Any:  # noqa: ARG002 - the library's
        """Whoever it is."""
        return b""


class Call:
    """One call on its way: what is known of it so far, for its handler and the log."""

    def __init__(self, method: str) -> None:
        self.started = time.perf_counter()
        self.at = now()
        self.id = uuid.uuid4().hex
        self.method = method
        self.path = ""
        self.question = ""
        self.principal: Principal | None = None
        self.opened: OpenRelease | None = None
        self.rows: int | None = None
        self.size_bytes = 0
        self.is_ended = False

    @property
    def who(self) -> Principal:
        """Who asks; known behind the admission."""
        if self.principal is None:
            raise _no_token()
        return self.principal


class Calls:
    """Lets calls in and writes them down; safe to use from many threads.

    Args:
        admission: the server's.
        log: the server's.
    """

    def __init__(self, admission: Admission, log: QueryLog) -> None:
        self._admission = admission
        self._log = log

    @contextmanager
    def answering(self, context: Any, method: str, *, goes_on: bool = False) -> Iterator[Call]:
        """One call from its token to its answer.

        Args:
            context: the library's, of this call.
            method: of Flight.
            goes_on: whether the answer is a stream, of whose end :meth:`end` will be told.

        Raises:
            FlightError: what the caller is told instead of an answer.
        """
        call = Call(method)
        with self.told(call):
            token = context.get_middleware(_KEY).token
            if not token:
                raise _no_token()
            call.principal = self._admission.identify(token, context.peer().rpartition(":")[0])
            self._admission.count(call.principal)
            yield call
        if not goes_on:
            self.end(call, 200, "")

    @contextmanager
    def told(self, call: Call) -> Iterator[None]:
        """Turn what goes wrong into what the caller is told, and write it down."""
        try:
            yield
        except Problem as problem:
            self.end(call, problem.status, problem.code)
            raise as_flight_error(problem) from None
        except Exception:  # noqa: BLE001 - whatever it is, the caller gets an answer and the log the rest
            _LOG.exception("call %s failed", call.id)
            self.end(call, 500, "internal")
            unknown = Problem("internal", "Something went wrong here.", remedy=f"report the request id {call.id}")
            raise as_flight_error(unknown) from None

    def end(self, call: Call, status: int, code: str) -> None:
        """Write a call down. Side effects: one line in the log of queries."""
        call.is_ended = True
        who = call.principal
        self._log.write(
            Entry(
                at=call.at,
                request_id=call.id,
                subject=who.subject if who else "",
                role=who.role if who else "",
                token_id=who.token_id if who else "",
                door="flight",
                method=call.method,
                path=call.path[:500],
                question=call.question[:4000],
                release=call.opened.id if call.opened else "",
                status=status,
                code=code,
                source="query",
                rows=call.rows,
                size_bytes=call.size_bytes,
                duration_ms=round(1000 * (time.perf_counter() - call.started), 3),
            )
        )


def as_flight_error(problem: Problem) -> flight.FlightError:
    """A problem as the status of gRPC that is nearest to it: sentence, remedy and code are its message.

    Of other errors than Flight's own the library sends a stack, with paths: so what has no status there is UNKNOWN.
    """
    text = f"{problem.problem} Remedy: {problem.remedy} (code: {problem.code})"
    if problem.status == 401:
        return flight.FlightUnauthenticatedError(text)
    if problem.status in {403, 404}:
        return flight.FlightUnauthorizedError(text)
    if problem.code in {"too_slow", "sql_too_slow"}:
        return flight.FlightTimedOutError(text)
    if problem.status in {429, 503}:
        return flight.FlightUnavailableError(text)
    if problem.status == 500:
        return flight.FlightInternalError(text)
    return flight.FlightServerError(text)


def _no_token() -> Problem:
    return Problem("token_missing", "The call has no token.", remedy="send the header authorization: Bearer <token>")
