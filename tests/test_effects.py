"""Effects in SQL happen once, whatever happens to the worker, the database or RabbitMQ."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import aio_pika
import pytest
from sqlalchemy import Column, Integer, Table, Text, func, select

from bridge import topology
from bridge.contract import AfterUserOnline
from consumers import database, inbox
from consumers.database import METADATA, Database
from consumers.registry import BatchContext, Context, Handlers, Reject, Unavailable
from tests.line import line_to
from tests.running import DEADLINE, eventually, until
from tests.test_worker import channel_to, count, declared, working

ONLINE = "callbackAfterUserOnlineCommand"
KEY = f"{AfterUserOnline.routing_key}.p01"

EFFECTS = Table(
    "effects_of_tests",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("who", Text, nullable=False),
)


async def write(context: Context | BatchContext, *who: str) -> None:
    """Have an effect that shows if it happens twice."""
    rows = [{"who": each} for each in who]
    await context.transaction.execute(EFFECTS.insert(), rows)


async def effects(database_url: str) -> list[str]:
    async with database.opened(database_url) as opened, opened.transaction() as transaction:
        return sorted((await transaction.execute(select(EFFECTS.c.who))).scalars())


async def online(amqp_url: str, *users: str, copies: int = 1) -> None:
    """Publish a callback for each user, under a message id that says whose it is."""
    async with channel_to(amqp_url) as channel:
        exchange = await channel.get_exchange(topology.CALLBACKS)
        for user in users:
            for _ in range(copies):
                body = b'{"userID":"%b"}' % user.encode()
                message = aio_pika.Message(body, type=ONLINE, message_id=user)
                await exchange.publish(message, KEY)


async def test_copies_of_a_message_have_one_effect(amqp_url: str, database_url: str) -> None:
    handlers = Handlers("once")

    @handlers.on(AfterUserOnline)
    async def note(event: AfterUserOnline, context: Context) -> None:
        await write(context, event.user_id)

    async with working(amqp_url, database_url, handlers, prefetch=50):
        await declared(amqp_url, "once")
        users = [f"u{number}" for number in range(20)]
        await online(amqp_url, *users, copies=5)
        await eventually(lambda: effects(database_url), lambda found: len(found) >= 20)
    # The worker has stopped, so what it had not settled would be back.
    assert await count(amqp_url, "openim.work.once") == 0
    assert await effects(database_url) == sorted(users)


async def test_what_fails_leaves_no_effect_and_no_inbox_row(
    amqp_url: str, database_url: str
) -> None:
    attempts: list[int] = []
    handlers = Handlers("rolled_back")

    @handlers.on(AfterUserOnline)
    async def fail_once(event: AfterUserOnline, context: Context) -> None:
        await write(context, event.user_id)
        attempts.append(context.attempt)
        if context.attempt == 1:
            raise ValueError("after the write")

    async with working(amqp_url, database_url, handlers):
        await declared(amqp_url, "rolled_back")
        await online(amqp_url, "a")
        await until(lambda: attempts == [1, 2])
        found = await eventually(lambda: effects(database_url), bool)
    assert found == ["a"]


async def test_a_handler_without_sql_gets_no_transaction(amqp_url: str, tmp_path: Path) -> None:
    seen: list[str] = []
    handlers = Handlers("without")

    @handlers.on(AfterUserOnline, sql=False)
    async def note(event: AfterUserOnline, context: Context) -> None:
        with pytest.raises(RuntimeError, match="sql=False"):
            _ = context.transaction
        seen.append(event.user_id)

    # The folder is not there: whoever opened a connection would fail.
    url = f"sqlite:///{tmp_path / 'tables.db'}"
    async with working(amqp_url, url, handlers):
        await declared(amqp_url, "without")
        await online(amqp_url, "a", copies=2)
        await until(lambda: seen == ["a", "a"])


async def test_a_batch_is_handled_together_and_once(amqp_url: str, database_url: str) -> None:
    sizes: list[int] = []
    handlers = Handlers("batches")

    @handlers.on_batch(AfterUserOnline, most=40, within=timedelta(seconds=0.2))
    async def note(events: Sequence[AfterUserOnline], context: BatchContext) -> None:
        assert [receipt.message_id for receipt in context.receipts] == [
            event.user_id for event in events
        ]
        sizes.append(len(events))
        await write(context, *(event.user_id for event in events))

    users = [f"u{number:03}" for number in range(100)]
    async with working(amqp_url, database_url, handlers):
        await declared(amqp_url, "batches")
        await online(amqp_url, *users, copies=2)
        await eventually(lambda: effects(database_url), lambda found: len(found) == 100)
        await until(lambda: sum(sizes) == 100)
    assert await effects(database_url) == users
    assert max(sizes) > 5


async def test_a_bad_event_does_not_spoil_its_batch(amqp_url: str, database_url: str) -> None:
    handlers = Handlers("spoilt")

    @handlers.on_batch(AfterUserOnline, most=10, within=timedelta(seconds=0.5))
    async def note(events: Sequence[AfterUserOnline], context: BatchContext) -> None:
        await write(context, *(event.user_id for event in events))
        if "bad" in [event.user_id for event in events]:
            raise Reject("bad")

    async with working(amqp_url, database_url, handlers):
        await declared(amqp_url, "spoilt")
        await online(amqp_url, "a", "bad", "b")
        found = await eventually(lambda: effects(database_url), lambda all_: len(all_) == 2)
        letters = "openim.dead-letters.spoilt"
        await eventually(lambda: count(amqp_url, letters), lambda n: n == 1)
    assert found == ["a", "b"]


async def test_a_subscription_pauses_while_something_is_unavailable(
    amqp_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []
    seen: list[str] = []
    handlers = Handlers("pausing")

    @handlers.on(AfterUserOnline, sql=False)
    async def note(event: AfterUserOnline, context: Context) -> None:
        calls.append(context.attempt)
        if len(calls) < 4:
            raise Unavailable("the CRM does not answer")
        seen.append(event.user_id)

    async with working(amqp_url, f"sqlite:///{tmp_path / 'x.db'}", handlers):
        await declared(amqp_url, "pausing")
        await online(amqp_url, "a", "b")
        await until(lambda: sorted(seen) == ["a", "b"])
        assert await count(amqp_url, topology.wait_exchange(1)) == 0
    assert set(calls) == {1}
    assert caplog.messages.count("paused") == 1
    assert "resumed" in caplog.messages


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_database_that_is_away_costs_no_attempt(
    amqp_url: str, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    attempts: list[int] = []
    handlers = Handlers("patient")

    @handlers.on(AfterUserOnline)
    async def note(event: AfterUserOnline, context: Context) -> None:
        attempts.append(context.attempt)
        await write(context, event.user_id)

    async with line_to(database_url) as line, working(amqp_url, line.url, handlers):
        await declared(amqp_url, "patient")
        await online(amqp_url, "before")
        await eventually(lambda: effects(database_url), lambda found: found == ["before"])
        line.cut()
        await online(amqp_url, *(f"u{number}" for number in range(30)))
        await until(lambda: "paused" in caplog.messages)
        await line.mend()
        await eventually(lambda: effects(database_url), lambda found: len(found) == 31)
    assert set(attempts) == {1}
    assert await count(amqp_url, "openim.dead-letters.patient") == 0
    assert await count(amqp_url, topology.wait_exchange(1)) == 0


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_worker_that_starts_waits_for_nobody_who_writes(opened: Database) -> None:
    async with opened.transaction() as writing:
        await inbox.claim(writing, "h", ["a"])
        async with asyncio.timeout(DEADLINE):
            await opened.create_tables()


async def test_the_inbox_forgets_what_is_old(database_url: str) -> None:
    async with database.opened(database_url) as opened:
        await opened.create_tables()
        async with opened.transaction() as transaction:
            claimed = await inbox.claim(transaction, "h", ["a", "b", "b"])
        async with opened.transaction() as transaction:
            assert await inbox.claim(transaction, "h", ["a", "c"]) == {"c"}
            assert await inbox.claim(transaction, "other", ["a"]) == {"a"}
            assert await inbox.forget(transaction, timedelta(days=1)) == 0
            assert await inbox.forget(transaction, timedelta(seconds=-1)) == 4
            left = await transaction.execute(select(func.count()).select_from(inbox.TABLE))
            assert left.scalar() == 0
    assert claimed == {"a", "b"}


# Workers that die


async def test_a_deadly_event_is_a_dead_letter_and_takes_no_other_along(
    amqp_url: str, tmp_path: Path
) -> None:
    seen: list[str] = []
    handlers = Handlers("deadly")

    async with line_to(amqp_url) as line:

        @handlers.on(AfterUserOnline, sql=False)
        async def die_of_one(event: AfterUserOnline) -> None:
            if event.user_id == "deadly":
                # To RabbitMQ, a worker that dies is a connection that breaks.
                line.cut()
                await line.mend()
                await asyncio.Event().wait()
            seen.append(event.user_id)

        users = [f"u{number}" for number in range(30)]
        letters = topology.dead_letter_queue("deadly")
        async with working(line.url, f"sqlite:///{tmp_path / 'x.db'}", handlers, prefetch=40):
            await declared(amqp_url, "deadly")
            await online(amqp_url, *users[:15], "deadly", *users[15:])
            await eventually(lambda: count(amqp_url, letters), bool, seconds=60)
            await until(lambda: set(seen) == set(users))
    async with channel_to(amqp_url) as channel:
        queue = await channel.get_queue(letters)
        buried = [await queue.get(no_ack=True), await queue.get(no_ack=True, fail=False)]
    assert [letter.message_id for letter in buried if letter] == ["deadly"]


HANDLERS = '''
import os
from pathlib import Path
from bridge.contract import AfterUserOnline
from bridge.intake import Delivery
from consumers.registry import Handlers, Retry
from tests.test_effects import write

handlers = Handlers("killed")
ack, dead = Delivery.ack, Path(__file__).with_name("dead")

def die_once(delivery):
    """Be killed after the commit or the copy, and before the ack."""
    if dead.exists():
        ack(delivery)
    else:
        dead.touch()
        os.abort()

Delivery.ack = die_once

@handlers.on(AfterUserOnline)
async def note(event, context):
    if event.user_id == "later" and context.attempt == 1:
        raise Retry("once")
    await write(context, event.user_id)
'''


@asynccontextmanager
async def process(
    folder: Path, amqp_url: str, database_url: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `openim-consumers work` during the block."""
    root = Path(__file__).parents[1]
    environment = os.environ | {
        "CONSUMERS_AMQP_URL": amqp_url,
        "CONSUMERS_DATABASE_URL": database_url,
        "CONSUMERS_HANDLERS": "killed_handlers",
        "PYTHONPATH": os.pathsep.join(map(str, (folder, root, root / "deploy"))),
    }
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "consumers", "work"),
        env=environment,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):
            running.kill()
        await running.wait()


@pytest.mark.parametrize("user", ["now", "later"])
async def test_a_worker_killed_before_its_ack_has_one_effect(
    amqp_url: str, database_url: str, tmp_path: Path, user: str
) -> None:
    (tmp_path / "killed_handlers.py").write_text(HANDLERS)
    async with process(tmp_path, amqp_url, database_url) as worker:
        await declared(amqp_url, "killed")
        await online(amqp_url, user)
        async with asyncio.timeout(DEADLINE):
            assert await worker.wait() == -signal.SIGABRT
    async with process(tmp_path, amqp_url, database_url):
        await declared(amqp_url, "killed")
        await online(amqp_url, "after")
        await eventually(
            lambda: effects(database_url), lambda found: set(found) == {user, "after"}
        )
        work, wait = topology.work_queue("killed"), topology.wait_exchange(1)
        for queue in (wait, work):
            await eventually(partial(count, amqp_url, queue), lambda left: left == 0)
    assert await effects(database_url) == sorted((user, "after"))
