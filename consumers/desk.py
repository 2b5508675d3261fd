"""The desk where dead letters are looked at, replayed and discarded.

Letters are lent by RabbitMQ, a page at a time, each page to a consumer of its own, and those
that were not acked are given back at the end, in their order. Whoever looks at the same time
sees only what is not lent.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias

from bridge.broker import Broker, ConnectionLost, Consumer, Copier, Delivery
from bridge.deliveries import Seconds
from bridge.queues import made, ready
from bridge.replay import REPLAYED
from bridge.topology import RETRY, dead_letters
from consumers import dead_letter_audit
from consumers.database import Database
from consumers.dead_letter_audit import REPLAY, Act
from consumers.dead_letters import REPLAYS, Letter, Wanted

PAGE = 500
"""Letters in a page, which RabbitMQ and the desk may hold in memory together."""

MOST_PAGES = 1000
"""Pages of one look: RabbitMQ allows 2047 channels on a connection."""

LENT: Seconds = 600
"""How long a page may take; RabbitMQ takes back after 30 minutes what nobody settles."""

SILENCE: Seconds = 1.0
"""Time without a letter after which the desk asks whether there are any left."""

RETURNING: Seconds = 10
"""How long RabbitMQ may need to take back a page."""

BY_RABBITMQ = re.compile(r"x-((first|last)-)?death.*|x-delivery-count")
"""Headers that a replayed letter must not have: RabbitMQ 3 drops a message that comes back
from a wait queue to a queue that its `x-death` names already."""

Keep: TypeAlias = Callable[[Letter], bool]
"""Looks at each letter, and says whether it is meant to be settled."""


class CannotDo(Exception):
    """What was asked for cannot be done to these queues; the message says what to do."""


@dataclass
class _Page:
    """Letters that were lent together."""

    size: int
    kept: list[Letter] = field(default_factory=list)
    came: int = 0
    held: int = 0
    """Those that go back."""
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    consumer: Consumer | None = None

    def take(self, letter: Letter, keep: Keep) -> None:
        self.came += 1
        if keep(letter):
            self.kept.append(letter)
        if self.came == self.size:
            self.complete.set()

    async def close(self) -> None:
        if self.consumer is not None:
            await self.consumer.close()


async def count(broker: Broker, subscription: str) -> int | None:
    """Count the dead letters of a subscription; None if it has no queue for them.

    Raises:
        CannotDo: the queue is one that a look could take letters from.

    """
    queue = dead_letters(subscription)
    found = await ready(broker, queue.name)
    if found is None:
        return None
    problem = await made(broker, queue)
    if problem:
        raise CannotDo(
            f"{queue.name} was declared otherwise, and RabbitMQ may drop letters that are"
            f" looked at: move them away and delete the queue ({problem})"
        )
    return found


async def pages(
    broker: Broker, subscription: str, keep: Keep, size: int = PAGE
) -> AsyncGenerator[list[Letter], None]:
    """Have all letters that are there now looked at; give those to be settled, by pages.

    What was not acked when the generator is closed goes back.

    Args:
        broker: The connection.
        subscription: Whose letters.
        keep: Called with each; the others are not held in memory.
        size: Letters in a page; more of them if there would be too many pages.

    """
    queue = dead_letters(subscription).name
    left = await ready(broker, queue) or 0
    size = max(size, left // MOST_PAGES)
    lent: list[_Page] = []
    try:
        while left > 0:
            page = _Page(min(size, left))
            lent.append(page)
            await _fill(broker, subscription, queue, page, keep)
            yield page.kept
            page.held = page.came - len(page.kept)
            page.kept.clear()
            if not page.held:
                lent.remove(page)
                await page.close()
            left = left - page.came if page.came == page.size else 0
        while lent:
            await _give_back(broker, queue, lent.pop(0))
    finally:
        for page in lent:
            await page.close()


async def _fill(broker: Broker, subscription: str, queue: str, page: _Page, keep: Keep) -> None:
    def take(delivery: Delivery) -> None:
        page.take(Letter(subscription=subscription, delivery=delivery), keep)

    page.consumer = await broker.consume(queue, take, prefetch=page.size)
    came = -1
    while not page.complete.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(page.complete.wait(), SILENCE)
        # Somebody else may have taken some since they were counted.
        if came == page.came and not await ready(broker, queue):
            break
        came = page.came
    # An ack would make room for a letter that nobody waits for.
    await page.consumer.stop()


async def _give_back(broker: Broker, queue: str, page: _Page) -> None:
    """Close a page and wait until RabbitMQ has taken it back, so that the next comes after.

    It does so in its own time, and who looks meanwhile would miss some.
    """
    there = await ready(broker, queue) or 0
    await page.close()
    whole = there + page.held
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(RETURNING):
            while (await ready(broker, queue) or 0) < whole:  # noqa: ASYNC110
                await asyncio.sleep(RETURNING / 1000)


async def look(broker: Broker, subscription: str, see: Callable[[Letter], object]) -> None:
    """Show every dead letter of a subscription, oldest first; none is taken."""

    def keep(letter: Letter) -> bool:
        see(letter)
        return False

    async with aclosing(pages(broker, subscription, keep)) as looked:
        async for _ in looked:
            pass


@dataclass(kw_only=True)
class Desk:
    """Replays or discards letters, and notes each in the audit log before."""

    broker: Broker
    database: Database
    act: Act
    confirm_timeout: Seconds
    rate: float | None = None
    """Letters a second, at most."""

    done: Callable[[], None]
    """Called after each."""

    _begun: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    _count: int = 0

    async def settle(self, subscription: str, wanted: Wanted) -> None:
        """Do it to those letters of a subscription that are wanted.

        Raises:
            CannotDo: there is no work queue to replay to.
            ConnectionLost: some were settled, the others are still dead letters.
            DatabaseAway: the same.

        """
        settle = await self._replaying() if self.act.action == REPLAY else _forget
        async with aclosing(self._each(subscription, wanted)) as letters:
            async for letter in letters:
                await settle(letter)
                letter.delivery.ack()
                self._count += 1
                self.done()

    async def _each(self, subscription: str, wanted: Wanted) -> AsyncGenerator[Letter, None]:
        size = PAGE if self.rate is None else max(1, min(PAGE, int(self.rate * LENT)))
        async with aclosing(pages(self.broker, subscription, wanted.has, size)) as found:
            async for letters in found:
                async with self.database.transaction() as transaction:
                    await dead_letter_audit.add(transaction, self.act, letters)
                for letter in letters:
                    await self._turn()
                    yield letter

    async def _turn(self) -> None:
        if self.rate is not None:
            due = self._begun + self._count / self.rate
            await asyncio.sleep(due - asyncio.get_running_loop().time())

    async def _replaying(self) -> Callable[[Letter], Awaitable[None]]:
        copier = await self.broker.copier()
        queues: dict[tuple[str, ...], str] = {}

        async def replay(letter: Letter) -> None:
            if letter.queues not in queues:
                queues[letter.queues] = await self._existing(letter.queues)
            await self._publish(copier, letter, queues[letter.queues])

        return replay

    async def _existing(self, queues: tuple[str, ...]) -> str:
        for queue in queues:
            if await ready(self.broker, queue) is not None:
                return queue
        raise CannotDo(f"there is no queue {queues[-1]} to replay to: start a worker once")

    async def _publish(self, copier: Copier, letter: Letter, queue: str) -> None:
        headers = {
            "x-attempt": 1,
            "x-last-error": letter.error,
            "x-last-failure": letter.failed.isoformat(timespec="milliseconds"),
            "x-routing-key": letter.routing_key,
            REPLAYED: datetime.now(UTC).isoformat(timespec="milliseconds"),
            REPLAYS: letter.replays + 1,
        }
        for name in filter(BY_RABBITMQ.fullmatch, list(letter.delivery.headers)):
            del letter.delivery.headers[name]
        try:
            await copier.publish(letter.delivery, RETRY, queue, headers, self.confirm_timeout)
        except ConnectionLost as error:
            raise ConnectionLost(f"{queue} did not take a letter: {error}") from error


async def _forget(_letter: Letter) -> None:
    """Do no more than the audit log has noted."""
