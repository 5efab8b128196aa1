"""Signing in and out: a token is pasted, or fetched from an issuer; verified as in every door, it becomes a session.

::

    form ─▶ token ─────────────────────────────────────────┐
    /login/start ─▶ the issuer's pages ─▶ /login/callback ─┴─▶ verified ─▶ session ─▶ the page that was asked for

The form has a token of its own, bound to a cookie that ends with the browser, against other sites that would sign
somebody in as somebody else; a sign-in at an issuer has a cookie of its own for the same reason. Either leads to a path
of this site, or to the issuer that the settings name, and nowhere else.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from penstock.portal.base import Pages, Portal
from penstock.portal.forms import read_form
from penstock.portal.openid import ATTEMPT_S, CALLBACK, SignIn, client_of
from warehouse.serve.problems import Problem
from warehouse.serve.query_log import Entry, now
from warehouse.serve.rate import Rate
from warehouse.serve.tokens import Principal

COOKIE = "penstock_session"
"""Name of the session's cookie."""

ATTEMPT_COOKIE = "penstock_sign_in"
"""Name of the cookie of a sign-in at an issuer, from its first step to its last."""

_FORM_COOKIE = "penstock_form"
_FAILED_PER_MIN = 60
_MAX_PATH = 2000
_LOOPBACK = {"127.0.0.1", "localhost"}
_T = TypeVar("_T")
_Step = Callable[[Request, SignIn], Awaitable[Response]]


class Login(Pages):
    """Pages for people without a session.

    Args:
        portal: what pages are made from.

    Raises:
        SettingsError: the settings of the sign-in at an issuer do not fit together.
    """

    def __init__(self, portal: Portal) -> None:
        super().__init__(portal)
        client = client_of(portal.settings, portal.service.options.issuers)
        self._issuer = SignIn(client, portal.sessions, portal.service.tokens) if client else None
        self._failed = Rate(_FAILED_PER_MIN)

    def routes(self) -> list[Route]:
        """Its routes; those of a sign-in at an issuer only where one is configured."""
        routes = [
            Route("/login", self.show, methods=["GET"]),
            Route("/login", self.sign_in, methods=["POST"]),
            Route("/logout", self.sign_out, methods=["POST"]),
        ]
        if self._issuer is not None:
            routes += [
                Route("/login/start", self._guarded(self._issuer, self._start), methods=["GET"]),
                Route(CALLBACK, self._guarded(self._issuer, self._come_back), methods=["GET"]),
                Route("/login/leave", self._guarded(self._issuer, self._leave), methods=["GET"]),
            ]
        return routes

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
        answer.set_cookie(COOKIE, cookie, max_age=lasts_s, httponly=True, samesite="lax", secure=self._is_tls(request))
        answer.delete_cookie(_FORM_COOKIE)
        return answer

    def _is_tls(self, request: Request) -> bool:
        return request.url.scheme == "https" or self._portal.settings.portal_url.startswith("https:")

    def _guarded(self, issuer: SignIn, step: _Step) -> Callable[[Request], Awaitable[Response]]:
        """A step of a sign-in at an issuer; what goes wrong in it is told on the login's page."""

        async def page(request: Request) -> Response:
            try:
                if self._failed.is_full(_address(request)):
                    raise Problem("too_many_requests", "Too many sign-ins failed.", remedy="wait a minute")
                return await step(request, issuer)
            except Problem as problem:
                self._failed.hit(_address(request))
                self._log(request, None, problem.status, problem.code)
                answer = self._form(request, _inside(request.query_params.get("next", "/")), problem)
                answer.delete_cookie(ATTEMPT_COOKIE, path="/login")
                return answer

        return page

    async def _start(self, request: Request, issuer: SignIn) -> Response:
        """To the issuer's pages."""
        onward = _inside(request.query_params.get("next", "/"))
        cookie, page = await _waiting(lambda: issuer.begin(_portal_url(request, issuer), onward))
        answer = RedirectResponse(page, 303)
        answer.set_cookie(
            ATTEMPT_COOKIE,
            cookie,
            max_age=ATTEMPT_S,
            path="/login",
            httponly=True,
            samesite="lax",
            secure=self._is_tls(request),
        )
        return answer

    async def _come_back(self, request: Request, issuer: SignIn) -> Response:
        """From the issuer's pages, with its answer."""
        cookie, told = request.cookies.get(ATTEMPT_COOKIE, ""), dict(request.query_params)
        token, onward = await _waiting(lambda: issuer.end(cookie, told))
        principal = await self._identified(request, token)
        answer = self.enter(request, principal, onward)
        answer.delete_cookie(ATTEMPT_COOKIE, path="/login")
        return answer

    async def _leave(self, request: Request, issuer: SignIn) -> Response:
        """To the issuer's page for signing out there too."""
        page = await _waiting(lambda: issuer.leave(_portal_url(request, issuer)))
        return RedirectResponse(page or "/login", 303)

    async def sign_out(self, request: Request) -> Response:
        """End the session, here and wherever its cookie was copied to."""
        await self._portal.form(request)
        session = self._portal.session(request)
        self._portal.sessions.end(session)
        self._log(request, session.principal, 303, "")
        answer = RedirectResponse("/login?left=1" if self._issuer else "/login", 303)
        answer.delete_cookie(COOKIE)
        return answer

    async def _verified(self, request: Request, fields: dict[str, str]) -> Principal:
        form_id = self._portal.sessions.verify("form", request.cookies.get(_FORM_COOKIE, ""))
        if form_id is None or not self._portal.sessions.is_form_token(form_id, fields.get("form_token", "")):
            raise Problem("bad_body", "The form was open too long, or cookies are off.", remedy="send it again")
        token = "".join(fields.get("token", "").split())
        if not token:
            raise Problem("token_missing", "The field is empty.", remedy="paste a token into it")
        return await self._identified(request, token)

    async def _identified(self, request: Request, token: str) -> Principal:
        identify, address = self._portal.service.admission.identify, _address(request)
        return await _waiting(lambda: identify(token, address))

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
            issuer=self._issuer.client.host if self._issuer else "",
            left="left" in request.query_params,
        )
        answer.set_cookie(_FORM_COOKIE, cookie, httponly=True, samesite="lax", secure=self._is_tls(request))
        return answer


async def _waiting(call: Callable[[], _T]) -> _T:
    """What a call that waits for others returns."""
    return await asyncio.get_running_loop().run_in_executor(None, call)


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _portal_url(request: Request, issuer: SignIn) -> str:
    """Where this browser sees the portal, and an issuer may send it back to.

    Raises:
        Problem: ``bad_parameter``, that is not where the settings say, or they must say it.
    """
    seen, known = f"{request.url.scheme}://{request.url.netloc}", issuer.client.portal_url
    if known and urlsplit(known).netloc != request.url.netloc:
        raise Problem("bad_parameter", "The portal is not at home at this address.", remedy=f"open {known}")
    if not known and request.url.hostname not in _LOOPBACK:
        raise Problem(
            "bad_parameter",
            "The portal does not know the address that the issuer may send you back to.",
            remedy="whoever operates it sets PENSTOCK_PORTAL_URL",
        )
    return known or seen


def _inside(path: str) -> str:
    """The path, if it stays on this site; else the front page."""
    parts = urlsplit(path)
    inside = path.startswith("/") and not path.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return path if inside and path.isprintable() and len(path) <= _MAX_PATH else "/"
