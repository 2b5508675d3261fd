"""A friends API to test against, and what an App's backend asks of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from msgspec import json
from yarl import URL

from consumers.friends import server
from consumers.friends.verifications import Verification
from consumers.settings import FriendsApi as Settings
from tests.running import DEADLINE

TOKEN = "t" * 20
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
STREAM = "/friends/verifications/stream"


@asynccontextmanager
async def serving(
    database_url: str,
    **changed: Any,  # noqa: ANN401  # any setting
) -> AsyncIterator[aiohttp.ClientSession]:
    """Run the API during the block, and give a backend that asks it."""
    values: dict[str, Any] = {"database_url": database_url, "token": TOKEN, "port": 0}
    settings = Settings(**(values | changed))
    async with (
        server.running(settings) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=AUTHORIZED) as backend,
    ):
        yield backend


def address(backend: aiohttp.ClientSession) -> URL:
    """Give where a backend's API is."""
    url = backend._base_url  # noqa: SLF001  # aiohttp does not show it otherwise
    assert url is not None
    return url


async def get(backend: aiohttp.ClientSession, path: str, **options: Any) -> tuple[int, Any]:  # noqa: ANN401
    """Ask for something; give status and what the JSON says."""
    async with backend.get(path, **options) as response:
        return response.status, await response.json()


@dataclass
class Listener:
    """Reads a stream, block by block, as an EventSource would."""

    lines: aiohttp.StreamReader
    last_event_id: str = ""
    comments: list[str] = field(default_factory=list)

    async def block(self) -> Verification | None:
        """Give the next event, or None for a block without one.

        Raises:
            EOFError: the stream has ended.

        """
        data: Verification | None = None
        ended = self.lines.at_eof()
        async with asyncio.timeout(DEADLINE):
            while line := (await self.lines.readline()).decode().rstrip("\n"):
                name, _, value = line.partition(": ")
                if name == "id":
                    self.last_event_id = value
                elif name == "data":
                    data = json.decode(value, type=Verification)
                elif name == "":
                    self.comments.append(value)
                ended = False
            if ended:
                raise EOFError
        return data

    async def event(self) -> Verification:
        """Give the next event."""
        while (event := await self.block()) is None:
            pass
        return event

    async def says(self, comment: str) -> None:
        """Wait for a comment."""
        while comment not in self.comments:
            await self.block()


@asynccontextmanager
async def listening(
    backend: aiohttp.ClientSession, last_event_id: str = "", **wanted: str
) -> AsyncIterator[Listener]:
    """Listen to a stream during the block, from its beginning on."""
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    async with backend.get(STREAM, headers=headers, params=wanted) as response:
        assert response.status == 200, await response.text()
        listener = Listener(response.content)
        await listener.block()
        yield listener
