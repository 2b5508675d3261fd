"""Consumers of queues, the copies made of deliveries that fail, and what may go wrong."""

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

import aio_pika
import aiormq
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import AMQPError, DeliveryError
from aiormq.exceptions import ProbableAuthenticationError
from pamqp.commands import Basic
from pamqp.commands import Connection as ConnectionMethods
from yarl import URL

from bridge.intake import Delivery, Intake

Seconds: TypeAlias = float


class BrokerError(Exception):
    """RabbitMQ did not do what was asked of it.

    BrokerUnreachable   no connection: nothing was sent, try later
    ConnectionLost      what was not confirmed or settled is in doubt: it comes again
    NotAllowed          the user lacks a right: somebody must give it
    """


class BrokerUnreachable(BrokerError):
    """No connection could be made; the message says why."""


class ConnectionLost(BrokerError):
    """The connection, or a channel of it, is gone; connect again."""


class NotAllowed(BrokerError):
    """The user may not do it; the message says what, and what to do."""


# ChannelInvalidStateError is a RuntimeError: aio-pika raises it, and not an
# AMQPError, when the channel was already closed before the call.
FAILURES = (AMQPError, aiormq.ChannelInvalidStateError, OSError, TimeoutError)


class Consumer:
    """Takes the deliveries of one queue."""

    def __init__(self, channel: AbstractChannel, intake: Intake, tag: str) -> None:
        self._channel = channel
        self._intake = intake
        self._tag = tag

    async def stop(self) -> None:
        """Take no more deliveries; what was taken can still be settled."""
        await (await self._channel.get_underlay_channel()).basic_cancel(self._tag)

    async def close(self) -> None:
        """Take no more deliveries, and give back what was not settled, in its order."""
        self._intake.close()
        self._channel.close_callbacks.clear()
        await self._channel.close()


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
            reason = _refusal(error) or repr(error)
            raise ConnectionLost(f"no confirm for a copy to {exchange}: {reason}") from error


def _refusal(error: BaseException) -> str:
    """Say why RabbitMQ took no copy, in the same words each time; "" if it did not say."""
    frame = error.frame if isinstance(error, DeliveryError) else None
    if isinstance(frame, Basic.Nack):
        return "its queue is full or down"
    return "its queue is missing" if isinstance(frame, Basic.Return) else ""


def _copy(delivery: Delivery, headers: Mapping[str, Any]) -> aio_pika.Message:
    return aio_pika.Message(
        delivery.body,
        headers={**delivery.headers, **headers},
        content_type=delivery.text("content_type") or None,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        correlation_id=delivery.operation_id or None,
        message_id=delivery.message_id or None,
        timestamp=delivery.timestamp or datetime.now(UTC),
        type=delivery.command or None,
        app_id=delivery.text("app_id") or None,
    )


def plainly(url: URL, error: BaseException) -> str:
    """Say why a connection failed, in words for the person who configured it."""
    where = f"{url.host}:{url.port or (5671 if url.scheme == 'amqps' else 5672)}"
    if isinstance(error, ProbableAuthenticationError):
        return f"RabbitMQ at {where} refused the user name or password of {url.user!r}"
    if ConnectionMethods.Close.name in str(error):
        vhost = url.path.removeprefix("/") or "/"
        return f"RabbitMQ at {where} has no virtual host {vhost!r} for user {url.user!r}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"RabbitMQ at {where} is not trusted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return f"RabbitMQ at {where} did not answer in time"
    return f"no RabbitMQ at {where}: {str(error) or 'it hung up'}"
