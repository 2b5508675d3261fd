"""The inbox: which handler has dealt with which message, in the handler's own transaction.

A message comes again after a crash, a lost line, a retry or a replay, always under the same
message id. Its row here is written together with what the handler writes, so both are there
or neither is: the effect in SQL happens once.
"""

import time
from collections.abc import Collection
from datetime import timedelta
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Column, Index, Table, Text, delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import ReturningInsert

from consumers.database import METADATA, insert_into

FORGOTTEN_AT_ONCE = 10_000
"""Rows removed in one transaction."""

TABLE = Table(
    "inbox",
    METADATA,
    Column("handler", Text, primary_key=True),
    Column("message_id", Text, primary_key=True),
    Column("handled_ms", BigInteger, nullable=False),
    Index("inbox_by_time", "handled_ms"),
)


async def claim(
    transaction: AsyncConnection, handler: str, message_ids: Collection[str]
) -> set[str]:
    """Note that `handler` deals with messages; give those that it has not dealt with before.

    Another worker that claims one of them at the same time waits for this transaction.
    """
    now = time.time_ns() // 1_000_000
    rows = [
        {"handler": handler, "message_id": message_id, "handled_ms": now}
        # In one order, or two workers with the same messages would wait for each other.
        for message_id in sorted(set(message_ids))
    ]
    # Rows beside the statement, not in it: then it is compiled once and not each time. And a
    # single row not in a list, for which SQLAlchemy takes a longer way.
    claim = _claiming(transaction.dialect.name)
    claimed = await transaction.execute(claim, rows[0] if len(rows) == 1 else rows)
    return {message_id for (message_id,) in claimed}


@cache
def _claiming(dialect: str) -> ReturningInsert[Any]:
    added = insert_into(TABLE, dialect)
    return added.on_conflict_do_nothing().returning(TABLE.c.message_id)


async def forget(transaction: AsyncConnection, older_than: timedelta) -> int:
    """Remove old rows, some of them at a time; give how many."""
    before = time.time_ns() // 1_000_000 - int(older_than.total_seconds() * 1000)
    key = TABLE.c.handler, TABLE.c.message_id
    old = select(*key).where(TABLE.c.handled_ms < before).limit(FORGOTTEN_AT_ONCE)
    removed = await transaction.execute(delete(TABLE).where(tuple_(*key).in_(old)))
    return removed.rowcount
