"""Our workers under load: fills a subscription's queue, and has it handled.

Run it with KIND COUNT AMQP_URL DATABASE_URL; KIND `fill`
only fills the queue of `noop`, and `copy` needs no queue: it writes what `archive` does.
"""

import asyncio
import gc
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import asyncpg  # type: ignore[import-untyped]  # it has no types
import msgspec
from sqlalchemy import Column, Insert, Integer, Table, Text, delete
from sqlalchemy.ext.asyncio import AsyncConnection
from stopwatch import Stopwatch

from bridge.broker import Broker, connect
from bridge.commands import run
from bridge.contract import AfterSendGroupMsg, partition
from bridge.message import Ids, Message, decode
from bridge.rights import SHARED
from bridge.topology import CALLBACKS, partition_name, subscription
from bridge.wire import Numbered, Outcome
from consumers import database
from consumers.cli.work import COLLECTED_AFTER
from consumers.database import METADATA, Database, insert_into
from consumers.messages import archive
from consumers.messages.archive import MESSAGES
from consumers.registry import BatchContext, Context, Handlers
from consumers.settings import Worker as Settings
from consumers.worker import Worker

KEYS = 1000
PARTITIONS = 16
WINDOW = 500
PREFETCH = 16
SAMPLE = (
    Path(__file__).parents[1] / "tests/samples/callbackAfterSendGroupMsgCommand.json"
).read_bytes()

GROUPS = Table(
    "bench_groups",
    METADATA,
    Column("group_id", Text, primary_key=True),
    Column("messages", Integer, nullable=False),
)


async def upsert(transaction: AsyncConnection, groups: Sequence[str]) -> None:
    """Count messages of groups."""
    counted = sorted(Counter(groups).items())
    rows = [{"group_id": group, "messages": count} for group, count in counted]
    counting = _counting(transaction.dialect.name)
    await transaction.execute(counting, rows[0] if len(rows) == 1 else rows)


@cache
def _counting(dialect: str) -> Insert:
    added = insert_into(GROUPS, dialect)
    return added.on_conflict_do_update(
        index_elements=["group_id"],
        set_={"messages": GROUPS.c.messages + added.excluded.messages},
    )


def noop(watch: Stopwatch, _database: Database, *, ordered: bool = False) -> Handlers:
    """Do nothing."""
    handlers = Handlers("bench", ordered=ordered)

    @handlers.on(AfterSendGroupMsg, sql=False)
    async def handle(_event: AfterSendGroupMsg) -> None:
        watch.tick()

    return handlers


def in_order(watch: Stopwatch, opened: Database) -> Handlers:
    """Do nothing, in order by group."""
    return noop(watch, opened, ordered=True)


def inbox(watch: Stopwatch, _database: Database) -> Handlers:
    """Write once for each message, by its inbox row."""
    handlers = Handlers("bench")

    @handlers.on(AfterSendGroupMsg)
    async def handle(event: AfterSendGroupMsg, context: Context) -> None:
        await upsert(context.transaction, [event.group_id])
        watch.tick()

    return handlers


def no_inbox(watch: Stopwatch, opened: Database) -> Handlers:
    """Write in a transaction of the handler's own."""
    handlers = Handlers("bench")

    @handlers.on(AfterSendGroupMsg, sql=False)
    async def handle(event: AfterSendGroupMsg) -> None:
        async with opened.room, opened.transaction() as transaction:
            await upsert(transaction, [event.group_id])
        watch.tick()

    return handlers


def batch(watch: Stopwatch, _database: Database) -> Handlers:
    """Write for 500 messages at a time, each once."""
    handlers = Handlers("bench")

    @handlers.on_batch(AfterSendGroupMsg, most=500)
    async def handle(events: Sequence[AfterSendGroupMsg], context: BatchContext) -> None:
        await upsert(context.transaction, [event.group_id for event in events])
        watch.tick(len(events))

    return handlers


def archived(watch: Stopwatch, _database: Database) -> Handlers:
    """Archive messages, 500 at a time."""
    handlers = Handlers("bench")

    @handlers.on_batch(AfterSendGroupMsg, most=500)
    async def handle(events: Sequence[AfterSendGroupMsg], context: BatchContext) -> None:
        messages = [
            archive.kept(event, receipt.message_id, receipt.received)
            for event, receipt in zip(events, context.receipts, strict=True)
        ]
        await archive.add(context.transaction, messages)
        watch.tick(len(events))

    return handlers


