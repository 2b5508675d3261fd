"""Reads SQL for who waits for an answer: not for long, and with one error for all troubles."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.database import Database, DatabaseAway, reason

PATIENCE = 5.0
"""Seconds that everything may take, waiting for a connection included."""


@asynccontextmanager
async def reading(database: Database) -> AsyncIterator[AsyncConnection]:
    """Begin a transaction that reads.

    Raises:
        DatabaseAway: it cannot be reached, is too slow, or lacks a table.

    """
    try:
        async with (
            asyncio.timeout(PATIENCE),
            database.room,
            database.transaction() as transaction,
        ):
            yield transaction
    except TimeoutError as error:
        raise DatabaseAway(f"no answer within {PATIENCE:g} s") from error
    except (SQLAlchemyError, OSError) as error:
        hint = "a worker creates its tables when it starts"
        raise DatabaseAway(f"{reason(error)} ({hint})") from error
