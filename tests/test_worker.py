"""Every delivery is settled: handled, waiting, or a dead letter with its reason."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage

from bridge import topology
from bridge.contract import AfterAddFriend, AfterAddFriendAgree, Event
from bridge.spans import Spans
from consumers import database
from consumers.friends import verifications
from consumers.friends.verifications import Verification
from consumers.handlers import friend_verification
from consumers.registry import Context, Handlers, Reject, Retry
from consumers.settings import Worker as Settings
from consumers.worker import Worker
from tests.line import line_to
from tests.running import bridge, eventually, until

APPLY = "callbackAfterAddFriendCommand"
AGREE = "callbackAfterAddFriendAgreeCommand"

DELETE = "callbackAfterDeleteFriendCommand"

DOCUMENTED = (
    b'{"callbackCommand":"callbackAfterAddFriendCommand","fromUserID":"user123",'
    b'"toUserID":"user456","handleMsg":"Let\'s be friends!","handleResult":1}'
)
"""The agreement as OpenIM's documentation page shows it."""


@dataclass
class Working:
    """A worker that runs in this process."""

    worker: Worker
    stop: asyncio.Event
    task: asyncio.Task[None]


@asynccontextmanager
async def working(
    amqp_url: str,
    database_url: str,
    handlers: Handlers,
    spans: Spans | None = None,
    **changed: Any,  # noqa: ANN401  # any setting
) -> AsyncIterator[Working]:
    """Run a worker during the block."""
    settings = Settings(amqp_url=amqp_url, database_url=database_url, **changed)
    async with database.opened(database_url) as opened:
        await opened.create_tables()
        stop = asyncio.Event()
        worker = Worker(settings, [handlers], opened, spans=spans)
        task = asyncio.create_task(worker.run(stop))
        yield Working(worker, stop, task)
        stop.set()
        await asyncio.wait_for(task, 20)


@asynccontextmanager
async def channel_to(amqp_url: str) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        yield channel


async def publish(
    amqp_url: str,
    command: str,
    body: bytes,
    message_id: str = "0190-test",
    routing_key: str = "friend.after.add_friend.p01",
) -> None:
    """Put a message straight into the exchange, as the forwarder would."""
    async with channel_to(amqp_url) as channel:
        exchange = await channel.get_exchange(topology.CALLBACKS)
        headers: dict[str, Any] = {"x-received-ms": 1_719_800_000_000}
        message = aio_pika.Message(body, type=command, message_id=message_id, headers=headers)
        await exchange.publish(message, routing_key)


async def taken_from(amqp_url: str, queue: str) -> AbstractIncomingMessage:
    """Wait for a message in a queue and take it."""
    async with channel_to(amqp_url) as channel:
        declared = await channel.get_queue(queue)
        message = await eventually(lambda: declared.get(fail=False, no_ack=True), bool)
    assert message is not None
    return message


async def count(amqp_url: str, queue: str) -> int:
    """Give how many messages are ready in a queue."""
    async with channel_to(amqp_url) as channel:
        declared = await channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0


async def kept(database_url: str) -> list[Verification]:
    """Give the friend verification messages that a worker has kept."""
    async with database.opened(database_url) as opened, opened.transaction() as transaction:
        return await verifications.newest(transaction)


async def declared(amqp_url: str, name: str) -> None:
    """Wait until a worker consumes its queue."""

    async def consumers() -> int | None:
        async with channel_to(amqp_url) as channel:
            with suppress(aio_pika.exceptions.ChannelNotFoundEntity):
                queue = await channel.declare_queue(topology.work_queue(name), passive=True)
                return queue.declaration_result.consumer_count
        return 0

    await eventually(consumers, bool)


async def test_friend_verification_messages_are_kept_newest_first(
    amqp_url: str, database_url: str, tmp_path: Path
) -> None:
    async with (
        bridge(tmp_path, amqp_url) as running,
        working(amqp_url, database_url, friend_verification.handlers),
    ):
        await declared(amqp_url, "friend_verification")
        await running.openim.post(
            APPLY, b'{"fromUserID":"a","toUserID":"b","reqMsg":"hello \\u0000"}'
        )
        await running.openim.post(
            AGREE, b'{"fromUserID":"a","blackUserID":"b","HandleMsg":"ok"}'
        )
        await running.openim.post(APPLY, DOCUMENTED)
        found = await eventually(lambda: kept(database_url), lambda rows: len(rows) == 3)
    shown = [(r.kind, r.from_user_id, r.to_user_id, r.message) for r in found]
    assert shown == [
        ("agreement", "user123", "user456", "Let's be friends!"),
        ("agreement", "a", "b", "ok"),
        ("application", "a", "b", "hello \N{REPLACEMENT CHARACTER}"),
    ]