Build: TypeAlias = Callable[[Stopwatch, Database], Handlers]

KINDS: dict[str, tuple[Build, int]] = {
    "noop": (noop, PREFETCH),
    "ordered": (in_order, PREFETCH),
    "one-by-one": (inbox, 1),
    "inbox": (inbox, 64),
    "no-inbox": (no_inbox, 64),
    "batch": (batch, PREFETCH),
    "archive": (archived, PREFETCH),
}
"""Handlers, and the deliveries handled at a time."""


def messages(count: int) -> Iterator[Numbered]:
    """Make messages to groups, as the receiver does."""
    ids = Ids()
    for number in range(count):
        group = f"group-{number % KEYS}"
        key = f"sg_{group}"
        yield (
            number,
            Message(
                id=ids.mint(),
                routing_key=(
                    f"{AfterSendGroupMsg.routing_key}."
                    f"{partition_name(partition(key, PARTITIONS))}"
                ),
                command=AfterSendGroupMsg.command,
                received_ms=time.time_ns() // 1_000_000,
                body=SAMPLE.replace(b"3012345678", group.encode()).replace(
                    b"0b2676769e9eceb4983cb12966586f48", f"{number:032x}".encode()
                ),
                operation_id=f"op-{number}",
                ordering_key=key,
            ).encode(),
        )


async def fill(broker: Broker, count: int) -> None:
    """Publish messages, and wait until RabbitMQ has all."""
    confirmed = 0
    changed = asyncio.Event()

    def settle(some: Sequence[Numbered], _outcome: Outcome) -> None:
        nonlocal confirmed
        confirmed += len(some)
        changed.set()

    publisher = await broker.publisher(CALLBACKS, settle)
    waiting, sent = messages(count), 0
    while confirmed < count:
        some = list(islice(waiting, WINDOW - (sent - confirmed)))
        publisher.send(some)
        sent += len(some)
        changed.clear()
        await changed.wait()


async def copy(count: int, database_url: str) -> None:
    """Copy the rows of as many messages into PostgreSQL, with nothing else, and print."""
    watch = Stopwatch(count)
    columns = [column.name for column in MESSAGES.columns]
    rows = []
    for number, message in messages(count):
        event = msgspec.json.decode(decode(message).body, type=AfterSendGroupMsg)
        row = msgspec.structs.asdict(archive.kept(event, str(number), datetime.now(UTC)))
        rows.append(tuple(row[name] for name in columns))
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(f"TRUNCATE {MESSAGES.name}")
        watch.tick(0)
        for at in range(0, count, 500):
            await connection.copy_records_to_table(
                MESSAGES.name, records=rows[at : at + 500], columns=columns
            )
        watch.tick(count)
        await connection.execute(f"TRUNCATE {MESSAGES.name}")
    finally:
        await connection.close()
    print(watch)


async def work(kind: str, count: int, amqp_url: str, database_url: str) -> None:
    """Have messages handled, and print what it took."""
    watch = Stopwatch(count)
    build, prefetch = KINDS["noop" if kind == "fill" else kind]
    async with (
        database.opened(database_url, 64) as opened,
        connect(amqp_url, name="bench", timeout=10) as broker,
    ):
        handlers = build(watch, opened)
        partitions = PARTITIONS if handlers.ordered else 0
        topology = subscription("bench", handlers.events, partitions=partitions)
        await broker.declare(SHARED)
        await broker.declare(topology)
        await fill(broker, count)
        if kind == "fill":
            return
        await opened.create_tables()
        async with opened.transaction() as transaction:
            await transaction.execute(delete(MESSAGES))
        settings = Settings(amqp_url=amqp_url, prefetch=prefetch)
        await Worker(settings, [handlers], opened).run(watch.done)
        async with broker.channel() as channel:
            for queue in topology.queues:
                await channel.queue_delete(queue.name)
    print(watch)


if __name__ == "__main__" and sys.argv[1] == "copy":
    run(copy(int(sys.argv[2]), sys.argv[4]))
elif __name__ == "__main__":
    gc.set_threshold(COLLECTED_AFTER)
    run(work(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]))
