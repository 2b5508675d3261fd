"""A line between us and RabbitMQ that can be cut, and mended."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress

from yarl import URL


class Line:
    """A TCP connection's way through this process.

    Attributes:
        url: Where to connect instead of the broker.

    """

    def __init__(self, target: URL, tls: ssl.SSLContext | None = None) -> None:
        self._target = target
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = asyncio.Event()
        self._open.set()
        self.url = ""
        self.passed = 0
        self.cut_after: int | None = None

    async def mend(self) -> None:
        """Let connections through."""
        port = URL(self.url).port if self.url else 0
        self._server = await asyncio.start_server(self.serve, "127.0.0.1", port, ssl=self._tls)
        port = self._server.sockets[0].getsockname()[1]
        url = self._target.with_host("127.0.0.1").with_port(port)
        self.url = str(url.with_scheme("amqps") if self._tls else url)

    def cut(self) -> None:
        """Reset every connection and refuse new ones."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    def silence(self) -> None:
        """Let nothing through any more, with the connections open."""
        self._open.clear()

    def resume(self) -> None:
        """Let through what was held back, and what comes."""
        self._open.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on one connection."""
        with suppress(OSError), closing(writer):
            there, back = await asyncio.open_connection(self._target.host, self._target.port)
            self._writers |= {writer, back}
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pass(reader, back))
                tasks.create_task(self._pass(there, writer))
            self._writers -= {writer, back}

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(4096):
                await self._open.wait()
                self.passed += len(data)
                sink.write(data)
                await sink.drain()
                if self.cut_after is not None and self.passed > self.cut_after:
                    self.cut_after = None
                    self.cut()
        sink.transport.abort()


@asynccontextmanager
async def line_to(amqp_url: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Line]:
    """Run a line to the broker at `amqp_url`; with TLS on our side, if a context is given."""
    line = Line(URL(amqp_url), tls)
    await line.mend()
    try:
        yield line
    finally:
        line.resume()
        line.cut()
