"""SQL for handlers: SQLite in a file by default, PostgreSQL by URL, one schema for both."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, unquote

from sqlalchemy import Connection, MetaData, Table, Transaction, event, inspect, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

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

_AWAY_IN_SQLITE = ("BUSY", "LOCKED", "FULL", "IOERR", "CANTOPEN", "READONLY")
"""SQLite's errors that say nothing against the statement."""

_AWAY_IN_POSTGRESQL = ("08", "53", "57P", "25006")
"""How such errors of PostgreSQL begin: no connection, no resources, shutting down or starting,
and a standby that takes no writes."""


class DatabaseAway(Exception):
    """The database cannot be reached, or takes no writes now; nothing is wrong with them."""


FAILURES = (SQLAlchemyError, OSError, DatabaseAway)
"""What a database that is away or broken raises."""

CONNECT_TIMEOUT = 5.0
"""Seconds that connecting may take who only reads."""

PAUSE = 1.0
"""Seconds between attempts to reach a database that is away at start."""


class Database:
    """An open database.

    Attributes:
        room: To be held around a transaction, so that none waits for a connection.

    """

    def __init__(self, engine: AsyncEngine, connections: int = 1) -> None:
        self._engine = engine
        self.room = asyncio.Semaphore(connections)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Begin a transaction; commit at the end of the block, roll back if it raises.

        Raises:
            DatabaseAway: at the begin, in the block or at the commit.

        """
        connected = False
        try:
            async with _transaction(self._engine) as connection:
                connected = True
                yield connection
        except OSError as error:
            if connected:
                raise
            raise DatabaseAway(reason(error)) from error
        except DBAPIError as error:
            if connected and not _is_away(error):
                raise
            raise DatabaseAway(reason(error)) from error

    async def create_tables(self) -> None:
        """Create what does not exist yet; many workers may do so at a time."""
        async with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                # IF NOT EXISTS does not keep two sessions from creating one name at once.
                await connection.execute(text(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})"))
            for missing in await connection.run_sync(_missing):
                await connection.execute(missing)

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


@asynccontextmanager
async def _transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Do what `engine.begin()` does, in two of SQLAlchemy's greenlets less of four.

    Each costs a twentieth of what handling a single message takes: to begin needs none, as it
    says nothing to the database yet, and one is enough to commit and to give back.
    """
    async with AsyncExitStack() as on_failure:
        connection = await engine.connect()
        # Rolls back, to the end, whoever is cancelled meanwhile.
        on_failure.push_async_exit(connection)
        # There is one, as it is connected.
        begun = cast("Connection", connection.sync_connection).begin()
        # Whoever commits or rolls back in the block, and goes on, hears of it.
        begun.__enter__()
        yield connection
        await connection.run_sync(_commit_and_close, begun)
        on_failure.pop_all()


def _commit_and_close(connection: Connection, begun: Transaction) -> None:
    begun.__exit__(None, None, None)
    connection.close()


def _missing(connection: Connection) -> list[ExecutableDDLElement]:
    """Give what creates the tables and indexes that are not there.

    Asked first, as IF NOT EXISTS locks a table for an index that exists: whoever writes to it
    would wait for all transactions that have begun, each time that a worker starts.
    """
    missing: list[ExecutableDDLElement] = []
    there = inspect(connection)
    tables = set(there.get_table_names())
    for table in METADATA.sorted_tables:
        known = there.get_indexes(table.name) if table.name in tables else []
        names = {index["name"] for index in known}
        if table.name not in tables:
            missing.append(CreateTable(table))
        missing += [
            CreateIndex(index)
            for index in sorted(table.indexes, key=lambda index: str(index.name))
            if index.name not in names
        ]
    return missing


def insert_into(table: Table, dialect: str) -> postgresql.Insert | sqlite.Insert:
    """Give an INSERT that can say what to do about a row that is there already.

    Args:
        table: Where to.
        dialect: SQLAlchemy's name for the kind of database: `transaction.dialect.name`.

    """
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def storable(text: str) -> str:
    """Replace what PostgreSQL cannot store in a text: NUL, and what is no character."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _is_away(error: DBAPIError) -> bool:
    sqlite_name = str(getattr(error.orig, "sqlite_errorname", ""))
    state = str(getattr(error.orig, "sqlstate", "") or "")
    return (
        error.connection_invalidated
        or sqlite_name.removeprefix("SQLITE_").startswith(_AWAY_IN_SQLITE)
        or state.startswith(_AWAY_IN_POSTGRESQL)
    )


def reason(error: BaseException) -> str:
    """Give the cause of a database's error in one line, without the statement's values."""
    if isinstance(error, DatabaseAway):
        return str(error)
    cause = getattr(error, "orig", None) or error
    lines = str(cause).splitlines() or [""]
    return f"{type(cause).__name__}: {lines[0]}"


@asynccontextmanager
async def opened(
    url: str, connections: int = 20, *, read_only: bool = False
) -> AsyncIterator[Database]:
    """Open the database at `url`; nothing is connected before it is used.

    Args:
        url: SQLite or PostgreSQL.
        connections: To PostgreSQL, at most.
        read_only: Whether nothing shall be written, and no file be made.

    """
    parsed = make_url(url)
    driver = _DRIVERS[parsed.drivername]
    options: dict[str, Any] = {"hide_parameters": True}
    if driver.startswith("sqlite"):
        # SQLite has one writer; a queue here is fairer than its busy handler.
        connections = 1
        if read_only:
            file = f"file:{quote(parsed.database or '')}"
            parsed = parsed.set(database=file, query={"mode": "rw", "uri": "true"})
    elif read_only:
        session = {"default_transaction_read_only": "on"}
        options["connect_args"] = {"server_settings": session, "timeout": CONNECT_TIMEOUT}
    options |= {"pool_size": connections, "max_overflow": 0, "pool_timeout": 60}
    engine = create_async_engine(parsed.set(drivername=driver), **options)
    if driver.startswith("sqlite"):
        prepare = _forbid_writing if read_only else _make_durable
        event.listen(engine.sync_engine, "connect", prepare)
        if read_only:
            event.listen(engine.sync_engine, "do_connect", _check_there)
    try:
        yield Database(engine, connections)
    finally:
        await engine.dispose()


def _make_durable(connection: Any, _record: object) -> None:  # noqa: ANN401  # DB-API, untyped
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.close()


def _check_there(_dialect: object, _record: object, where: list[str], _more: object) -> None:
    """Refuse to connect to a file that is missing: the driver would leave a thread behind."""
    file = unquote(where[0].removeprefix("file:").partition("?")[0])
    if not Path(file).exists():
        raise FileNotFoundError(f"there is no file {file}")


def _forbid_writing(connection: Any, _record: object) -> None:  # noqa: ANN401  # as above
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only=ON")
    cursor.execute("PRAGMA busy_timeout=1000")
    cursor.close()
