"""A dead-letter queue that is full or missing: what should go there stays where it is."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import aio_pika
import aiohttp
import pytest
from yarl import URL

from bridge import topology
from bridge.broker import connect
from bridge.contract import AfterUserOnline
from bridge.rights import SHARED
from consumers.registry import Handlers, Reject
from tests.brokers import Address, OwnBroker
from tests.running import eventually, until
from tests.test_effects import online
from tests.test_worker import channel_to, count, declared, working

NAME = "rejecting"
LETTERS = topology.dead_letter_queue(NAME)
Trouble: TypeAlias = Callable[[aio_pika.abc.AbstractChannel], AbstractAsyncContextManager[None]]

BAD = [f"bad{number}" for number in range(10)]
"""Fewer than are handled at a time: there is room for others."""


def rejecting(seen: list[str]) -> Handlers:
    """Give handlers that reject whoever is bad."""
    handlers = Handlers(NAME)

    @handlers.on(AfterUserOnline, sql=False)
    async def note(event: AfterUserOnline) -> None:
        if event.user_id.startswith("bad"):
            raise Reject("bad")
        seen.append(event.user_id)

    return handlers


@asynccontextmanager
async def no_more_than_one(broker: Address, amqp_url: str, queue: str) -> AsyncIterator[None]:
    """Have a policy bound a queue, as an operator's would, during the block."""
    vhost = URL(amqp_url).path.removeprefix("/")
    path = f"{broker.management_url}/api/policies/{vhost}/bound"
    policy = {"pattern": f"^{queue}$", "definition": {"max-length": 1}, "apply-to": "queues"}
    async with aiohttp.ClientSession(raise_for_status=True) as api:
        await api.put(path, json=policy)
        yield
        await api.delete(path)


async def letters(amqp_url: str, *expected: str) -> list[str]:
    """Take dead letters out, as many as are expected; give their ids."""
    async with channel_to(amqp_url) as channel:
        queue = await channel.get_queue(LETTERS)
        found = [
            await eventually(lambda: queue.get(fail=False, no_ack=True), bool) for _ in expected
        ]
    return sorted(letter.message_id or "" for letter in found if letter)


async def test_while_dead_letters_are_full_others_are_handled_and_none_is_lost(
    broker: Address, amqp_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []
    async with working(amqp_url, f"sqlite:///{tmp_path / 'x.db'}", rejecting(seen)):
        await declared(amqp_url, NAME)
        async with no_more_than_one(broker, amqp_url, LETTERS):
            await online(amqp_url, *BAD)
            await until(lambda: "paused" in caplog.messages)
            await online(amqp_url, "good")
            await until(lambda: seen == ["good"])
            assert await count(amqp_url, LETTERS) < len(BAD)
            assert await letters(amqp_url, *BAD) == BAD
    assert await count(amqp_url, topology.work_queue(NAME)) == 0


async def test_what_finds_no_dead_letters_stays_until_a_worker_has_made_them_again(
    amqp_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    async with working(amqp_url, url, rejecting([]), grace_period=0.1):
        await declared(amqp_url, NAME)
        async with channel_to(amqp_url) as channel:
            await channel.queue_delete(LETTERS)
        await online(amqp_url, *BAD)
        await until(lambda: "paused" in caplog.messages)
    async with working(amqp_url, url, rejecting([])):
        await declared(amqp_url, NAME)
        assert await letters(amqp_url, *BAD) == BAD


@asynccontextmanager
async def full(channel: aio_pika.abc.AbstractChannel) -> AsyncIterator[None]:
    """Have another queue of that name, which is full, during the block."""
    await channel.queue_delete(LETTERS)
    arguments: dict[str, Any] = {"x-max-length": 1, "x-overflow": "reject-publish"}
    queue = await channel.declare_queue(LETTERS, arguments=arguments)
    await queue.bind(topology.DEAD_LETTERS, LETTERS)
    await channel.default_exchange.publish(aio_pika.Message(b""), LETTERS)
    yield
    await channel.queue_delete(LETTERS)


@asynccontextmanager
async def missing(channel: aio_pika.abc.AbstractChannel) -> AsyncIterator[None]:
    """Have none during the block."""
    await channel.queue_delete(LETTERS)
    yield


async def refuse_for_good(channel: aio_pika.abc.AbstractChannel) -> None:
    """Give every message back until RabbitMQ has had enough."""
    queue = await channel.get_queue(topology.work_queue(NAME))
    for _ in range((topology.DELIVERY_LIMIT + 1) * len(BAD)):
        message = await eventually(lambda: queue.get(fail=False), bool)
        assert message is not None
        await message.reject(requeue=True)


@pytest.mark.parametrize("trouble", [full, missing])
async def test_what_was_delivered_too_often_stays_in_rabbitmq_until_there_is_room_for_it(
    own_broker: OwnBroker, trouble: Trouble
) -> None:
    wanted = topology.subscription(NAME, (AfterUserOnline.routing_key,))
    # It tries again after so many milliseconds; by default, three minutes.
    setting = "dead_letter_worker_publisher_confirm_timeout, 500"
    await own_broker.control("eval", f"application:set_env(rabbit, {setting}).")
    async with (
        connect(own_broker.amqp_url, name="test", timeout=5) as broker,
        channel_to(own_broker.amqp_url) as channel,
    ):
        await broker.declare(SHARED)
        await broker.declare(wanted)
        async with trouble(channel):
            await online(own_broker.amqp_url, *BAD)
            await refuse_for_good(channel)
        await broker.declare(wanted)
    assert await letters(own_broker.amqp_url, *BAD) == BAD
