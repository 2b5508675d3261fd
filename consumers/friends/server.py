"""The friends API's process: HTTP server and feed, started and stopped together."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from bridge.waiting import stop_signal
from consumers import database
from consumers.friends.answering import Api
from consumers.friends.feed import Feed
from consumers.settings import FriendsApi as Settings

log = logging.getLogger(__name__)

FAREWELL = 1.0
"""Seconds in which streams and answers that are under way may end at a stop."""


class _Connection(web.RequestHandler):
    """One connection."""

    def __init__(self, api: Api, server: web.Server) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # None turns it off, as documented
        )
        self._api = api

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002  # aiohttp's signature
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # it repeats the bad bytes
    ) -> web.StreamResponse:
        """Answer a request that aiohttp could not parse, or that we failed at."""
        response = self._api.broken(status, exc)
        response.force_close()
        return response


class _Server(web.Server):
    """aiohttp's low-level server; a stream whose client goes is cancelled at once."""

    def __init__(self, api: Api) -> None:
        super().__init__(api.handle, handler_cancellation=True)
        self._api = api

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of a new connection."""
        return _Connection(self._api, self)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[int]:
    """Answer during the block; give the port.

    Raises:
        OSError: the port cannot be listened on.

    """
    async with database.opened(
        settings.database_url, settings.database_connections, read_only=True
    ) as opened:
        feed = Feed(opened)
        server = _Server(Api(settings, opened, feed))
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(server, settings.host, settings.port)
        port: int = listener.sockets[0].getsockname()[1]
        log.info("listening", extra={"port": port})
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(feed.run())
            try:
                yield port
            finally:
                listener.close()
                feed.stop()
                server.pre_shutdown()
                await server.shutdown(timeout=FAREWELL)
                # Cancelled while it connects, SQLite's driver would leave a thread behind.
                await asyncio.wait([looking], timeout=FAREWELL)
                looking.cancel()
                log.info("stopped")


async def serve(settings: Settings) -> None:
    """Answer until SIGTERM or SIGINT."""
    stop = stop_signal(signal.SIGHUP)
    async with running(settings):
        await stop.wait()
