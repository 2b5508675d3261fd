"""The socket to RabbitMQ, with a `Line` between it and aiormq."""

import asyncio
import ssl
from typing import Any

import aiormq
from aiormq.connection import SSLContextProvider, TransportFactory
from yarl import URL

from bridge.wire import Line


class Transport(TransportFactory):
    """Opens the socket for aiormq, with a `Line` as its reader."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def create(
        self,
        url: URL,
        **options: Any,  # noqa: ANN401  # as the base class has it
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, as `aiormq` asks of a transport factory."""
        context = options["ssl_context_provider"].get_context
        tls = await context() if url.scheme == "amqps" else None
        loop = asyncio.get_running_loop()
        protocol = asyncio.StreamReaderProtocol(self._line, loop=loop)
        transport, _protocol = await loop.create_connection(
            lambda: protocol, url.host or "", url.port or 0, ssl=tls
        )
        self._line.transport = transport
        return self._line, asyncio.StreamWriter(transport, protocol, self._line, loop)


async def tls_context(url: URL) -> ssl.SSLContext:
    """Give what TLS to RabbitMQ is checked by: what the query of `url` names, or the system.

    Raises:
        OSError: a file that it names cannot be read.

    """
    certificates = aiormq.Connection(url).ssl_certs
    loop = asyncio.get_running_loop()
    provider = SSLContextProvider(ssl_context=None, ssl_certs=certificates, loop=loop)
    return await provider.get_context()
