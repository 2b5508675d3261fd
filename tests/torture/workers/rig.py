"""All that is there: RabbitMQ, PostgreSQL, the events, the workers."""

import asyncio
import random
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aio_pika
from sqlalchemy import func, select

from bridge.broker import connect
from bridge.rights import SHARED
from bridge.topology import dead_letter_queue, subscription, work_queue
from consumers import database
from consumers.database import Database
from tests.brokers import RabbitMQ
from tests.torture.workers.effects import EFFECTS, SUBSCRIPTION, handlers
from tests.torture.workers.events import PARTITIONS, Events
from tests.torture.workers.staff import Staff, Worker


@dataclass(frozen=True, kw_only=True)
class Rig:
    """Everything, set up and connected."""

    server: RabbitMQ
    amqp_url: str
    database: Database
    events: Events
    staff: Staff
    chance: random.Random
    storms: list[float] = field(default_factory=list)
    """Cores that RabbitMQ took each time all workers were killed again and again."""

    def any(self) -> Worker:
        """Choose a worker."""
        return self.chance.choice(self.staff.present)

    async def broker_seconds(self) -> float:
        """Give how much CPU time RabbitMQ has taken."""
        said = await asyncio.to_thread(
            self.server.rabbitmqctl, "eval", "erlang:statistics(runtime)."
        )
        found = re.match(r"\{(\d+),", said)
        assert found is not None
        return int(found[1]) / 1000

    async def effects(self) -> int:
        """Give how many effects there are."""
        async with self.database.transaction() as transaction:
            counted = await transaction.execute(select(func.count()).select_from(EFFECTS))
            return counted.scalar_one()

    async def waiting(self) -> int:
        """Give how many events wait in RabbitMQ to be given to a worker."""
        queues = [work_queue(SUBSCRIPTION, number) for number in range(PARTITIONS)]
        return await self._count(*queues)

    async def dead_letters(self) -> int:
        """Give how many events were given up."""
        return await self._count(dead_letter_queue(SUBSCRIPTION))

    async def _count(self, *names: str) -> int:
        async with await aio_pika.connect(self.amqp_url) as connection:
            channel = await connection.channel()
            queues = [await channel.declare_queue(name, passive=True) for name in names]
        return sum(queue.declaration_result.message_count or 0 for queue in queues)


@asynccontextmanager
async def rig(server: RabbitMQ, staff: Staff, events: Events) -> AsyncIterator[Rig]:
    """Set everything up; no worker is there yet, and at the end none any more."""
    amqp_url = staff.amqp_url
    async with database.opened(staff.database_url) as opened:
        await opened.create_tables()
        async with connect(amqp_url, name="torture", timeout=10) as broker:
            await broker.declare(SHARED)
            wanted = subscription(SUBSCRIPTION, handlers.events, partitions=PARTITIONS)
            await broker.declare(wanted)
        try:
            yield Rig(
                server=server,
                amqp_url=amqp_url,
                database=opened,
                events=events,
                staff=staff,
                chance=events.chance,
            )
        finally:
            for worker in staff.present:
                worker.signal(signal.SIGKILL)
                await worker.ended()
