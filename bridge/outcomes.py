"""What came of each attempt to handle a callback: the stream `openim.outcomes`.

Workers publish to it, many attempts in one message whose body is a JSON array of `Attempt`.
It tells what became of callbacks; nothing that is promised depends on it. A worker that is
killed takes with it what it had not published, and RabbitMQ removes what is old.
"""

import asyncio
import logging
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

import msgspec
from msgspec import Struct
from pamqp.commands import Basic

from bridge import archive
from bridge.broker import Broker, Delivery
from bridge.deliveries import Seconds
from bridge.message import APP_ID, Ids
from bridge.queues import declared
from bridge.topology import OUTCOMES, Binding, Exchange, Topology, stream

log = logging.getLogger(__name__)

TYPE = "openim.outcomes"
"""AMQP type of a message with attempts."""

HANDLED, DUPLICATE, WAITS, DEAD_LETTER, PAUSED = (
    *("handled", "duplicate", "waits", "dead_letter", "paused"),
)

KINDS = {
    HANDLED: "The handler returned; its writes in SQL are committed.",
    DUPLICATE: "Not called: its inbox has this message already.",
    WAITS: "It failed and is tried again, at `again_ms`.",
    DEAD_LETTER: "It was rejected, cannot be read, or no attempt is left.",
    PAUSED: "Something that all events need is away; the same attempt comes again.",
}
"""What may come of an attempt."""

_U32 = struct.Struct(">I")


class Attempt(Struct, frozen=True, kw_only=True, gc=False):
    """One attempt of one handler at one callback."""

    message_id: str
    """The same for every copy of one callback."""

    command: str
    """As OpenIM sent it."""

    operation_id: str
    """OpenIM's trace id; not always there, not always unique."""

    subscription: str
    """Whose queue it came from."""

    handler: str
    """With the subscription's name before it; "" if none takes it."""

    partition: int | None
    """Of an ordered subscription."""

    attempt: int
    """1 at first."""

    outcome: str
    """What came of it, in one word."""

    received_ms: int
    """When the receiver took the callback: milliseconds since 1970, UTC, as all times here."""

    began_ms: int
    """When the handler's turn began."""

    seconds: float
    """How long it took, waiting for the database included."""

    worker: str
    """Which worker process; a new name at each start."""

    host: str
    """Of that worker."""

    error: str = ""
    """Class and message of what the handler raised, cut to 500 characters."""

    again_ms: int | None = None
    """When it is tried again, at the earliest; if it is."""


_DECODER = msgspec.json.Decoder(list[Attempt])
_ENCODER = msgspec.json.Encoder()
_IDS = Ids()


def encoded(attempts: Sequence[Attempt]) -> bytes:
    """Give attempts as a message, as `bridge.wire` sends it."""
    properties = Basic.Properties(
        content_type="application/json",
        delivery_mode=2,
        message_id=_IDS.mint(),
        message_type=TYPE,
        app_id=APP_ID,
    ).marshal()
    # No routing key: a fanout needs none.
    head = bytes((0,)) + _U32.pack(len(properties)) + properties
    return head + _ENCODER.encode(attempts)


def attempts_in(delivery: Delivery) -> list[Attempt]:
    """Give the attempts in a message of the stream; none, if somebody else wrote it."""
    try:
        return _DECODER.decode(delivery.body) if delivery.command == TYPE else []
    except msgspec.MsgspecError:
        return []


def topology(days: float, most_bytes: int) -> Topology:
    """Give what keeps attempts for so many days, within so many bytes."""
    return Topology(
        exchanges=(Exchange(name=OUTCOMES, kind="fanout"),),
        queues=(stream(OUTCOMES, round(days * 86400), most_bytes),),
        bindings=(Binding(exchange=OUTCOMES, queue=OUTCOMES, routing_key=""),),
    )


async def set_up(broker: Broker, days: float, most_bytes: int) -> bool:
    """Have RabbitMQ keep attempts; give whether they may be published.

    A stream that was made with other settings goes on as it is.
    """
    wanted = topology(days, most_bytes)
    problem = await declared(broker, Topology(exchanges=wanted.exchanges))
    if problem:
        log.warning("outcomes are not kept", extra={"reason": problem})
        return False
    (queue,) = wanted.queues
    problem = await archive.stream_made(broker, queue, Topology(bindings=wanted.bindings))
    if problem:
        log.warning("stream of outcomes left as it is", extra={"reason": problem})
    return True


async def read(
    broker: Broker, timeout: Seconds, since: float | None = None
) -> AsyncGenerator[Attempt, None]:
    """Give the attempts up to now, about oldest first.

    Args:
        broker: The connection to read by; a channel of its own is opened on it.
        timeout: How long RabbitMQ may take to begin.
        since: Seconds since 1970; None is from the beginning. Some that are older come too.

    Raises:
        NoArchive: there is no such stream.
        ConnectionLost: RabbitMQ did not answer within `timeout`.

    """
    past = await archive.as_it_is(broker, timeout, OUTCOMES)
    async with aclosing(past.read(since)) as deliveries:
        async for delivery in deliveries:
            for attempt in attempts_in(delivery):
                yield attempt


@asynccontextmanager
async def following(
    broker: Broker, since: float | None = None
) -> AsyncIterator[AsyncIterator[Attempt]]:
    """Give the attempts since then and as they come, without end, during the block.

    Args:
        broker: The connection; once it is lost, nothing more comes: watch `until_lost`.
        since: Seconds since 1970; None is from now on.

    """
    deliveries: asyncio.Queue[Delivery] = asyncio.Queue()  # bounded by the prefetch
    consumer = await broker.consume(
        OUTCOMES,
        deliveries.put_nowait,
        prefetch=archive.AHEAD,
        **{"stream-offset": "next" if since is None else archive.offset(since)},
    )
    try:
        yield _coming(deliveries)
    finally:
        # Closing a channel while its stream still flows would close the connection.
        await consumer.stop()
        await consumer.close()


async def _coming(deliveries: asyncio.Queue[Delivery]) -> AsyncIterator[Attempt]:
    while True:
        delivery = await deliveries.get()
        for attempt in attempts_in(delivery):
            yield attempt
        delivery.ack()
