"""Single queues: looked at, made and deleted, whatever becomes of the others."""

import re
from typing import NamedTuple

import aiormq

from bridge.broker import Broker
from bridge.deliveries import NotAllowed
from bridge.topology import Queue, Topology

_NAME = re.compile(r"[A-Za-z0-9_.:@#,/+ -]{1,255}")
"""What AMQP lets a queue be called; RabbitMQ would allow more, and aio-pika does not."""


async def made(broker: Broker, queue: Queue) -> str:
    """Create a queue; give "" if it is there now, else why RabbitMQ would not.

    One of its name that has other arguments is left as it is.
    """
    return await declared(broker, Topology(queues=(queue,)))


async def declared(broker: Broker, topology: Topology) -> str:
    """Declare `topology`; give "" if all of it is there now, else why RabbitMQ would not."""
    try:
        await broker.declare(topology)
    except (aiormq.ChannelClosed, NotAllowed) as error:
        return str(error)
    return ""


async def ready(broker: Broker, queue: str) -> int | None:
    """Count the messages that wait in a queue for a consumer; None if it does not exist."""
    found = await looked_at(broker, queue)
    return found.ready if found else None


class Look(NamedTuple):
    """A queue as it is now."""

    ready: int
    """Messages that wait in it for a consumer."""
    consumers: int


async def looked_at(broker: Broker, queue: str) -> Look | None:
    """Look at a queue; None if it does not exist."""
    if not _NAME.fullmatch(queue):
        return None
    try:
        async with broker.channel() as channel:
            found = (await channel.declare_queue(queue, passive=True)).declaration_result
    except aiormq.ChannelNotFoundEntity:
        return None
    return Look(found.message_count or 0, found.consumer_count or 0)


async def delete(broker: Broker, queue: str) -> None:
    """Delete a queue with all that is in it, if it exists."""
    async with broker.channel() as channel:
        await channel.queue_delete(queue)
