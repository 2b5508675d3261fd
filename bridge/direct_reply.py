"""Questions and their answers over RabbitMQ: its direct reply-to, of which no queue is left.

aiormq hears of returned messages only where they are confirmed, so frames are read here.

Nothing is confirmed or kept: what is lost on the way is answered by its deadline all the same.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aio_pika
from pamqp import decode
from pamqp.commands import Basic

from bridge.broker import CONSUMING, Broker, left_to_the_line
from bridge.deliveries import FAILURES, ConnectionLost
from bridge.intake import CONTENT, DELIVER, Delivery, read_properties
from bridge.wire import BODY, HEADER, METHOD, RETURN

_U32 = struct.Struct(">I")

DIRECT_REPLY = "amq.rabbitmq.reply-to"

SENDING = 2.0
"""Seconds that a question or an answer may take to leave."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A question on its way."""

    id: str
    """By which its answer is known."""
    queue: str
    command: str
    message_id: str
    body: bytes
    headers: dict[str, str | int]
    seconds: float
    """After which it is of no more use."""


@dataclass(frozen=True, kw_only=True)
class Received:
    """What came back."""

    id: str
    body: bytes
    headers: Mapping[str, object]


class Questions:
    """Asks, on a channel of its own.

    Args:
        broker: The connection.
        answered: Called with each answer.
        returned: Called with the id of a question that nobody is there for.

    """

    def __init__(
        self,
        broker: Broker,
        answered: Callable[[Received], None],
        returned: Callable[[str], None],
    ) -> None:
        self._broker = broker
        self._answered = answered
        self._returned = returned
        self._is_answer = True
        self._properties: dict[str, bytes] = {}
        self._body = b""
        self._missing = 0

    async def listen(self) -> None:
        """Begin to hear answers."""
        channel = self._broker.channel(publisher_confirms=False)
        await channel.initialize()
        self._broker.lose_with(channel, "questions")
        underlying = await channel.get_underlay_channel()
        await underlying.basic_consume(
            DIRECT_REPLY, left_to_the_line, no_ack=True, timeout=CONSUMING
        )
        self._frames = self._broker.take_over(underlying.number, self)

    def ask(self, sent: Sent) -> None:
        """Send a question."""
        properties = Basic.Properties(
            content_type="application/json",
            delivery_mode=1,
            reply_to=DIRECT_REPLY,
            correlation_id=sent.id,
            message_id=sent.message_id,
            message_type=sent.command,
            expiration=str(max(int(sent.seconds * 1000), 1)),
            headers=dict(sent.headers),
        ).marshal()
        key = sent.queue.encode()
        frames: list[bytes] = []
        self._frames.add(
            frames,
            b"".join(
                (bytes((len(key),)), key, _U32.pack(len(properties)), properties, sent.body)
            ),
        )
        self._broker.write(b"".join(frames))

    def take(self, kind: int, method: tuple[int, ...] | None, payload: bytes) -> bool:
        """Read one frame of the channel; False if it is about neither answer nor return."""
        if kind == METHOD:
            self._is_answer = method == DELIVER
            return method in {DELIVER, RETURN}
        if kind == HEADER:
            self._missing = CONTENT.unpack_from(payload)[2]
            self._properties = dict(read_properties(payload[CONTENT.size :]))
            self._body = b""
        elif kind == BODY:
            self._body += payload
            self._missing -= len(payload)
        if not self._missing:
            self._complete()
        return True

    def _complete(self) -> None:
        number = self._properties.get("correlation_id", b"").decode(errors="replace")
        if not self._is_answer:
            self._returned(number)
            return
        table = self._properties.get("headers")
        headers = dict(decode.field_table(table)[1]) if table else {}
        self._answered(Received(id=number, body=self._body, headers=headers))


class Answers:
    """Answers, on a channel of its own."""

    def __init__(self, broker: Broker) -> None:
        self._channel = broker.channel(publisher_confirms=False)

    async def open(self) -> None:
        """Open the channel."""
        await self._channel.initialize()

    async def answer(self, question: Delivery, body: bytes, headers: dict[str, str]) -> None:
        """Send the answer to a question; if nobody waits any more, it is gone.

        Raises:
            ConnectionLost: it may not have left.

        """
        try:
            await self._channel.default_exchange.publish(
                aio_pika.Message(
                    body,
                    headers=dict(headers),
                    content_type="application/json",
                    correlation_id=question.operation_id,
                ),
                question.text("reply_to"),
                mandatory=False,
                timeout=SENDING,
            )
        except FAILURES as error:
            raise ConnectionLost(f"an answer did not leave: {error!r}") from error
