"""SQL for handlers: SQLite in a file by default, PostgreSQL by URL, one schema for both."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from sqlalchemy import MetaData, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.schema import CreateIndex, CreateTable

log = logging.getLogger(__name__)

METADATA = MetaData()
"""Every table of the consumers; a module that has tables defines them on this."""

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
}

_SCHEMA_LOCK = 5_271_043
"""Key of the PostgreSQL advisory lock under which tables are created, any fixed number."""

FAILURES = (SQLAlchemyError, OSError)
"""What a database that is away or broken raises."""

PAUSE = 1.0
"""Seconds between attempts to reach a database that is away at start."""


class Database:
    """An open database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Begin a transaction; commit at the end of the block, roll back if it raises."""
        async with self._engine.begin() as connection:
            yield connection

    async def create_tables(self) -> None:
        """Create what does not exist yet; many workers may do so at a time."""
        async with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                # IF NOT EXISTS does not keep two sessions from creating one name at once.
                await connection.execute(text(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})"))
            for table in METADATA.sorted_tables:
                await connection.execute(CreateTable(table, if_not_exists=True))
                for index in sorted(table.indexes, key=lambda index: str(index.name)):
                    await connection.execute(CreateIndex(index, if_not_exists=True))

    async def wait_until_ready(self, stop: asyncio.Event) -> None:
        """Create the tables, however long the database is away, unless told to stop."""
        trouble = ""
        while not stop.is_set():
            try:
                await self.create_tables()
            except FAILURES as error:
                if reason(error) != trouble:
                    trouble = reason(error)
                    log.warning("database unavailable", extra={"reason": trouble})
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), PAUSE)
            else:
                return


def reason(error: BaseException) -> str:
    """Give the cause of a database's error in one line, without the statement's values."""
    cause = getattr(error, "orig", None) or error
    lines = str(cause).splitlines() or [""]
    return f"{type(cause).__name__}: {lines[0]}"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """Open the database at `url`; nothing is connected before it is used."""
    parsed = make_url(url)
    driver = _DRIVERS[parsed.drivername]
    options: dict[str, Any] = {"hide_parameters": True}
    if driver.startswith("sqlite"):
        # SQLite has one writer; a queue here is fairer than its busy handler.
        options |= {"pool_size": 1, "max_overflow": 0, "pool_timeout": 60}
    else:
        options |= {"pool_size": 20, "max_overflow": 0, "pool_pre_ping": True}
    engine = create_async_engine(parsed.set(drivername=driver), **options)
    if driver.startswith("sqlite"):
        event.listen(engine.sync_engine, "connect", _make_durable)
    try:
        yield Database(engine)
    finally:
        await engine.dispose()


def _make_durable(connection: Any, _record: object) -> None:  # noqa: ANN401  # DB-API, untyped
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.close()
