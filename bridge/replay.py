"""Bringing callbacks of the past to one queue, and to nobody else."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from bridge import archive, downstream, fields
from bridge.archive import Progress
from bridge.broker import Broker, BrokerError, ConnectionLost, Delivery, connect
from bridge.queues import ready
from bridge.settings import Receiver as Settings
from bridge.topology import ARCHIVE
from bridge.waiting import first_of

EXAMPLES = 5
"""Callbacks shown of those that a replay would bring."""

CAREFUL = 1000
"""Callbacks that are replayed without a question, at most."""

ROUTING_KEY, REPLAYED = "x-routing-key", "x-replayed"
"""Headers of a copy: the routing key that it came with, and when it was replayed."""

To: TypeAlias = Callable[[Delivery], str]
"""Names the queue that a callback is for."""


class NoQueue(Exception):
    """There is no queue of that name to replay to."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which callbacks to replay: those of which all of this holds."""

    since: float | None = None
    """Received then or later: seconds since 1970."""

    until: float | None = None
    """Received before."""

    patterns: tuple[str, ...] = ()
    """Routing patterns, as `downstream.patterns` gives them; one must match. None: all do."""

    user: str = ""
    """User id that stands somewhere in the body."""

    ids: frozenset[str] = frozenset()
    """Message ids, if only these."""

    def has(self, delivery: Delivery) -> bool:
        """Say whether a callback is wanted."""
        return (
            (not self.ids or delivery.message_id in self.ids)
            and self._has_time(received(delivery))
            and self._has_key(delivery.routing_key)
            and (not self.user or self.user in fields.ids(delivery.body))
        )

    def _has_time(self, at: float) -> bool:
        return (self.since is None or at >= self.since) and (
            self.until is None or at < self.until
        )

    def _has_key(self, routing_key: str) -> bool:
        return not self.patterns or any(
            downstream.matches(pattern, routing_key) for pattern in self.patterns
        )


def received(delivery: Delivery) -> float:
    """Give when a callback was received: seconds since 1970."""
    milliseconds = delivery.headers.get("x-received-ms")
    return milliseconds / 1000 if isinstance(milliseconds, int) else delivery.timestamp


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a replay would bring."""

    wanted: Wanted
    count: int
    examples: tuple[Delivery, ...]

    end: str
    """Mark in the archive up to which all this was found."""


async def find(
    settings: Settings, wanted: Wanted, progress: Progress, queue: str = ""
) -> Found:
    """Look for what is wanted in the archive as it is now.

    Args:
        settings: Whose RabbitMQ it is.
        wanted: What to look for.
        progress: Told how many of the archive were looked at.
        queue: The one that it shall go to, if it may be missing.

    Raises:
        NoQueue: it is missing, or is the archive itself.
        NoArchive: there is no archive.
        BrokerError: no connection, or it was lost.

    """
    count = 0
    examples: list[Delivery] = []

    async def count_all() -> None:
        nonlocal count
        async with aclosing(_wanted(past, wanted, progress)) as deliveries:
            async for delivery in deliveries:
                count += 1
                if len(examples) < EXAMPLES:
                    examples.append(delivery)

    async with _connected(settings) as broker:
        if queue == ARCHIVE or (queue and await ready(broker, queue) is None):
            raise NoQueue(f"there is no queue {queue} to replay to")
        past = await archive.as_it_is(broker, settings.confirm_timeout)
        await first_of(broker.until_lost(), count_all())
    return Found(wanted=wanted, count=count, examples=tuple(examples), end=past.end)


async def publish(
    settings: Settings, found: Found, to: To, rate: float, progress: Progress
) -> int:
    """Publish what was found, oldest first, each confirmed before the next; count it.

    Args:
        settings: Whose RabbitMQ it is.
        found: By `find`.
        to: Names each one's queue, which must exist.
        rate: Messages a second, at most.
        progress: Told how many it has been.

    Raises:
        BrokerError: some have arrived and some not; the next replay repeats them under the
            same message ids.

    """
    count = 0
    headers = {REPLAYED: datetime.now(UTC).isoformat(timespec="seconds")}

    async def publish_all() -> None:
        nonlocal count
        copier = await broker.copier()
        begun = time.monotonic()
        past = archive.Archive(broker, found.end)
        async with aclosing(_wanted(past, found.wanted)) as deliveries:
            async for delivery in deliveries:
                await asyncio.sleep(begun + count / rate - time.monotonic())
                key = delivery.headers.get(ROUTING_KEY, delivery.routing_key)
                await copier.publish(
                    *(delivery, "", to(delivery), headers | {ROUTING_KEY: key}),
                    settings.confirm_timeout,
                )
                count += 1
                progress(count)

    try:
        async with _connected(settings) as broker:
            await first_of(broker.until_lost(), publish_all())
    except BrokerError as error:
        raise ConnectionLost(f"{error}; {count:,} were replayed before") from error
    return count


def _connected(settings: Settings) -> AbstractAsyncContextManager[Broker]:
    return connect(
        settings.broker_url, name="openim-bridge replay", timeout=settings.connect_timeout
    )


async def _wanted(
    past: archive.Archive, wanted: Wanted, progress: Progress = lambda _: None
) -> AsyncGenerator[Delivery, None]:
    async with aclosing(past.read(wanted.since, progress)) as deliveries:
        async for delivery in deliveries:
            if wanted.has(delivery):
                yield delivery
