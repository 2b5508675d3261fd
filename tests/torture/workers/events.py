"""Events of many keys, at a steady rate, whatever becomes of those who handle them."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bridge.broker import Broker, connect
from bridge.contract import AfterUserOnline, partition
from bridge.message import Ids, Message
from bridge.topology import RECEIVED, partition_name
from bridge.wire import Numbered, Outcome
from tests.running import until

PARTITIONS = 16

TICK = 0.02
"""Seconds between two writes to RabbitMQ."""


class Events:
    """Publishes as the receiver's forwarder does.

    Args:
        rate: Events a second.
        keys: How many there are.
        chance: Which key is next; for others too.

    Attributes:
        sent: How many of each key.
        wrong: What RabbitMQ would not take.

    """

    def __init__(self, rate: int, keys: int, chance: random.Random) -> None:
        self.sent: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._rate = rate
        self._keys = [f"user{number}" for number in range(keys)]
        self.chance = chance
        self._ids = Ids()
        self._settled = 0

    @asynccontextmanager
    async def flowing(self, amqp_url: str) -> AsyncIterator[None]:
        """Publish during the block; at its end all is confirmed."""
        async with connect(amqp_url, name="torture", timeout=10) as broker:
            async with asyncio.TaskGroup() as tasks:
                publishing = tasks.create_task(self._publish(broker))
                yield
                publishing.cancel()
            await until(lambda: self._settled == self.sent.total())

    async def _publish(self, broker: Broker) -> None:
        publisher = await broker.publisher(RECEIVED, self._settle)
        started, before = time.monotonic(), self.sent.total()
        while True:
            due = int((time.monotonic() - started) * self._rate) + before - self.sent.total()
            publisher.send([(0, self._next()) for _ in range(due)])
            await asyncio.sleep(TICK)

    def _next(self) -> bytes:
        key = self.chance.choice(self._keys)
        number = self.sent[key]
        self.sent[key] += 1
        place = partition_name(partition(key, PARTITIONS))
        return Message(
            id=self._ids.mint(),
            routing_key=f"{AfterUserOnline.routing_key}.{place}",
            command=AfterUserOnline.command,
            received_ms=time.time_ns() // 1_000_000,
            body=b'{"userID":"%b"}' % key.encode(),
            operation_id=str(number),
            ordering_key=key,
        ).encode()

    def _settle(self, some: Sequence[Numbered], outcome: Outcome) -> None:
        self._settled += len(some)
        if outcome is not Outcome.CONFIRMED:
            self.wrong.append(f"{len(some)} events were {outcome.value}")
