"""What workers depend on besides RabbitMQ, looked at: handlers and the database."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.deliveries import Seconds
from bridge.doctor import Check, NotTried, Wrong
from bridge.doctor.machine import APART
from consumers import (
    database,
    tables,  # noqa: F401  # to be looked at
)
from consumers.registry import Handlers

PATIENCE: Seconds = 10
"""How long the database may take to answer."""

WAITS = "subscriptions pause, and callbacks wait in RabbitMQ until this is mended"

RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")


def handlers(loaded: list[Handlers], problem: str) -> Check:
    """Say which subscriptions there are, or why the modules cannot be loaded."""

    async def look() -> str:
        if problem:
            raise Wrong(
                problem,
                means="no worker starts, and callbacks wait in RabbitMQ until this is mended",
                remedy="correct the module, or CONSUMERS_HANDLERS; install its package, or call"
                " this where the module lies",
            )
        return ", ".join(f"{each.subscription}: {len(each.events)} events" for each in loaded)

    return Check(name="handlers", look=look)


@dataclass(frozen=True, kw_only=True)
class Database:
    """The checks of a database, of which nothing is changed."""

    url: str

    @property
    def checks(self) -> list[Check]:
        """What is looked at, in this order."""
        return [
            Check(name="database", look=self._reach),
            Check(name="tables", look=self._in(_tables), needs=("database",)),
            Check(name="writing", look=self._in(_writing), needs=("tables",)),
            Check(name="its clock", look=self._in(_clock), needs=("database",)),
        ]

    @property
    def _file(self) -> Path | None:
        """Where SQLite keeps it."""
        parsed = make_url(self.url)
        return Path(parsed.database or "") if parsed.drivername == "sqlite" else None

    async def _reach(self) -> str:
        file = self._file
        if file is not None:
            _check_writable(file)
            if not file.exists():
                return f"there is no {file} yet: a worker makes it"
        async with self._transaction() as transaction:
            name = "SQLite" if file else "PostgreSQL"
            asked = "sqlite_version()" if file else "current_setting('server_version')"
            version = await transaction.scalar(text(f"SELECT {asked}"))
            await transaction.run_sync(_names)
            return f"{name} {version}"

    def _in(
        self, look: Callable[[AsyncConnection], Awaitable[str]]
    ) -> Callable[[], Awaitable[str]]:
        async def looked() -> str:
            if self._file is not None and not self._file.exists():
                raise NotTried("a worker makes it when it starts")
            async with self._transaction() as transaction:
                return await look(transaction)

        return looked

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with (
                asyncio.timeout(PATIENCE),
                database.opened(self.url, connections=1, read_only=True) as opened,
                opened.transaction() as transaction,
            ):
                yield transaction
        except database.FAILURES as error:
            raise Wrong(
                database.reason(error),
                means=WAITS,
                remedy="start the database, or correct CONSUMERS_DATABASE_URL: user, password,"
                " host and the database's name, which has to exist",
            ) from error


def _check_writable(file: Path) -> None:
    folder = file.absolute().parent
    if not folder.is_dir():
        found = f"there is no folder {folder}"
    elif not os.access(folder, os.W_OK) or (file.exists() and not os.access(file, os.W_OK)):
        found = f"{file} cannot be written to"
    else:
        return
    remedy = "make it, give this user the right, or name another by CONSUMERS_DATABASE_URL"
    raise Wrong(found, means=WAITS, remedy=remedy)


def _names(connection: Connection) -> list[str]:
    return inspect(connection).get_table_names()


async def _tables(transaction: AsyncConnection) -> str:
    """Compare tables with those of this version."""
    there, lacking = await transaction.run_sync(_compared)
    if lacking:
        raise Wrong(
            f"missing: {', '.join(lacking)}",
            means="another version made these tables, and what writes to them fails",
            remedy="docs/changelog.md says what has changed; start workers of one version. A"
            " table of your own you change by ALTER TABLE: workers make tables, and alter none",
        )
    missing = len(database.METADATA.tables) - len(there)
    return f"{len(there)} are there; a worker makes {missing} more" if missing else "all there"


def _compared(connection: Connection) -> tuple[list[str], list[str]]:
    """Give our tables that are there, and the columns that these lack."""
    found = inspect(connection)
    there = [each for each in database.METADATA.sorted_tables if found.has_table(each.name)]
    lacking = [
        f"column {column.name} of table {table.name}"
        for table in there
        for column in table.columns
        if column.name not in {each["name"] for each in found.get_columns(table.name)}
    ]
    return [each.name for each in there], lacking


async def _writing(transaction: AsyncConnection) -> str:
    """Look whether the user may do what workers do."""
    if transaction.dialect.name == "sqlite":
        return "its file may be written to"
    there, _ = await transaction.run_sync(_compared)
    if await transaction.scalar(text("SELECT pg_is_in_recovery()")):
        raise Wrong(
            "it is a standby, which takes no writes",
            means=WAITS,
            remedy="name the primary in CONSUMERS_DATABASE_URL",
        )
    lacking = [
        f"{right} on {name}"
        for name in there
        for right in RIGHTS
        if not await _has(transaction, "table", name, right)
    ]
    schema = await transaction.scalar(text("SELECT current_schema()")) or "public"
    if len(there) < len(database.METADATA.tables):
        may = await _has(transaction, "schema", schema, "CREATE")
        lacking += [] if may else [f"CREATE on the schema {schema}"]
    if lacking:
        raise Wrong(
            f"the user lacks {', '.join(lacking)}",
            means=WAITS,
            remedy="give it by GRANT, or name another user in CONSUMERS_DATABASE_URL",
        )
    return "the user may write"


async def _has(transaction: AsyncConnection, kind: str, name: str, right: str) -> bool:
    asked = text(f"SELECT has_{kind}_privilege(:name, :right)")
    return bool(await transaction.scalar(asked, {"name": name, "right": right}))


async def _clock(transaction: AsyncConnection) -> str:
    if transaction.dialect.name == "sqlite":
        return "this machine's"
    asked = text("SELECT extract(epoch FROM clock_timestamp())")
    apart = float(await transaction.scalar(asked) or 0) - time.time()
    if abs(apart) > APART:
        raise Wrong(
            f"the database's clock is {abs(apart):,.0f} s {'ahead' if apart > 0 else 'behind'}",
            means="what is kept for some days goes too early or too late by so much",
            remedy="have both machines' clocks kept by chrony or systemd-timesyncd",
            warning=True,
        )
    return f"{abs(apart):,.0f} s apart"
