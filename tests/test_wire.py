"""Outcomes of publishing, taken out of the stream that the library reads."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aio_pika
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, frame, header
from pamqp.body import ContentBody
from pamqp.heartbeat import Heartbeat

from bridge.broker import connect
from bridge.message import Ids, Message
from bridge.wire import Line, Numbered, Outcome, Publisher
from tests.running import until

IDS = Ids()
CHANNEL = 1


def message(routing_key: str, id: str = "") -> bytes:  # noqa: A002  # as it is called
    return Message(
        id=id or IDS.mint(), routing_key=routing_key, command="c", received_ms=0, body=b"abc"
    ).encode()


@dataclass
class Outcomes:
    """What became of each number."""

    of: dict[int, Outcome] = field(default_factory=dict)
    calls: int = 0

    def settled(self, messages: Sequence[Numbered], outcome: Outcome) -> None:
        """Note them, as the publisher reports them."""
        self.calls += 1
        self.of.update((number, outcome) for number, _ in messages)


@asynccontextmanager
async def publishing(amqp_url: str, exchange: str) -> AsyncIterator[tuple[Publisher, Outcomes]]:
    outcomes = Outcomes()
    async with connect(amqp_url, name="test", timeout=5) as broker:
        yield await broker.publisher(exchange, outcomes.settled), outcomes


@asynccontextmanager
async def exchange_without_alternate(amqp_url: str) -> AsyncIterator[str]:
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        exchange = await channel.declare_exchange("topical", "topic")
        queue = await channel.declare_queue("wanted")
        await queue.bind(exchange, "wanted.#")
        yield exchange.name


async def test_the_unroutable_is_told_from_the_routable(amqp_url: str) -> None:
    keys = ["wanted.a", "nobody", "wanted.b", "nobody", "nobody", "wanted.c"]
    async with (
        exchange_without_alternate(amqp_url) as exchange,
        publishing(amqp_url, exchange) as (publisher, outcomes),
    ):
        publisher.send([(number, message(key)) for number, key in enumerate(keys)])
        await until(lambda: len(outcomes.of) == len(keys))
    returned = {
        number for number, outcome in outcomes.of.items() if outcome is Outcome.RETURNED
    }
    confirmed = {n for n, outcome in outcomes.of.items() if outcome is Outcome.CONFIRMED}
    assert returned == {1, 3, 4}
    assert confirmed == {0, 2, 5}


async def test_many_are_confirmed_in_few_sweeps(amqp_url: str) -> None:
    async with (
        exchange_without_alternate(amqp_url) as exchange,
        publishing(amqp_url, exchange) as (publisher, outcomes),
    ):
        publisher.send([(number, message("wanted.a")) for number in range(2000)])
        await until(lambda: len(outcomes.of) == 2000)
    assert outcomes.calls < 1000
    assert set(outcomes.of.values()) == {Outcome.CONFIRMED}


async def test_confirms_alone_keep_the_connection_alive() -> None:
    """The library judges by the frames it sees, and confirms it never sees."""
    line = Line()
    Publisher(line, CHANNEL, "x", 4096, Outcomes().settled)
    ack = frame.marshal(commands.Basic.Ack(delivery_tag=1), CHANNEL)
    line.feed_data(ack)
    line.feed_eof()
    assert await line.read() == frame.marshal(Heartbeat(), 0)


def _frames() -> bytes:
    """Give what a broker may send: other people's frames, confirms, and a return."""
    properties = commands.Basic.Properties(message_id="b" * 36)
    mine = (
        commands.Basic.Ack(delivery_tag=1),
        commands.Basic.Return(reply_code=312, exchange="x", routing_key="k"),
        header.ContentHeader(body_size=3, properties=properties),
        ContentBody(b"abc"),
        commands.Basic.Ack(delivery_tag=3, multiple=True),
        commands.Basic.Nack(delivery_tag=4),
    )
    theirs = commands.Basic.Deliver("tag", 1, exchange="x", routing_key="k")
    return b"".join(
        frame.marshal(theirs, CHANNEL + 1)
        + frame.marshal(part, CHANNEL)
        + frame.marshal(ContentBody(b"theirs"), CHANNEL + 1)
        for part in mine
    )


async def _fed_in_pieces(cuts: list[int]) -> tuple[dict[int, Outcome], bytes]:
    outcomes = Outcomes()
    line = Line()
    publisher = Publisher(line, CHANNEL, "x", 4096, outcomes.settled)
    ids = ["a" * 36, "b" * 36, "c" * 36, "d" * 36]
    publisher.send([(number, message("k", id=id_)) for number, id_ in enumerate(ids)])
    data = _frames()
    edges = [0, *sorted(cut % len(data) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        line.feed_data(data[start:end])
    line.feed_eof()
    passed = (await line.read()).replace(frame.marshal(Heartbeat(), 0), b"")
    return outcomes.of, passed


@given(cuts=st.lists(st.integers(0, 10_000), max_size=30))
def test_frames_may_arrive_in_any_pieces(cuts: list[int]) -> None:
    outcomes, passed = asyncio.run(_fed_in_pieces(cuts))
    theirs = frame.marshal(
        commands.Basic.Deliver("tag", 1, exchange="x", routing_key="k"), CHANNEL + 1
    ) + frame.marshal(ContentBody(b"theirs"), CHANNEL + 1)
    assert outcomes == {
        0: Outcome.CONFIRMED,
        1: Outcome.RETURNED,
        2: Outcome.CONFIRMED,
        3: Outcome.REFUSED,
    }
    assert passed == theirs * 6
