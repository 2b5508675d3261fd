"""What comes out of RabbitMQ, taken from a queue that is bound to everything."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from yarl import URL

from bridge.topology import CALLBACKS, UNROUTED
from tests.torture.ledger import Ledger

QUEUE = "torture"

_LOST = (aio_pika.exceptions.AMQPError, aio_pika.exceptions.ChannelInvalidStateError, OSError)


class Collector:
    """Writes all that arrives into the ledger, through every outage of RabbitMQ."""

    def __init__(self, amqp_url: str, ledger: Ledger) -> None:
        self._amqp_url = amqp_url
        self._ledger = ledger

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Collect during the block."""
        async with await aio_pika.connect(self._amqp_url) as connection:
            await _declare(await connection.channel())
        async with asyncio.TaskGroup() as tasks:
            collecting = tasks.create_task(self._collect())
            yield
            collecting.cancel()

    async def _collect(self) -> None:
        while True:
            with suppress(*_LOST):
                await self._collect_on(aio_pika.Connection(URL(self._amqp_url)))
            await asyncio.sleep(0.2)

    async def _collect_on(self, connection: aio_pika.Connection) -> None:
        # Closed even if it never opens: one that is dropped closes itself when it is too late.
        async with connection:
            await connection.connect(timeout=5)
            async with connection.channel() as channel:
                await channel.set_qos(prefetch_count=200)
                queue = await channel.get_queue(QUEUE, ensure=False)
                await queue.consume(self._take)
                # What a plain connection tells of its end, it tells to nobody who asks.
                underneath = await channel.get_underlay_channel()
                while not underneath.is_closed:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)

    async def _take(self, message: AbstractIncomingMessage) -> None:
        self._ledger.arrive(
            message.body, message.message_id or "", redelivered=bool(message.redelivered)
        )
        with suppress(*_LOST):
            await message.ack()


async def _declare(channel: AbstractChannel) -> None:
    """Make the queue, and what the receiver would make, in case we are first."""
    await channel.declare_exchange(UNROUTED, "fanout", durable=True)
    callbacks = await channel.declare_exchange(
        CALLBACKS, "topic", durable=True, arguments={"alternate-exchange": UNROUTED}
    )
    queue = await channel.declare_queue(
        QUEUE, durable=True, arguments={"x-queue-type": "quorum"}
    )
    await queue.bind(callbacks, "#")
