"""A web server that answers as told, and keeps what came."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.running import until

TAKEN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Listener:
    """A server that answers as told, and keeps what came."""

    port: int = 0
    replies: list[bytes] = field(default_factory=list)
    """What to answer, in turn; the last again and again; blank hangs up."""

    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    open: int = 0

    @property
    def url(self) -> str:
        """As in webhooks.yml."""
        return f"http://127.0.0.1:{self.port}/callbackExample"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of a connection."""
        self.connections += 1
        self.open += 1
        while head := await _head(reader):
            self.requests.append(head + await reader.readexactly(_length(head)))
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
            if not reply:
                break
            writer.write(reply.replace(b"<port>", str(self.port).encode()))
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        self.open -= 1


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def _length(head: bytes) -> int:
    lengths = [line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")]
    return int(lengths[0].split()[1]) if lengths else 0


@asynccontextmanager
async def listening(*replies: bytes) -> AsyncIterator[Listener]:
    """Run a listener that gives these replies."""
    listener = Listener(replies=list(replies))
    server = await asyncio.start_server(listener.serve, "127.0.0.1", 0)
    async with server:
        listener.port = server.sockets[0].getsockname()[1]
        yield listener
        await until(lambda: listener.open == 0)


def reply(body: bytes, status: bytes = b"200 OK", *headers: bytes) -> bytes:
    """Give an HTTP response."""
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers, b"", body]
    return b"\r\n".join(lines)


def redirect(status: bytes) -> bytes:
    """Give a response that points elsewhere on the listener."""
    return reply(b"", status, b"Location: http://127.0.0.1:<port>/elsewhere")
