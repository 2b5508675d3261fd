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
from enum import Enum
from typing import TypeAlias

from pamqp.commands import Basic

_FRAME = struct.Struct(">BHI")
_FRAME_END = b"\xce"
_FRAME_OVERHEAD = 8
_METHOD, _HEADER, _BODY = 1, 2, 3
_CONNECTION_BLOCKED, _CONNECTION_UNBLOCKED = (10, 60), (10, 61)
_CLOSES = {(10, 50): "connection", (20, 40): "channel"}
_OVER_A_MESSAGE = frozenset({406, 501, 502, 505, 541})
"""Reply codes with which RabbitMQ closes over what it was sent: too large, no frame."""
_BASIC_PUBLISH, _BASIC_RETURN, _BASIC_ACK, _BASIC_NACK = (60, 40), (60, 50), (60, 80), (60, 120)
_HEARTBEAT = _FRAME.pack(8, 0, 0) + _FRAME_END
_METHOD_ID = struct.Struct(">HH")
_CONFIRM = struct.Struct(">QB")
_U32 = struct.Struct(">I")
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


class Line(asyncio.StreamReader):
    """The stream from the broker to aiormq, with the confirms taken out of it."""

    def __init__(self) -> None:
        super().__init__()
        self.transport: asyncio.Transport | None = None
        self.publishers: dict[int, Publisher] = {}
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
        while len(buffer) - start >= _FRAME_OVERHEAD:
            kind, channel, length = _FRAME.unpack_from(buffer, start)
            end = start + length + _FRAME_OVERHEAD
            if end > len(buffer):
                break
            if not self._take(kind, channel, buffer, start + _FRAME.size):
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

    def _take(self, kind: int, channel: int, buffer: bytes, at: int) -> bool:
        """Handle the frame whose payload starts `at`; False leaves it to aiormq."""
        method = _METHOD_ID.unpack_from(buffer, at) if kind == _METHOD else None
        publisher = self.publishers.get(channel)
        if method in _CLOSES and (publisher or not channel):
            code = int.from_bytes(buffer[at + 4 : at + 6], "big")
            text = buffer[at + 7 : at + 7 + buffer[at + 6]].decode(errors="replace")
            self.over_a_message = code in _OVER_A_MESSAGE
            self.lose(f"RabbitMQ closed the {_CLOSES[method]}: {code} {text}")
        elif method == _CONNECTION_BLOCKED:
            self.unblocked.clear()
        elif method == _CONNECTION_UNBLOCKED:
            self.unblocked.set()
        elif publisher is not None:
            return publisher.take(kind, method, buffer, at)
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
            self.transport.abort()

    def lose(self, reason: str) -> None:
        """Say that the connection is of no more use."""
        if not self.lost.done():
            self.lost.set_result(reason)


class Publisher:
    """A publishing channel: batches out, outcomes back.

    Not a coroutine in sight: sending is one write to the socket, and outcomes are
    reported from the very call that read them.
    """

    def __init__(
        self, line: Line, channel: int, exchange: str, frame_max: int, settled: Settled
    ) -> None:
        self._line = line
        line.publishers[channel] = self
        self._channel = channel
        self._settled = settled
        self._largest = frame_max - _FRAME_OVERHEAD
        name = exchange.encode()
        self._publish = _METHOD_ID.pack(*_BASIC_PUBLISH) + bytes((0, 0, len(name))) + name
        self._last_tag = 0
        self._unconfirmed: dict[int, Numbered] = {}
        self._returned: set[int] = set()

    def send(self, messages: Iterable[Numbered]) -> None:
        """Send `messages`, in their order, in one write."""
        frames: list[bytes] = []
        for numbered in messages:
            self._last_tag += 1
            self._unconfirmed[self._last_tag] = numbered
            self._add_frames(frames, numbered[1])
        self._line.write(b"".join(frames))

    def _add_frames(self, frames: list[bytes], message: bytes) -> None:
        key_end = 1 + message[0]
        properties_at = key_end + 4
        body_at = properties_at + _U32.unpack_from(message, key_end)[0]
        method = self._publish + message[:key_end] + _MANDATORY
        content = _CONTENT.pack(_BASIC, 0, len(message) - body_at)
        frames += (
            _FRAME.pack(_METHOD, self._channel, len(method)),
            method,
            _FRAME_END,
            _FRAME.pack(_HEADER, self._channel, len(content) + body_at - properties_at),
            content,
            message[properties_at:body_at],
            _FRAME_END,
        )
        for at in range(body_at, len(message), self._largest):
            part = message[at : at + self._largest]
            frames += (_FRAME.pack(_BODY, self._channel, len(part)), part, _FRAME_END)

    def take(self, kind: int, method: tuple[int, ...] | None, buffer: bytes, at: int) -> bool:
        """Read one frame of this channel; False if it is not about a publish."""
        if method in (_BASIC_ACK, _BASIC_NACK):
            tag, bits = _CONFIRM.unpack_from(buffer, at + 4)
            self._settle(tag, multiple=bool(bits & 1), confirmed=method == _BASIC_ACK)
            return True
        if kind == _HEADER:
            self._note_returned(buffer, at)
            return True
        return method == _BASIC_RETURN or kind == _BODY

    def _note_returned(self, buffer: bytes, at: int) -> None:
        """Remember the returned message; the confirm that follows it means nothing."""
        properties = Basic.Properties()
        flags = int.from_bytes(buffer[at + 12 : at + 14], "big")
        properties.unmarshal(flags, buffer[at + 14 :])
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
