"""The connection to RabbitMQ.

Every failure of the library leaves `connect` as a `BrokerError`, translated at the edge of
the connection and not call by call: a line can be cut between any two calls.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import NoReturn

import aio_pika
import aiormq
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import AMQPException
from yarl import URL

from bridge import declaring
from bridge.deliveries import (
    FAILURES,
    BrokerError,
    BrokerUnreachable,
    ConnectionLost,
    Consumer,
    Copier,
    Seconds,
    plainly,
)
from bridge.intake import Delivery, Intake, Take
from bridge.topology import Exchange, Queue, Topology
from bridge.transport import Transport
from bridge.waiting import heed_cancellation
from bridge.wire import Channel, Frames, Line, Publisher, Settled

__all__ = [
    "Broker",
    "BrokerError",
    "BrokerUnreachable",
    "ConnectionLost",
    "Consumer",
    "Copier",
    "Delivery",
    "Take",
    "connect",
]

HEARTBEAT: Seconds = 10
"""A silent peer is given up after three of these, whatever else happens."""

CONSUMING: Seconds = 10
"""How long RabbitMQ may take to start a consumer."""

TELLING: Seconds = 5
"""How long a message that nobody waits for may take to leave."""

CLOSING: Seconds = 3
"""How long a connection may take to say goodbye."""


class Broker:
    """An open connection to RabbitMQ."""

    def __init__(self, connection: aio_pika.Connection, line: Line) -> None:
        self._connection = connection
        self._line = line

    @property
    def unblocked(self) -> asyncio.Event:
        """Cleared while RabbitMQ is short of memory or disk and takes no publishes."""
        return self._line.unblocked

    @property
    def lost_over_a_message(self) -> bool:
        """Whether RabbitMQ closed the connection because of what it was sent."""
        return self._line.over_a_message

    async def until_lost(self) -> NoReturn:
        """Wait until the connection is of no more use.

        Raises:
            ConnectionLost: always; connect again.

        """
        heed_cancellation()
        raise ConnectionLost(await asyncio.shield(self._line.lost))

    def abandon(self, reason: str) -> None:
        """Give up a connection that no longer answers."""
        self._line.lose(reason)
        self._line.hang_up()

    def lose_with(self, channel: AbstractChannel, of: str) -> None:
        """Give up the connection when a channel closes."""
        reason = f"RabbitMQ closed the channel of {of}"
        channel.close_callbacks.add(lambda _, error: self._line.lose(f"{reason}: {error}"))

    async def declare(self, topology: Topology) -> None:
        """Create what does not exist yet; what exists must have the same arguments.

        Raises:
            NotAllowed: something is missing, and the user may not create it.

        """
        await declaring.declare(self._connection, topology)

    async def has(self, thing: Exchange | Queue) -> bool:
        """Say whether an exchange or a queue of that name exists."""
        return await declaring.is_there(self._connection, thing)

    async def publisher(self, exchange: str, settled: Settled) -> Publisher:
        """Open a channel to publish to `exchange` on."""
        channel = self._connection.channel()
        await channel.initialize()
        number = (await channel.get_underlay_channel()).number
        frame_max = self._underlying.connection_tune.frame_max
        return Publisher(self._line, number, exchange, frame_max, settled)

    async def copier(self) -> Copier:
        """Open a channel to publish copies of deliveries on."""
        channel = self._connection.channel(on_return_raises=True)
        await channel.initialize()
        return Copier(channel)

    async def consume(
        self, queue: str, take: Take, *, prefetch: int, **arguments: str | int
    ) -> Consumer:
        """Give the deliveries of `queue` to `take`, at most `prefetch` of them unsettled."""
        channel, number = await self._consuming_channel(queue, prefetch)
        return await self._start(channel, number, queue, take, arguments)

    async def watch(
        self, exchange: str, patterns: Iterable[str], take: Take, *, most: int
    ) -> Consumer:
        """Give a copy of what passes `exchange` to `take`; nobody else misses anything.

        Args:
            exchange: A topic exchange, or a fanout.
            patterns: Binding patterns on it.
            take: Called with each; an ack makes room for the next.
            most: How many may wait here before the oldest are dropped.

        """
        channel, number = await self._consuming_channel(f"a watch on {exchange}", prefetch=100)
        queue = await channel.declare_queue(
            exclusive=True, auto_delete=True, arguments={"x-max-length": most}
        )
        for pattern in patterns:
            await queue.bind(exchange, pattern)
        return await self._start(channel, number, queue.name, take, {})

    async def teller(self, exchange: str) -> Callable[[bytes], Awaitable[None]]:
        """Give a function that tells whoever watches `exchange`; nothing is confirmed."""
        channel = self._connection.channel(publisher_confirms=False)
        await channel.initialize()
        target = await channel.get_exchange(exchange, ensure=False)

        async def tell(body: bytes) -> None:
            with contextlib.suppress(TimeoutError):
                await target.publish(
                    aio_pika.Message(body), "", mandatory=False, timeout=TELLING
                )

        return tell

    async def _consuming_channel(self, of: str, prefetch: int) -> tuple[AbstractChannel, int]:
        channel = self._connection.channel(publisher_confirms=False)
        await channel.initialize()
        await channel.set_qos(prefetch)
        underlying = await channel.get_underlay_channel()
        ended = f"RabbitMQ ended the consumer of {of}"
        underlying.on_consumer_cancel_callbacks.add(lambda _: self._line.lose(ended))
        self.lose_with(channel, of)
        return channel, underlying.number

    async def _start(
        self,
        channel: AbstractChannel,
        number: int,
        queue: str,
        take: Take,
        arguments: Mapping[str, str | int],
    ) -> Consumer:
        intake = Intake(self._line, number, take)
        started = await (await channel.get_underlay_channel()).basic_consume(
            queue,
            left_to_the_line,
            arguments={f"x-{name}": value for name, value in arguments.items()},
            timeout=CONSUMING,
        )
        return Consumer(channel, intake, started.consumer_tag or "")

    def take_over(self, number: int, channel: Channel, exchange: str = "") -> Frames:
        """Have `channel` read the frames of a channel; give what lays out those it sends."""
        self._line.channels[number] = channel
        return Frames(number, exchange, self._underlying.connection_tune.frame_max)

    def write(self, data: bytes) -> None:
        """Send frames."""
        self._line.write(data)

    def channel(self, *, publisher_confirms: bool = True) -> AbstractChannel:
        """Give a channel, to be opened."""
        return self._connection.channel(publisher_confirms=publisher_confirms)

    @property
    def _underlying(self) -> aiormq.abc.AbstractConnection:
        if self._connection.transport is None:
            raise ConnectionLost("the connection is closed")
        return self._connection.transport.connection


@asynccontextmanager
async def connect(url: str, *, name: str, timeout: Seconds) -> AsyncIterator[Broker]:
    """Connect to RabbitMQ, and disconnect at the end of the block.

    Args:
        url: `amqp://user:password@host:port/vhost`, or `amqps` for TLS.
        name: What RabbitMQ's console shows of this connection.
        timeout: How long connecting may take.

    Raises:
        BrokerUnreachable: nobody was there, or would not let us in; try later.
        ConnectionLost: out of the block, when the connection broke in it.

    """
    line = Line()
    connection = aio_pika.Connection(URL(url).update_query(heartbeat=HEARTBEAT, name=name))
    connection.kwargs["transport_factory"] = Transport(line)
    try:
        await _open(connection, timeout)
        with _translated(line):
            yield Broker(connection, line)
    except BrokerError:
        heed_cancellation()
        raise
    finally:
        await _close(connection, line)


async def _open(connection: aio_pika.Connection, timeout: Seconds) -> None:
    try:
        await connection.connect(timeout)
    except Exception as error:
        # The last is how aiormq finds that RabbitMQ hung up before it was even spoken to.
        known = isinstance(error, (*FAILURES, AMQPException, StopAsyncIteration))
        if not (known or _without_reason(error)):
            raise
        raise BrokerUnreachable(plainly(connection.url, error)) from error


@contextmanager
def _translated(line: Line) -> Iterator[None]:
    """Turn what the libraries raise over a broken connection into ConnectionLost."""
    try:
        yield
    except FAILURES as error:
        raise ConnectionLost(str(error) or repr(error)) from error
    except (RuntimeError, ValueError) as error:
        # aiormq's answers to a call on a connection that has closed since the last one; the
        # second, if it closed while a channel was being closed, whose number stays taken.
        if not line.lost.done():
            raise
        raise ConnectionLost(line.lost.result()) from error
    except Exception as error:
        if not _without_reason(error):
            raise
        reason = line.lost.result() if line.lost.done() else "a call was given up"
        raise ConnectionLost(reason) from error
    except asyncio.CancelledError:
        # aiormq cancels what waits for a reply when it finds the connection stuck;
        # only our own cancellation shows in `cancelling`.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ConnectionLost("the connection was stuck") from None


def _without_reason(error: Exception) -> bool:
    """Say whether it is all that aiormq says of a call on what has closed."""
    return type(error) is Exception


async def _close(connection: aio_pika.Connection, line: Line) -> None:
    """Say goodbye if somebody listens, and hang up in any case."""
    with contextlib.suppress(*FAILURES):
        async with asyncio.timeout(0 if line.lost.done() else CLOSING):
            await connection.close()
    # Cut short, it would close itself when Python removes it, in whatever thread that is.
    await connection.close()
    line.hang_up()


async def left_to_the_line(_message: object) -> None:
    """Stand where aiormq wants somebody for deliveries; it never sees one."""
