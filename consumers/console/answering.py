"""What the console answers: pages, what changes on them, and what people do."""

import asyncio
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.broker import BrokerError
from bridge.contract import COMMANDS, Allowed
from bridge.contract import Refused as RefusedByPolicy
from consumers import desk, pauses
from consumers.console import audit, pages, rendering, setting_up
from consumers.console.filling import body_of
from consumers.console.front import Answer, Front, html, redirect, session_key
from consumers.console.letters import Alike, Job
from consumers.console.live import HEADERS, Stream
from consumers.console.routes import TABS, Tab
from consumers.console.sources import Asked, Refused, Sources
from consumers.database import FAILURES, reason
from consumers.dead_letter_audit import DISCARD, REPLAY, Act

LONGEST_REASON = 500
"""Characters of a reason."""

LONGEST_BODY = 200_000
"""Characters of a body that are shown."""

_REMEDIES: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "put a secret that it knows into CONSOLE_CALLBACK_URL.",
    HTTPStatus.NOT_FOUND: "put its path into CONSOLE_CALLBACK_URL.",
    HTTPStatus.FORBIDDEN: "add the console's address to its BRIDGE_SOURCES, or do without.",
}
"""What to do about a sample that a receiver takes for a stranger's, by HTTP status."""


class Answers:
    """Answers everything but who may come in.

    Args:
        sources: Where pages look.

    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self.stop = asyncio.Event()
        """Set when the console stops."""
        answers: dict[str, Answer] = {tab.name: self._page(tab) for tab in TABS}
        answers |= {
            "live": self._live,
            "replay": self._replay,
            "discard": self._discard,
            "pause": self._pause,
            "resume": self._resume,
            "sample": self._sample,
            "body": self._body,
            "documents": self._documents,
            "static": self._static,
            "icon": self._icon,
            "livez": self._livez,
            "readyz": self._readyz,
        }
        self.front = Front(sources.settings, answers)
        self._tabs = {tab.name: tab for tab in TABS}

    def _page(self, tab: Tab) -> Answer:
        async def answer(_request: web.Request, asked: Asked) -> web.Response:
            return html(rendering.page(tab.name, await self._shown(tab, asked)))

        return answer

    async def _shown(self, tab: Tab, asked: Asked) -> rendering.Shown:
        try:
            shown = await pages.PAGES[tab.name](self._sources, asked)
        except (BrokerError, desk.CannotDo) as error:
            raise Refused(503, f"RabbitMQ cannot be asked now: {error}") from error
        said, asked.session.said = asked.session.said, ""
        query = urllib.parse.urlencode({**asked.query, "page": tab.name})
        return {"session": asked.session, "tab": tab, "said": said, "live": query} | shown

    async def _live(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        tab = self._tabs.get(asked.query.get("page", ""))
        if tab is None or tab.role is None or not asked.session.may(tab.role):
            raise Refused(404, "There is no such page.")
        sessions, session = self.front.sessions, asked.session
        if sessions.streams_of(session.name) >= self._sources.settings.streams:
            raise Refused(429, "Too many live pages: close some.")
        key = session_key(request)

        async def parts() -> dict[str, str] | None:
            if sessions.find(key, click=False) is not session:
                return None
            return rendering.live_parts(tab.name, await self._changing(tab, asked))

        session.streams += 1
        try:
            return await Stream(parts, self.stop).run(
                request, web.StreamResponse(headers=HEADERS)
            )
        finally:
            session.streams -= 1

    async def _changing(self, tab: Tab, asked: Asked) -> rendering.Shown:
        """Give what a page shows, without taking what is to be said once."""
        shown = await pages.PAGES[tab.name](self._sources, asked)
        return {"session": asked.session, "tab": tab, "said": "", "live": ""} | shown

    @asynccontextmanager
    async def _noting(
        self, asked: Asked, action: str, target: str, why: str = ""
    ) -> AsyncIterator[AsyncConnection]:
        """Note in SQL what is about to be done, and in the block; else it is not done."""
        try:
            async with self._sources.database.transaction() as transaction:
                await audit.add(
                    transaction,
                    who=asked.session.name,
                    address=asked.address,
                    action=action,
                    target=target,
                    reason=why,
                )
                yield transaction
        except FAILURES as error:
            raise Refused(
                503, f"Nothing was done, as it cannot be noted who did it: {reason(error)}"
            ) from error

    async def _note(self, asked: Asked, action: str, target: str, why: str = "") -> None:
        async with self._noting(asked, action, target, why):
            pass

    async def _pause(self, _request: web.Request, asked: Asked) -> web.StreamResponse:
        name, why = asked.form.get("subscription", ""), _why(asked)
        subscriptions = self._sources.rabbitmq.subscriptions()
        if name not in {each.name for each in subscriptions if each.ours}:
            raise Refused(400, "There is no such subscription of a worker.")
        async with self._noting(asked, "pause", name, why) as transaction:
            if not await pauses.pause(transaction, name, who=_who(asked), reason=why):
                raise Refused(409, f"{name} is paused already.")
        return await self._seen(asked, f"{name} is paused: its workers stop within seconds.")

    async def _resume(self, _request: web.Request, asked: Asked) -> web.StreamResponse:
        name = asked.form.get("subscription", "")
        async with self._noting(asked, "resume", name) as transaction:
            if not await pauses.resume(transaction, name):
                raise Refused(409, "Nobody has paused that.")
        return await self._seen(asked, f"{name} goes on: its workers begin within seconds.")

    async def _seen(self, asked: Asked, said: str) -> web.StreamResponse:
        """Lead to the subscriptions as they are now."""
        await self._sources.pauses.look()
        asked.session.said = said
        return redirect("/subscriptions")

    async def _replay(self, _request: web.Request, asked: Asked) -> web.StreamResponse:
        return await self._settle(asked, Act(action=REPLAY, who=_who(asked)))

    async def _discard(self, _request: web.Request, asked: Asked) -> web.StreamResponse:
        act = Act(action=DISCARD, who=_who(asked), reason=_why(asked))
        return await self._settle(asked, act)

    async def _settle(self, asked: Asked, act: Act) -> web.StreamResponse:
        name, form = asked.form.get("subscription", ""), asked.form
        counts = self._sources.rabbitmq.dead()
        wanted = Alike(likeness=form.get("error", ""), message_id=form.get("id", ""))
        if name not in counts or wanted == Alike():
            raise Refused(400, "Say which letters: choose a group or a letter on the page.")
        if self._sources.letters.busy:
            raise Refused(409, "Others are being settled: wait until that is done.")
        target = f"{name}: {wanted.message_id or wanted.likeness}"
        await self._note(asked, act.action, target, act.reason)
        of = 1 if wanted.message_id else self._size(name, wanted.likeness)
        job = Job(act=act, subscription=name, wanted=wanted, of=of)
        if not self._sources.letters.begin(job):
            raise Refused(409, "Others are being settled: wait until that is done.")
        return redirect("/dead-letters")

    def _size(self, subscription: str, error: str) -> int:
        look = self._sources.letters.looks.get(subscription)
        groups = look.groups if look else ()
        return sum(group.count for group in groups if group.error == error)

    async def _sample(self, _request: web.Request, asked: Asked) -> web.StreamResponse:
        command = setting_up.in_full(asked.form.get("command", ""))
        if command not in COMMANDS:
            raise Refused(400, "There is no such callback.")
        await self._note(asked, "sample", command)
        url = self._sources.settings.callback_url
        operation, answer = await setting_up.send(url, command)
        verdict = answer.verdict
        # Whom a receiver does not know it answers as if it had allowed it, for OpenIM's sake.
        if answer.status >= HTTPStatus.BAD_REQUEST:
            remedy = _REMEDIES.get(answer.status, "the receiver's log says more.")
            raise Refused(502, f"The receiver did not take it (HTTP {answer.status}): {remedy}")
        if isinstance(verdict, Allowed):
            asked.session.said = f"The receiver answered in {answer.milliseconds:.1f} ms."
        elif isinstance(verdict, RefusedByPolicy):
            asked.session.said = f"The policy refused it: {verdict.code} {verdict.message}"
        else:
            raise Refused(502, f"The receiver did not take it: {verdict.reason}")
        return redirect(f"/setup?sample={operation}")

    async def _body(self, _request: web.Request, asked: Asked) -> web.StreamResponse:
        """Show a body to whoever may see it, once it is noted that they did."""
        id_ = asked.form.get("id", "")
        query = {"id": id_, "subscription": asked.form.get("subscription", "")}
        again = Asked(session=asked.session, query=query, address=asked.address)
        tab = self._tabs["event"]
        shown = await self._shown(tab, again)
        await self._note(asked, "body", id_)
        event = shown["event"]
        try:
            body = await body_of(self._sources.settings, event["seq"], id_)
        except BrokerError as error:
            raise Refused(503, f"The archive cannot be read now: {error}") from error
        if body is None:
            raise Refused(HTTPStatus.GONE, "The archive does not keep it any more.")
        shown["body"] = body.decode(errors="replace")[:LONGEST_BODY]
        return html(rendering.page(tab.name, shown))

    async def _documents(self, request: web.Request, _asked: Asked) -> web.Response:
        name = request.match_info["file"]
        data = rendering.document(name)
        if data is None:
            raise Refused(404, "There is no such document.")
        return web.Response(body=data, content_type=rendering.kind(name), charset="utf-8")

    async def _icon(self, _request: web.Request, _asked: Asked) -> web.Response:
        return self._file("icon.svg")

    async def _static(self, request: web.Request, _asked: Asked) -> web.Response:
        return self._file(request.match_info["file"])

    def _file(self, name: str) -> web.Response:
        data = rendering.static(name)
        if data is None:
            raise Refused(404, "There is no such file.")
        headers = {"Cache-Control": "max-age=86400"}
        return web.Response(body=data, content_type=rendering.kind(name), headers=headers)

    async def _livez(self, _request: web.Request, _asked: Asked) -> web.Response:
        return web.json_response({"alive": True})

    async def _readyz(self, _request: web.Request, _asked: Asked) -> web.Response:
        return web.json_response({"ready": True})


def _who(asked: Asked) -> str:
    return f"{asked.session.name}@console"


def _why(asked: Asked) -> str:
    why = asked.form.get("reason", "").strip()[:LONGEST_REASON]
    if not why:
        raise Refused(400, "Say why: the audit log keeps the reason.")
    return why
