"""Subscriptions that people have paused: a row of SQL for each, which workers and console read.

Workers look every second. One that reads such a row begins nothing more of the subscription
and gives its queues back to RabbitMQ, where everything waits; when the row is gone it takes
them again. The row outlives workers, console and RabbitMQ.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, String, Table, Text, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.database import FAILURES, METADATA, Database, insert_into, storable

log = logging.getLogger(__name__)

TABLE = Table(
    "paused_subscriptions",
    METADATA,
    Column("subscription", String(200), primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("who", Text, nullable=False),
    Column("reason", Text, nullable=False),
)

LONGEST_REASON = 500
"""Characters of a reason that are kept."""

PACE = 1.0
"""Seconds between two looks."""

PATIENCE = 5.0
"""Seconds that a look may take."""


@dataclass(frozen=True, kw_only=True)
class PausedBy:
    """Who has paused a subscription, when and why."""

    who: str
    at: float
    """Seconds since 1970."""
    reason: str


async def pause(
    transaction: AsyncConnection, subscription: str, *, who: str, reason: str
) -> bool:
    """Have workers leave a subscription alone; False if somebody has paused it already."""
    row = {
        "subscription": subscription,
        "at_ms": time.time_ns() // 1_000_000,
        "who": storable(who),
        "reason": storable(reason[:LONGEST_REASON]),
    }
    adding = insert_into(TABLE, transaction.dialect.name).values(row).on_conflict_do_nothing()
    return (await transaction.execute(adding)).rowcount > 0


async def resume(transaction: AsyncConnection, subscription: str) -> bool:
    """Have workers go on with a subscription; False if nobody has paused it."""
    removing = delete(TABLE).where(TABLE.c.subscription == subscription)
    return (await transaction.execute(removing)).rowcount > 0


async def read(transaction: AsyncConnection) -> dict[str, PausedBy]:
    """Give what is paused, by subscription."""
    rows = (await transaction.execute(select(TABLE))).all()
    return {
        row.subscription: PausedBy(who=row.who, at=row.at_ms / 1000, reason=row.reason)
        for row in rows
    }


class Pauses:
    """What is paused, as it was at the last look.

    Args:
        database: Where the rows are. While it is away, what was last read holds.

    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.now: Mapping[str, PausedBy] = {}
        """By subscription."""
        self.known = asyncio.Event()
        """Set once it was read."""
        self._changed = asyncio.Event()
        self._looking = asyncio.Lock()

    async def run(self) -> None:
        """Look, again and again."""
        while True:
            await self.look()
            await asyncio.sleep(PACE)

    async def look(self) -> None:
        """Read what is paused, if the database is there."""
        try:
            async with (
                self._database.room,
                self._looking,
                asyncio.timeout(PATIENCE),
                self._database.transaction() as transaction,
            ):
                found = await read(transaction)
        except (*FAILURES, TimeoutError):
            return  # handlers say that it is away
        self.known.set()
        if found != self.now:
            log.info("paused by people", extra={"subscriptions": sorted(found)})
            self.now = found
            self._changed.set()
            self._changed = asyncio.Event()

    async def end(self) -> None:
        """Look no more: a look that is cancelled would leave its connection open."""
        await self._looking.acquire()

    async def changes(self) -> AsyncIterator[None]:
        """Come once, and again whenever something is paused or resumed."""
        while True:
            changed = self._changed
            yield
            await changed.wait()
