"""Signing in and out: a token is pasted, verified as in every door, and becomes a session.

The form has a token of its own, bound to a cookie that ends with the browser, against other sites that would sign
somebody in as somebody else.
"""

from __future__ import annotations

import asyncio
import uuid
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from penstock.portal.base import Pages
from penstock.portal.forms import read_form
from warehouse.serve.problems import Problem
from warehouse.serve.query_log import Entry, now
from warehouse.serve.tokens import Principal

COOKIE = "penstock_session"
"""Name of the session's cookie."""

_FORM_COOKIE = "penstock_form"


class Login(Pages):
    """Pages for people without a session."""

    def routes(self) -> list[Route]:
        """Its routes."""
        return [
            Route("/login", self.show, methods=["GET"]),
            Route("/login", self.sign_in, methods=["POST"]),
            Route("/logout", self.sign_out, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """The form."""
        return self._form(request, _inside(request.query_params.get("next", "/")))

    async def sign_in(self, request: Request) -> Response:
        """From a token to a session, or the form again with what was wrong."""
        fields = await read_form(request)
        onward = _inside(fields.get("next", "/"))
        try:
            principal = await self._verified(request, fields)
        except Problem as problem:
            self._log(request, None, problem.status, problem.code)
            return self._form(request, onward, problem)
        return self.enter(request, principal, onward)

    def enter(self, request: Request, principal: Principal, onward: str) -> Response:
        """Begin a session and go on. Side effects: a line in the log of queries."""
        self._log(request, principal, 303, "")
        cookie, lasts_s = self._portal.sessions.start(principal)
        answer = RedirectResponse(onward, 303)
        answer.set_cookie(
            COOKIE, cookie, max_age=lasts_s, httponly=True, samesite="lax", secure=request.url.scheme == "https"
        )
        answer.delete_cookie(_FORM_COOKIE)
        return answer

    async def sign_out(self, request: Request) -> Response:
        """End the session, here and wherever its cookie was copied to."""
        await self._portal.form(request)
        session = self._portal.session(request)
        self._portal.sessions.end(session)
        self._log(request, session.principal, 303, "")
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE)
        return answer

    async def _verified(self, request: Request, fields: dict[str, str]) -> Principal:
        form_id = self._portal.sessions.verify("form", request.cookies.get(_FORM_COOKIE, ""))
        if form_id is None or not self._portal.sessions.is_form_token(form_id, fields.get("form_token", "")):
            raise Problem("bad_body", "The form was open too long, or cookies are off.", remedy="send it again")
        address = request.client.host if request.client else ""
        token = "".join(fields.get("token", "").split())
        if not token:
            raise Problem("token_missing", "The field is empty.", remedy="paste a token into it")
        identify = self._portal.service.admission.identify
        return await asyncio.get_running_loop().run_in_executor(None, identify, token, address)

    def _log(self, request: Request, who: Principal | None, status: int, code: str) -> None:
        entry = Entry(
            at=now(),
            request_id=uuid.uuid4().hex,
            subject=who.subject if who else "",
            role=who.role if who else "",
            token_id=who.token_id if who else "",
            door="portal",
            method=request.method,
            path=request.url.path,
            question="",
            release="",
            status=status,
            code=code,
            source="query",
            rows=None,
            size_bytes=0,
            duration_ms=0.0,
        )
        self._portal.service.log.write(entry)

    def _form(self, request: Request, onward: str, problem: Problem | None = None) -> Response:
        sessions = self._portal.sessions
        cookie = request.cookies.get(_FORM_COOKIE, "")
        form_id = sessions.verify("form", cookie)
        if form_id is None:
            form_id = uuid.uuid4().hex
            cookie = sessions.sign("form", form_id)
        answer = self._portal.page(
            request,
            "login.html.j2",
            status=problem.status if problem else 200,
            form_token=sessions.form_token(form_id),
            onward=onward,
            problem=problem,
        )
        answer.set_cookie(_FORM_COOKIE, cookie, httponly=True, samesite="lax", secure=request.url.scheme == "https")
        return answer


def _inside(path: str) -> str:
    """The path, if it stays on this site; else the front page."""
    parts = urlsplit(path)
    inside = path.startswith("/") and not path.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return path if inside and path.isprintable() else "/"
