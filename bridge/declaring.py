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
                f"{', '.join(missing)} must be there, and this user may not create it: load the"
                f" definitions, or have one who may run `topology apply`; RabbitMQ says {error}"
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
    missing = []
    to_see: list[Exchange | Queue] = [*topology.exchanges, *topology.queues]
    while to_see:
        try:
            async with connection.channel() as channel:
                while to_see:
                    await _see(channel, to_see[0])
                    to_see.pop(0)
        except aiormq.ChannelNotFoundEntity:
            # RabbitMQ closes the channel with it, so the others are seen on another.
            thing = to_see.pop(0)
            missing.append(f"{type(thing).__name__.lower()} {thing.name}")
    return missing


async def is_there(connection: AbstractConnection, thing: Exchange | Queue) -> bool:
    """Say whether an exchange or a queue of that name exists, which takes no rights."""
    try:
        async with connection.channel() as channel:
            await _see(channel, thing)
    except aiormq.ChannelNotFoundEntity:
        return False
    return True


async def _see(channel: AbstractChannel, thing: Exchange | Queue) -> None:
    if isinstance(thing, Exchange):
        await channel.get_exchange(thing.name)
    else:
        await channel.declare_queue(thing.name, passive=True)