async def test_a_redelivered_callback_is_kept_once(amqp_url: str, database_url: str) -> None:
    async with working(amqp_url, database_url, friend_verification.handlers):
        await declared(amqp_url, "friend_verification")
        body = b'{"fromUserID":"a","toUserID":"b","reqMsg":"hello"}'
        await asyncio.gather(*(publish(amqp_url, APPLY, body) for _ in range(5)))
        await publish(amqp_url, APPLY, body, message_id="another")
        found = await eventually(lambda: kept(database_url), lambda rows: len(rows) == 2)
    assert await count(amqp_url, "openim.work.friend_verification") == 0
    assert {row.message_id for row in found} == {"0190-test", "another"}


async def test_a_rejected_event_is_a_dead_letter_with_its_reason(
    amqp_url: str, tmp_path: Path
) -> None:
    handlers = Handlers("picky")

    @handlers.on(AfterAddFriend)
    async def refuse(event: AfterAddFriend) -> None:
        raise Reject(f"{event.from_user_id} is not ours")

    async with working(amqp_url, _sqlite(tmp_path), handlers):
        await declared(amqp_url, "picky")
        body = b'{"fromUserID":"a","toUserID":"b"}'
        await publish(amqp_url, APPLY, body)
        letter = await taken_from(amqp_url, "openim.dead-letters.picky")
    assert letter.body == body
    assert letter.message_id == "0190-test"
    assert letter.type == APPLY
    assert letter.headers["x-last-error"] == "Reject: a is not ours"
    assert letter.headers["x-attempt"] == 1
    assert letter.headers["x-routing-key"] == "friend.after.add_friend.p01"


@pytest.mark.parametrize(
    ("command", "body", "reason"),
    [
        (APPLY, b"not JSON", "MalformedCallback: "),
        (APPLY, b'{"fromUserID":1,"toUserID":"b"}', "MalformedCallback: "),
        ("callbackNobodyKnows", b"{}", "UnknownCommand: "),
        (
            "callbackBeforeAddFriendCommand",
            b'{"fromUserID":"a","toUserID":"b"}',
            "Reject: ",
        ),
    ],
)
async def test_what_cannot_be_handled_is_a_dead_letter_at_once(
    amqp_url: str, tmp_path: Path, command: str, body: bytes, reason: str
) -> None:
    async with working(amqp_url, _sqlite(tmp_path), friend_verification.handlers):
        await declared(amqp_url, "friend_verification")
        await publish(amqp_url, command, body)
        letter = await taken_from(amqp_url, "openim.dead-letters.friend_verification")
    assert letter.body == body
    assert str(letter.headers["x-last-error"]).startswith(reason)


async def test_a_failed_event_is_tried_again_after_a_wait(
    amqp_url: str, tmp_path: Path
) -> None:
    attempts: list[int] = []
    handlers = Handlers("flaky")

    @handlers.on(AfterAddFriend)
    async def fail_once(_event: AfterAddFriend, context: Context) -> None:
        attempts.append(context.attempt)
        if context.attempt == 1:
            raise ValueError("not now")

    async with working(amqp_url, _sqlite(tmp_path), handlers):
        await declared(amqp_url, "flaky")
        await publish(amqp_url, APPLY, b'{"fromUserID":"a","toUserID":"b"}')
        await until(lambda: attempts == [1, 2])
    assert await count(amqp_url, "openim.work.flaky") == 0


async def test_a_handler_may_say_how_long_to_wait(amqp_url: str, tmp_path: Path) -> None:
    handlers = Handlers("patient")

    @handlers.on(AfterAddFriend)
    async def wait(_event: AfterAddFriend) -> None:
        raise Retry("come back", after=timedelta(seconds=20))

    async with working(amqp_url, _sqlite(tmp_path), handlers):
        await declared(amqp_url, "patient")
        await publish(amqp_url, APPLY, b'{"fromUserID":"a","toUserID":"b"}')
        waiting = await taken_from(amqp_url, topology.wait_exchange(30))
    assert waiting.headers["x-attempt"] == 2
    assert waiting.headers["x-last-error"] == "Retry: come back"


