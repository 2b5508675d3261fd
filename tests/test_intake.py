"""Deliveries, taken out of the stream that the library reads."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, frame, header
from pamqp.body import ContentBody
from pamqp.heartbeat import Heartbeat

from bridge.broker import Broker, Consumer, Delivery, connect
from bridge.intake import Intake
from bridge.wire import Line
from tests.running import eventually, until

CHANNEL = 3
BODY = b"0123456789"


def _frames() -> bytes:
    properties = commands.Basic.Properties(
        content_type="application/json",
        headers={"x-attempt": 2, "nested": {"a": [1, "b"]}},
        delivery_mode=2,
        correlation_id="trace",
        message_id="m",
        message_type="c",
        app_id="app",
    )
    deliver = commands.Basic.Deliver("tag", 1, redelivered=True, exchange="x", routing_key="k")
    empty = commands.Basic.Deliver("tag", 2, exchange="x", routing_key="é")
    mine = (
        deliver,
        header.ContentHeader(body_size=len(BODY), properties=properties),
        ContentBody(BODY[:4]),
        ContentBody(BODY[4:]),
        empty,
        header.ContentHeader(body_size=0, properties=commands.Basic.Properties()),
    )
    theirs = commands.Basic.ConsumeOk("tag")
    return b"".join(
        frame.marshal(theirs, CHANNEL + 1) + frame.marshal(part, CHANNEL) for part in mine
    )


async def _fed_in_pieces(cuts: list[int]) -> tuple[list[Delivery], bytes]:
    taken: list[Delivery] = []
    line = Line()
    Intake(line, CHANNEL, taken.append)
    data = _frames()
    edges = [0, *sorted(cut % len(data) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        line.feed_data(data[start:end])
    line.feed_eof()
    return taken, (await line.read()).replace(frame.marshal(Heartbeat(), 0), b"")


@given(cuts=st.lists(st.integers(0, 10_000), max_size=30))
def test_deliveries_may_arrive_in_any_pieces(cuts: list[int]) -> None:
    (first, second), passed = asyncio.run(_fed_in_pieces(cuts))
    assert (first.message_id, first.command, first.operation_id) == ("m", "c", "trace")
    assert (first.body, first.routing_key, first.again) == (BODY, "k", True)
    assert first.headers == {"x-attempt": 2, "nested": {"a": [1, "b"]}}
    assert first.text("app_id") == "app"
    assert first.may_have("x-attempt")
    assert not second.may_have("x-attempt")
    assert (second.body, second.routing_key, second.again) == (b"", "é", False)
    assert (second.message_id, second.headers, second.timestamp) == ("", {}, 0)
    assert passed == frame.marshal(commands.Basic.ConsumeOk("tag"), CHANNEL + 1) * 6


@asynccontextmanager
async def filled(amqp_url: str, count: int) -> AsyncIterator[aio_pika.abc.AbstractQueue]:
    """Have a queue with messages in it."""
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        queue = await channel.declare_queue("q", durable=True)
        for number in range(count):
            message = aio_pika.Message(b"%d" % number)
            await channel.default_exchange.publish(message, "q")
        yield queue


async def left(queue: aio_pika.abc.AbstractQueue) -> int | None:
    """Give how many messages are ready."""
    return (await queue.declare()).message_count


async def consuming(broker: Broker, taken: list[Delivery], prefetch: int) -> Consumer:
    return await broker.consume("q", taken.append, prefetch=prefetch)


async def test_acks_in_any_order_settle_what_they_name(amqp_url: str) -> None:
    taken: list[Delivery] = []
    async with filled(amqp_url, 10) as queue:
        async with connect(amqp_url, name="test", timeout=10) as broker:
            await consuming(broker, taken, prefetch=10)
            await until(lambda: len(taken) == 10)
            for number in (0, 1, 5, 9):
                taken[number].ack()
            await asyncio.sleep(0)
            taken[3].ack()
        await eventually(lambda: left(queue), lambda count: count == 5)
        again = [await queue.get(no_ack=True) for _ in range(5)]
    assert [message.body for message in again] == [b"2", b"4", b"6", b"7", b"8"]


async def test_the_prefetch_bounds_what_is_not_settled(amqp_url: str) -> None:
    taken: list[Delivery] = []
    async with filled(amqp_url, 10), connect(amqp_url, name="test", timeout=10) as broker:
        await consuming(broker, taken, prefetch=3)
        await until(lambda: len(taken) == 3)
        for number in range(7):
            taken[number].ack()
            await until(lambda: len(taken) == number + 4)  # noqa: B023
    assert [delivery.body for delivery in taken] == [b"%d" % number for number in range(10)]


async def test_a_closed_consumer_gives_back_what_it_had_in_its_order(amqp_url: str) -> None:
    taken: list[Delivery] = []
    async with filled(amqp_url, 6) as queue, connect(amqp_url, name="t", timeout=10) as broker:
        consumer = await consuming(broker, taken, prefetch=4)
        await until(lambda: len(taken) == 4)
        taken[1].ack()
        await consumer.close()
        await eventually(lambda: left(queue), lambda count: count == 5)
        again: list[Delivery] = []
        await consuming(broker, again, prefetch=10)
        await until(lambda: len(again) == 5)
    assert [delivery.body for delivery in again] == [b"0", b"2", b"3", b"4", b"5"]
    assert all(delivery.again for delivery in again[:3])
