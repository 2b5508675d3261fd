"""Declares a topology; where that is not allowed, sees that it is there."""

from typing import Any

import aiormq
from aio_pika.abc import AbstractChannel, AbstractConnection

from bridge.deliveries import NotAllowed
from bridge.topology import Exchange, Queue, Topology


async def declare(connection: AbstractConnection, topology: Topology) -> None:
    """Create what does not exist yet; what exists must have the same arguments.

    A user without the right to declare finds no fault with a topology that is there.

    Raises:
        NotAllowed: something is missing, and the user may not create it.

    """
    try:
        async with connection.channel() as channel:
            await _declare(channel, topology)
    except aiormq.ChannelAccessRefused as error:
        missing = await _missing(connection, topology)
        if missing:
            raise NotAllowed(
                f"{', '.join(missing)} must be there, and this user may not create it: have one"
                f" who may run `topology apply`; RabbitMQ says {error}"
            ) from error


async def _declare(channel: AbstractChannel, topology: Topology) -> None:
    for exchange in topology.exchanges:
        of: Any = dict(exchange.arguments)
        await channel.declare_exchange(exchange.name, exchange.kind, durable=True, arguments=of)
    for passage in topology.passages:
        target = await channel.get_exchange(passage.target, ensure=False)
        await target.bind(passage.source, passage.routing_key)
    for queue in topology.queues:
        await channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))
    for binding in topology.bindings:
        bound = await channel.get_queue(binding.queue, ensure=False)
        await bound.bind(binding.exchange, binding.routing_key)


async def _missing(connection: AbstractConnection, topology: Topology) -> list[str]:
    """Name the exchanges and queues that are not there; bindings cannot be looked for."""
    exchanges = [
        f"exchange {each.name}"
        for each in topology.exchanges
        if not await is_there(connection, each)
    ]
    queues = [
        f"queue {each.name}" for each in topology.queues if not await is_there(connection, each)
    ]
    return exchanges + queues


async def is_there(connection: AbstractConnection, thing: Exchange | Queue) -> bool:
    """Say whether an exchange or a queue of that name exists, which takes no rights."""
    try:
        async with connection.channel() as channel:
            if isinstance(thing, Exchange):
                await channel.get_exchange(thing.name)
            else:
                await channel.declare_queue(thing.name, passive=True)
    except aiormq.ChannelNotFoundEntity:
        return False
    return True