async def fail() -> None:
    raise ValueError("never")


async def quote_half_a_character() -> None:
    raise ValueError("never \ud83d")


async def wait_for_what_somebody_cancels() -> None:
    waiting = asyncio.get_running_loop().create_future()
    waiting.cancel()
    await waiting


async def end_the_process() -> None:
    sys.exit(7)


async def wait_for_a_number() -> None:
    raise Retry("later", after=2)  # type: ignore[arg-type]  # as somebody will write


class Speechless(Exception):
    """Cannot say what is wrong."""

    def __str__(self) -> str:
        return str(self.args[5])


async def be_speechless() -> None:
    raise Speechless


async def hang() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("sql", [True, False])
@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (fail, "ValueError: never"),
        (quote_half_a_character, "ValueError: never \\ud83d"),
        (wait_for_what_somebody_cancels, "CancelledError: "),
        (end_the_process, "SystemExit: 7"),
        (
            wait_for_a_number,
            "TypeError: after must be like timedelta(seconds=30), and is 2",
        ),
        (be_speechless, "Speechless: its text cannot be made, for IndexError"),
        (hang, "TimeoutError: it took longer than CONSUMERS_HANDLER_TIMEOUT, 0.5 s"),
    ],
)
async def test_after_the_last_attempt_comes_the_dead_letter(
    amqp_url: str,
    tmp_path: Path,
    act: Callable[[], Awaitable[None]],
    reason: str,
    *,
    sql: bool,
) -> None:
    handlers = Handlers("hopeless")

    @handlers.on(AfterAddFriend, sql=sql)
    async def handle(_event: AfterAddFriend) -> None:
        await act()

    # A slow disk makes opening a transaction take long: only who hangs is to be timed out.
    timeout = 0.5 if act is hang else 30
    async with working(amqp_url, _sqlite(tmp_path), handlers, handler_timeout=timeout):
        await declared(amqp_url, "hopeless")
        async with channel_to(amqp_url) as channel:
            message = aio_pika.Message(
                b'{"fromUserID":"a","toUserID":"b"}',
                type=APPLY,
                message_id="m",
                headers={"x-attempt": len(topology.SCHEDULE) + 1},
            )
            await channel.default_exchange.publish(message, topology.work_queue("hopeless"))
        letter = await taken_from(amqp_url, "openim.dead-letters.hopeless")
    assert letter.headers["x-attempt"] == 6
    assert letter.headers["x-last-error"] == reason


async def test_a_handler_that_hangs_is_cancelled_and_tried_again(
    amqp_url: str, tmp_path: Path
) -> None:
    attempts: list[int] = []
    handlers = Handlers("hanging")

    @handlers.on(AfterAddFriend)
    async def hang_once(_event: AfterAddFriend, context: Context) -> None:
        attempts.append(context.attempt)
        if context.attempt == 1:
            await asyncio.Event().wait()

    async with working(amqp_url, _sqlite(tmp_path), handlers, handler_timeout=1):
        await declared(amqp_url, "hanging")
        await publish(amqp_url, APPLY, b'{"fromUserID":"a","toUserID":"b"}')
        await until(lambda: attempts == [1, 2])


async def test_a_stop_lets_handlers_finish(amqp_url: str, tmp_path: Path) -> None:
    begun, finish, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()
    handlers = Handlers("slow")

    @handlers.on(AfterAddFriend)
    async def take_a_while(_event: AfterAddFriend) -> None:
        begun.set()
        await finish.wait()
        finished.set()

    async with working(amqp_url, _sqlite(tmp_path), handlers) as worker:
        await declared(amqp_url, "slow")
        await publish(amqp_url, APPLY, b'{"fromUserID":"a","toUserID":"b"}')
        await asyncio.wait_for(begun.wait(), 20)
        worker.stop.set()
        finish.set()
        await asyncio.wait_for(worker.task, 20)
    assert finished.is_set()
    assert await count(amqp_url, "openim.work.slow") == 0


async def test_a_stop_gives_back_what_does_not_finish(amqp_url: str, tmp_path: Path) -> None:
    begun = asyncio.Event()
    handlers = Handlers("stuck")

    @handlers.on(AfterAddFriend)
    async def never_end(_event: AfterAddFriend) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with working(amqp_url, _sqlite(tmp_path), handlers, grace_period=0.1) as worker:
        await declared(amqp_url, "stuck")
        await publish(amqp_url, APPLY, b'{"fromUserID":"a","toUserID":"b"}')
        await asyncio.wait_for(begun.wait(), 20)
        worker.stop.set()
        await asyncio.wait_for(worker.task, 20)
    given_back = await taken_from(amqp_url, "openim.work.stuck")
    assert given_back.message_id == "0190-test"
    assert await count(amqp_url, "openim.dead-letters.stuck") == 0


