"""Fills the index from RabbitMQ's streams: what is there, and then what comes."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias

from bridge.broker import Broker, BrokerError, Delivery, connect
from bridge.deliveries import Seconds
from bridge.outcomes import Attempt, attempts_in
from bridge.queues import ready
from bridge.replay import received
from bridge.topology import ARCHIVE, OUTCOMES
from bridge.waiting import Backoff, first_of
from consumers.console.index import Event, Index
from consumers.console.parties import parties
from consumers.settings import Console as Settings

log = logging.getLogger(__name__)

AHEAD = 200
"""Deliveries that RabbitMQ may send before one is taken in: a body may have a megabyte."""

AGAIN: Seconds = 2.0
"""Time between two looks for a stream that is not there."""

OFFSET = "x-stream-offset"
"""Header of a delivery from a stream, and argument of its consumer: a place in it."""

LOOKING: Seconds = 2.0
"""How long the end of a stream may take to come."""

RETURNING: Seconds = 5.0
"""How long what was taken last may take to come once more."""

LIVE_MS = 60_000
"""Age up to which a callback is taken to have come by just now."""


Take: TypeAlias = Callable[[Sequence[Delivery]], Awaitable[None]]
"""Takes in what came."""


class Mark(NamedTuple):
    """What was taken last of a stream, by which it is known again."""

    place: int
    body: int


class Filling:
    """Keeps the index up to date, however often RabbitMQ comes and goes.

    Args:
        settings: The console's.
        index: What is filled.

    """

    def __init__(self, settings: Settings, index: Index) -> None:
        self._settings = settings
        self._index = index
        self._last: dict[str, Mark] = {}
        self._began_ms = time.time_ns() // 1_000_000

    async def run(self) -> None:
        """Follow both streams for ever, each on a connection of its own."""
        await asyncio.gather(
            self._keep_following(ARCHIVE, self._take_events),
            self._keep_following(OUTCOMES, self._take_attempts),
        )

    async def _keep_following(self, stream: str, take: Take) -> None:
        """Connect, follow until the connection breaks, wait, connect again."""
        backoff = Backoff()
        while True:
            try:
                async with connect(
                    self._settings.broker_url,
                    name="openim-bridge console",
                    timeout=self._settings.connect_timeout,
                ) as broker:
                    backoff.reset()
                    await first_of(broker.until_lost(), self._follow(broker, stream, take))
            except BrokerError as error:
                self._note(stream, str(error))
            await backoff.pause()

    def _note(self, stream: str, trouble: str) -> None:
        if stream == OUTCOMES:
            self._index.no_outcomes = trouble
            return
        if trouble != self._index.trouble:
            log.info("archive", extra={"reason": trouble or "followed"})
        self._index.trouble = trouble

    async def _follow(self, broker: Broker, stream: str, take: Take) -> None:
        while await ready(broker, stream) is None:
            self._note(stream, f"there is no stream {stream}")
            await asyncio.sleep(AGAIN)
        last = self._last.get(stream)
        most = self._settings.events
        start = await _beginning(broker, stream, most) if last is None else last.place
        deliveries: asyncio.Queue[Delivery] = asyncio.Queue()  # bounded by AHEAD
        await broker.consume(
            stream,
            deliveries.put_nowait,
            prefetch=AHEAD,
            **{"stream-offset": start},
        )
        self._note(stream, "")
        batch = [await self._first(stream, deliveries)]
        while True:
            while not deliveries.empty():
                batch.append(deliveries.get_nowait())
            await take(batch)
            self._last[stream] = _mark(batch[-1])
            for delivery in batch:
                delivery.ack()
            batch = [await deliveries.get()]

    async def _first(self, stream: str, deliveries: "asyncio.Queue[Delivery]") -> Delivery:
        """Wait for the first delivery: what was taken last, or what is left behind that.

        Raises:
            BrokerError: somebody deleted the stream and made it anew; connect again, to read
                it from its beginning.

        """
        last = self._last.get(stream)
        if last is None:
            return await deliveries.get()
        with suppress(TimeoutError):
            async with asyncio.timeout(RETURNING):
                first = await deliveries.get()
            if place(first) > last.place or _mark(first) == last:
                return first
        del self._last[stream]
        if stream == ARCHIVE:
            await self._index.clear()
        raise BrokerError(f"the stream {stream} was made anew")

    async def _take_events(self, batch: Sequence[Delivery]) -> None:
        events = [self._event(each) for each in batch if each.command and each.message_id]
        # What marks the end of a reading is no callback.
        callbacks = [event for event in events if event.command != f"{ARCHIVE}.end"]
        if callbacks:
            await self._index.add(callbacks)

    def _event(self, delivery: Delivery) -> Event:
        headers = delivery.headers
        now, at = time.time_ns() // 1_000_000, round(received(delivery) * 1000)
        return Event(
            seq=place(delivery),
            message_id=delivery.message_id,
            received_ms=at,
            command=delivery.command,
            routing_key=delivery.routing_key,
            operation_id=delivery.operation_id,
            ordering_key=str(headers.get("ce-partitionkey", "")),
            verdict=str(headers.get("x-verdict", "")),
            source=str(headers.get("x-verdict-source", "")),
            decision_ms=str(headers.get("x-decision-ms", "")),
            bytes=len(delivery.body),
            seen_ms=now if at > self._began_ms or now - at < LIVE_MS else None,
            parties=parties(delivery.body),
        )

    async def _take_attempts(self, batch: Sequence[Delivery]) -> None:
        rows = [_row(attempt) for delivery in batch for attempt in attempts_in(delivery)]
        if rows:
            await self._index.add_attempts(rows)


async def _beginning(broker: Broker, stream: str, most: int) -> int:
    """Give the place in a stream behind which some more than `most` messages stand."""
    found: asyncio.Queue[Delivery] = asyncio.Queue()  # bounded by the prefetch
    consumer = await broker.consume(
        stream, found.put_nowait, prefetch=1, **{"stream-offset": "last"}
    )
    try:
        async with asyncio.timeout(LOOKING):
            return max(place(await found.get()) - most, 0)
    except TimeoutError:
        return 0
    finally:
        await consumer.stop()
        await consumer.close()


def _mark(delivery: Delivery) -> Mark:
    return Mark(place(delivery), hash(delivery.body))


def place(delivery: Delivery) -> int:
    """Give the place of a delivery in its stream."""
    offset = delivery.headers.get(OFFSET, 0)
    return offset if isinstance(offset, int) else 0


def _row(attempt: Attempt) -> tuple[Any, ...]:
    return (
        attempt.message_id,
        attempt.subscription,
        attempt.handler,
        attempt.partition,
        attempt.attempt,
        attempt.outcome,
        attempt.began_ms,
        attempt.seconds,
        attempt.worker,
        attempt.host,
        attempt.error,
        attempt.again_ms,
    )


async def body_of(settings: Settings, seq: int, message_id: str) -> bytes | None:
    """Fetch the body of an event from the archive; None if it is not there any more.

    Raises:
        BrokerError: no connection, or it was lost.

    """
    found: asyncio.Queue[Delivery] = asyncio.Queue()  # bounded by what is read below
    async with connect(
        settings.broker_url, name="openim-bridge console", timeout=settings.connect_timeout
    ) as broker:
        if await ready(broker, ARCHIVE) is None:
            return None
        consumer = await broker.consume(
            ARCHIVE, found.put_nowait, prefetch=1, **{"stream-offset": seq}
        )
        try:
            async with asyncio.timeout(LOOKING):
                delivery = await found.get()
        except TimeoutError:
            return None
        finally:
            await consumer.stop()
            await consumer.close()
    return delivery.body if delivery.message_id == message_id else None
