"""Publishing in AMQP frames: many messages in one write, many confirms in one sweep.

aio-pika publishes one message at a time, with a lock, a task, a future and a write for
each, about twenty times what the bytes themselves cost. Here a `Publisher` writes a batch
on the library's own connection, and `Line`, the stream that the library reads, takes the
outcomes out on their way. Frames are laid out in AMQP 0-9-1, section 4.2.3.
"""

import asyncio
import itertools
import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from enum import Enum
from typing import Protocol, TypeAlias

from pamqp.commands import Basic

from bridge.layout import properties_of

FRAME = struct.Struct(">BHI")
FRAME_END = b"\xce"
FRAME_OVERHEAD = 8
METHOD, HEADER, BODY = 1, 2, 3
_CONNECTION_BLOCKED, _CONNECTION_UNBLOCKED = (10, 60), (10, 61)
_CLOSES = {(10, 50): "connection", (20, 40): "channel"}
_OVER_A_MESSAGE = frozenset({406, 501, 502, 505, 541})
"""Reply codes with which RabbitMQ closes over what it was sent: too large, no frame."""
_PUBLISH, RETURN, ACK, _NACK = (60, 40), (60, 50), (60, 80), (60, 120)
_HEARTBEAT = FRAME.pack(8, 0, 0) + FRAME_END
METHOD_ID = struct.Struct(">HH")
_CONFIRM = struct.Struct(">QB")
_CONTENT = struct.Struct(">HHQ")
_MANDATORY = b"\x01"
_BASIC = 60


class Outcome(Enum):
    """What became of a published message."""

    CONFIRMED = "confirmed"
    """Every queue it was routed to has it on disk."""

    REFUSED = "refused"
    """One of its queues would not take it, because it is full."""

    RETURNED = "returned"
    """No queue wanted it, and no alternate exchange either."""


Numbered: TypeAlias = tuple[int, bytes]
"""An encoded message, under the number by which its sender knows it."""

Settled: TypeAlias = Callable[[Sequence[Numbered], Outcome], None]
"""Told which messages have met their outcome."""


class Channel(Protocol):
    """A channel whose frames are read here."""

    def take(self, kind: int, method: tuple[int, ...] | None, payload: bytes) -> bool:
        """Read one of its frames; False leaves it to aiormq."""


class Line(asyncio.StreamReader):
    """The stream from the broker to aiormq, with the confirms taken out of it."""

    def __init__(self) -> None:
        super().__init__()
        self.transport: asyncio.Transport | None = None
        self.channels: dict[int, Channel] = {}
        self.over_a_message = False
        self.unblocked = asyncio.Event()
        self.unblocked.set()
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._rest = b""
        self._last_passed = 0.0

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]  # bytes it gets
        """Take what the socket gave: our frames out, the others on to aiormq."""
        buffer = self._rest + data if self._rest else bytes(data)
        start, passed = 0, []
        while len(buffer) - start >= FRAME_OVERHEAD:
            kind, channel, length = FRAME.unpack_from(buffer, start)
            end = start + length + FRAME_OVERHEAD
            if end > len(buffer):
                break
            if not self._take(kind, channel, buffer[start + FRAME.size : end - 1]):
                passed.append(buffer[start:end])
            start = end
        self._rest = buffer[start:]
        self._pass_on(passed)

    def _pass_on(self, frames: list[bytes]) -> None:
        now = asyncio.get_running_loop().time()
        # aiormq measures the broker's health by the frames it sees, and the broker sends
        # no heartbeat while it sends confirms: a frame taken counts as one.
        if not frames and not self._rest and now - self._last_passed > 1:
            frames = [_HEARTBEAT]
        if frames:
            self._last_passed = now
            super().feed_data(b"".join(frames))

    def _take(self, kind: int, number: int, payload: bytes) -> bool:
        """Handle a frame; False leaves it to aiormq."""
        channel = self.channels.get(number)
        method = METHOD_ID.unpack_from(payload) if kind == METHOD else None
        if method in _CLOSES and (channel or not number):
            code = int.from_bytes(payload[4:6], "big")
            text = payload[7 : 7 + payload[6]].decode(errors="replace")
            self.over_a_message = code in _OVER_A_MESSAGE
            self.lose(f"RabbitMQ closed the {_CLOSES[method]}: {code} {text}")
        elif method == _CONNECTION_BLOCKED:
            self.unblocked.clear()
        elif method == _CONNECTION_UNBLOCKED:
            self.unblocked.set()
        elif channel is not None:
            return channel.take(kind, method, payload)
        return False

    def feed_eof(self) -> None:
        """Note that the broker hung up."""
        self.lose("RabbitMQ closed the connection")
        super().feed_eof()

    def set_exception(self, exc: Exception) -> None:
        """Note that the line broke."""
        self.lose(f"the connection broke: {exc}")
        super().set_exception(exc)

    def write(self, data: bytes) -> None:
        """Send `data` to the broker, if the line still stands."""
        if self.transport is not None:
            self.transport.write(data)

    def hang_up(self) -> None:
        """Close the line at once, whatever is under way."""
        if self.transport is not None:
            # One of TLS that is closed already has nothing to abort, which Python 3.11.2
            # stumbles over.
            with suppress(AttributeError):
                self.transport.abort()

    def lose(self, reason: str) -> None:
        """Say that the connection is of no more use."""
        if not self.lost.done():
            self.lost.set_result(reason)


