"""The friends API: finds out what a request asks for, and answers it."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from time import perf_counter
from typing import Any, TypeAlias, TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct
from multidict import MultiDict

from bridge.logs import Sampled
from bridge.metrics import CONTENT_TYPE
from consumers.answers_counted import ELSEWHERE, AnswersCounted
from consumers.database import Database, DatabaseAway
from consumers.friends import asking, relations, verifications
from consumers.friends.asking import Refused
from consumers.friends.feed import Feed
from consumers.friends.openapi import described
from consumers.friends.reading import reading
from consumers.friends.routes import (
    ROUTES,
    STREAM,
    TEXT,
    Alive,
    BlackList,
    Friends,
    NoQuery,
    OneQuery,
    Ready,
    Route,
    Trouble,
    UserQuery,
    Verifications,
    VerificationsQuery,
)
from consumers.friends.stream import Stream
from consumers.friends.verifications import Place, Verification, Wanted
from consumers.settings import FriendsApi as Settings

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Answer: TypeAlias = Callable[[Any], Awaitable[Struct]]
Found: TypeAlias = tuple[Route, dict[str, str]]
"""What a path leads to, and what stands in it."""


class Api:
    """Answers requests.

    Args:
        settings: The API's.
        database: Where the workers write.
        feed: What happens there.

    """

    def __init__(self, settings: Settings, database: Database, feed: Feed) -> None:
        self._settings = settings
        self._database = database
        self._feed = feed
        self._tokens = asking.Tokens(settings.token)
        self._streams = 0
        self._lines = Sampled()
        self.metrics = AnswersCounted(
            "friends",
            {
                "streams": ("Streams that are open", lambda: self._streams),
                "database_read_since_seconds": (
                    "Since when the database can be read, in seconds since 1970; 0: it cannot",
                    lambda: feed.read_since,
                ),
            },
        )
        self._answers: dict[str, Answer] = {
            "list_verifications": self._list_verifications,
            "show_verification": self._show_verification,
            "list_friends": self._list_friends,
            "list_black_list": self._list_black_list,
            "describe": self._describe,
            "live": self._live,
            "ready": self._ready,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        started = perf_counter()
        found = _route(request.path)
        response = await self._answered(request, found)
        if not response.prepared:
            name = found[0].name if found else ELSEWHERE
            self.metrics.answered(name, response.status, perf_counter() - started)
        return response

    async def _answered(
        self, request: web.BaseRequest, found: Found | None
    ) -> web.StreamResponse:
        try:
            return await self._answer(request, found)
        except Refused as refused:
            return _trouble(refused)
        except DatabaseAway as away:
            return _trouble(
                Refused(
                    503,
                    "database_away",
                    f"the database cannot be read now, try again: {away}",
                    {"Retry-After": "1"},
                )
            )

    async def _answer(
        self, request: web.BaseRequest, found: Found | None
    ) -> web.StreamResponse:
        if found is None or not found[0].open:
            self._tokens.check(request)
        if found is None:
            message = "there is nothing at this path; GET /openapi.json says what there is"
            raise Refused(404, "no_such_path", message)
        if request.method != "GET":
            raise Refused(
                405, "method", "everything here is asked for by GET", {"Allow": "GET"}
            )
        route, in_path = found
        query = asking.read(route.query, MultiDict([*request.query.items(), *in_path.items()]))
        if isinstance(query, Wanted) and route.media == STREAM:
            return await self._stream(request, query)
        if route.media == TEXT:
            headers = {"Content-Type": CONTENT_TYPE}
            return web.Response(body=self.metrics.render(), headers=headers)
        answer = await self._answers[route.name](query)
        return _json(answer, 503 if isinstance(answer, Ready) and not answer.ready else 200)

    async def _list_verifications(self, query: VerificationsQuery) -> Verifications:
        before = asking.place(query.cursor, Place) if query.cursor else None
        async with reading(self._database) as transaction:
            # Asked first: what is added meanwhile may be in both, but not in neither.
            position = await verifications.last_position(transaction)
            found = await verifications.newest(
                transaction, query, before=before, most=query.limit + 1
            )
        items, last = _page(found, query.limit)
        return Verifications(
            items=items,
            next_cursor=asking.cursor(verifications.place(last)) if last else None,
            last_event_id=str(position),
        )

    async def _show_verification(self, query: OneQuery) -> Verification:
        async with reading(self._database) as transaction:
            found = await verifications.one(transaction, query.message_id)
        if found is None:
            raise Refused(404, "no_such_message", "no verification message has this id")
        return found

    async def _list_friends(self, query: UserQuery) -> Friends:
        behind = asking.place(query.cursor, str) if query.cursor else ""
        async with reading(self._database) as transaction:
            found = await relations.friends(
                transaction, query.user, behind=behind, most=query.limit + 1
            )
        items, last = _page(found, query.limit)
        return Friends(items=items, next_cursor=asking.cursor(last.user_id) if last else None)

    async def _list_black_list(self, query: UserQuery) -> BlackList:
        behind = asking.place(query.cursor, str) if query.cursor else ""
        async with reading(self._database) as transaction:
            found = await relations.black_list(
                transaction, query.user, behind=behind, most=query.limit + 1
            )
        items, last = _page(found, query.limit)
        return BlackList(items=items, next_cursor=asking.cursor(last.user_id) if last else None)

    async def _describe(self, _query: NoQuery) -> Struct:
        return described()

    async def _live(self, _query: NoQuery) -> Alive:
        return Alive(alive=True)

    async def _ready(self, _query: NoQuery) -> Ready:
        if self._feed.trouble:
            # Why is in the log: anybody may ask here.
            return Ready(ready=False, reason="the database cannot be read, see the log")
        return Ready(ready=True, reason="")

    async def _stream(self, request: web.BaseRequest, wanted: Wanted) -> web.StreamResponse:
        position = await self._begin(asking.last_event_id(request))
        if self._streams >= self._settings.streams:
            message = f"all {self._streams} streams are taken; FRIENDS_API_STREAMS allows more"
            raise Refused(503, "too_many_streams", message, {"Retry-After": "5"})
        self._streams += 1
        try:
            stream = Stream(self._feed, wanted, position, self._settings.heartbeat)
            return await stream.run(request)
        finally:
            self._streams -= 1

    async def _begin(self, seen: int | None) -> int:
        """Give behind which position a stream begins."""
        known = self._feed.position
        if known is None or (seen is not None and seen > known):
            known = await self._feed.newest()
        if seen is not None and seen > known:
            raise Refused(
                409,
                "event_unknown",
                f"Last-Event-ID is {seen} and the last event {known}, so the database was"
                " replaced: read the list again, and go on from its last_event_id",
            )
        return known if seen is None else seen

    def broken(self, status: int, error: BaseException | None) -> web.Response:
        """Answer a request that is no HTTP, or that we failed at."""
        if error is None or status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return _trouble(Refused(status, "http", "this is no HTTP that we understand"))
        more = self._lines.admit("failed")
        if more is not None:
            log.error("request failed", exc_info=error, extra={"more": more})
        return _trouble(Refused(status, "internal", "our fault, see our log"))


def _route(path: str) -> Found | None:
    for route in ROUTES:
        if match := route.pattern.fullmatch(path):
            return route, match.groupdict()
    return None


def _page(found: Sequence[Item], limit: int) -> tuple[list[Item], Item | None]:
    """Give a page of what was found, and its last item if there is more behind it."""
    items = list(found[:limit])
    return items, items[-1] if len(found) > limit else None


def _json(answer: Struct, status: int = 200) -> web.Response:
    body = msgspec.json.encode(answer)
    headers = {"Cache-Control": "no-store"}
    return web.Response(
        body=body, status=status, content_type="application/json", headers=headers
    )


def _trouble(refused: Refused) -> web.Response:
    response = _json(Trouble(error=refused.error, message=str(refused)), refused.status)
    response.headers.update(refused.headers)
    return response
