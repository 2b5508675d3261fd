"""A worker: takes deliveries, has them handled, and settles every one of them.

    handled                    commit, then ack
    Retry, or another error    a copy to the wait queue of its step, then ack
    Reject, unreadable         a copy to the dead letters, then ack
    no attempt left            the same
    stopping, line lost        not settled: RabbitMQ gives it to somebody else

A copy is confirmed before the original is acked, so nothing falls between them; a crash in
between leaves two, under one message id.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bridge.broker import Broker, BrokerError, Consumer, Copier, Delivery, connect
from bridge.contract import Event, MalformedCallback, UnknownCommand, decode
from bridge.topology import (
    BRIDGE,
    DEAD_LETTERS,
    SCHEDULE,
    dead_letter_queue,
    subscription,
    wait_exchange,
    work_queue,
)
from bridge.waiting import first_of
from consumers.database import Database
from consumers.registry import Context, EventLog, Handler, Handlers, Reject, Retry
from consumers.settings import Worker as Settings

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 15.0
"""Seconds between attempts to connect, as in the forwarder."""

LONGEST_REASON = 500
"""Characters of an error that travel in a header."""


@dataclass
class Worker:
    """Runs the handlers of some subscriptions."""

    settings: Settings
    subscriptions: Sequence[Handlers]
    database: Database
    _handling: set[asyncio.Task[Any]] = field(default_factory=set)
    _bound: float = FIRST_PAUSE
    _trouble: str = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Connect, work until the connection breaks, wait, connect again; until `stop`."""
        while not stop.is_set():
            try:
                await self._work(stop)
            except BrokerError as error:
                self._note_away(str(error))
                pause = random.uniform(0, self._bound)  # noqa: S311  # jitter, no secret
                await first_of(stop.wait(), asyncio.sleep(pause))
                self._bound = min(2 * self._bound, LONGEST_PAUSE)

    def _note_here(self) -> None:
        self._bound, self._trouble = FIRST_PAUSE, ""
        names = [handlers.subscription for handlers in self.subscriptions]
        log.info("working", extra={"subscriptions": names})

    def _note_away(self, reason: str) -> None:
        if reason != self._trouble:
            log.warning("broker unavailable", extra={"reason": reason})
        self._trouble = reason

    async def _work(self, stop: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:
            # RabbitMQ short of memory stops reading from who publishes: on one connection
            # the acks would stop with the copies.
            consuming, copying = [
                await stack.enter_async_context(
                    connect(
                        self.settings.amqp_url,
                        name=f"openim-consumers {purpose}",
                        timeout=self.settings.connect_timeout,
                    )
                )
                for purpose in ("consuming", "copying")
            ]
            copier = await copying.copier()
            consumers = [
                await self._subscribe(handlers, consuming, copier)
                for handlers in self.subscriptions
            ]
            self._note_here()
            try:
                await first_of(stop.wait(), consuming.until_lost(), copying.until_lost())
                for consumer in consumers:
                    await consumer.stop()
                await self._finish()
            finally:
                await self._cancel()

    async def _subscribe(
        self, handlers: Handlers, consuming: Broker, copier: Copier
    ) -> Consumer:
        await consuming.declare(BRIDGE)
        await consuming.declare(subscription(handlers.subscription, handlers.patterns))
        settling = _Settling(handlers, self.database, copier, self.settings)

        async def take(delivery: Delivery) -> None:
            task = asyncio.current_task()
            if task is not None:
                self._handling.add(task)
                task.add_done_callback(self._handling.discard)
            await settling.settle(delivery)

        queue = work_queue(handlers.subscription)
        return await consuming.consume(queue, take, prefetch=self.settings.prefetch)

    async def _finish(self) -> None:
        """Let handlers that have begun come to their end, for a while."""
        if self._handling:
            await asyncio.wait(self._handling, timeout=self.settings.grace_period)

    async def _cancel(self) -> None:
        """End what still runs, so that its transactions are rolled back before we go on."""
        for task in list(self._handling):
            task.cancel()
        await self._finish()


class _Settling:
    """Handles and settles the deliveries of one subscription."""

    def __init__(
        self, handlers: Handlers, database: Database, copier: Copier, settings: Settings
    ) -> None:
        self._handlers = handlers
        self._database = database
        self._copier = copier
        self._settings = settings

    async def settle(self, delivery: Delivery) -> None:
        """Have `delivery` handled, and settle it whatever comes of that."""
        try:
            await self._handle_or_copy(delivery)
            await delivery.ack()
        except BrokerError as error:
            # Unsettled, so it comes again.
            log.warning("delivery not settled", extra=_ids(delivery) | {"reason": str(error)})

    async def _handle_or_copy(self, delivery: Delivery) -> None:
        try:
            event = decode(delivery.command, delivery.body)
            await self._handle(event, self._handler(event), delivery)
        except (MalformedCallback, UnknownCommand, Reject) as error:
            await self._bury(delivery, error)
        except Retry as error:
            seconds = error.after.total_seconds() if error.after else 0
            await self._try_later(delivery, error, seconds)
        except Exception as error:  # noqa: BLE001  # whatever a handler raises
            await self._try_later(delivery, error, 0)

    def _handler(self, event: Event) -> Handler:
        handler = self._handlers.of(type(event))
        if handler is None:
            name = type(event).__name__
            raise Reject(f"no handler of {self._handlers.subscription} takes {name}")
        return handler

    async def _handle(self, event: Event, handler: Handler, delivery: Delivery) -> None:
        async with (
            asyncio.timeout(self._settings.handler_timeout),
            self._database.transaction() as transaction,
        ):
            context = Context(
                message_id=delivery.message_id,
                attempt=_attempt(delivery),
                received=datetime.fromtimestamp(_received_ms(delivery) / 1000, UTC),
                operation_id=delivery.operation_id,
                transaction=transaction,
                log=EventLog(logging.getLogger(f"handler.{handler.name}"), _ids(delivery)),
            )
            await handler.call(event, context)

    async def _try_later(self, delivery: Delivery, error: Exception, at_least: float) -> None:
        """Put a copy into the wait queue of this attempt's step, or bury it after the last."""
        attempt = _attempt(delivery)
        if attempt > len(SCHEDULE):
            await self._bury(delivery, error)
            return
        fitting = [s for s in SCHEDULE[attempt - 1 :] if s >= at_least] or SCHEDULE[-1:]
        await self._copier.publish(
            delivery,
            wait_exchange(fitting[0]),
            work_queue(self._handlers.subscription),
            {"x-attempt": attempt + 1} | _history(delivery, error),
            self._settings.confirm_timeout,
        )
        log.warning(
            "delivery waits",
            exc_info=None if isinstance(error, Retry) else error,
            extra=_ids(delivery)
            | {"attempt": attempt, "seconds": fitting[0], "reason": _in_words(error)},
        )

    async def _bury(self, delivery: Delivery, error: Exception) -> None:
        """Put a copy into the dead letters, with the reason."""
        await self._copier.publish(
            delivery,
            DEAD_LETTERS,
            dead_letter_queue(self._handlers.subscription),
            {"x-attempt": _attempt(delivery)} | _history(delivery, error),
            self._settings.confirm_timeout,
        )
        log.error(
            "dead letter",
            extra=_ids(delivery) | {"attempt": _attempt(delivery), "reason": _in_words(error)},
        )


def _attempt(delivery: Delivery) -> int:
    attempt = delivery.headers.get("x-attempt", 1)
    return attempt if isinstance(attempt, int) else 1


def _received_ms(delivery: Delivery) -> int:
    received = delivery.headers.get("x-received-ms", 0)
    return received if isinstance(received, int) else 0


def _history(delivery: Delivery, error: Exception) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return {
        "x-last-error": _in_words(error),
        "x-first-failure": delivery.headers.get("x-first-failure", now),
        "x-last-failure": now,
        "x-routing-key": delivery.headers.get("x-routing-key", delivery.routing_key),
    }


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:LONGEST_REASON]


def _ids(delivery: Delivery) -> dict[str, Any]:
    return {
        "message_id": delivery.message_id,
        "command": delivery.command,
        "operation_id": delivery.operation_id,
    }