class Frames:
    """Lays out messages to one exchange, on one channel."""

    def __init__(self, channel: int, exchange: str, frame_max: int) -> None:
        self._channel = channel
        self._largest = frame_max - FRAME_OVERHEAD
        name = exchange.encode()
        self._publish = METHOD_ID.pack(*_PUBLISH) + bytes((0, 0, len(name))) + name

    def add(self, frames: list[bytes], message: bytes) -> None:
        """Add those of an encoded message; what no queue wants comes back.

        Raises:
            NotAMessage: It is none.

        """
        properties_at, body_at = properties_of(message)
        method = self._publish + message[: properties_at - 4] + _MANDATORY
        content = _CONTENT.pack(_BASIC, 0, len(message) - body_at)
        frames += (
            FRAME.pack(METHOD, self._channel, len(method)),
            method,
            FRAME_END,
            FRAME.pack(HEADER, self._channel, len(content) + body_at - properties_at),
            content,
            message[properties_at:body_at],
            FRAME_END,
        )
        for at in range(body_at, len(message), self._largest):
            part = message[at : at + self._largest]
            frames += (FRAME.pack(BODY, self._channel, len(part)), part, FRAME_END)


class Publisher:
    """A publishing channel: batches out, outcomes back.

    Not a coroutine in sight: sending is one write to the socket, and outcomes are
    reported from the very call that read them.
    """

    def __init__(
        self, line: Line, channel: int, exchange: str, frame_max: int, settled: Settled
    ) -> None:
        self._line = line
        line.channels[channel] = self
        self._frames = Frames(channel, exchange, frame_max)
        self._settled = settled
        self._last_tag = 0
        self._unconfirmed: dict[int, Numbered] = {}
        self._returned: set[int] = set()

    def send(self, messages: Iterable[Numbered]) -> None:
        """Send `messages`, in their order, in one write.

        Raises:
            NotAMessage: One of them is none, and none was sent.

        """
        frames: list[bytes] = []
        for numbered in messages:
            self._last_tag += 1
            self._unconfirmed[self._last_tag] = numbered
            self._frames.add(frames, numbered[1])
        self._line.write(b"".join(frames))

    def take(self, kind: int, method: tuple[int, ...] | None, payload: bytes) -> bool:
        """Read one frame of this channel; False if it is not about a publish."""
        if method in (ACK, _NACK):
            tag, bits = _CONFIRM.unpack_from(payload, 4)
            self._settle(tag, multiple=bool(bits & 1), confirmed=method == ACK)
            return True
        if kind == HEADER:
            self._note_returned(payload)
            return True
        return method == RETURN or kind == BODY

    def _note_returned(self, payload: bytes) -> None:
        """Remember the returned message; the confirm that follows it means nothing."""
        properties = Basic.Properties()
        properties.unmarshal(int.from_bytes(payload[12:14], "big"), payload[14:])
        wanted = (properties.message_id or "").encode()
        # A walk over the window, but only when even the alternate exchange is missing.
        for tag, (_, message) in self._unconfirmed.items():
            if tag not in self._returned and wanted in message:
                self._returned.add(tag)
                return

    def _settle(self, tag: int, *, multiple: bool, confirmed: bool) -> None:
        tags = self._up_to(tag) if multiple else [tag]
        returned = [t for t in tags if t in self._returned]
        if returned:
            self._report(returned, Outcome.RETURNED)
            self._returned.difference_update(returned)
        self._report(tags, Outcome.CONFIRMED if confirmed else Outcome.REFUSED)

    def _up_to(self, last: int) -> list[int]:
        # Tags were entered in rising order, so the walk ends at the first one above.
        return list(itertools.takewhile(lambda tag: tag <= last, self._unconfirmed))

    def _report(self, tags: list[int], outcome: Outcome) -> None:
        settled = [self._unconfirmed.pop(t) for t in tags if t in self._unconfirmed]
        if settled:
            self._settled(settled, outcome)
