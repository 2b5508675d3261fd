"""One live stream: server-sent events, to one client, until either side ends it."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from aiohttp import web

from consumers.database import DatabaseAway
from consumers.friends.feed import Feed, Happening
from consumers.friends.verifications import Wanted

log = logging.getLogger(__name__)

HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    # nginx would hold events back until its buffer is full.
    "X-Accel-Buffering": "no",
}

RECONNECT = 1000
"""Milliseconds after which a client that lost its stream shall come back."""

PATIENCE = 10.0
"""Seconds that a client may take to read what it was sent."""

AGAIN = 1.0
"""Seconds after which SQL is asked again, for a stream that it could not answer."""


class Stream:
    """A live stream. It keeps nothing but where it is, so a slow client costs no memory.

    Args:
        feed: Where events come from.
        wanted: Which of them are sent.
        position: Behind which they are sent.
        heartbeat: Seconds of silence after which the client is told that there was nothing.

    """

    def __init__(self, feed: Feed, wanted: Wanted, position: int, heartbeat: float) -> None:
        self._feed = feed
        self._wanted = wanted
        self._position = position
        self._heartbeat = heartbeat
        self._response = web.StreamResponse(headers=HEADERS)

    async def run(self, request: web.BaseRequest) -> web.StreamResponse:
        """Send events until the client goes or does not read, or the feed stops."""
        try:
            await self._response.prepare(request)
            await self._send(b"retry: %d\n%b" % (RECONNECT, self._note("from here on")))
            while not self._feed.stopping:
                await self._send(await self._next())
        except TimeoutError:
            log.info("stream not read", extra={"seconds": PATIENCE})
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            log.debug("stream left")
        return self._response

    async def _send(self, data: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            await self._response.write(data)

    async def _next(self) -> bytes:
        """Wait for events, until the client has to hear something."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._heartbeat
        while clock() < deadline and not self._feed.stopping:
            news = self._feed.news
            happened = await self._happened()
            if events := b"".join(each.event for each in happened if self._fits(each)):
                return events
            if not happened:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(min(deadline, clock() + AGAIN)):
                        await news.wait()
        return self._note(self._silence())

    async def _happened(self) -> Sequence[Happening]:
        try:
            happened = await self._feed.after(self._position)
        except DatabaseAway:
            return []
        if happened:
            self._position = happened[-1].position
        return happened

    def _fits(self, happening: Happening) -> bool:
        return self._wanted.fits(happening.message)

    def _silence(self) -> str:
        if self._feed.stopping:
            return "the API stops"
        return "the database is unavailable" if self._feed.trouble else "nothing new"

    def _note(self, comment: str) -> bytes:
        """Give what clients take no event from, but remember as `Last-Event-ID`."""
        return f"id: {self._position}\n: {comment}\n\n".encode()
