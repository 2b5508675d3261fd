"""What came of each attempt can be read from a stream, and tells it in nobody's way."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from bridge import outcomes
from bridge.archive import NoArchive
from bridge.broker import connect
from bridge.contract import AfterAddFriend, AfterAddFriendAgree
from bridge.outcomes import Attempt
from bridge.queues import ready
from bridge.topology import OUTCOMES
from consumers import records
from consumers.lanes import Job, Source
from consumers.outcome import Handled, Tried
from consumers.records import Records
from consumers.registry import Context, Handlers, Reject, Retry, Unavailable
from consumers.settings import Worker as Settings
from consumers.testing import delivery_of, recorded
from tests.brokers import OwnBroker
from tests.line import line_to
from tests.running import DEADLINE, eventually, until
from tests.test_worker import (
    APPLY,
    channel_to,
    count,
    declared,
    publish,
    working,
)

BODY = b'{"fromUserID":"a","toUserID":"b"}'


async def told(amqp_url: str) -> list[Attempt]:
    """Give all attempts in the stream."""
    async with connect(amqp_url, name="test", timeout=10) as broker:
        try:
            async with aclosing(outcomes.read(broker, 10)) as attempts:
                return [attempt async for attempt in attempts]
        except NoArchive:
            return []


async def tells(amqp_url: str, count: int) -> list[Attempt]:
    """Wait for so many attempts in the stream."""
    return await eventually(lambda: told(amqp_url), lambda found: len(found) >= count)


def kinds(attempts: list[Attempt]) -> list[tuple[str, str, int]]:
    """Give of each attempt what it was and what came of it."""
    return [(each.message_id, each.outcome, each.attempt) for each in attempts]


def taking(name: str, act: Callable[[Context], object], **how: Any) -> Handlers:  # noqa: ANN401
    """Give a subscription whose handler does something with each context."""
    handlers = Handlers(name, **how)

    @handlers.on(AfterAddFriend)
    async def take(_event: AfterAddFriend, context: Context) -> None:
        act(context)

    return handlers


def raising(*errors: Exception | None) -> Callable[[Context], None]:
    """Give what raises these, one after the other."""
    left = list(errors)

    def act(_context: Context) -> None:
        error = left.pop(0)
        if error is not None:
            raise error

    return act


async def test_a_handled_callback_is_told_with_who_and_when(
    amqp_url: str, tmp_path: Path
) -> None:
    before = time.time() * 1000
    async with working(amqp_url, _sqlite(tmp_path), taking("shop", raising(None))):
        await declared(amqp_url, "shop")
        await publish(amqp_url, APPLY, BODY)
        (attempt,) = await tells(amqp_url, 1)
    assert attempt == Attempt(
        message_id="0190-test",
        command=APPLY,
        operation_id="",
        subscription="shop",
        handler="shop.take",
        partition=None,
        attempt=1,
        outcome="handled",
        received_ms=1_719_800_000_000,
        began_ms=attempt.began_ms,
        seconds=attempt.seconds,
        worker=attempt.worker,
        host=attempt.host,
    )
    assert before - 1 <= attempt.began_ms <= time.time() * 1000
    assert 0 < attempt.seconds < 20
    assert attempt.worker
    assert attempt.host


async def test_a_failure_is_told_with_its_error_and_when_it_is_tried_again(
    amqp_url: str, tmp_path: Path
) -> None:
    handlers = taking("flaky", raising(ValueError("not now"), None))
    async with working(amqp_url, _sqlite(tmp_path), handlers):
        await declared(amqp_url, "flaky")
        await publish(amqp_url, APPLY, BODY)
        first, second = await tells(amqp_url, 2)
    assert kinds([first, second]) == [("0190-test", "waits", 1), ("0190-test", "handled", 2)]
    assert first.error == "ValueError: not now"
    assert first.again_ms is not None
    assert first.again_ms - first.began_ms >= 1000
    assert second.began_ms >= first.again_ms - 100
    assert (second.error, second.again_ms) == ("", None)


@pytest.mark.parametrize(
    ("body", "handler", "error"),
    [
        (BODY, "picky.take", "Reject: no friend of ours"),
        (b"{", "", "MalformedCallback: "),
    ],
)
async def test_a_dead_letter_is_told(
    amqp_url: str, tmp_path: Path, body: bytes, handler: str, error: str
) -> None:
    handlers = taking("picky", raising(Reject("no friend of ours")))
    async with working(amqp_url, _sqlite(tmp_path), handlers):
        await declared(amqp_url, "picky")
        await publish(amqp_url, APPLY, body)
        (attempt,) = await tells(amqp_url, 1)
    assert (attempt.outcome, attempt.handler) == ("dead_letter", handler)
    assert attempt.error.startswith(error)


async def test_a_duplicate_and_a_pause_are_told(amqp_url: str, tmp_path: Path) -> None:
    handlers = taking("careful", raising(Unavailable("shop is shut"), None))
    async with working(amqp_url, _sqlite(tmp_path), handlers):
        await declared(amqp_url, "careful")
        await publish(amqp_url, APPLY, BODY)
        await tells(amqp_url, 2)
        await publish(amqp_url, APPLY, BODY)
        attempts = await tells(amqp_url, 3)
    assert [each.outcome for each in attempts] == ["paused", "handled", "duplicate"]
    assert [each.attempt for each in attempts] == [1, 1, 1]
    assert attempts[0].error == "Unavailable: shop is shut"


async def test_in_order_the_partition_is_told_and_a_held_key(
    amqp_url: str, tmp_path: Path
) -> None:
    handlers = taking("chat", raising(Retry("busy"), None), ordered=True)
    async with working(amqp_url, _sqlite(tmp_path), handlers, partitions=2):
        await declared(amqp_url, "chat.p01")
        await publish(amqp_url, APPLY, BODY)
        attempts = await tells(amqp_url, 2)
    assert [(each.outcome, each.attempt) for each in attempts] == [
        ("waits", 1),
        ("handled", 2),
    ]
    assert {each.partition for each in attempts} == {1}


async def test_attempts_can_be_followed_as_they_come(amqp_url: str, tmp_path: Path) -> None:
    handlers = taking("live", raising(None, None))
    async with (
        working(amqp_url, _sqlite(tmp_path), handlers),
        connect(amqp_url, name="test", timeout=10) as broker,
    ):
        await declared(amqp_url, "live")
        await publish(amqp_url, APPLY, BODY, message_id="earlier")
        await tells(amqp_url, 1)
        async with outcomes.following(broker) as attempts, asyncio.timeout(DEADLINE):
            await publish(amqp_url, APPLY, BODY, message_id="now")
            assert (await anext(attempts)).message_id == "now"
        async with (
            outcomes.following(broker, time.time()) as attempts,
            asyncio.timeout(DEADLINE),
        ):
            found = [(await anext(attempts)).message_id for _ in range(2)]
            assert found == ["earlier", "now"]


async def test_nothing_is_told_if_nobody_wants_it(amqp_url: str, tmp_path: Path) -> None:
    handlers = taking("silent", raising(None))
    async with working(amqp_url, _sqlite(tmp_path), handlers, outcomes_days=0):
        await declared(amqp_url, "silent")
        await publish(amqp_url, APPLY, BODY)
        await eventually(lambda: count(amqp_url, "openim.work.silent"), lambda left: not left)
    async with connect(amqp_url, name="test", timeout=10) as broker:
        with pytest.raises(NoArchive, match="outcomes_days"):
            await anext(outcomes.read(broker, 10))


async def test_what_somebody_else_writes_into_the_stream_is_passed_over(
    amqp_url: str, tmp_path: Path
) -> None:
    async with working(amqp_url, _sqlite(tmp_path), taking("shop", raising(None))):
        await declared(amqp_url, "shop")
        await eventually(lambda: _exists(amqp_url), bool)
        async with channel_to(amqp_url) as channel:
            for type_ in (outcomes.TYPE, "other"):
                message = aio_pika.Message(b"[{", type=type_)
                await channel.default_exchange.publish(message, OUTCOMES)
        await publish(amqp_url, APPLY, BODY)
        assert kinds(await tells(amqp_url, 1)) == [("0190-test", "handled", 1)]


async def _exists(amqp_url: str) -> bool:
    async with connect(amqp_url, name="test", timeout=10) as broker:
        return await ready(broker, OUTCOMES) is not None


async def test_a_stream_with_other_limits_stays_as_it_is(
    amqp_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for size in (2**20, 2**21):
        handlers = taking("shop", raising(None))
        async with working(amqp_url, _sqlite(tmp_path), handlers, outcomes_bytes=size):
            await declared(amqp_url, "shop")
            await publish(amqp_url, APPLY, BODY, message_id=str(size))
            attempts = await tells(amqp_url, 1 if size == 2**20 else 2)
    assert [each.message_id for each in attempts] == [str(2**20), str(2**21)]
    assert "stream of outcomes left as it is" in caplog.messages


async def test_handling_goes_on_where_outcomes_cannot_be_kept(
    amqp_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with channel_to(amqp_url) as channel:
        await channel.declare_exchange(OUTCOMES, "topic")
    handled: list[Context] = []
    async with working(amqp_url, _sqlite(tmp_path), taking("shop", handled.append)):
        await until(lambda: "outcomes are not kept" in caplog.messages)
        await declared(amqp_url, "shop")
        await publish(amqp_url, APPLY, BODY)
        await until(lambda: len(handled) == 1)


async def test_a_broker_that_takes_nothing_stops_no_handler_and_the_rest_is_counted(
    own_broker: OwnBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MOST_WAITING", 5)
    amqp_url, handled = own_broker.amqp_url, list[Context]()
    async with working(amqp_url, _sqlite(tmp_path), taking("shop", handled.append)):
        await declared(amqp_url, "shop")
        await eventually(lambda: _exists(amqp_url), bool)
    for number in range(20):
        await publish(amqp_url, APPLY, BODY, message_id=str(number))
    await own_broker.control("set_vm_memory_high_watermark", "absolute", "1")
    try:
        async with working(amqp_url, _sqlite(tmp_path), taking("shop", handled.append)) as it:
            await until(lambda: len(handled) == 20)
            await until(lambda: it.worker.records.dropped > 0)
            await own_broker.control("set_vm_memory_high_watermark", "0.8")
            attempts = await tells(amqp_url, 20 - it.worker.records.dropped)
            assert len(attempts) + it.worker.records.dropped == 20
    finally:
        await own_broker.control("set_vm_memory_high_watermark", "0.8")


async def test_what_was_on_its_way_when_the_line_broke_is_told_all_the_same(
    amqp_url: str,
) -> None:
    async with line_to(amqp_url) as line:
        telling = Records(Settings(amqp_url=line.url), "w")
        running = asyncio.create_task(telling.run())
        note = telling.of("shop")
        await eventually(lambda: _exists(amqp_url), bool)
        for number in range(3):
            line.cut()
            job = Job(
                delivery_of(recorded(AfterAddFriendAgree), str(number)), Source("q"), "", 1
            )
            note(job, Handled(), Tried("shop.take", time.time(), 0.0))
            await line.mend()
            await tells(amqp_url, number + 1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert sorted({each.message_id for each in await told(amqp_url)}) == ["0", "1", "2"]
    assert telling.dropped == 0


def _sqlite(folder: Path) -> str:
    return f"sqlite:///{folder / 'consumers.db'}"
