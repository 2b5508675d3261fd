"""Pages that change while they are looked at: server-sent events, one stream a page."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

import orjson
from aiohttp import web

log = logging.getLogger(__name__)

PACE = 1.0
"""Seconds between two looks at what has changed."""

SILENCE = 15.0
"""Seconds without a change after which the browser is told that all is well."""

PATIENCE = 10.0
"""Seconds that a browser may take to read what it was sent."""

RECONNECT = 2000
"""Milliseconds after which a browser that lost its stream comes back."""

HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    # nginx would hold events back until its buffer is full.
    "X-Accel-Buffering": "no",
}


class Stream:
    """The changes of one page, to one browser.

    Args:
        parts: Gives the parts of the page as they are now; None when it is over.
        stop: Set when the console stops.

    """

    def __init__(
        self, parts: Callable[[], Awaitable[dict[str, str] | None]], stop: asyncio.Event
    ) -> None:
        self._parts = parts
        self._stop = stop
        self._sent: dict[str, int] = {}

    async def run(
        self, request: web.BaseRequest, response: web.StreamResponse
    ) -> web.StreamResponse:
        """Send what changes until the browser goes or does not read, or it is over."""
        try:
            await response.prepare(request)
            await self._write(response, b"retry: %d\n\n" % RECONNECT)
            await self._tell(response)
        except TimeoutError:
            log.info("live page not read", extra={"seconds": PATIENCE})
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            log.debug("live page left")
        return response

    async def _tell(self, response: web.StreamResponse) -> None:
        silent = 0.0
        while not self._stop.is_set():
            parts = await self._parts()
            if parts is None:
                await self._write(response, b"event: over\ndata: {}\n\n")
                return
            changed = {name: html for name, html in parts.items() if self._is_new(name, html)}
            if changed:
                await self._write(response, b"data: %b\n\n" % orjson.dumps(changed))
                silent = 0.0
            elif silent >= SILENCE:
                await self._write(response, b": nothing new\n\n")
                silent = 0.0
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), PACE)
            silent += PACE

    def _is_new(self, name: str, html: str) -> bool:
        seen, self._sent[name] = self._sent.get(name), hash(html)
        return seen != self._sent[name]

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            await response.write(data)
