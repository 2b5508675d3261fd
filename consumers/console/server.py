"""The console's process: HTTP server and what looks around, started and stopped together."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass

from aiohttp import web
from yarl import URL

from bridge.waiting import stop_signal
from consumers import database
from consumers.console.answering import Answers
from consumers.console.filling import Filling
from consumers.console.index import Index
from consumers.console.letters import Letters
from consumers.console.rabbitmq import Watch
from consumers.console.receivers import Receivers
from consumers.console.sources import Sources
from consumers.pauses import Pauses
from consumers.settings import Console as Settings

log = logging.getLogger(__name__)

FAREWELL = 1.0
"""Seconds in which answers that are under way may end at a stop."""

GIVING_WAY = 10
"""Niceness: where cores are scarce, a receiver beside it has them, whoever looks at a page."""

CONNECTIONS = 5
"""Connections to PostgreSQL."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """A console that answers."""

    port: int
    sources: Sources


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """Answer during the block.

    Raises:
        OSError: the port cannot be listened on.

    """
    stop = asyncio.Event()
    async with database.opened(settings.database_url, CONNECTIONS) as opened:
        with closing(Index(settings.index_path, settings.events)) as index:
            pauses = Pauses(opened)
            watch = Watch(settings)
            sources = Sources(
                settings=settings,
                database=opened,
                receivers=Receivers(_receivers(settings)),
                watch=watch,
                pauses=pauses,
                index=index,
                letters=Letters(settings, opened, watch),
            )
            async with asyncio.TaskGroup() as tasks:
                looking = [
                    tasks.create_task(sources.receivers.run()),
                    tasks.create_task(pauses.run()),
                    tasks.create_task(watch.run()),
                    tasks.create_task(sources.letters.run()),
                    tasks.create_task(Filling(settings, index).run()),
                    tasks.create_task(opened.wait_until_ready(stop)),
                ]
                try:
                    async with _listening(settings, Answers(sources)) as port:
                        yield Running(port=port, sources=sources)
                finally:
                    stop.set()
                    await pauses.end()
                    for task in looking:
                        task.cancel()


def _receivers(settings: Settings) -> list[str]:
    given = [url for url in settings.receivers.split(",") if url]
    return given or [str(URL(settings.callback_url).origin())]


@asynccontextmanager
async def _listening(settings: Settings, answers: Answers) -> AsyncIterator[int]:
    runner = web.AppRunner(
        answers.front.application(),
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=FAREWELL,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
        port = int(runner.addresses[0][1])
        log.info("listening", extra={"port": port})
        yield port
    finally:
        answers.stop.set()
        await runner.cleanup()
        log.info("stopped")


async def serve(settings: Settings) -> None:
    """Answer until SIGTERM or SIGINT."""
    os.nice(GIVING_WAY)
    stop = stop_signal(signal.SIGHUP)
    async with running(settings):
        await stop.wait()
