"""What workers are given to do: one effect in SQL for each event, which shows if it is two."""

import os
import time
from collections.abc import AsyncIterator
from typing import NamedTuple

from sqlalchemy import BigInteger, Column, Identity, Integer, Table, Text, select

from bridge.contract import AfterUserOnline
from consumers.context import Context
from consumers.database import METADATA, Database
from consumers.registry import Handlers

SUBSCRIPTION = "torture"

EFFECTS = Table(
    "effects_of_torture",
    METADATA,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("key", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("worker", Integer, nullable=False),
    Column("sent_ms", BigInteger, nullable=False),
    Column("handled_ms", BigInteger, nullable=False),
)

handlers = Handlers(SUBSCRIPTION, ordered=True)


@handlers.on(AfterUserOnline)
async def note(event: AfterUserOnline, context: Context) -> None:
    """Write down who handled the event, and when."""
    row = {
        "key": event.user_id,
        "number": int(context.operation_id),
        "worker": os.getpid(),
        "sent_ms": round(context.received.timestamp() * 1000),
        "handled_ms": time.time_ns() // 1_000_000,
    }
    await context.transaction.execute(EFFECTS.insert(), row)


class Effect(NamedTuple):
    """A row."""

    key: str
    number: int
    worker: int
    """Its process."""
    sent_ms: int
    handled_ms: int


async def effects(database: Database) -> AsyncIterator[Effect]:
    """Give the effects in the order in which they were made."""
    columns = [EFFECTS.c[name] for name in Effect._fields]
    everything = select(*columns).order_by(EFFECTS.c.id)
    async with database.transaction() as sql, sql.stream(everything) as rows:
        async for row in rows:
            yield Effect(*row)
