"""HTTP as bytes: what a well-behaved client could not send, and all that comes back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bridge import openim
from bridge.message import Message, decode
from tests.running import DEADLINE, Bridge, until

COMMAND = "callbackAfterUserOnlineCommand"
TARGET = f"/callbackExample/{COMMAND}".encode()
BODY = b'{"callbackCommand":"callbackAfterUserOnlineCommand","userID":"u1"}\n'


def request(
    body: bytes = BODY,
    *headers: bytes,
    method: bytes = b"POST",
    target: bytes = TARGET,
    version: bytes = b"1.1",
    length: int | None = None,
) -> bytes:
    """Give a request as OpenIM sends it, but for what is asked for.

    Args:
        body: Sent after the head, whatever the head says.
        headers: Lines to add.
        method: And further parts of the first line.
        target: Path and query.
        version: Of HTTP.
        length: What Content-Length claims; below 0 for no such line.

    """
    claimed = len(body) if length is None else length
    lines = [b"%s %s HTTP/%s" % (method, target, version), b"Host: bridge", *headers]
    if claimed >= 0:
        lines.append(b"Content-Length: %d" % claimed)
    return b"\r\n".join([*lines, b"", b""]) + body


def get(target: str, method: bytes = b"GET") -> bytes:
    """Give a request without a body."""
    return request(b"", method=method, target=target.encode(), length=-1)


def chunked(*chunks: bytes, header: bytes = b"Transfer-Encoding: chunked") -> bytes:
    """Give a request whose body comes in chunks; one without bytes is the last."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return request(body, header, length=-1)


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int
    headers: dict[str, str]
    """By name, in small letters."""

    body: bytes


@dataclass
class Caller:
    """One connection to the receiver."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        """Send `data` as it is."""
        self.writer.write(data)

    async def reply(self, *, head_only: bool = False) -> Reply:
        """Wait for the next answer."""
        async with asyncio.timeout(DEADLINE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            lines = (line.partition(": ") for line in head[1:-2])
            headers = {name.lower(): value for name, _, value in lines}
            length = 0 if head_only else int(headers.get("content-length", 0))
            body = await self.reader.readexactly(length)
        return Reply(int(head[0].split()[1]), headers, body)

    async def ask(self, data: bytes) -> Reply:
        """Send `data`, and wait for an answer."""
        self.send(data)
        return await self.reply()

    async def hung_up_on(self) -> bytes:
        """Wait until the receiver closes the connection; give what it said before."""
        async with asyncio.timeout(DEADLINE):
            return await self.reader.read()

    def leave(self) -> None:
        """Hang up without a goodbye."""
        self.writer.transport.abort()


@asynccontextmanager
async def calling(bridge: Bridge) -> AsyncIterator[Caller]:
    """Connect to a receiver."""
    caller = Caller(*await asyncio.open_connection("127.0.0.1", bridge.port))
    try:
        yield caller
    finally:
        caller.leave()


async def ask(bridge: Bridge, data: bytes) -> Reply:
    """Send `data` on a connection of its own, and wait for one answer."""
    async with calling(bridge) as caller:
        return await caller.ask(data)


async def stored(bridge: Bridge, count: int = 1) -> list[Message]:
    """Give all that the receiver has stored, once that is `count` messages or more."""
    journal = bridge.running.journal
    await until(lambda: journal.depth >= count)
    found: list[Message] = []
    while len(found) < journal.depth:
        # Without a broker the forwarder, the journal's one reader, leaves it to us.
        after = journal.confirmed + len(found)
        found += [decode(record.payload) for record in await journal.read(after, 1000)]
    return found


async def rejected(bridge: Bridge, reason: str) -> float:
    """Say how many requests were rejected for this reason, from `/metrics`."""
    reply = await ask(bridge, request(b"", method=b"GET", target=b"/metrics"))
    name = f'openim_bridge_rejected_total{{reason="{reason}"}} '
    lines = reply.body.decode().splitlines()
    return next((float(line[len(name) :]) for line in lines if line.startswith(name)), 0.0)


def posted(command: str, body: bytes | None = None, prefix: str = "/callbackExample/") -> bytes:
    """Give the request of a callback: the recorded one, unless there is a `body`."""
    chosen = openim.sample(command)[1] if body is None else body
    return request(chosen, target=f"{prefix}{command}".encode())