async def test_a_handler_that_swallows_its_cancellation_does_not_hold_up_a_stop(
    amqp_url: str, tmp_path: Path
) -> None:
    begun = asyncio.Event()
    handlers = Handlers("greedy")

    @handlers.on(AfterAddFriend)
    async def swallow(_event: AfterAddFriend) -> None:
        begun.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async with working(amqp_url, _sqlite(tmp_path), handlers, grace_period=0.1) as worker:
        await declared(amqp_url, "greedy")
        await publish(amqp_url, APPLY, b'{"fromUserID":"a","toUserID":"b"}')
        await asyncio.wait_for(begun.wait(), 20)
        worker.stop.set()
        await asyncio.wait_for(asyncio.shield(worker.task), 10)


async def test_deliveries_are_shared_by_workers(amqp_url: str, tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []

    def counting(worker: str) -> Handlers:
        handlers = Handlers("shared")

        @handlers.on(Event)
        async def note(event: Event) -> None:
            seen.append((worker, getattr(event, "from_user_id", "")))
            await asyncio.sleep(0)

        return handlers

    async with (
        working(amqp_url, _sqlite(tmp_path), counting("one"), prefetch=1),
        working(amqp_url, _sqlite(tmp_path), counting("two"), prefetch=1),
    ):
        await declared(amqp_url, "shared")
        for number in range(30):
            body = b'{"fromUserID":"%d","toUserID":"b"}' % number
            await publish(amqp_url, APPLY, body, message_id=str(number))
        await until(lambda: len(seen) == 30)
    assert {worker for worker, _ in seen} == {"one", "two"}
    assert {user for _, user in seen} == {str(number) for number in range(30)}


async def test_a_worker_goes_on_after_an_outage(amqp_url: str, tmp_path: Path) -> None:
    seen: list[str] = []
    handlers = Handlers("steady")

    @handlers.on(AfterAddFriendAgree)
    async def note(event: AfterAddFriendAgree) -> None:
        seen.append(event.from_user_id)

    async with line_to(amqp_url) as line, working(line.url, _sqlite(tmp_path), handlers):
        await declared(amqp_url, "steady")
        line.cut()
        await publish(
            amqp_url,
            AGREE,
            b'{"fromUserID":"during","blackUserID":"b"}',
            routing_key="friend.after.add_friend_agree.p01",
        )
        await line.mend()
        await until(lambda: seen == ["during"])


async def test_an_outage_is_said_once_and_forgotten_afterwards(
    amqp_url: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bounds: list[float] = []

    def hardly(_least: float, most: float) -> float:
        bounds.append(most)
        return 0.01

    monkeypatch.setattr("random.uniform", hardly)
    caplog.set_level(logging.INFO)
    url = _sqlite(tmp_path)
    handlers = friend_verification.handlers
    async with line_to(amqp_url) as line, working(line.url, url, handlers, outcomes_days=0):
        await until(lambda: caplog.messages.count("working") == 1)
        line.cut()
        await until(lambda: bounds[:4] == [0.2, 0.4, 0.8, 1.6])
        await line.mend()
        await until(lambda: caplog.messages.count("working") == 2)
        assert sum("no RabbitMQ" in getattr(r, "reason", "") for r in caplog.records) == 1
        line.cut()
        await until(lambda: bounds.count(0.2) == 2)


async def test_a_database_that_is_away_is_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[asyncio.StreamWriter] = []

    def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempts.append(writer)
        writer.close()

    monkeypatch.setattr(database, "PAUSE", 0.01)
    stop = asyncio.Event()
    server = await asyncio.start_server(hang_up, "127.0.0.1")
    url = f"postgresql://im@127.0.0.1:{server.sockets[0].getsockname()[1]}/im"
    async with server, database.opened(url) as opened, asyncio.TaskGroup() as tasks:
        tasks.create_task(opened.wait_until_ready(stop))
        await until(lambda: len(attempts) > 5)
        stop.set()
    assert caplog.messages.count("database unavailable") == 1


def _sqlite(folder: Path) -> str:
    return f"sqlite:///{folder / 'consumers.db'}"
