"""What arrives in RabbitMQ, as another team gets it: a queue and a user of its own."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from yarl import URL

from tests.stack.stack import DockerFailed, address, operator
from tests.torture.ledger import Ledger

NAME = "stack_test"

BETWEEN_ACKS = 0.1
"""Seconds: acknowledged one by one, each costs the nodes about as much as its publishing."""

_LOST = (
    *(aio_pika.exceptions.AMQPError, aio_pika.exceptions.ChannelInvalidStateError),
    *(OSError, TimeoutError, DockerFailed, StopAsyncIteration),
)


@asynccontextmanager
async def subscribed() -> AsyncIterator[URL]:
    """Be subscribed to everything during the block; give the URL that the team is told."""
    said = await operator(
        *("openim-bridge", "subscribe", NAME, "--commands", "#"),
        *("--language", "python", "--new-password"),
    )
    found = re.search(r"^AMQP_URL +(\S+)$", said, re.MULTILINE)
    assert found is not None, said
    try:
        yield URL(found[1], encoded=True)
    finally:
        # A queue that nobody reads any more would be told by an alert.
        await operator("openim-bridge", "unsubscribe", NAME, "--yes")


@asynccontextmanager
async def collecting(url: URL, nodes: list[str], ledger: Ledger) -> AsyncIterator[None]:
    """Write all that arrives into the ledger during the block, by whichever node is there."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(_collect(url, nodes, ledger))
        yield
        task.cancel()


async def _collect(url: URL, nodes: list[str], ledger: Ledger) -> None:
    taken: list[AbstractIncomingMessage] = []

    async def take(message: AbstractIncomingMessage) -> None:
        ledger.arrive(
            message.body, message.message_id or "", redelivered=bool(message.redelivered)
        )
        taken.append(message)

    while True:
        for node in nodes:
            taken.clear()
            with suppress(*_LOST):
                there = url.with_host(await address(node)).update_query(heartbeat=5)
                connection = await aio_pika.connect(there, timeout=5)
                async with connection, connection.channel() as channel:
                    await channel.set_qos(prefetch_count=200)
                    queue = await channel.get_queue(f"openim.sub.{NAME}", ensure=False)
                    await queue.consume(take)
                    # What a plain connection tells of its end, it tells to nobody who asks.
                    underneath = await channel.get_underlay_channel()
                    while not underneath.is_closed:
                        await asyncio.sleep(BETWEEN_ACKS)
                        for last in taken[-1:]:
                            taken.clear()
                            await last.ack(multiple=True)
            await asyncio.sleep(0.2)
