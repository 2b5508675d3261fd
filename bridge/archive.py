"""The stream that keeps every callback for a while: set up, and read up to now.

What is here for a stream serves `bridge.outcomes` as well.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import TypeAlias

from bridge import topology
from bridge.broker import Broker, ConnectionLost, Consumer, Delivery
from bridge.deliveries import Seconds
from bridge.message import Ids, Message
from bridge.queues import made, ready
from bridge.settings import Receiver as Settings
from bridge.topology import Queue, Topology
from bridge.wire import Outcome

log = logging.getLogger(__name__)

AHEAD = 1000
"""Deliveries that RabbitMQ may send before one is handled."""

EARLIER: Seconds = 60
"""How far the clocks of the receiver and of RabbitMQ may be apart."""

Progress: TypeAlias = Callable[[int], None]
"""Is told how many were read."""

END = "openim.archive.end"
"""Type of the message that marks the end of a reading."""


_MAKERS = {
    topology.ARCHIVE: "a receiver makes it, unless its setting archive_days is 0",
    topology.OUTCOMES: "a worker makes it, unless its setting outcomes_days is 0",
}

PATIENCE: Seconds = 2
"""How long publishing waits for an archive that comes back after a restart of RabbitMQ, which
confirms what is published before without it: that is missing from the archive."""


def queue(settings: Settings) -> Queue:
    """Give the archive as it is wanted."""
    return topology.archive(round(settings.archive_days * 86400), settings.archive_bytes)


async def set_up(broker: Broker, settings: Settings) -> None:
    """Have RabbitMQ keep every callback from here on, if that is wanted.

    Publishing needs none of it. An archive that was made with other settings goes on as it is,
    for only its owner may decide to delete what it holds.
    """
    if not settings.archive_days:
        return
    problem = await stream_made(broker, queue(settings), topology.ARCHIVED)
    if problem:
        log.warning("archive left as it is", extra={"reason": problem})


async def stream_made(broker: Broker, stream: Queue, bound: Topology) -> str:
    """Create a stream and what fills it; give "" or why RabbitMQ would not have that stream."""
    problem = ""
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while problem := await made(broker, stream):
                if not problem.startswith("NOT_FOUND"):
                    break
                await asyncio.sleep(0.1)
            if await broker.has(stream):
                await broker.declare(bound)
    return problem


class NoArchive(Exception):
    """There is no archive to read from."""


class Archive:
    """The archive, or another stream, as it is now; what comes later is not read."""

    def __init__(self, broker: Broker, end: str, stream: str = topology.ARCHIVE) -> None:
        self._broker = broker
        self._stream = stream
        self.end = end
        """Message id of the mark at which it ends."""

    async def read(
        self, since: float | None, progress: Progress = lambda _: None
    ) -> AsyncGenerator[Delivery, None]:
        """Give what was archived, oldest first.

        Args:
            since: Seconds since 1970; None is from the beginning. Some that are older come
                too: a stream is entered where a chunk of it begins.
            progress: Told how many it has been.

        """
        deliveries: asyncio.Queue[Delivery] = asyncio.Queue()  # bounded by AHEAD
        consumer = await self._consume(deliveries, since)
        count = 0
        try:
            while (delivery := await deliveries.get()).message_id != self.end:
                count += 1
                progress(count)
                if delivery.command != END:
                    yield delivery
                delivery.ack()
        finally:
            # Closing a channel while its stream still flows would close the connection.
            await consumer.stop()
            await consumer.close()

    async def _consume(
        self, deliveries: asyncio.Queue[Delivery], since: float | None
    ) -> Consumer:
        return await self._broker.consume(
            self._stream,
            deliveries.put_nowait,
            prefetch=AHEAD,
            **{"stream-offset": offset(since)},
        )


def offset(since: float | None) -> str:
    """Say where to enter a stream: seconds since 1970, or None for its beginning."""
    if since is None:
        return "first"
    # As an age, which RabbitMQ takes as text; a time would need AMQP's own type.
    return f"{max(round(time.time() - since + EARLIER), 1)}s"


async def as_it_is(broker: Broker, timeout: Seconds, stream: str = topology.ARCHIVE) -> Archive:
    """Give the archive as it is now, up to a mark that is put at its end.

    Raises:
        NoArchive: there is none.
        ConnectionLost: RabbitMQ did not take the mark within `timeout`.

    """
    if await ready(broker, stream) is None:
        raise NoArchive(f"there is no queue {stream}: {_MAKERS[stream]}")
    end = Message(
        id=Ids().mint(),
        routing_key=stream,
        command=END,
        received_ms=time.time_ns() // 1_000_000,
        body=b"",
    )
    outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    publisher = await broker.publisher("", lambda _, said: outcome.set_result(said))
    publisher.send([(1, end.encode())])
    try:
        async with asyncio.timeout(timeout):
            said = await outcome
    except TimeoutError as error:
        raise ConnectionLost(f"the archive did not answer in {timeout:g} s") from error
    if said is not Outcome.CONFIRMED:
        raise ConnectionLost(f"the archive takes no message: {said.value}")
    return Archive(broker, end.id, stream)
