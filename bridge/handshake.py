"""A connection to RabbitMQ taken one step at a time, to find the step that fails.

aiormq takes all steps at once, and what it raises does not say which of them RabbitMQ
refused. Nothing travels over such a connection: what is published is rolled back.
"""

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any, TypeAlias, TypeVar

import pamqp.frame
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.commands import Basic, Channel, Connection, Tx
from pamqp.exceptions import PAMQPException
from pamqp.header import ContentHeader
from yarl import URL

from bridge.wire import BODY, HEADER, METHOD

Method = TypeVar("Method", bound=Frame)

_PROTOCOL = b"AMQP\x00\x00\x09\x01"
HEARTBEAT = 8
_TYPES = {METHOD, HEADER, BODY, HEARTBEAT}
_CHANNEL_MAX, _FRAME_MAX = 100, 131_072

Sent: TypeAlias = Frame | ContentHeader | ContentBody


class NoAMQP(Exception):
    """What answers does not speak AMQP, or stopped to; the message says what it did."""


class Refused(Exception):
    """RabbitMQ said no, in its own words."""


class Blocked(Exception):
    """RabbitMQ takes no messages for now; the message is its reason."""


class Handshake:
    """An open socket on which AMQP is about to be spoken."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._channels = 0

    @property
    def certificate(self) -> dict[str, Any] | None:
        """The certificate of the other side; None without TLS, empty if it was not verified."""
        tls: ssl.SSLObject | None = self._writer.get_extra_info("ssl_object")
        return None if tls is None else tls.getpeercert() or {}

    async def greet(self) -> dict[str, Any]:
        """Say that we speak AMQP; give what RabbitMQ says of itself, its `version` above all.

        Raises:
            NoAMQP: it is something else.

        """
        self._writer.write(_PROTOCOL)
        start = await self._answer(Connection.Start)
        return dict(start.server_properties or {})

    async def log_in(self, url: URL) -> None:
        """Tell user and password.

        Raises:
            Refused: RabbitMQ knows no such user, or the password is another.
            NoAMQP: it hung up.

        """
        mechanism = url.query.get("auth", "plain").upper()
        plain = f"\0{url.user or 'guest'}\0{url.password or 'guest'}"
        self._send(
            Connection.StartOk(
                client_properties={
                    "product": "openim-bridge doctor",
                    "capabilities": {
                        "authentication_failure_close": True,
                        "connection.blocked": True,
                    },
                },
                mechanism=mechanism,
                response="" if mechanism == "EXTERNAL" else plain,
            )
        )
        await self._answer(Connection.Tune)
        self._send(
            Connection.TuneOk(channel_max=_CHANNEL_MAX, frame_max=_FRAME_MAX, heartbeat=0)
        )

    async def enter(self, virtual_host: str) -> None:
        """Enter a virtual host.

        Raises:
            Refused: there is none, or the user may not.

        """
        self._send(Connection.Open(virtual_host=virtual_host))
        await self._answer(Connection.OpenOk)

    async def try_to_publish(self, exchange: str, routing_key: str) -> None:
        """Publish a message and take it back, so that nobody ever gets it.

        Raises:
            Refused: the user may not, or there is no such exchange.
            Blocked: RabbitMQ is short of memory or disk.

        """
        # RabbitMQ closes a channel with each refusal.
        self._channels += 1
        self._send(Channel.Open(), Tx.Select(), channel=self._channels)
        await self._answer(Tx.SelectOk)
        self._send(
            Basic.Publish(exchange=exchange, routing_key=routing_key),
            ContentHeader(body_size=1, properties=Basic.Properties()),
            ContentBody(b"?"),
            Tx.Rollback(),
            channel=self._channels,
        )
        await self._answer(Tx.RollbackOk)

    async def try_to_consume(self, queue: str) -> None:
        """Ask to consume in a way that RabbitMQ refuses to those who may, too.

        So nothing is ever delivered: rights are looked at first, arguments afterwards.

        Raises:
            Refused: the user may not, or there is no such queue.

        """
        self._channels += 1
        self._send(
            Channel.Open(),
            Basic.Consume(queue=queue, arguments={"x-priority": "no number"}),
            channel=self._channels,
        )
        try:
            await self._answer(Basic.ConsumeOk)
        except Refused as error:
            if "PRECONDITION_FAILED" not in str(error):
                raise

    def close(self) -> None:
        """Hang up."""
        self._writer.transport.abort()

    def _send(self, *frames: Sent, channel: int = 0) -> None:
        self._writer.write(b"".join(pamqp.frame.marshal(each, channel) for each in frames))

    async def _answer(self, kind: type[Method]) -> Method:
        """Wait for a method, whatever else comes before it."""
        while True:
            frame = await self._frame()
            if isinstance(frame, Connection.Close | Channel.Close):
                raise Refused(frame.reply_text)
            if isinstance(frame, Connection.Blocked):
                raise Blocked(frame.reason)
            if isinstance(frame, kind):
                return frame

    async def _frame(self) -> object:
        head = await self._read(7)
        size = int.from_bytes(head[3:], "big") + 1
        if head[0] not in _TYPES or size > _FRAME_MAX:
            raise NoAMQP(f"it answers {head!r}, which is no AMQP")
        try:
            return pamqp.frame.unmarshal(head + await self._read(size))[2]
        except (PAMQPException, ValueError) as error:
            raise NoAMQP(f"it sends what nobody can read: {error}") from error

    async def _read(self, size: int) -> bytes:
        try:
            return await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise NoAMQP("it hung up") from error


async def opened(
    addresses: Iterable[str],
    port: int,
    tls: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
) -> Handshake:
    """Connect to the first of the addresses that answers.

    Raises:
        OSError: none does; it is the error of the last.
        SSLError: TLS failed; a part of OSError.

    """
    problem = OSError("there is no address")
    for address in addresses:
        try:
            return Handshake(
                *await asyncio.open_connection(
                    address, port, ssl=tls, server_hostname=server_hostname
                )
            )
        except OSError as error:
            problem = error
    raise problem
