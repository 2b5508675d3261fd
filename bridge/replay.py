"""Bringing callbacks of the past to one queue or subscription, and to nobody else."""

import asyncio
import itertools
import re
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from datetime import UTC, datetime

from bridge import archive, downstream, fields
from bridge.archive import Progress
from bridge.broker import Broker, BrokerError, ConnectionLost, Delivery, connect
from bridge.queues import ready
from bridge.settings import Receiver as Settings
from bridge.topology import partition_name, work_queue
from bridge.waiting import first_of

EXAMPLES = 5
"""Callbacks shown of those that a replay would bring."""

CAREFUL = 1000
"""Callbacks that are replayed without a question, at most."""

ROUTING_KEY, REPLAYED = "x-routing-key", "x-replayed"
"""Headers of a copy: the routing key that it came with, and when it was replayed."""

_SUBSCRIPTIONS = (work_queue(""), downstream.PREFIX)
"""What the names of our queues that may be replayed to begin with; all others of ours have a
work of their own, which copies would disturb."""

_PARTITION = re.compile(r"(openim\.(?:work|sub)\.[^.]+)\.p[0-9]{2}")


class NoQueue(Exception):
    """There is no queue of that name, or it is none to replay to; the message says which."""


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

    queues: tuple[str, ...]
    """Where it shall go: one queue, or the partitions of an ordered subscription. None: it is
    not known yet."""


async def find(
    settings: Settings, wanted: Wanted, progress: Progress, queue: str = ""
) -> Found:
    """Look for what is wanted in the archive as it is now.

    Args:
        settings: Whose RabbitMQ it is.
        wanted: What to look for.
        progress: Told how many of the archive were looked at.
        queue: The one that it shall go to, or the name that an ordered subscription's queues
            share; "" if that is not known yet.

    Raises:
        NoQueue: it is missing, or is none to replay to.
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

    _check(queue)
    async with _connected(settings) as broker:
        queues = await _queues(broker, queue) if queue else ()
        past = await archive.as_it_is(broker, settings.confirm_timeout)
        await first_of(broker.until_lost(), count_all())
    return Found(
        wanted=wanted, count=count, examples=tuple(examples), end=past.end, queues=queues
    )


def _check(queue: str) -> None:
    if queue.startswith("openim.") and not queue.startswith(_SUBSCRIPTIONS):
        raise NoQueue(
            f"{queue} is no queue to replay to: of those that begin with openim. only the ones"
            f" of subscriptions are, {' and '.join(each + '<name>' for each in _SUBSCRIPTIONS)}"
        )
    if partition := _PARTITION.fullmatch(queue):
        raise NoQueue(
            f"{queue} is one partition of an ordered subscription: name its queue without the"
            f" partition, {partition[1]}, and each copy goes to the partition of its key"
        )


async def _queues(broker: Broker, queue: str) -> tuple[str, ...]:
    """Give the queue itself, or the partitions of the ordered subscription."""
    if await ready(broker, queue) is not None:
        return (queue,)
    found: list[str] = []
    if queue.startswith(_SUBSCRIPTIONS):
        for number in itertools.count():
            partition = f"{queue}.{partition_name(number)}"
            if await ready(broker, partition) is None:
                break
            found.append(partition)
    if not found:
        raise NoQueue(f"there is no queue {queue} to replay to")
    return tuple(found)


async def publish(
    settings: Settings, found: Found, queues: Sequence[str], rate: float, progress: Progress
) -> int:
    """Publish what was found, oldest first, each confirmed before the next; count it.

    Args:
        settings: Whose RabbitMQ it is.
        found: By `find`.
        queues: Where to: one, or the partitions of an ordered subscription. They must exist.
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
                    *(delivery, "", _queue_of(key, queues), headers | {ROUTING_KEY: key}),
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


def _queue_of(routing_key: object, queues: Sequence[str]) -> str:
    """Give the queue that a callback of this key would have come to."""
    last = str(routing_key).rpartition(".p")[2]
    # What is malformed has no partition.
    return queues[int(last) % len(queues) if last.isdecimal() else 0]


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
