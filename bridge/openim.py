"""OpenIM's side of the conversation: posts callbacks as its server does.

Requests have the headers, body and connections that were captured from OpenIM's own client:
at most two callbacks at a time, on connections that stay open.
"""

import asyncio
import base64
import itertools
import json
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

import aiohttp
from yarl import URL

from bridge.contract import COMMANDS, Undecodable, Verdict, judge

SAMPLES = Path(__file__).parent / "samples"
"""A recorded body for each command, in a file named after it."""

WORKERS = 2
"""Callbacks that one of OpenIM's processes sends at a time."""

TIMEOUT = aiohttp.ClientTimeout(total=5)
"""OpenIM's default `timeout` for every callback."""

_WITH_KEY = frozenset(
    {
        "callbackAfterSendSingleMsgCommand",
        "callbackAfterSendGroupMsgCommand",
        "callbackAfterMsgSaveDBCommand",
    }
)

Callback: TypeAlias = tuple[str, bytes]
"""A command and a body."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of posting one callback."""

    command: str
    verdict: Verdict
    """What OpenIM would make of it."""

    milliseconds: float
    status: int = 0
    """HTTP status; 0 when no answer came."""

    reply: bytes = b""


class UnknownSample(Exception):
    """No recorded body has this name; the message lists those that are nearest."""


def sample(name: str) -> Callback:
    """Give the recorded callback of a command.

    Args:
        name: The command, with or without `callback` and `Command`, in any letter case.

    Raises:
        UnknownSample: no command is called so.

    """
    wanted = name.lower().removeprefix("callback").removesuffix("command")
    for event in COMMANDS.values():
        if event.command.lower() == f"callback{wanted}command":
            return event.command, (SAMPLES / f"{event.command}.json").read_bytes()
    raise UnknownSample(f"no callback is called {name}; `openim-bridge send --list` shows all")


def commands() -> list[str]:
    """List the commands that have a recorded body."""
    return sorted(path.stem for path in SAMPLES.glob("*.json"))


def query(command: str, body: bytes) -> str:
    """Give the query that OpenIM adds to three of the callbacks, with its `?`."""
    if command not in _WITH_KEY:
        return ""
    try:
        fields = json.loads(body)
        key = {name: fields.get(name, "") for name in ("sendID", "recvID", "groupID")}
    except (ValueError, AttributeError):
        return ""
    encoded = base64.b64encode(json.dumps(key, separators=(",", ":")).encode()).decode()
    return "?key=" + quote(encoded, safe="")


class Process:
    """One of OpenIM's processes."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._numbers = itertools.count(1)

    async def post(self, command: str, body: bytes) -> Answer:
        """Post one callback and read the reply as OpenIM reads it."""
        started = time.perf_counter()
        try:
            status, reply = await self._exchange(command, body)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = f"no answer: {str(error) or type(error).__name__}"
            return Answer(
                command=command,
                verdict=Undecodable(reason=reason),
                milliseconds=(time.perf_counter() - started) * 1000,
            )
        return Answer(
            command=command,
            verdict=judge(reply),
            milliseconds=(time.perf_counter() - started) * 1000,
            status=status,
            reply=reply,
        )

    async def _exchange(self, command: str, body: bytes) -> tuple[int, bytes]:
        headers = {
            "User-Agent": "Go-http-client/1.1",
            "Content-Length": str(len(body)),
            "Content-Type": "application/json; charset=utf-8",
            "Operationid": f"send-{os.getpid()}-{time.time_ns()}-{next(self._numbers)}",
            "Accept-Encoding": "gzip",
        }
        # The URL is put together as text, as OpenIM does: a slash at the end makes two.
        url = URL(f"{self._url}/{command}{query(command, body)}", encoded=True)
        async with self._session.post(url, data=body, headers=headers) as response:
            return response.status, await response.read()

    async def post_all(self, callbacks: Iterable[Callback]) -> AsyncIterator[Answer]:
        """Post many, two at a time; give the answers as they come."""
        waiting = iter(callbacks)
        answers: asyncio.Queue[Answer | None] = asyncio.Queue()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(WORKERS):
                tasks.create_task(self._work(waiting, answers))
            for _ in range(WORKERS):
                while answer := await answers.get():
                    yield answer

    async def _work(
        self, waiting: Iterator[Callback], answers: asyncio.Queue[Answer | None]
    ) -> None:
        for command, body in waiting:
            await answers.put(await self.post(command, body))
        await answers.put(None)


@asynccontextmanager
async def process(url: str) -> AsyncIterator[Process]:
    """Be one of OpenIM's processes, with `url` in its webhooks.yml."""
    connector = aiohttp.TCPConnector(limit=100, keepalive_timeout=3600)
    async with aiohttp.ClientSession(
        connector=connector, timeout=TIMEOUT, skip_auto_headers=["Accept"]
    ) as session:
        yield Process(session, url)
