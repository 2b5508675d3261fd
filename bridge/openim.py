"""OpenIM's side of the conversation: posts callbacks as its server does.

Requests have the headers, body and connections that were captured from OpenIM's own client:
at most two callbacks at a time, on connections that stay open. A POST that met with a broken
connection is not sent again. A redirect is followed, and the last reply counts: 307 and 308
repeat the POST, 301, 302 and 303 turn it into a GET without body.
"""

import asyncio
import base64
import itertools
import json
import math
import os
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
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

CONNECTIONS, IDLE = 100, 2
"""Connections that one of its processes has at most, and keeps open when nothing is sent: what
comes at once beyond those has a connection of its own, which is closed afterwards."""

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
    operation_id: str
    verdict: Verdict
    """What OpenIM would make of it."""

    milliseconds: float
    status: int = 0
    """HTTP status; 0 when no answer came."""

    reply: bytes = b""

    unreachable: bool = False
    """Whether no connection came about."""


class Times:
    """How long many answers took, within a percent, in little memory."""

    _STEP = math.log(1.01)

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.count = 0
        self.longest = 0.0

    def add(self, milliseconds: float) -> None:
        """Note one."""
        self._counts[round(math.log(max(milliseconds, 0.001)) / self._STEP)] += 1
        self.count += 1
        self.longest = max(self.longest, milliseconds)

    def percentile(self, percent: float) -> float:
        """Give the milliseconds that so many percent of the answers took at most."""
        left = self.count * percent / 100
        for step in sorted(self._counts):
            left -= self._counts[step]
            if left <= 0:
                return min(math.exp(step * self._STEP), self.longest)
        return self.longest


class UnknownSample(Exception):
    """No recorded body has this name; the message says how to list them."""


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
    """One of OpenIM's processes.

    Attributes:
        connections: How many it has opened.

    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._numbers = itertools.count(1)
        self.connections = 0
        self._counting = aiohttp.TraceConfig()
        self._counting.on_connection_create_end.append(self._count)
        self._busy = 0
        self.session = self._opened(aiohttp.TCPConnector(limit=IDLE, keepalive_timeout=3600))
        # Closed once it is idle; aiohttp's `force_close` would tell the receiver so beforehand.
        self._beyond = self._opened(
            aiohttp.TCPConnector(limit=CONNECTIONS - IDLE, keepalive_timeout=0.001)
        )

    def _opened(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=TIMEOUT,
            skip_auto_headers=["Accept"],
            trace_configs=[self._counting],
        )

    async def aclose(self) -> None:
        """Close its connections, all of them even where one is slow and we are cancelled."""
        async with self.session, self._beyond:
            pass

    async def _count(self, *_event: object) -> None:
        self.connections += 1

    async def post(self, command: str, body: bytes, operation_id: str = "") -> Answer:
        """Post one callback and read the reply as OpenIM reads it.

        Args:
            command: As OpenIM sends it.
            body: The same.
            operation_id: OpenIM's trace id; one of our own if there is none.

        """
        operation_id = operation_id or self._operation_id()
        started = time.perf_counter()
        status, reply, failure = 0, b"", None
        try:
            status, reply = await self._exchange(command, body, operation_id)
        except (aiohttp.ClientError, OSError) as error:
            failure = error
        milliseconds = (time.perf_counter() - started) * 1000
        return Answer(
            command=command,
            operation_id=operation_id,
            verdict=Undecodable(reason=_in_words(failure)) if failure else judge(reply),
            milliseconds=milliseconds,
            status=status,
            reply=reply,
            unreachable=isinstance(failure, aiohttp.ClientConnectorError),
        )

    def _operation_id(self) -> str:
        return f"send-{os.getpid()}-{time.time_ns()}-{next(self._numbers)}"

    async def _exchange(
        self, command: str, body: bytes, operation_id: str
    ) -> tuple[int, bytes]:
        # Put together as text, as OpenIM does: a slash at the end makes two.
        url = URL(f"{self._url}/{command}{query(command, body)}", encoded=True)
        headers = {
            "User-Agent": "Go-http-client/1.1",
            "Content-Length": str(len(body)),
            **_authorization(url),
            "Content-Type": "application/json; charset=utf-8",
            "Operationid": operation_id,
            "Accept-Encoding": "gzip",
        }
        session = self.session if self._busy < IDLE else self._beyond
        self._busy += 1
        try:
            async with session.post(
                url.with_user(None), data=body, headers=headers
            ) as response:
                return response.status, await response.read()
        finally:
            self._busy -= 1

    async def post_all(
        self, callbacks: Iterable[Callback], take: Callable[[Answer], None]
    ) -> None:
        """Post many, two at a time; give each answer to `take`."""
        waiting = iter(callbacks)

        async def work() -> None:
            for command, body in waiting:
                take(await self.post(command, body))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(WORKERS):
                tasks.create_task(work())


def _authorization(url: URL) -> dict[str, str]:
    """Give the header for user and password of a URL, where Go's order has it."""
    if url.user is None:
        return {}
    login = base64.b64encode(f"{url.user}:{url.password or ''}".encode()).decode()
    return {"Authorization": f"Basic {login}"}


def _in_words(failure: Exception) -> str:
    """Say why there was no answer, without the URL: its path is a secret."""
    if isinstance(failure, aiohttp.ClientConnectorError):
        return _unconnected(f"{failure.host}:{failure.port}", failure)
    if isinstance(failure, TimeoutError):
        return f"no answer within {TIMEOUT.total:g} s"
    if isinstance(failure, aiohttp.TooManyRedirects):
        return "redirected for ever"
    if isinstance(failure, aiohttp.InvalidURL):
        return "redirected to no URL"
    return f"no answer: {failure}"


def _unconnected(where: str, failure: aiohttp.ClientConnectorError) -> str:
    if isinstance(failure, aiohttp.ClientConnectorCertificateError):
        return f"the certificate of {where} is not trusted: {failure.certificate_error}"
    if isinstance(failure, ssl.SSLError):
        return f"{where} does not speak TLS, or none that fits: {failure.os_error}"
    return f"nobody listens at {where}: {failure.strerror}; is the receiver running?"


@asynccontextmanager
async def process(url: str) -> AsyncIterator[Process]:
    """Be one of OpenIM's processes, with `url` in its webhooks.yml."""
    async with aclosing(Process(url)) as started:
        yield started
