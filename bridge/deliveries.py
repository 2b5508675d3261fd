"""Deliveries: what RabbitMQ lends to a consumer, and the copies made of those that fail."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

import aio_pika
import aiormq
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import AMQPError

Seconds: TypeAlias = float


class BrokerError(Exception):
    """RabbitMQ did not do what was asked of it.

    BrokerUnreachable   no connection: nothing was sent, try later
    ConnectionLost      what was not confirmed or settled is in doubt: it comes again
    """


class BrokerUnreachable(BrokerError):
    """No connection could be made; the message says why."""


class ConnectionLost(BrokerError):
    """The connection, or a channel of it, is gone; connect again."""


# ChannelInvalidStateError is a RuntimeError: aio-pika raises it, and not an
# AMQPError, when the channel was already closed before the call.
FAILURES = (AMQPError, aiormq.ChannelInvalidStateError, OSError, TimeoutError)


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A message that RabbitMQ has lent to this consumer until it is settled."""

    message_id: str
    command: str
    routing_key: str
    operation_id: str
    headers: Mapping[str, Any]
    body: bytes
    incoming: AbstractIncomingMessage

    async def ack(self) -> None:
        """Settle: it is done with, RabbitMQ may forget it.

        Raises:
            ConnectionLost: it is not settled, and comes again.

        """
        try:
            await self.incoming.ack()
        except FAILURES as error:
            raise ConnectionLost(f"an ack did not leave: {error!r}") from error


Take: TypeAlias = Callable[[Delivery], Awaitable[None]]
"""Called with each delivery, in a task of its own."""


class Consumer:
    """Takes the deliveries of one queue."""

    def __init__(self, channel: AbstractChannel, queue: AbstractQueue, tag: str) -> None:
        self._channel = channel
        self._queue = queue
        self._tag = tag

    async def stop(self) -> None:
        """Take no more deliveries; what was taken can still be settled."""
        await self._queue.cancel(self._tag)


class Copier:
    """Publishes copies of deliveries, one at a time; the way of the few that failed."""

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel

    async def publish(
        self,
        delivery: Delivery,
        exchange: str,
        routing_key: str,
        headers: Mapping[str, Any],
        timeout: Seconds,
    ) -> None:
        """Publish `delivery` again, with more headers, and wait for the confirm.

        Raises:
            ConnectionLost: the copy may or may not have arrived; do not ack the original.

        """
        target = await self._channel.get_exchange(exchange, ensure=False)
        try:
            await target.publish(_copy(delivery, headers), routing_key, timeout=timeout)
        except FAILURES as error:
            raise ConnectionLost(f"no confirm for a copy to {exchange}: {error!r}") from error


def delivery_of(incoming: AbstractIncomingMessage) -> Delivery:
    """Give what aio-pika received in our terms."""
    return Delivery(
        message_id=incoming.message_id or "",
        command=incoming.type or "",
        routing_key=incoming.routing_key or "",
        operation_id=incoming.correlation_id or "",
        headers=incoming.headers,
        body=incoming.body,
        incoming=incoming,
    )


def _copy(delivery: Delivery, headers: Mapping[str, Any]) -> aio_pika.Message:
    incoming = delivery.incoming
    return aio_pika.Message(
        delivery.body,
        headers={**delivery.headers, **headers},
        content_type=incoming.content_type,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        correlation_id=incoming.correlation_id,
        message_id=incoming.message_id,
        timestamp=incoming.timestamp or datetime.now(UTC),
        type=incoming.type,
        app_id=incoming.app_id,
    )
