"""The door: who is let in to what, and what every answer has to say to a browser."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from time import perf_counter
from typing import TypeAlias

from aiohttp import web

from bridge.logs import Sampled
from bridge.metrics import CONTENT_TYPE
from consumers.answers_counted import ELSEWHERE, AnswersCounted
from consumers.console import rendering
from consumers.console.access import (
    Accounts,
    Guesses,
    Session,
    Sessions,
    key_of,
    same_site,
)
from consumers.console.routes import ROUTES, Route
from consumers.console.sources import Asked, Refused
from consumers.settings import Console as Settings

log = logging.getLogger(__name__)

Answer: TypeAlias = Callable[[web.Request, Asked], Awaitable[web.StreamResponse]]
"""What answers a request of somebody who may ask for it."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

LARGEST_FORM = 64 * 1024
"""Bytes of a form."""

COOKIE, SAFE_COOKIE = "openim-console", "__Host-openim-console"
"""The second where TLS ends before us: browsers give that name to nobody else."""

GUESSING = 2
"""Passwords that are looked at at a time: each takes 16 MiB and some CPU."""


class Front:
    """Lets people in, and requests through.

    Args:
        settings: The console's.
        answers: What answers each route, by its name.

    """

    def __init__(self, settings: Settings, answers: Mapping[str, Answer]) -> None:
        self._accounts = Accounts(settings.password, settings.users)
        self.sessions = Sessions(settings.idle_timeout, settings.session_timeout)
        self._guesses = Guesses()
        self._guessing = asyncio.Semaphore(GUESSING)
        self._lines = Sampled()
        self.metrics = AnswersCounted(
            "console", {"streams": ("Live pages that are open", self.sessions.streams)}
        )
        own = {
            "login_page": self._login_page,
            "login": self._login,
            "logout": self._logout,
            "metrics": self._metrics,
        }
        self._answers = {**answers, **own}

    def application(self) -> web.Application:
        """Give what aiohttp serves."""
        application = web.Application(middlewares=[self._guarded], client_max_size=LARGEST_FORM)
        for route in ROUTES:
            application.router.add_route(
                route.method, route.path, self._through(route), name=route.name
            )
        return application

    @web.middleware
    async def _guarded(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Put the headers on every answer, and count it."""
        started = perf_counter()
        response = await self._answered(request, handler)
        if not response.prepared:
            response.headers.update(HEADERS)
            response.headers.setdefault("Cache-Control", "no-store")
            name = request.match_info.route.name or ELSEWHERE
            self.metrics.answered(name, response.status, perf_counter() - started)
        return response

    async def _answered(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Turn what went wrong into a page."""
        try:
            return await handler(request)
        except Refused as refused:
            return self._problem(request, refused.status, str(refused))
        except web.HTTPException as error:
            known = error.status < HTTPStatus.BAD_REQUEST
            return error if known else self._problem(request, error.status, error.reason)
        except Exception:
            more = self._lines.admit("failed")
            if more is not None:
                log.exception("request failed", extra={"path": request.path, "more": more})
            return self._problem(request, 500, "Our fault: the console's log says more.")

    def _through(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Give what checks a request before it is answered."""
        answer = self._answers[route.name]

        async def checked(request: web.Request) -> web.StreamResponse:
            changes = request.method != "GET"
            if changes and not same_site(request.headers):
                raise Refused(403, "This request comes from another site.")
            if route.role is None:
                return await answer(request, Asked(session=_NOBODY, address=_address(request)))
            session = self.sessions.find(session_key(request), click=route.name != "live")
            if session is None:
                return self._to_login(request)
            form = await _form(request) if changes else {}
            if changes and form.get("csrf") != session.token:
                raise Refused(403, "This form is not of your session: load the page again.")
            if not session.may(route.role):
                raise Refused(
                    403, f"This needs the role {route.role.name.lower()}, which you have not."
                )
            asked = Asked(
                session=session, query=request.query, form=form, address=_address(request)
            )
            return await answer(request, asked)

        return checked

    def _to_login(self, request: web.Request) -> web.Response:
        if request.method != "GET" or request.path == "/live":
            raise Refused(401, "You are not logged in, or were idle for too long: log in.")
        return redirect("/login")

    def _problem(self, request: web.Request, status: int, message: str) -> web.Response:
        session = self.sessions.find(session_key(request), click=False)
        shown = {"status": status, "message": message, "session": session, "tab": None}
        response = html(rendering.page("problem", shown))
        response.set_status(status)
        return response

    async def _login_page(self, _request: web.Request, _asked: Asked) -> web.Response:
        return html(rendering.page("login", {"trouble": "", "session": None, "tab": None}))

    async def _login(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        form = await _form(request)
        name, password = form.get("name", ""), form.get("password", "")
        async with self._guessing:
            # Now, not before: who sends many at once waits here with all of them.
            if self._guesses.too_many(asked.address):
                raise Refused(429, "Too many wrong passwords: wait a minute.")
            account = await asyncio.to_thread(self._accounts.find, name, password)
            if account is None:
                self._guesses.note(asked.address)
        if account is None:
            log.warning("wrong name or password", extra={"address": asked.address})
            trouble = "Name or password is wrong."
            shown = {"trouble": trouble, "session": None, "tab": None}
            response = html(rendering.page("login", shown))
            response.set_status(HTTPStatus.FORBIDDEN)
            return response
        log.info("logged in", extra={"user": account.name, "address": asked.address})
        response = redirect("/")
        self.sessions.end(session_key(request))
        _set_cookie(request, response, self.sessions.begin(account, asked.address))
        return response

    async def _logout(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        self.sessions.end(session_key(request))
        log.info("logged out", extra={"user": asked.session.name})
        response = redirect("/login")
        response.del_cookie(COOKIE)
        # Without `Secure`, a browser would not take the name, and keep what it has.
        response.del_cookie(SAFE_COOKIE, secure=True)
        return response

    async def _metrics(self, _request: web.Request, _asked: Asked) -> web.Response:
        headers = {"Content-Type": CONTENT_TYPE}
        return web.Response(body=self.metrics.render(), headers=headers)


_NOBODY = Session(name="", role=0)  # type: ignore[arg-type]  # less than any role


def session_key(request: web.BaseRequest) -> bytes:
    """Give what the session of a request is found by."""
    cookie = request.cookies.get(SAFE_COOKIE) or request.cookies.get(COOKIE, "")
    return key_of(cookie, _address(request))


def _set_cookie(request: web.Request, response: web.Response, value: str) -> None:
    # A proxy that ends TLS says so; who lies about it locks only himself out.
    safe = request.secure or request.headers.get("X-Forwarded-Proto") == "https"
    response.set_cookie(
        SAFE_COOKIE if safe else COOKIE,
        value,
        secure=safe,
        httponly=True,
        samesite="Strict",
        path="/",
    )


def _address(request: web.BaseRequest) -> str:
    return request.remote or ""


async def _form(request: web.Request) -> dict[str, str]:
    return {
        name: value for name, value in (await request.post()).items() if isinstance(value, str)
    }


def html(text: str) -> web.Response:
    """Give a page as an answer."""
    return web.Response(text=text, content_type="text/html")


def redirect(path: str) -> web.Response:
    """Send a browser to a page."""
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": path})
